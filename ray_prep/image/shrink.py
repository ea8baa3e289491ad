"""Antialiased resizing out of two cheap OpenCV kernels: the bilinear one, and the mean over whole pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    Image = np.ndarray[Any, np.dtype[Any]]

# A side that shrinks this much is halved first: an exact 2:1 mean is one vectorised pass.
_HALVE_FROM = 4.0
# (largest factor, samples a target pixel): the bilinear pass then never steps over more than 1.125 source pixels, or it
# would alias. Below 1.02 one sample is as good, and half the blur. Measured against INTER_AREA, see the tests' floors.
_SAMPLES = ((1.02, 1), (2.25, 2), (3.25, 3), (_HALVE_FROM, 4))
_LONGEST_REMAPPED = 32_767  # OpenCV's remap wants sides below


def shrink(image: Image, height: int, width: int, extent_height: float | None = None, extent_width: float | None = None) -> Image:
    """Resize to `height` x `width`, each side by the factor it needs, larger or smaller.

    A side that shrinks four times or more is halved until it does not. Then one bilinear pass takes two, three or four
    samples a target pixel, and their exact mean is the pixel. Enlarging is the bilinear pass alone: it makes no new
    extremes, so ranges hold, and goes over into shrinking without a jump at factor 1.

    Against INTER_AREA on 500 x 375 RGB (OpenCV 5.0): 0.2 to 0.65 of its time, and no gain between factors 2.25 and 3 or at
    exact 3 and 5; 38 dB or more from the exact area mean of 1/f noise; aliasing at most 0.02 above.

    Shape: (H, W, C) -> (height, width, C).   Dtype: kept.   Range: kept.   Random: no.   Targets: image.

    Args:
        image: uint8 or float32.
        height: Target, pixels, at least 1.
        width: Target, pixels, at least 1.
        extent_height: How many rows of `image` the picture fills, where that is not all of them to the pixel: a JPEG of
            501 rows decoded at 1/2 has 251, of which the picture fills 250.5. None: all.
        extent_width: The same for columns.
    """
    rows = float(image.shape[0]) if extent_height is None else extent_height
    columns = float(image.shape[1]) if extent_width is None else extent_width
    channels = image.shape[2]
    while True:
        halve_rows, halve_columns = rows / height >= _HALVE_FROM, columns / width >= _HALVE_FROM
        if not (halve_rows or halve_columns):
            break
        image = _halved(image, halve_rows=halve_rows, halve_columns=halve_columns)
        rows, columns = (rows / 2 if halve_rows else rows), (columns / 2 if halve_columns else columns)
    tall, wide = _samples(rows / height), _samples(columns / width)
    image = _interpolated(image, tall * height, wide * width, rows, columns)
    while tall > 1 or wide > 1:
        tall, wide = _next(tall), _next(wide)
        image = cv2.resize(image, (wide * width, tall * height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image).reshape(height, width, channels)


def _samples(factor: float) -> int:
    return next(samples for limit, samples in _SAMPLES if factor <= limit)


def _next(samples: int) -> int:
    """Four samples become two, then one: 2:1 is the mean OpenCV has in SIMD."""
    return samples // 2 if samples % 2 == 0 else 1


def _halved(image: Image, *, halve_rows: bool, halve_columns: bool) -> Image:
    """Return means of two along the sides asked for; an odd last line is dropped, and the extent says that it is missing."""
    height, width = image.shape[:2]
    if halve_rows:
        height //= 2
        image = image[: 2 * height]
    if halve_columns:
        width //= 2
        image = image[:, : 2 * width]
    halved: Image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return halved


def _interpolated(image: Image, height: int, width: int, rows: float, columns: float) -> Image:
    """Return the bilinear picture whose pixels lie evenly over `rows` x `columns` of `image`."""
    if image.shape[:2] == (rows, columns):
        if image.shape[:2] == (height, width):
            return image
        stretched: Image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        return stretched
    # `remap` takes no longer sides; there a shift of a quarter of a target pixel at the most stays.
    if max(image.shape[:2]) < _LONGEST_REMAPPED and image.shape[:2] == (
        round(image.shape[0] * (height / rows)),
        round(image.shape[1] * (width / columns)),
    ):
        return _laid(image, height, width, rows, columns)
    # Given a size, OpenCV derives the factors from it and would stretch the grid over all of `image`. Given factors it
    # keeps them and derives the size, which may differ by the lines that the extent lacks or leaves over.
    result: Image = cv2.resize(image, None, fx=width / columns, fy=height / rows, interpolation=cv2.INTER_LINEAR)[:height, :width]
    below, beside = height - result.shape[0], width - result.shape[1]
    if below or beside:
        result = cv2.copyMakeBorder(result, 0, below, 0, beside, cv2.BORDER_REPLICATE)
    return result


def _laid(image: Image, height: int, width: int, rows: float, columns: float) -> Image:
    """Return what `_interpolated` does where OpenCV's `resize` would find no change of size, and copy: its `remap`, to 1/32 pixel."""
    down = ((np.arange(height) + 0.5) * (rows / height) - 0.5).astype(np.float32)
    across = ((np.arange(width) + 0.5) * (columns / width) - 0.5).astype(np.float32)
    laid: Image = cv2.remap(image, *np.meshgrid(across, down), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return laid
