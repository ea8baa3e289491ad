"""Chains: read from recipes with helpful errors, followed by specs, cut and joined, frozen and described."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_prep.errors import LimitError, RecipeError, TransformError
from ray_prep.sample import Sample
from ray_prep.spec import Interval, Spec
from ray_prep.transforms.chain import Chain, Step, parse_chain
from ray_prep.transforms.values import Normalize

ANY = Spec(Interval(), Interval(), 3)
RNG = np.random.default_rng(0)
IMAGE = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def chain(*steps: Any, place: str = "finish", always: bool = True) -> Chain:
    """Return the chain of steps as YAML gives them."""
    return parse_chain(list(steps), place, always=always)


def test_a_step_may_be_written_in_three_ways() -> None:
    """A bare name, a mapping of parameters, and a single value for the parameter that matters."""
    described = chain(
        "grayscale", {"resize": {"short_side": 9}}, {"flip": "vertical"}, {"normalize": "half"}, {"center_crop": 5}
    ).describe()
    assert [entry["name"] for entry in described] == ["grayscale", "resize", "flip", "normalize", "center_crop"]
    assert described[0]["params"] == {"channels": 1}
    assert described[2]["params"] == {"direction": "vertical"}
    assert described[3]["params"] == {"mean": "half", "std": "half"}
    assert described[4]["params"] == {"height": 5, "width": 5}
    assert parse_chain(None, "finish", always=True) == Chain()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([{"resise": {"short_side": 3}}], "preprocess[0]: unknown transform 'resise'; did you mean 'resize'?"),
        (["RandomCrp"], "preprocess[0]: unknown transform 'RandomCrp'; did you mean 'RandomCrop'?"),
        ([{"resize": {"shortside": 3}}], "preprocess[0].resize.shortside: unknown key; did you mean 'short_side'?"),
        (["grayscale", {"resize": {"short_side": "big"}}], "preprocess[1].resize.short_side: should be a whole number"),
        ([{"resize": {"short_side": 0}}], "preprocess[0].resize.short_side: should be 1 or more, got 0"),
        (
            [{"resize": {"letterbox": {"height": 3, "widht": 3}}}],
            "preprocess[0].resize.letterbox.widht: unknown key; did you mean 'width'?",
        ),
        ([{"resize": {"short_side": 3, "interpolation": "aera"}}], "did you mean 'area'?"),
        ([{"crop": {"height": 3}}], "preprocess[0].crop.width: is needed"),
        ([{"flip": "horizontal", "grayscale": 1}], "begin each step with a dash"),
        ({"resize": {"short_side": 3}}, "preprocess: should be a list of steps"),
        ([3], "preprocess[0]: should be one step, such as grayscale"),
        (["FDA"], "preprocess[0].FDA: it needs reference images"),
        (["CenterCrop3D"], "it is for volumes"),
        (["Compose"], "inside OneOf and the like use Sequential"),
    ],
)
def test_errors_name_place_gift_and_remedy(raw: Any, message: str) -> None:
    """A wrong step is named by its place in the recipe, with what was given and what would be right."""
    with pytest.raises(RecipeError) as caught:
        parse_chain(raw, "preprocess", always=True)
    assert message in str(caught.value)


def test_specs_follow_the_steps() -> None:
    """After each step stands what is known there."""
    specs = chain({"resize": {"short_side": 256}}, {"center_crop": 224}, "grayscale", "to_float", {"normalize": "half"}).specs(ANY)
    assert list(map(str, specs)) == [
        "256.. x 256.. x 3 uint8 [0, 255]",
        "224 x 224 x 3 uint8 [0, 255]",
        "224 x 224 x 1 uint8 [0, 255]",
        "224 x 224 x 1 float32 [0, 1]",
        "224 x 224 x 1 float32 any range",
    ]


def test_errors_and_notes_of_specs_begin_with_the_place() -> None:
    """What is impossible for all sizes is an error, what is for some a note; both say where."""
    with pytest.raises(RecipeError, match=r"^finish\[1\]\.center_crop: it needs a height of at least 30, and gets 20"):
        chain({"resize": {"height": 20, "width": 40}}, {"center_crop": 30}).specs(ANY)
    small, large = chain({"center_crop": 30}, {"crop": {"height": 9, "width": 9}}).specs(ANY)
    assert small.notes == large.notes
    assert small.notes[0].startswith("finish[0].center_crop: it needs 30x30 or more and may get 1.. x 1..")


def test_errors_of_samples_begin_with_the_place() -> None:
    """A rejection keeps its class and reason, and its message says which step."""
    with pytest.raises(LimitError, match=r"^finish\[1\]\.crop: it needs 90x90 or more, and gets 60x80") as caught:
        chain("sharpen", {"crop": {"height": 90, "width": 90}})(Sample("k", 0, IMAGE), RNG)
    assert caught.value.reason == "too_small"


class Broken:
    """A step in which OpenCV fails."""

    version = 1
    is_random = False

    def __init__(self, code: int) -> None:
        """Take the code of OpenCV's error."""
        self.code = code

    def output_spec(self, spec: Spec, /) -> Spec:
        """Return the spec."""
        return spec

    def __call__(self, _sample: Sample, _rng: np.random.Generator, /) -> Sample:
        """Fail."""
        error = cv2.error("(-215:Assertion failed) !ssize.empty()")
        error.code = self.code
        error.err = "!ssize.empty()"
        raise error


def test_opencvs_errors_are_the_images_fault_but_for_memory() -> None:
    """OpenCV's complaint about an image rejects it; OpenCV out of memory is no image's fault."""
    sample = Sample("k", 0, IMAGE)
    with pytest.raises(TransformError, match=r"finish\[0\]\.broken: OpenCV: !ssize\.empty"):
        Chain((Step("broken", Broken(-215), "finish[0]"),))(sample, RNG)
    with pytest.raises(MemoryError):
        Chain((Step("broken", Broken(-4), "finish[0]"),))(sample, RNG)


def test_a_chain_can_be_cut_and_joined() -> None:
    """Any cut, run in its two parts, is the whole; joining restores it."""
    whole = chain({"resize": {"short_side": 30}}, "sharpen", {"center_crop": 20}, "to_float")
    expected = whole(Sample("k", 0, IMAGE), RNG).image
    for place in range(len(whole) + 1):
        assert whole[:place] + whole[place:] == whole
        assert np.array_equal(whole[place:](whole[:place](Sample("k", 0, IMAGE), RNG), RNG).image, expected)


def test_first_float() -> None:
    """It is the index of the first step that does not return uint8, or the length of a chain that always does."""
    assert chain("grayscale", "to_float", {"normalize": "half"}).first_float(ANY) == 1
    assert chain("sharpen", {"normalize": "imagenet"}).first_float(ANY) == 1
    assert chain("sharpen", "grayscale").first_float(ANY) == 2
    assert Chain().first_float(ANY) == 0


@pytest.mark.parametrize("steps", [["sharpen", {"normalize": "dataset"}], ["to_float", {"normalize": "dataset"}]])
def test_constants_of_the_dataset_are_filled_in(steps: list[Any]) -> None:
    """`normalize: dataset` waits, and freezing fills in the numbers without touching other steps."""
    waiting = chain(*steps)
    waiting.specs(ANY)
    assert waiting.needs_constants
    frozen = waiting.freeze([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert not frozen.needs_constants
    assert frozen.steps[1].transform == Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert frozen.steps[0] == waiting.steps[0]
    with pytest.raises(RecipeError, match=r"finish\[1\]\.normalize: the images it was measured on have one colour"):
        waiting.freeze([0.1, 0.2, 0.3], [0.4, 0.0, 0.6])


def test_constants_must_be_measurable() -> None:
    """Only uint8 pixels are counted: another float step before `normalize: dataset` is refused."""
    with pytest.raises(RecipeError, match=r"finish\[2\]\.normalize: `dataset` is measured on uint8 images"):
        chain("to_float", {"denoise": "gaussian"}, {"normalize": "dataset"}).specs(ANY)
    with pytest.raises(RecipeError, match=r"finish\[3\]\.normalize: `dataset` is measured on uint8 images"):
        chain("to_float", "FromFloat", {"flip": "horizontal"}, {"normalize": "dataset"}).specs(ANY)
    with pytest.raises(RecipeError, match="measured on uint8"):
        chain({"normalize": "dataset"}).specs(Spec(Interval(), Interval(), 3, "float32", (0.0, 1.0)))


def test_a_description_holds_every_parameter() -> None:
    """Defaults are filled in, so that writing them out changes no fingerprint; the text of it is stable."""
    short, long = chain({"resize": {"short_side": 9}}), chain({"resize": {"short_side": 9, "interpolation": "auto", "height": None}})
    assert short.describe() == long.describe()
    assert json.dumps(chain({"pad": {"top": 1}}, "Rotate").describe()) == (
        '[{"name": "pad", "params": {"height": null, "width": null, "top": 1, "bottom": 0, "left": 0, "right": 0, "mode": "fill", '
        '"fill": 0.0}, "version": 1}, {"name": "Rotate", "params": {"border_mode": 0, "crop_border": false, "fill": 0, "fill_mask": 0, '
        '"interpolation": 1, "limit": [-90, 90], "mask_interpolation": 0, "p": 1.0, "rotate_method": "largest_box"}, "version": 1}]'
    )


@pytest.mark.slow
def test_native_chains_import_no_albumentations() -> None:
    """Albumentations takes a second to import: a recipe without it does not pay."""
    code = (
        "import sys; from ray_prep.transforms.chain import parse_chain, steps_schema; steps_schema(); "
        "parse_chain([{'resize': {'short_side': 3}}], 'finish', always=True); assert 'albumentations' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True).stderr == ""


@settings(deadline=None)
@given(
    data=st.data(),
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    target=st.tuples(st.integers(1, 300), st.integers(1, 300)) | st.tuples(st.integers(-3, 0), st.integers(-3, 0)),
    channels=st.sampled_from([1, 3]),
    dtype=st.sampled_from([np.uint8, np.float32]),
    interpolation=st.sampled_from(["auto", "area", "linear", "cubic", "lanczos4", "nearest"]),
)
def test_a_crop_after_a_resize_is_that_part_of_it(
    data: st.DataObject, size: tuple[int, int], target: tuple[int, int], channels: int, dtype: Any, interpolation: str
) -> None:
    """A resize that is asked for the pixels of the crop alone makes the very same ones, also where it hardly changes the size."""
    target = (max(1, size[0] + target[0]), max(1, size[1] + target[1])) if target < (1, 1) else target
    kept = data.draw(st.integers(1, target[0])), data.draw(st.integers(1, target[1]))
    crops: dict[str, dict[str, int]] = {
        "center_crop": {"height": kept[0], "width": kept[1]},
        "crop": {
            "height": kept[0],
            "width": kept[1],
            "top": data.draw(st.integers(0, target[0] - kept[0])),
            "left": data.draw(st.integers(0, target[1] - kept[1])),
        },
    }
    name = data.draw(st.sampled_from(sorted(crops)))
    steps = chain({"resize": {"height": target[0], "width": target[1], "interpolation": interpolation}}, {name: crops[name]})
    image = np.random.default_rng(0).integers(0, 256, (*size, channels)).astype(dtype)
    together = steps(Sample("a", 0, image), RNG).image
    apart = steps[1:](steps[:1](Sample("a", 0, image), RNG), RNG).image
    assert together.flags.c_contiguous
    assert np.array_equal(together, apart)


@pytest.mark.parametrize(
    ("height", "place", "reason"), [(100, "finish[1].center_crop", "too_small"), (10**6, "finish[0].resize", "too_large")]
)
def test_a_resize_and_a_crop_that_work_together_fail_each_at_its_place(height: int, place: str, reason: str) -> None:
    """Whoever cannot do its part is named."""
    steps = chain({"resize": {"height": height, "width": 1000, "interpolation": "area"}}, {"center_crop": 200})
    with pytest.raises(LimitError, match=rf"^{re.escape(place)}: ") as caught:
        steps(Sample("a", 0, IMAGE), RNG)
    assert caught.value.reason == reason
