"""Resizing: to a size, to a side, or into a frame."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, ClassVar, Literal

import cv2
import numpy as np

from ray_prep.image.shrink import shrink
from ray_prep.spec import Interval, Spec
from ray_prep.transforms.transform import Fill, Image, check_fill, check_made, check_sides, filled, scalar, with_image

if TYPE_CHECKING:
    from ray_prep.sample import Sample
    from ray_prep.transforms.geometry import Rectangle

Interpolation = Literal["auto", "area", "linear", "cubic", "lanczos4", "nearest"]
_OPENCV = {
    "area": cv2.INTER_AREA,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "lanczos4": cv2.INTER_LANCZOS4,
    "nearest": cv2.INTER_NEAREST,
}
_PARTED = ("area", "linear", "nearest")
# Lines of a picture beyond those that lie below a part of the result.
_NEIGHBOURS = 8
_OVERSHOOTING = ("cubic", "lanczos4")
_EIGHTHS = 8


@dataclass(frozen=True)
class Letterbox:
    """A frame that the whole picture is fitted into.

    Args:
        height: Of the frame, pixels.
        width: Of the frame, pixels.
        fill: What fills the bars: one number, or one for each channel.
    """

    height: int
    width: int
    fill: Fill = 0.0

    def __post_init__(self) -> None:
        check_sides(self, "height", "width", low=1)


@dataclass(frozen=True)
class Resize:
    """Resizes, with exactly one of: `height` and `width`; `short_side`; `long_side`; `letterbox`.

    The three latter keep the aspect: the other side is the exact quotient rounded to the nearest pixel, halves up, and
    at least 1 (500 x 375 with short_side 256: 341.33, so 341 x 256). Letterbox centres the picture; an odd pixel of bar
    is at the bottom or right.

    `auto` is antialiased and fast (see `image.shrink`): it may start from a JPEG decoded at a fraction of its size, of
    twice the target at least. The others are OpenCV's on the whole picture, bit for bit; `linear` and `cubic` alias. On
    float32, `cubic` and `lanczos4` overshoot, so that the range is open.

    Shape: (H, W, C) -> (height, width, C).   Dtype: kept.   Range: kept, or open.   Random: no.   Targets: image.

    Args:
        height: Exact height, pixels; needs `width`.
        width: Exact width, pixels; needs `height`.
        short_side: What the shorter side becomes, pixels.
        long_side: What the longer side becomes, pixels.
        letterbox: A frame of `height`, `width` and `fill`.
        interpolation: auto, area, linear, cubic, lanczos4 or nearest.
    """

    version: ClassVar[int] = 1
    is_random: ClassVar[bool] = False

    height: int | None = None
    width: int | None = None
    short_side: int | None = None
    long_side: int | None = None
    letterbox: Letterbox | None = None
    interpolation: Interpolation = "auto"

    def __post_init__(self) -> None:
        check_sides(self, "height", "width", "short_side", "long_side", low=1)
        ways = [self.height is not None or self.width is not None, *(way is not None for way in self._ways)]
        if sum(ways) != 1:
            names = ("height", "width", "short_side", "long_side", "letterbox")
            given = [name for name in names if getattr(self, name) is not None]
            msg = f"give exactly one of height and width, short_side, long_side, letterbox; got {' and '.join(given) or 'none of them'}"
            raise ValueError(msg)
        if (self.height is None) != (self.width is None):
            msg = "height and width go together; to keep the aspect give short_side, long_side or letterbox"
            raise ValueError(msg)

    @property
    def _ways(self) -> tuple[object, ...]:
        return self.short_side, self.long_side, self.letterbox

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) of the result, bars of a letterbox included."""
        return (self.letterbox.height, self.letterbox.width) if self.letterbox else self._picture(height, width)

    def decode_at_least(self, height: int, width: int) -> tuple[int, int] | None:
        """Return the smallest (height, width) that a picture of this size may be decoded at; None: only the whole."""
        if self.interpolation != "auto":
            return None
        wanted = self._picture(height, width)
        return min(height, 2 * wanted[0]), min(width, 2 * wanted[1])

    def output_spec(self, spec: Spec, /) -> Spec:
        if self.letterbox:
            check_fill(self.letterbox.fill, spec)
            value_range = filled(spec, self.letterbox.fill)
        else:
            value_range = spec.value_range
        if spec.dtype != "uint8" and self.interpolation in _OVERSHOOTING:
            value_range = None
        return Spec(*self._sides(spec), spec.channels, spec.dtype, value_range, spec.notes)

    def __call__(self, sample: Sample, _rng: np.random.Generator, /) -> Sample:
        height, width = self.size(sample)
        image = self._resized(sample, height, width)
        if self.letterbox:
            top, left = (self.letterbox.height - height) // 2, (self.letterbox.width - width) // 2
            below, beside = self.letterbox.height - height - top, self.letterbox.width - width - left
            channels = image.shape[2]
            image = cv2.copyMakeBorder(image, top, below, left, beside, cv2.BORDER_CONSTANT, value=scalar(self.letterbox.fill))
            image = image.reshape(self.letterbox.height, self.letterbox.width, channels)
        return with_image(sample, image)

    @property
    def makes_parts(self) -> bool:
        """Whether `part` makes the very pixels of the whole: the other interpolations round otherwise near an edge (OpenCV 5.0)."""
        return self.letterbox is None and self.interpolation in _PARTED

    def part(self, sample: Sample, rectangle: Rectangle) -> Sample:
        """Return a rectangle of the resized picture; what lies below it and right of it is not computed.

        Args:
            sample: Is not written to.
            rectangle: Lies in the picture of `size`.
        """
        top, left, rows, columns = rectangle
        bottom, right = top + rows, left + columns
        height, width = self.size(sample)
        # Given factors instead of a size, OpenCV lays the same grid over the upper left part of the picture as over all of it.
        factor_y, factor_x = height / sample.height, width / sample.width
        part = sample.image[: ceil(bottom / factor_y) + _NEIGHBOURS, : ceil(right / factor_x) + _NEIGHBOURS]
        image: Image | None = None
        if part.shape != sample.image.shape:
            image = cv2.resize(part, None, fx=factor_x, fy=factor_y, interpolation=_OPENCV[self.interpolation])
        if image is None or image.shape[:2] == part.shape[:2]:  # of a part that keeps its size OpenCV makes a mere copy
            image = self._resized(sample, height, width)
        return with_image(sample, image.reshape(*image.shape[:2], sample.image.shape[2])[top:bottom, left:right])

    def size(self, sample: Sample) -> tuple[int, int]:
        """Return the (height, width) that the picture itself is resized to, pixels.

        Raises:
            LimitError: `too_large`.
        """
        height, width = self._picture(sample.height, sample.width)
        check_made(sample.image, height, width)  # 1 x 30000 with short_side 256 would become 256 x 7.7 million
        return height, width

    def _resized(self, sample: Sample, height: int, width: int) -> Image:
        image = sample.image
        if self.interpolation == "auto":
            return shrink(image, height, width, *_extents(sample))
        if image.shape[:2] == (height, width):
            return image
        resized: Image = cv2.resize(image, (width, height), interpolation=_OPENCV[self.interpolation])
        return resized.reshape(height, width, image.shape[2])

    def _picture(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) that the picture itself is resized to."""
        if self.height is not None and self.width is not None:
            return self.height, self.width
        if self.letterbox:
            if self.letterbox.height * width <= self.letterbox.width * height:
                return self.letterbox.height, _quotient(width, self.letterbox.height, height)
            return _quotient(height, self.letterbox.width, width), self.letterbox.width
        side, given = (self.short_side, min(height, width)) if self.short_side else (self.long_side or 1, max(height, width))
        return (side, _quotient(width, side, height)) if given == height else (_quotient(height, side, width), side)

    def _sides(self, spec: Spec) -> tuple[Interval, Interval]:
        if self.short_side:
            return _beside_short(self.short_side, spec.height, spec.width), _beside_short(self.short_side, spec.width, spec.height)
        if self.long_side:
            return _beside_long(self.long_side, spec.height, spec.width), _beside_long(self.long_side, spec.width, spec.height)
        height, width = self.target(1, 1)
        return Interval.exactly(height), Interval.exactly(width)


def _quotient(side: int, target: int, given: int) -> int:
    """Return side * target / given, rounded to the nearest whole number, halves up, at least 1; no float is involved."""
    return max(1, (2 * side * target + given) // (2 * given))


def _beside_short(target: int, side: Interval, other: Interval) -> Interval:
    """Return what `side` may become where the shorter of the two becomes `target`."""
    low = _quotient(side.low, target, other.high) if other.high is not None and side.low > other.high else target
    if side.high is None:
        return Interval(low)
    return Interval(low, _quotient(side.high, target, other.low) if side.high > other.low else target)


def _beside_long(target: int, side: Interval, other: Interval) -> Interval:
    """Return what `side` may become where the longer of the two becomes `target`."""
    high = _quotient(side.high, target, other.low) if side.high is not None and side.high < other.low else target
    if other.high is None:
        return Interval(1, high)
    return Interval(_quotient(side.low, target, other.high) if side.low < other.high else target, high)


def _extents(sample: Sample) -> tuple[float, float] | tuple[None, None]:
    """Return how many rows and columns of the image the picture fills: a decode at n/8 rounds both sides up."""
    if sample.full_size is None:
        return None, None
    full_height, full_width = sample.full_size
    for eighths in range(1, _EIGHTHS + 1):
        if sample.image.shape[:2] == (-(-full_height * eighths // _EIGHTHS), -(-full_width * eighths // _EIGHTHS)):
            return full_height * eighths / _EIGHTHS, full_width * eighths / _EIGHTHS
    return None, None
