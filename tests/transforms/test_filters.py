"""Denoising and sharpening do what their method says, and refuse what OpenCV cannot do."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from ray_prep.errors import RecipeError
from ray_prep.sample import Sample
from ray_prep.spec import Interval, Spec
from ray_prep.transforms.filters import Denoise, Sharpen

RNG = np.random.default_rng(0)
X, Y = np.meshgrid(np.arange(48), np.arange(40))
CLEAN = np.stack([100 + X, 200 - X - Y, 60 + 2 * Y], axis=-1).astype(np.uint8)
NOISY = np.clip(CLEAN + np.random.default_rng(1).normal(0, 12, CLEAN.shape), 0, 255).astype(np.uint8)


def done(step: Any, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the image after a step."""
    result: np.ndarray[Any, Any] = step(Sample("k", 0, image), RNG).image
    return result


def error(image: np.ndarray[Any, Any]) -> float:
    """Return the mean distance from the clean image."""
    return float(np.abs(image.astype(float) - CLEAN[:, :, : image.shape[2]]).mean())


@pytest.mark.parametrize("step", [Denoise("gaussian"), Denoise("median"), Denoise("bilateral"), Denoise("nlmeans", strength=12.0)])
def test_every_method_takes_noise_out(step: Denoise) -> None:
    """Noise on smooth shades is at least halved, in colour and grey, and channels stay in their places."""
    for channels in (3, 1):
        assert error(done(step, np.ascontiguousarray(NOISY[:, :, :channels]))) < 0.5 * error(NOISY[:, :, :channels])


def test_the_parameters_reach_opencv() -> None:
    """kernel, sigma and strength are OpenCV's own."""
    assert np.array_equal(done(Denoise("gaussian", kernel=7, sigma=2.5), NOISY), cv2.GaussianBlur(NOISY, (7, 7), 2.5))
    assert np.array_equal(done(Denoise("median", kernel=3), NOISY), cv2.medianBlur(NOISY, 3))
    assert np.array_equal(done(Denoise("bilateral", kernel=9, sigma=3.0, strength=20.0), NOISY), cv2.bilateralFilter(NOISY, 9, 20, 3))


@pytest.mark.parametrize(
    "arguments",
    [
        {"method": "median", "kernel": 4},
        {"method": "median", "kernel": 1},
        {"method": "bilateral", "kernel": 33},
        {"method": "median", "sigma": 1.0},
        {"method": "gaussian", "strength": 1.0},
        {"method": "gaussian", "sigma": 0.0},
    ],
)
def test_what_a_method_cannot_do_is_refused(arguments: dict[str, Any]) -> None:
    """Even kernels, and parameters of another method, are refused with what would be right."""
    with pytest.raises(ValueError, match=r"kernel: should be odd|is not for|sigma: should be above 0"):
        Denoise(**arguments)


def test_only_gaussian_takes_floats() -> None:
    """float32 passes through gaussian and is refused by the others, with a hint."""
    unit = Spec(Interval(), Interval(), 3, "float32", (0.0, 1.0))
    assert Denoise("gaussian").output_spec(unit) == unit
    for step in (Denoise("median"), Denoise("bilateral"), Denoise("nlmeans"), Sharpen()):
        with pytest.raises(RecipeError, match="it takes uint8 and gets float32"):
            step.output_spec(unit)


def test_sharpen_is_an_unsharp_mask() -> None:
    """The result is image + amount * (image - blur), rounded and cut; an amount of 0 changes nothing."""
    blurred = cv2.GaussianBlur(NOISY, (0, 0), 1.5).astype(float)
    expected = np.clip(NOISY + 0.8 * (NOISY - blurred), 0, 255)
    assert np.abs(done(Sharpen(amount=0.8, sigma=1.5), NOISY) - expected).max() <= 0.51
    assert np.array_equal(done(Sharpen(amount=0.0), NOISY), NOISY)
    with pytest.raises(ValueError, match="amount: should be from 0 to 10"):
        Sharpen(amount=-1.0)
