"""Steps that move pixels and change none: crops, borders, turns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import cv2
import numpy as np

from ray_prep.spec import Interval, Spec
from ray_prep.transforms.transform import Fill, Image, check_fill, check_made, check_sides, check_size, filled, scalar, with_image

if TYPE_CHECKING:
    from ray_prep.sample import Sample

_BORDERS = {"fill": cv2.BORDER_CONSTANT, "reflect": cv2.BORDER_REFLECT_101, "edge": cv2.BORDER_REPLICATE}
# (top, left, height, width), pixels.
Rectangle = tuple[int, int, int, int]
_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


@dataclass(frozen=True)
class CenterCrop:
    """Cuts out the middle; an odd pixel is left over at the bottom or right.

    Shape: (H, W, C) -> (height, width, C).   Dtype: kept.   Range: kept.   Random: no.   Targets: image.

    Args:
        height: Of the result, pixels; smaller images are too_small.
        width: Of the result, pixels; smaller images are too_small.
    """

    version: ClassVar[int] = 1
    is_random: ClassVar[bool] = False
    shorthand: ClassVar[tuple[str, ...]] = ("height", "width")

    height: int
    width: int

    def __post_init__(self) -> None:
        check_sides(self, "height", "width", low=1)

    def output_spec(self, spec: Spec, /) -> Spec:
        return spec.at_least(self.height, self.width, "it").sized(Interval.exactly(self.height), Interval.exactly(self.width))

    def rectangle(self, height: int, width: int) -> Rectangle:
        """Return what is kept of an image of this height and width, pixels.

        Raises:
            LimitError: `too_small`.
        """
        check_size(height, width, self.height, self.width)
        return (height - self.height) // 2, (width - self.width) // 2, self.height, self.width

    def __call__(self, sample: Sample, _rng: np.random.Generator, /) -> Sample:
        return _cut(sample, self.rectangle(*sample.image.shape[:2]))


@dataclass(frozen=True)
class Crop:
    """Cuts out a fixed rectangle.

    Shape: (H, W, C) -> (height, width, C).   Dtype: kept.   Range: kept.   Random: no.   Targets: image.

    Args:
        height: Of the rectangle, pixels.
        width: Of the rectangle, pixels.
        top: Rows above it.
        left: Columns left of it.
    """

    version: ClassVar[int] = 1
    is_random: ClassVar[bool] = False

    height: int
    width: int
    top: int = 0
    left: int = 0

    def __post_init__(self) -> None:
        check_sides(self, "height", "width", low=1)
        check_sides(self, "top", "left", low=0)

    def output_spec(self, spec: Spec, /) -> Spec:
        spec = spec.at_least(self.top + self.height, self.left + self.width, "it")
        return spec.sized(Interval.exactly(self.height), Interval.exactly(self.width))

    def rectangle(self, height: int, width: int) -> Rectangle:
        """Return what is kept of an image of this height and width, pixels.

        Raises:
            LimitError: `too_small`.
        """
        check_size(height, width, self.top + self.height, self.left + self.width)
        return self.top, self.left, self.height, self.width

    def __call__(self, sample: Sample, _rng: np.random.Generator, /) -> Sample:
        return _cut(sample, self.rectangle(*sample.image.shape[:2]))


@dataclass(frozen=True)
class Pad:
    """Adds borders: up to a height and width, or so many pixels at each side.

    Shape: (H, W, C) -> (H + rows, W + columns, C).   Dtype: kept.   Range: kept, and fill.   Random: no.   Targets: image.

    Args:
        height: What the height is padded to, pixels; the image is centred, an odd pixel is at the bottom. None: nothing.
        width: What the width is padded to, pixels; an odd pixel is at the right. None: nothing.
        top: Rows to add above; not together with `height` and `width`, as are the next three.
        bottom: Rows to add below.
        left: Columns to add.
        right: Columns to add.
        mode: `fill` with one colour; `reflect` (without repeating the edge); `edge`, repeating it.
        fill: The colour: one number, or one for each channel.
    """

    version: ClassVar[int] = 1
    is_random: ClassVar[bool] = False

    height: int | None = None
    width: int | None = None
    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0
    mode: Literal["fill", "reflect", "edge"] = "fill"
    fill: Fill = 0.0

    def __post_init__(self) -> None:
        check_sides(self, "height", "width", low=1)
        check_sides(self, "top", "bottom", "left", "right", low=0)
        has_margins = any((self.top, self.bottom, self.left, self.right))
        has_sides = self.height is not None or self.width is not None
        if has_margins == has_sides:
            msg = "give either height and/or width, or some of top, bottom, left, right"
            raise ValueError(msg)
        if self.mode != "fill" and self.fill != 0:
            msg = f"fill is for mode fill, not for {self.mode}"
            raise ValueError(msg)

    def output_spec(self, spec: Spec, /) -> Spec:
        value_range = spec.value_range
        if self.mode == "fill":
            check_fill(self.fill, spec)
            value_range = filled(spec, self.fill)
        height = _padded(spec.height, self.height, self.top + self.bottom)
        width = _padded(spec.width, self.width, self.left + self.right)
        return Spec(height, width, spec.channels, spec.dtype, value_range, spec.notes)

    def __call__(self, sample: Sample, _rng: np.random.Generator, /) -> Sample:
        image = sample.image
        rows, columns = max(0, (self.height or 0) - image.shape[0]), max(0, (self.width or 0) - image.shape[1])
        margins = (self.top + rows // 2, self.bottom + rows - rows // 2, self.left + columns // 2, self.right + columns - columns // 2)
        check_made(image, image.shape[0] + sum(margins[:2]), image.shape[1] + sum(margins[2:]))
        result = cv2.copyMakeBorder(image, *margins, _BORDERS[self.mode], value=scalar(self.fill))
        return with_image(sample, result.reshape(*result.shape[:2], image.shape[2]))


def _padded(side: Interval, least: int | None, margins: int) -> Interval:
    least = least or 1
    return Interval(max(side.low + margins, least), None if side.high is None else max(side.high + margins, least))


@dataclass(frozen=True)
class Flip:
    """Mirrors: `horizontal` swaps left and right, `vertical` top and bottom.

    Shape: (H, W, C) -> (H, W, C).   Dtype: kept.   Range: kept.   Random: no.   Targets: image.

    Args:
        direction: horizontal or vertical.
    """

    version: ClassVar[int] = 1
    is_random: ClassVar[bool] = False
    shorthand: ClassVar[tuple[str, ...]] = ("direction",)

    direction: Literal["horizontal", "vertical"]

    def output_spec(self, spec: Spec, /) -> Spec:
        return spec

    def __call__(self, sample: Sample, _rng: np.random.Generator, /) -> Sample:
        return with_image(sample, _shaped(cv2.flip(sample.image, 1 if self.direction == "horizontal" else 0), sample.image))


@dataclass(frozen=True)
class Rotate90:
    """Turns by quarters, counter-clockwise as `numpy.rot90` and Albumentations do.

    Shape: (H, W, C) -> (W, H, C), or (H, W, C) for two quarters.   Dtype: kept.   Range: kept.   Random: no.   Targets: image.

    Args:
        times: Quarters of a turn: 1, 2 or 3.
    """

    version: ClassVar[int] = 1
    is_random: ClassVar[bool] = False
    shorthand: ClassVar[tuple[str, ...]] = ("times",)

    times: Literal[1, 2, 3]

    def output_spec(self, spec: Spec, /) -> Spec:
        return spec if self.times == 2 else replace(spec, height=spec.width, width=spec.height)

    def __call__(self, sample: Sample, _rng: np.random.Generator, /) -> Sample:
        return with_image(sample, _shaped(cv2.rotate(sample.image, _TURNS[self.times]), sample.image))


def _cut(sample: Sample, rectangle: Rectangle) -> Sample:
    top, left, height, width = rectangle
    return with_image(sample, sample.image[top : top + height, left : left + width])


def _shaped(result: Image, image: Image) -> Image:
    """Return OpenCV's result with the channel axis it drops from grey images."""
    return result.reshape(*result.shape[:2], image.shape[2])
