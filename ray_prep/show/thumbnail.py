"""Any picture of a chain as what fits on a tile: values brought back to 0 … 255, sides to the space there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

Pixels = np.ndarray[Any, np.dtype[Any]]
Rgb = np.ndarray[Any, np.dtype[np.uint8]]

_MAX_ENLARGEMENT = 16
_MIN_SIDE_PX = 14  # a picture of 4000 x 30 is drawn this narrow, not as a hair line
_NOT_A_NUMBER = (255, 0, 255)


def to_rgb(
    image: Pixels,
    value_range: tuple[float, float] | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> tuple[Rgb, str]:
    """Return a picture as people see it, and what was done to its values for that (empty where nothing).

    Shape: (H, W, 1 or 3) -> (H, W, 3).   Dtype: any number -> uint8.   Range: any -> [0, 255].   Random: no.   Targets: image.

    Args:
        image: Grey or red, green, blue; (H, W) counts as grey.
        value_range: What is black and what is white, after mean and std are undone. None: 0 … 255 for uint8, 0 … 1 where
            mean and std are given, else the picture's own smallest and largest value.
        mean: What was subtracted from each channel; empty where nothing was.
        std: What each channel was divided by afterwards; empty where nothing was.

    Raises:
        ValueError: It is no picture: no pixels, or neither 1 nor 3 channels.
    """
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.size == 0:
        msg = f"no picture to show: shape {image.shape}; right would be (height, width, 1 or 3)"
        raise ValueError(msg)
    is_normalized = len(mean) > 0 or len(std) > 0
    if image.dtype == np.uint8 and value_range in (None, (0, 255)) and not is_normalized:
        return _three_channels(np.ascontiguousarray(image)), ""
    values = image.astype(np.float32)
    if is_normalized:
        values = values * np.asarray(std or (1.0,), np.float32) + np.asarray(mean or (0.0,), np.float32)
        if value_range is None:
            value_range = (0.0, 1.0)
    finite = np.isfinite(values)
    note = "mean, std undone" if is_normalized else ""
    if value_range is None:
        low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 0.0)
        note = f"stretched from {low:.3g} … {high:.3g}"
    else:
        low, high = value_range
        note = note or f"range {low:g} … {high:g}"
    # A picture of one value has nothing to stretch: it is shown mid-grey.
    scaled = (values - low) * (255 / (high - low)) if high > low else np.full_like(values, 127.5)
    shown = _three_channels(np.rint(np.clip(np.where(finite, scaled, 0), 0, 255)).astype(np.uint8))
    if not finite.all():
        shown[~finite.all(axis=2)] = _NOT_A_NUMBER
        note += " · not finite: magenta"
    return shown, note


def fit(image: Rgb, height: int, width: int) -> tuple[Rgb, str]:
    """Return a picture scaled to lie within height x width, and a note where its scale is not what one would think.

    Large pictures are shrunk, aspect kept, by area. Small ones are enlarged by whole numbers, pixels kept square, so that
    each can be seen. Pictures larger than half the tile stay as they are: pixel for pixel.

    Shape: (H, W, 3) -> (at most height, at most width, 3).   Dtype: uint8.   Range: kept.   Random: no.   Targets: image.

    Args:
        image: Red, green, blue.
        height: Space there is, pixels, at least 16.
        width: Space there is, pixels, at least 16.
    """
    rows, columns = image.shape[:2]
    factor = min(height // rows, width // columns, _MAX_ENLARGEMENT)
    if factor >= 2:
        return np.repeat(np.repeat(image, factor, axis=0), factor, axis=1), f"shown {factor} times as large"
    if factor == 1:
        return image, ""
    scale = min(height / rows, width / columns)
    wanted = max(1, round(rows * scale)), max(1, round(columns * scale))
    drawn = max(wanted[0], min(_MIN_SIDE_PX, height)), max(wanted[1], min(_MIN_SIDE_PX, width))
    small = cv2.resize(image, (wanted[1], wanted[0]), interpolation=cv2.INTER_AREA)
    if drawn == wanted:
        return small, ""
    return cv2.resize(small, (drawn[1], drawn[0]), interpolation=cv2.INTER_NEAREST), "short side widened to be seen"


def _three_channels(image: Rgb) -> Rgb:
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
