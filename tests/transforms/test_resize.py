"""Resize: sizes by exact rules, OpenCV's kernels bit for bit, and pictures decoded at a fraction."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_prep.errors import LimitError, RecipeError
from ray_prep.image.shrink import shrink
from ray_prep.sample import Sample
from ray_prep.spec import Interval, Spec
from ray_prep.transforms.resize import Letterbox, Resize

RNG = np.random.default_rng(0)
SIDE = st.integers(1, 5000)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray[Any, Any]:
    """Return an image of noise."""
    return np.random.default_rng(height).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_the_known_example() -> None:
    """500 x 375 with short_side 256 becomes 341 x 256, in either orientation."""
    assert Resize(short_side=256).target(375, 500) == (256, 341)
    assert Resize(short_side=256).target(500, 375) == (341, 256)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(height=SIDE, width=SIDE, side=st.integers(1, 1000))
def test_sides_are_the_nearest_whole_number(height: int, width: int, side: int) -> None:
    """The other side is the exact quotient rounded to the nearest, halves up, at least 1."""
    for step, pick in ((Resize(short_side=side), min), (Resize(long_side=side), max)):
        scale = Fraction(side, pick(height, width))
        expected = [max(1, int(scale * length + Fraction(1, 2))) for length in (height, width)]
        assert step.target(height, width) == tuple(expected)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(height=SIDE, width=SIDE, frame=st.tuples(st.integers(1, 99), st.integers(1, 99)))
def test_a_letterbox_fits_and_touches(height: int, width: int, frame: tuple[int, int]) -> None:
    """The picture fits into the frame and touches two of its edges; twice its size is what may be decoded."""
    step = Resize(letterbox=Letterbox(*frame))
    inner = step._picture(height, width)
    assert inner[0] <= frame[0]
    assert inner[1] <= frame[1]
    assert inner[0] == frame[0] or inner[1] == frame[1]
    assert step.target(height, width) == frame
    assert step.decode_at_least(height, width) == (min(height, 2 * inner[0]), min(width, 2 * inner[1]))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    slack=st.tuples(*[st.integers(0, 300)] * 4),
    open_ends=st.tuples(st.booleans(), st.booleans()),
    side=st.integers(1, 300),
)
def test_every_target_is_in_the_spec(
    height: int, width: int, slack: tuple[int, int, int, int], open_ends: tuple[bool, bool], side: int
) -> None:
    """Whatever sizes may come, bounded or not: the result's is one that output_spec speaks of."""
    spec = Spec(
        Interval(max(1, height - slack[0]), None if open_ends[0] else height + slack[1]),
        Interval(max(1, width - slack[2]), None if open_ends[1] else width + slack[3]),
        3,
    )
    for step in (Resize(short_side=side), Resize(long_side=side), Resize(height=side, width=7)):
        target = step.target(height, width)
        after = step.output_spec(spec)
        assert after.admits(*target, 3, "uint8"), (step, target, str(after))


@pytest.mark.parametrize("name", ["area", "linear", "cubic", "lanczos4", "nearest"])
@pytest.mark.parametrize("channels", [1, 3])
def test_named_interpolations_are_opencvs(name: str, channels: int) -> None:
    """All but auto are OpenCV's on the whole picture, bit for bit."""
    image = noise(61, 83, channels)
    code = getattr(cv2, f"INTER_{name.upper()}")
    result = Resize(height=30, width=40, interpolation=name)(Sample("k", 0, image), RNG).image  # type: ignore[arg-type]
    assert np.array_equal(result, cv2.resize(image, (40, 30), interpolation=code).reshape(30, 40, channels))


def test_only_auto_may_be_decoded_at_a_fraction() -> None:
    """Auto asks for twice the target at least, never for more than there is; the others need the whole picture."""
    assert Resize(short_side=256).decode_at_least(3000, 4000) == (512, 682)
    assert Resize(short_side=256).decode_at_least(300, 400) == (300, 400)
    assert Resize(short_side=256, interpolation="area").decode_at_least(3000, 4000) is None


def test_a_picture_decoded_at_a_fraction_becomes_what_the_whole_would() -> None:
    """The target follows from the full size, the grid from the extent, and full_size is cleared."""
    x, y = np.meshgrid(np.arange(805), np.arange(1203))
    whole = np.rint(120 + 60 * np.sin(x / 40) + 60 * np.cos(y / 55)).astype(np.uint8)[:, :, None]
    padded = np.pad(whole, ((0, 1), (0, 1), (0, 0)), mode="edge")
    half = cv2.resize(padded, (403, 602), interpolation=cv2.INTER_AREA)[:, :, None]
    step = Resize(short_side=100)
    from_whole = step(Sample("k", 0, whole), RNG)
    from_half = step(Sample("k", 0, half, full_size=(1203, 805)), RNG)
    assert from_half.full_size is None
    assert from_half.image.shape == from_whole.image.shape == (149, 100, 1)
    assert np.abs(from_half.image.astype(int) - from_whole.image).max() <= 2
    assert not np.array_equal(from_half.image, shrink(half, 149, 100)), "the extent made no difference"


def test_a_letterbox_has_bars_of_its_colour() -> None:
    """Bars stand above and below or left and right, the odd line last, in the colour given for each channel."""
    step = Resize(letterbox=Letterbox(10, 21, (1.0, 2.0, 3.0)))
    image = step(Sample("k", 0, np.full((50, 50, 3), 200, np.uint8)), RNG).image
    assert image.shape == (10, 21, 3)
    assert (image[:, 5:15] == 200).all()
    assert (image[:, :5] == (1, 2, 3)).all()
    assert (image[:, 15:] == (1, 2, 3)).all()


def test_one_way_only() -> None:
    """Exactly one way of saying the size is accepted, and sizes are at least 1."""
    for arguments in ({}, {"height": 3}, {"short_side": 3, "long_side": 4}, {"height": 3, "width": 3, "short_side": 2}, {"short_side": 0}):
        with pytest.raises(ValueError, match=r"give exactly one|go together|short_side: should be 1 or more"):
            Resize(**arguments)  # type: ignore[arg-type]


def test_fill_must_suit_the_image() -> None:
    """A fill of three numbers is refused for grey images, and one that uint8 cannot hold for uint8."""
    gray = Spec(Interval(), Interval(), 1)
    with pytest.raises(RecipeError, match=r"fill: \[1.0, 2.0, 3.0\] has 3 numbers"):
        Resize(letterbox=Letterbox(3, 3, (1.0, 2.0, 3.0))).output_spec(gray)
    with pytest.raises(RecipeError, match="whole numbers from 0 to 255"):
        Resize(letterbox=Letterbox(3, 3, 300.0)).output_spec(gray)
    with pytest.raises(RecipeError, match="a number that float32 can hold, got 1e"):
        Resize(letterbox=Letterbox(3, 3, 1e39)).output_spec(Spec(Interval(), Interval(), 1, "float32", (0.0, 1.0)))


def test_floats_overshoot_only_where_said() -> None:
    """float32 keeps its range with auto and area; cubic and lanczos4 leave it open."""
    unit = Spec(Interval(), Interval(), 3, "float32", (0.0, 1.0))
    assert Resize(short_side=9).output_spec(unit).value_range == (0.0, 1.0)
    assert Resize(short_side=9, interpolation="cubic").output_spec(unit).value_range is None
    assert Resize(letterbox=Letterbox(9, 9, 2.0)).output_spec(unit).value_range == (0.0, 2.0)


def test_a_thread_like_picture_is_rejected_rather_than_blown_up() -> None:
    """A picture whose other side would have millions of pixels is too_large, before memory is asked for."""
    with pytest.raises(LimitError, match=r"filter\.max_aspect") as caught:
        Resize(short_side=256)(Sample("k", 0, noise(1, 30000)), RNG)
    assert caught.value.reason == "too_large"
