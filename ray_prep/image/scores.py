"""Numbers that tell blurred, dark and empty pictures: sharpness, brightness and contrast of the upright picture, before any step.

All three look at the same grey picture: luma (ITU-R BT.601, as in JPEG) with at most 49,152 pixels, the 256 x 192 of a 4:3 photo.
So they speak of the picture as a network will see it, are comparable between resolutions, and need no full decode of a large
JPEG. Everything up to the last division is done in whole numbers: the same bytes on every engine and CPU.

Cost, all three together: 0.2 ms at 500 x 375, 5 ms at 12 megapixels, nearly all of it for the grey picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ray_prep.errors import RecipeError, did_you_mean
from ray_prep.image.shrink import shrink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Pixels = np.ndarray[Any, np.dtype[np.uint8]]
    Counts = np.ndarray[Any, np.dtype[np.int64]]

# Of the formulas below: another one makes other rows, so that datasets with scores are built again.
SCORES_VERSION = 1

_SCORED_PIXELS = 49_152
_LEVELS = np.arange(256, dtype=np.int64)
_BINOMIAL = np.array([1, 2, 1], dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Luma:
    """The grey picture that is scored.

    Args:
        pixels: (H, W), uint8, 49,152 pixels or about so many at the most.
        histogram: How many of them have each of the 256 levels.
    """

    pixels: Pixels
    histogram: Counts


def luma(image: Pixels) -> Luma:
    """Make the grey picture that is scored: antialiased shrinking where there are more pixels, never enlarged.

    Shape: (H, W, 1 or 3) -> (height, width).   Dtype: uint8.   Range: [0, 255].   Random: no.
    """
    height, width, channels = image.shape
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None] if channels == 3 else image
    pixels = shrink(grey, *_scored_size(height, width))[..., 0]
    histogram = cv2.calcHist([pixels], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    return Luma(pixels, histogram)


def _scored_size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, math.sqrt(_SCORED_PIXELS / (height * width)))
    return max(1, round(height * scale)), max(1, round(width * scale))


def decode_at_least(height: int, width: int) -> tuple[int, int]:
    """Return the smallest (height, width) that a picture of this size may be decoded at: twice what is scored, as `resize` asks too."""
    scored = _scored_size(height, width)
    return min(height, 2 * scored[0]), min(width, 2 * scored[1])


def sharpness(picture: Luma) -> float:
    """Return how fine the detail is: the Laplacian of the smoothed picture over luma itself, both as standard deviations.

    `std(laplacian(binomial_3x3(luma))) / std(luma)`, no unit, 0 (a flat picture) to 1.19; luma's variance gets 1 added, so that
    a flat picture's rounding is no detail. The variance of the Laplacian is the known measure of focus (Pech-Pacheco et al. 2000,
    "Diatom autofocusing in brightfield microscopy"; LAP4 of Pertuz et al. 2013, "Analysis of focus measure operators for
    shape-from-focus"). It grows with contrast, so that sharp pictures of fog or dusk look blurred; the quotient does not. Smoothing
    first (Marr and Hildreth 1980, "Theory of edge detection") keeps noise and resampling from being taken for detail.

    Blur counts in proportion to the picture: at half and at three quarters of their resolution photos of 640 x 480 score 0.87 to
    1.08 times as much. On 101 photos: 1 % below 0.09, half above 0.20; with a Gaussian blur of 1 % of their side (the root of
    height x width), as JPEGs of quality 75 or with noise of 4 levels, 95 % below 0.09; with one of 2 %, below 0.05.

    Shape: (H, W) -> number.   Dtype: uint8.   Range: [0, 1.19].   Random: no.
    """
    pixels = picture.pixels
    # Sixteen times the smoothed picture, in whole numbers: rounded to 8 bits, a blurred one would have its rounding for detail. OpenCV is
    # fastest by way of float32, which holds them exactly; squares are added as integers (8 * 16 * 255 fits 16 bits).
    smooth = cv2.sepFilter2D(pixels, cv2.CV_32F, _BINOMIAL, _BINOMIAL, borderType=cv2.BORDER_REPLICATE)
    laplacian = cv2.Laplacian(smooth, cv2.CV_32F, borderType=cv2.BORDER_REPLICATE).astype(np.int16)
    count = pixels.size
    total = int(picture.histogram @ _LEVELS)
    squares = int(picture.histogram @ (_LEVELS * _LEVELS))
    variance = (count * squares - total * total) / (count * count)
    # With replicated borders the Laplacian sums to zero, so that its mean square is its variance.
    return math.sqrt(cv2.norm(laplacian, cv2.NORM_L2SQR) / (256 * count) / (variance + 1))


def brightness(picture: Luma) -> float:
    """Return the middle of luma: halfway between the level that 5 % of pixels are at or below and the one that 5 % are at or above.

    No unit, 0 (black) to 1 (white), 0.5 for a balanced picture. What the picture shows moves it less than it moves the mean: of pairs of
    a photo and another one exposed two, three or four stops less, it finds the dark one in 97, 99 and 99 of 100, the mean in 92, 96
    and 97 (101 photos; 1 % score below 0.23, and 95 % of those three stops darker below 0.24). Percentiles to tell dark pictures are
    cleanvision's idea, which takes the 99th for dark ones and the 5th for light ones.

    Shape: (H, W) -> number.   Dtype: uint8.   Range: [0, 1].   Random: no.
    """
    low, high = _extent(picture.histogram, 5)
    return (low + high) / 510


def contrast(picture: Luma) -> float:
    """Return how much of the range luma spans: from the level that 1 % of pixels are at or below to the one that 1 % are at or above.

    No unit, 0 (one grey) to 1 (black to white). Little of it is little information: scikit-image's `is_low_contrast` judges by this
    range, and calls below 0.05 low.

    Shape: (H, W) -> number.   Dtype: uint8.   Range: [0, 1].   Random: no.
    """
    low, high = _extent(picture.histogram, 1)
    return (high - low) / 255


def _extent(histogram: Counts, percent: int) -> tuple[int, int]:
    """Return the lowest level that so many percent of the pixels are at or below, and the highest that as many are at or above."""
    counts = histogram.cumsum()
    least = -(-int(counts[-1]) * percent // 100)
    return int(np.searchsorted(counts, least)), int(np.searchsorted(counts, int(counts[-1]) - least, side="right"))


# In the order of the column's fields.
SCORES: dict[str, Callable[[Luma], float]] = {"sharpness": sharpness, "brightness": brightness, "contrast": contrast}


def parse_scores(value: object) -> tuple[str, ...]:
    """Read a recipe's `scores`.

    Args:
        value: A list of names; None stands for an empty one.

    Returns:
        The names in the column's order.

    Raises:
        RecipeError: It is no list, or a name is unknown or stands there twice.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise RecipeError(f"scores: should be a list, such as [{', '.join(SCORES)}], got {value!r}")
    for place, name in enumerate(value):
        if not isinstance(name, str) or name not in SCORES:
            hint = did_you_mean(str(name), SCORES)
            raise RecipeError(f"scores[{place}]: there is no score {name!r}{hint}; there are {', '.join(SCORES)}")
        if name in value[:place]:
            raise RecipeError(f"scores[{place}]: {name!r} stands there twice")
    return tuple(name for name in SCORES if name in value)


def measure(image: Pixels, names: Iterable[str]) -> dict[str, float]:
    """Score an upright picture.

    Shape: (H, W, 1 or 3) -> a number a name.   Dtype: uint8.   Range: of each score.   Random: no.

    Args:
        image: As decoded, before any step.
        names: Keys of `SCORES`.

    Returns:
        Scores by name, rounded to the float32 that the column holds: what a threshold is compared with is what is stored.
    """
    picture = luma(image)
    return {name: float(np.float32(SCORES[name](picture))) for name in names}
