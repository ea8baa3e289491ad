"""Compositions choose as Albumentations' do, and each step in them draws for itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from ray_prep.errors import LimitError, RecipeError
from ray_prep.sample import Sample
from ray_prep.spec import Interval, Spec
from ray_prep.transforms.chain import Chain, parse_chain

IMAGE = np.random.default_rng(1).integers(0, 256, (12, 12, 3), dtype=np.uint8)
FLIPS = ["HorizontalFlip", "VerticalFlip", "Transpose"]


def chain(*steps: Any, always: bool = False) -> Chain:
    """Return the chain of steps as YAML gives them."""
    return parse_chain(list(steps), "augment.transforms", always=always)


def applied(step: Chain, seed: int) -> tuple[str, ...]:
    """Return the names of what was applied."""
    return tuple(record["name"] for record in step(Sample("k", 1, IMAGE), np.random.default_rng(seed)).applied)


def outcomes(step: Chain, count: int = 400) -> Counter[tuple[str, ...]]:
    """Count what was applied over many seeds."""
    return Counter(applied(step, seed) for seed in range(count))


def test_one_of_chooses_by_weight() -> None:
    """With probability p exactly one is applied; its own p is its weight, and no second hurdle."""
    found = outcomes(chain({"OneOf": {"transforms": [{"HorizontalFlip": {"p": 0.9}}, {"VerticalFlip": {"p": 0.3}}], "p": 0.8}}))
    assert set(found) == {(), ("HorizontalFlip",), ("VerticalFlip",)}
    assert 50 < found[()] < 115
    assert 190 < found["HorizontalFlip",] < 290


def test_one_or_other_always_applies_one() -> None:
    """The probability p is that of the first; its default stays 0.5 in preprocess and finish too."""
    step = {"OneOrOther": {"transforms": FLIPS[:2]}}
    for always in (True, False):
        found = outcomes(chain(step, always=always))
        assert set(found) == {("HorizontalFlip",), ("VerticalFlip",)}
        assert 150 < found["HorizontalFlip",] < 250


def test_some_of_keeps_the_order_and_random_order_does_not() -> None:
    """Of three, two different ones: in the order written, or in any."""
    steps = [{name: {"p": 1}} for name in FLIPS]
    ordered = outcomes(chain({"SomeOf": {"transforms": steps, "n": 2}}))
    assert set(ordered) == {("HorizontalFlip", "VerticalFlip"), ("HorizontalFlip", "Transpose"), ("VerticalFlip", "Transpose")}
    assert len(outcomes(chain({"RandomOrder": {"transforms": steps, "n": 2}}))) == 6
    repeated = outcomes(chain({"SomeOf": {"transforms": steps, "n": 2, "replace": True}}))
    assert ("Transpose", "Transpose") in repeated


def test_sequential_applies_all_by_their_own_p() -> None:
    """With probability p all of them run, each with its own p, independently."""
    found = outcomes(chain({"Sequential": {"transforms": FLIPS[:2], "p": 1}}))
    assert set(found) == {(), ("HorizontalFlip",), ("VerticalFlip",), ("HorizontalFlip", "VerticalFlip")}
    assert all(60 < count < 145 for count in found.values())


def test_compositions_nest() -> None:
    """A composition chosen by OneOf is applied whatever its p; what is within draws for itself."""
    inner = {"Sequential": {"transforms": [{"HorizontalFlip": {"p": 1}}, {"VerticalFlip": {"p": 1}}], "p": 0.01}}
    assert set(outcomes(chain({"OneOf": {"transforms": [inner], "p": 1}}), 50)) == {("HorizontalFlip", "VerticalFlip")}


def test_always_reaches_into_compositions() -> None:
    """In preprocess and finish every step is applied unless told otherwise, within compositions too."""
    assert set(outcomes(chain({"Sequential": {"transforms": FLIPS[:2]}}, always=True), 20)) == {("HorizontalFlip", "VerticalFlip")}
    described = chain({"Sequential": {"transforms": FLIPS[:1]}}, always=True).describe()
    assert described[0]["params"] == {"transforms": [{"HorizontalFlip": {"p": 1.0}}], "p": 1.0}


def test_specs_hold_every_choice() -> None:
    """Sizes of all that may happen are united, and of all that must happen followed."""
    start = Spec(Interval(20, 30), Interval(20, 30), 3)
    crop = {"RandomCrop": {"height": 8, "width": 9}}
    assert str(chain({"OneOf": {"transforms": [crop, "Blur"], "p": 1}}).specs(start)[-1]) == "8..30 x 9..30 x 3 uint8 [0, 255]"
    assert str(chain({"OneOf": {"transforms": [crop], "p": 1}}).specs(start)[-1]) == "8 x 9 x 3 uint8 [0, 255]"
    assert str(chain({"Sequential": {"transforms": [crop, "Transpose"], "p": 1}}).specs(start)[-1]) == "8..9 x 8..9 x 3 uint8 [0, 255]"
    assert str(chain({"SomeOf": {"transforms": [crop, {"Pad": {"padding": 2}}], "n": 2}}).specs(start)[-1]) == "12 x 13 x 3 uint8 [0, 255]"
    assert str(chain({"SomeOf": {"transforms": [crop, {"Pad": {"padding": 2}}], "n": 1}}).specs(start)[-1]).startswith("8..34 x 9..34")


def test_a_choice_that_may_be_left_out_is_a_choice() -> None:
    """A chosen step with p: 0, and a chosen SomeOf, which asks its own p, may leave the image as it is: the spec says so."""
    whole = Spec(Interval.exactly(12), Interval.exactly(12), 3)
    crop = {"CenterCrop": {"height": 4, "width": 4}}
    never = {"RandomCrop": {"height": 4, "width": 4, "p": 0}}
    some = {"SomeOf": {"transforms": [{"CenterCrop": {"height": 4, "width": 4, "p": 1}}], "n": 1, "p": 0.5}}
    for step in ({"OneOrOther": {"transforms": [never, crop]}}, {"OneOf": {"transforms": [some], "p": 1}}):
        made = chain(step)
        sizes = {made(Sample("k", 1, IMAGE), np.random.default_rng(seed)).image.shape[0] for seed in range(40)}
        assert sizes == {4, 12}
        assert made.specs(whole)[-1].height == Interval(4, 12)


def test_choices_must_agree_in_channels_and_dtype() -> None:
    """A choice between floats and bytes is refused, and says what parts."""
    with pytest.raises(RecipeError, match=r"augment\.transforms\[0\]\.OneOf: its steps part: some images become .* float32"):
        chain({"OneOf": {"transforms": ["ToFloat", "Blur"]}}).specs(Spec(Interval(), Interval(), 3))


def test_errors_name_the_step_within() -> None:
    """Recipe errors, notes and rejections say which step of the composition they are about."""
    step = chain({"OneOf": {"transforms": ["Blur", {"RandomCrop": {"height": 30, "width": 30}}], "p": 1}})
    place = r"augment\.transforms\[0\]\.OneOf: transforms\[1\]\.RandomCrop: it needs"
    with pytest.raises(RecipeError, match=place):
        step.specs(Spec(Interval(9, 20), Interval(9, 20), 3))
    notes = step.specs(Spec(Interval(9), Interval(9), 3))[-1].notes
    assert notes[0].startswith("augment.transforms[0].OneOf: transforms[1].RandomCrop: it needs 30x30")
    rejected = []
    for seed in range(20):
        try:
            applied(step, seed)
        except LimitError as error:
            rejected.append(str(error))
    assert 0 < len(rejected) < 20
    assert rejected[0].startswith("augment.transforms[0].OneOf: transforms[1].RandomCrop: it needs 30x30 or more, and gets 12x12")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"transforms": []}, r"OneOf\.transforms: should hold one step at least"),
        ({"transforms": [{"resize": {"short_side": 3}}]}, "takes Albumentations' transforms, and resize is ray_prep's own"),
        ({"transforms": ["Blur"], "p": 2}, r"OneOf\.p: should be from 0 to 1, got 2"),
        ({"transforms": ["Blur"], "p": "x"}, r"OneOf\.p: should be a number, got 'x'"),
        ({"transforms": ["Blur"], "n": 1}, r"OneOf\.n: unknown key"),
        ({"transforms": [{"Blur": {"p": 0}}]}, "none could be chosen"),
        ({"transforms": [{"Blurr": {}}]}, r"OneOf\.transforms\[0\]: unknown transform 'Blurr'; did you mean 'Blur'"),
    ],
)
def test_wrong_words_are_named(given: dict[str, Any], message: str) -> None:
    """What cannot be meant is refused when the recipe is read."""
    with pytest.raises(RecipeError, match=message):
        chain({"OneOf": given})


def test_counts_must_be_possible() -> None:
    """More steps than there are, none, and anything but two for OneOrOther are refused."""
    for name, given in (("SomeOf", {"n": 4}), ("RandomOrder", {"n": 0}), ("OneOrOther", {})):
        with pytest.raises(RecipeError, match=r"n: should be from 1 to|should hold two steps"):
            chain({name: {"transforms": FLIPS, **given}})
