"""The smallest images Albumentations 2.0.8's transforms work on, (height, width): rules read from its source.

Each gets the transform Albumentations built; its attributes are its validated parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ray_prep.errors import RecipeError
from ray_prep.transforms.sizes import edges

_LONGEST_SIDE = 65_535  # of a JPEG


def crop(transform: Any) -> tuple[int, int]:
    """Least: the crop, unless it pads."""
    return (1, 1) if transform.pad_if_needed else (transform.height, transform.width)


def rectangle(transform: Any) -> tuple[int, int]:
    """Least: what the rectangle reaches to, unless it pads."""
    return (1, 1) if transform.pad_if_needed else (transform.y_max, transform.x_max)


def sized_crop(transform: Any) -> tuple[int, int]:
    """Least: any; a crop larger than the image is cut to it. Refuses crops that have no width."""
    if int(transform.min_max_height[0] * transform.w2h_ratio) < 1:
        raise RecipeError("min_max_height and w2h_ratio make crops without a width; raise the smallest height or the ratio")
    return 1, 1


def scale(transform: Any) -> tuple[int, int]:
    """Least: what the smallest factor leaves a pixel of."""
    low = transform.scale_limit[0] + 1.0
    if low <= 0:
        raise RecipeError(f"scale_limit: {low - 1:g} shrinks to nothing; it is added to 1 and should be above -1")
    return (_smallest(lambda n: int(n * low)),) * 2


def downscale(transform: Any) -> tuple[int, int]:
    """Least: what the smallest factor leaves a pixel of on the way down."""
    low = transform.scale_range[0]
    if low <= 0:
        raise RecipeError("scale_range: should be above 0")
    return (_smallest(lambda n: round(n * low)),) * 2  # OpenCV rounds halves to even, as Python does


def _smallest(size: Callable[[int], int]) -> int:
    return next(n for n in range(1, 1 << 20) if size(n) >= 1)


def crop_and_pad(transform: Any) -> tuple[int, int]:
    """Least: a pixel more than the edges take away."""
    if transform.px is None:
        return 1, 1
    top, right, bottom, left = (max(0, -int(edge[0])) for edge in edges(transform))
    return top + bottom + 1, left + right + 1


def rotate(transform: Any) -> tuple[int, int]:
    """Least: two pixels, where the borders are cropped."""
    return (2, 2) if transform.crop_border else (1, 1)


def segments(transform: Any) -> tuple[int, int]:
    """Least: a pixel for each segment."""
    segments = transform.n_segments[1] if isinstance(transform.n_segments, (tuple, list)) else transform.n_segments
    return (math.isqrt(segments - 1) + 1,) * 2


def rain(transform: Any) -> tuple[int, int]:
    """Least: a pixel more than a drop is long, so that there is a place for it."""
    if transform.drop_length is not None:
        return int(transform.drop_length) + 1, 1
    return (2, 1) if transform.rain_type in ("heavy", "torrential") else (1, 1)  # the others let nothing fall in a line


def shadow(transform: Any) -> tuple[int, int]:
    """Least: sides from which on the region always holds a pixel."""
    x_min, y_min, x_max, y_max = transform.shadow_roi
    return _least_with_pixel(y_min, y_max), _least_with_pixel(x_min, x_max)


def _least_with_pixel(low: float, high: float) -> int:
    if (high - low) * _LONGEST_SIDE < 1:
        raise RecipeError(f"shadow_roi: from {low:g} to {high:g} of a side lies no pixel; it should be wider")
    enough = math.ceil(1 / (high - low)) + 1
    return next((side + 1 for side in range(enough, 0, -1) if int(low * side) >= int(high * side)), 1)


def grid_dropout(transform: Any) -> tuple[int, int]:
    """Least: a unit of the grid."""
    if transform.holes_number_xy:
        return 1, 1
    return (transform.unit_size_range[1] if transform.unit_size_range else 2,) * 2


def holes(transform: Any) -> tuple[int, int]:
    """Least: the largest hole, where holes are given in pixels."""
    sides = (transform.hole_height_range[1], transform.hole_width_range[1])
    high, wide = (math.ceil(side) if side >= 1 else 1 for side in sides)  # below 1 they are shares of the image
    return high, wide


def masking(transform: Any) -> tuple[int, int]:
    """Least: the longest mask."""
    lengths = (transform.mask_y_length, transform.mask_x_length)
    high, wide = (length[1] if isinstance(length, (tuple, list)) else length for length in lengths)
    return max(1, high), max(1, wide)


def two_by_two(_transform: Any) -> tuple[int, int]:
    """Least: two pixels each way."""
    return 2, 2
