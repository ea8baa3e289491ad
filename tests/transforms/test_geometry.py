"""Crops, borders and turns move the right pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ray_prep.errors import LimitError, RecipeError
from ray_prep.sample import Sample
from ray_prep.spec import Interval, Spec
from ray_prep.transforms.geometry import CenterCrop, Crop, Flip, Pad, Rotate90

RNG = np.random.default_rng(0)
GRID = np.arange(6 * 7 * 3, dtype=np.uint8).reshape(6, 7, 3)


def done(step: Any, image: np.ndarray[Any, Any] = GRID) -> np.ndarray[Any, Any]:
    """Return the image after a step."""
    result: np.ndarray[Any, Any] = step(Sample("k", 0, image), RNG).image
    return result


def test_center_crop_leaves_the_odd_line_below() -> None:
    """Of an odd remainder, the smaller half is cut off at the top and left."""
    assert np.array_equal(done(CenterCrop(3, 4)), GRID[1:4, 1:5])
    with pytest.raises(LimitError, match="it needs 7x3 or more, and gets 6x7") as caught:
        done(CenterCrop(7, 3))
    assert caught.value.reason == "too_small"


def test_crop_counts_from_the_top_left() -> None:
    """Top and left are the lines left out before the rectangle."""
    assert np.array_equal(done(Crop(2, 3, top=4, left=1)), GRID[4:6, 1:4])
    with pytest.raises(RecipeError, match="it needs a height of at least 7"):
        Crop(2, 3, top=5).output_spec(Spec(Interval(1, 6), Interval(), 3))


def test_pad_centres_up_to_a_size() -> None:
    """An image is padded up to height and width, the odd line at bottom or right; larger ones stay."""
    padded = done(Pad(height=9, width=5, fill=(1.0, 2.0, 3.0)))
    assert padded.shape == (9, 7, 3)
    assert np.array_equal(padded[1:7], GRID)
    assert (padded[[0, 7, 8]] == (1, 2, 3)).all()


def test_pad_by_margins_and_modes() -> None:
    """Margins add so many lines; reflect does not repeat the edge, edge does."""
    assert np.array_equal(done(Pad(top=1, left=2, mode="reflect")), np.pad(GRID, ((1, 0), (2, 0), (0, 0)), mode="reflect"))
    assert np.array_equal(done(Pad(bottom=2, right=1, mode="edge")), np.pad(GRID, ((0, 2), (0, 1), (0, 0)), mode="edge"))
    assert done(Pad(top=1), GRID[:, :, :1]).shape == (7, 7, 1)


def test_pad_makes_nothing_too_large() -> None:
    """What a step may make bounds images of any size, too."""
    with pytest.raises(LimitError, match="would become 1000001x300") as caught:
        done(Pad(top=1_000_000), np.zeros((1, 300, 1), np.uint8))
    assert caught.value.reason == "too_large"


def test_pad_refuses_what_does_not_go_together() -> None:
    """Sizes and margins exclude each other, a fill belongs to mode fill, and nothing to do is a mistake."""
    for arguments in ({}, {"height": 3, "top": 1}, {"top": 1, "mode": "edge", "fill": 3.0}, {"top": -1}):
        with pytest.raises(ValueError, match=r"give either|fill is for mode fill|top: should be 0 or more"):
            Pad(**arguments)  # type: ignore[arg-type]


def test_pad_widens_the_range_of_floats() -> None:
    """A fill outside the range of float images becomes part of it."""
    unit = Spec(Interval(), Interval(), 1, "float32", (0.0, 1.0))
    assert Pad(top=1, fill=-2.0).output_spec(unit).value_range == (-2.0, 1.0)
    assert Pad(top=1, mode="edge").output_spec(unit).value_range == (0.0, 1.0)


def test_flip_mirrors() -> None:
    """Horizontal swaps left and right, vertical top and bottom, in grey images too."""
    assert np.array_equal(done(Flip("horizontal")), GRID[:, ::-1])
    assert np.array_equal(done(Flip("vertical")), GRID[::-1])
    assert np.array_equal(done(Flip("vertical"), GRID[:, :, :1].copy()), GRID[::-1, :, :1])


@pytest.mark.parametrize("times", [1, 2, 3])
def test_rotate90_is_numpys(times: Any) -> None:
    """Quarters of a turn go counter-clockwise, and the spec swaps the sides for odd ones."""
    assert np.array_equal(done(Rotate90(times)), np.rot90(GRID, times))
    spec = Rotate90(times).output_spec(Spec(Interval.exactly(6), Interval.exactly(7), 3))
    assert spec.admits(*np.rot90(GRID, times).shape, "uint8")
