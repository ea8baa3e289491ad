"""Contrast and grey."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from ray_prep.errors import RecipeError
from ray_prep.sample import Sample
from ray_prep.spec import Interval, Spec
from ray_prep.transforms.color import Contrast, Grayscale

RNG = np.random.default_rng(0)
DULL = np.random.default_rng(2).integers(90, 140, (40, 50, 3), dtype=np.uint8)


def done(step: Any, image: np.ndarray[Any, Any] = DULL) -> np.ndarray[Any, Any]:
    """Return the image after a step."""
    result: np.ndarray[Any, Any] = step(Sample("k", 0, image), RNG).image
    return result


@pytest.mark.parametrize("step", [Contrast("clahe"), Contrast("equalize"), Contrast("autocontrast")])
def test_dull_images_gain_contrast(step: Contrast) -> None:
    """An image of few grey levels spans more of them afterwards, in colour and in grey."""
    for channels in (3, 1):
        image = np.ascontiguousarray(DULL[:, :, :channels])
        assert done(step, image).std() > 1.2 * image.std()


def test_clahe_works_on_lightness() -> None:
    """In colour it is OpenCV's CLAHE on L of Lab; tile_grid is rows, columns."""
    lab = cv2.cvtColor(DULL, cv2.COLOR_RGB2LAB)
    lab[:, :, 0] = cv2.createCLAHE(3.0, (2, 5)).apply(np.ascontiguousarray(lab[:, :, 0]))
    assert np.array_equal(done(Contrast("clahe", clip_limit=3.0, tile_grid=(5, 2))), cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))


@pytest.mark.parametrize("cutoff", [0.0, 3.0, 12.0])
def test_autocontrast_is_pillows(cutoff: float) -> None:
    """Each channel is stretched as ImageOps.autocontrast does, within a level (Pillow cuts, this rounds)."""
    expected = np.asarray(ImageOps.autocontrast(Image.fromarray(DULL), cutoff=cutoff))
    assert np.abs(done(Contrast("autocontrast", cutoff=cutoff)).astype(int) - expected).max() <= 1


def test_autocontrast_leaves_one_colour_alone() -> None:
    """An image of one value has nothing to stretch."""
    flat = np.full((4, 5, 1), 77, np.uint8)
    assert np.array_equal(done(Contrast("autocontrast", cutoff=20.0), flat), flat)


def test_gamma_is_the_power_law() -> None:
    """Every level becomes 255 * (level / 255) ** gamma, rounded."""
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    expected = np.rint(255 * (levels / 255) ** 2.2)
    assert np.array_equal(done(Contrast("gamma", gamma=2.2), levels), expected)


def test_parameters_belong_to_their_method() -> None:
    """A parameter of another method, a missing gamma and impossible values are refused."""
    for arguments in (
        {"method": "gamma"},
        {"method": "equalize", "clip_limit": 2.0},
        {"method": "clahe", "gamma": 2.0},
        {"method": "clahe", "clip_limit": 0.0},
        {"method": "clahe", "tile_grid": (0, 3)},
        {"method": "autocontrast", "cutoff": 50.0},
    ):
        with pytest.raises(ValueError, match=r"is needed for method gamma|is not for|should be"):
            Contrast(**arguments)  # type: ignore[arg-type]


def test_contrast_takes_no_floats() -> None:
    """float32 is refused before work."""
    with pytest.raises(RecipeError, match="uint8"):
        Contrast("equalize").output_spec(Spec(Interval(), Interval(), 3, "float32", (0.0, 1.0)))


def test_grayscale_weighs_the_channels() -> None:
    """Grey is 0.299 red + 0.587 green + 0.114 blue, in one channel or in three equal ones; grey stays grey."""
    expected = np.rint(DULL @ np.array([0.299, 0.587, 0.114]))
    one, three = done(Grayscale()), done(Grayscale(3))
    assert one.shape == (40, 50, 1)
    assert np.abs(one[:, :, 0] - expected).max() <= 1
    assert np.array_equal(three, np.repeat(one, 3, axis=2))
    assert np.array_equal(done(Grayscale(), one), one)
    assert np.array_equal(done(Grayscale(3), one), three)
