"""What is statically known of an image at one point of a chain."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from ray_prep.errors import RecipeError

# What a step may make. OpenCV reads and writes no longer side; a larger picture does not fit a worker beside the one it came from.
MAX_SIDE_PX = 1 << 20
MAX_PIXELS = 200_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """The sizes a side may have, in pixels, both ends included.

    Args:
        low: Smallest possible size, at least 1.
        high: Largest possible size; None where nothing bounds it.
    """

    low: int = 1
    high: int | None = None

    def __post_init__(self) -> None:
        if self.low < 1 or (self.high is not None and self.high < self.low):
            msg = f"no interval of pixels: {self.low}..{self.high}"
            raise ValueError(msg)

    @classmethod
    def exactly(cls, size: int) -> Self:
        """Return the interval that holds one size only."""
        return cls(size, size)

    @property
    def is_exact(self) -> bool:
        """Whether one size only is possible."""
        return self.low == self.high

    def __contains__(self, size: int) -> bool:
        """Return whether `size` is possible."""
        return self.low <= size and (self.high is None or size <= self.high)

    def union(self, other: Interval) -> Interval:
        """Return the smallest interval that holds both."""
        high = None if self.high is None or other.high is None else max(self.high, other.high)
        return Interval(min(self.low, other.low), high)

    def __str__(self) -> str:
        """Return `256`, `1..512` or `256..`, as `plan` prints it."""
        if self.is_exact:
            return str(self.low)
        return f"{self.low}..{'' if self.high is None else self.high}"


@dataclass(frozen=True, slots=True)
class Spec:
    """What every image at one point of a chain is known to be.

    Args:
        height: Possible heights, pixels.
        width: Possible widths, pixels.
        channels: 1 (grey) or 3 (red, green, blue).
        dtype: `uint8` or `float32`.
        value_range: Smallest and largest possible value; None where a step leaves it open (after `normalize`).
        notes: Warnings for a person: sizes that will be rejected. Not part of equality.
    """

    height: Interval
    width: Interval
    channels: int
    dtype: str = "uint8"
    value_range: tuple[float, float] | None = (0.0, 255.0)
    notes: tuple[str, ...] = field(default=(), compare=False)

    def sized(self, height: Interval, width: Interval) -> Self:
        """Return the same spec with other sizes."""
        return replace(self, height=height, width=width)

    def at_least(self, height: int, width: int, step: str) -> Self:
        """Narrow the sizes to those a step can work on.

        Images below are `too_small` when they come; a note says so beforehand.

        Args:
            height: Smallest height the step takes, pixels.
            width: Smallest width the step takes, pixels.
            step: The step's name, for the message.

        Raises:
            RecipeError: No image that can arrive here is large enough.
        """
        for side, low, possible in (("height", height, self.height), ("width", width, self.width)):
            if possible.high is not None and possible.high < low:
                msg = f"{step} needs a {side} of at least {low}, and gets {possible} at the most; resize or pad before it"
                raise RecipeError(msg)
        notes = self.notes
        if self.height.low < height or self.width.low < width:
            note = (
                f"{step} needs {height}x{width} or more and may get {self.height} x {self.width}: "
                "smaller images will be rejected as too_small"
            )
            notes = (*notes, note)
        return replace(
            self,
            height=Interval(max(self.height.low, height), self.height.high),
            width=Interval(max(self.width.low, width), self.width.high),
            notes=notes,
        )

    def check_size(self) -> None:
        """Refuse a size that no image can have here.

        Raises:
            RecipeError: The smallest possible image has a side above `MAX_SIDE_PX`, or more than `MAX_PIXELS`.
        """
        height, width = self.height.low, self.width.low
        if max(height, width) > MAX_SIDE_PX or height * width > MAX_PIXELS:
            limits = f"a step makes {MAX_PIXELS:,} pixels at the most, and no side above {MAX_SIDE_PX:,}"
            raise RecipeError(f"it makes images of {self.height} x {self.width}; {limits}")

    def admits(self, height: int, width: int, channels: int, dtype: str) -> bool:
        """Return whether an image of this shape and dtype is one the spec speaks of."""
        return height in self.height and width in self.width and channels == self.channels and dtype == self.dtype

    @property
    def is_fixed(self) -> bool:
        """Whether every image has one height and one width."""
        return self.height.is_exact and self.width.is_exact

    @property
    def itemsize(self) -> int:
        """Bytes of one channel of one pixel."""
        return 1 if self.dtype == "uint8" else 4

    @property
    def max_bytes(self) -> int | None:
        """Bytes of the largest possible image; None where nothing bounds it."""
        if self.height.high is None or self.width.high is None:
            return None
        return self.height.high * self.width.high * self.channels * self.itemsize

    def __str__(self) -> str:
        """Return `256.. x 256.. x 3 uint8 [0, 255]` (height first), as `plan` prints it."""
        extent = "any range" if self.value_range is None else f"[{self.value_range[0]:g}, {self.value_range[1]:g}]"
        return f"{self.height} x {self.width} x {self.channels} {self.dtype} {extent}"
