"""What a transform is, and what every native one says in the same words."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ray_prep.errors import LimitError, RecipeError
from ray_prep.sample import Sample
from ray_prep.spec import MAX_PIXELS, MAX_SIDE_PX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ray_prep.errors import SampleError
    from ray_prep.spec import Spec

Image = np.ndarray[Any, np.dtype[Any]]
Fill = float | tuple[float, float, float]

GRAY = 1
RGB = 3
_FLOAT32_MAX = float(np.finfo(np.float32).max)


class Transform(Protocol):
    """One step. Implementations are frozen dataclasses whose fields are the step's parameters in a recipe."""

    @property
    def version(self) -> int:
        """Goes up when the same parameters make other pixels; part of the fingerprint."""
        ...

    @property
    def is_random(self) -> bool:
        """Whether it draws from the generator it is given."""
        ...

    def output_spec(self, spec: Spec, /) -> Spec:
        """Return what is known of its results.

        Raises:
            RecipeError: It can work on no image that `spec` speaks of.
        """
        ...

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        """Return the sample with the step done to it; the one given is not written to.

        Raises:
            LimitError: `too_small`.
            TransformError: It cannot be done to this image.
        """
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One transform at its place.

    Args:
        name: As the recipe writes it: `resize`, `RandomCrop`.
        transform: What is done.
        place: Where it stands in the recipe: `preprocess[0]`.
    """

    name: str
    transform: Transform
    place: str

    def output_spec(self, spec: Spec) -> Spec:
        """Return what is known of the results; errors and new notes begin with the place.

        Raises:
            RecipeError: The step can work on no image that `spec` speaks of.
        """
        try:
            result = self.transform.output_spec(spec)
            result.check_size()
        except RecipeError as error:
            raise RecipeError(f"{self.place}.{self.name}: {error}") from None
        return self.annotated(spec, result)

    def annotated(self, spec: Spec, result: Spec) -> Spec:
        """Return `result` with the notes that `spec` has not yet beginning with the place."""
        known = len(spec.notes)
        return replace(result, notes=(*spec.notes, *(f"{self.place}.{self.name}: {note}" for note in result.notes[known:])))

    def located(self, error: SampleError) -> SampleError:
        """Return the error with a message that begins with the place."""
        return type(error)(error.reason, f"{self.place}.{self.name}: {error.message}")


def check_parameters(step: object, *names: str, low: float, high: float = math.inf, is_open: bool = False) -> None:
    """Refuse parameters outside an interval; None passes, and so does a nested one.

    Args:
        step: The step, or a part of it.
        names: Its parameters.
        low: The smallest value.
        high: The largest value.
        is_open: Whether `low` itself is too small.

    Raises:
        ValueError: The parameter, what it should be, and what was given.
    """
    for name in names:
        value = getattr(step, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not (low < number <= high or (number == low and not is_open)):
                bound = f"above {low:g}" if is_open else f"{low:g} or more"
                wanted = bound if high == math.inf else f"above {low:g}, at most {high:g}" if is_open else f"from {low:g} to {high:g}"
                raise ValueError(f"{name}: should be {wanted}, got {number!r}")


def check_sides(step: object, *names: str, low: int) -> None:
    """Refuse numbers of pixels that no side of an image can have.

    Raises:
        ValueError: The parameter, what it should be, and what was given.
    """
    check_parameters(step, *names, low=low)
    for name in names:
        value = getattr(step, name)
        if value is not None and value > MAX_SIDE_PX:
            raise ValueError(f"{name}: should be {MAX_SIDE_PX:,} pixels at the most, got {value}")


def with_image(sample: Sample, image: Image, applied: tuple[Mapping[str, Any], ...] | None = None) -> Sample:
    """Return the sample with another image in C order; one decoded at a fraction of its size is no longer that.

    Args:
        sample: Is not written to.
        image: Shape (H, W, C), any order.
        applied: The records of random steps so far; None: the sample's.
    """
    return Sample(sample.key, sample.copy, np.ascontiguousarray(image), None, sample.applied if applied is None else applied)


def check_uint8(spec: Spec) -> None:
    """Refuse float images.

    Raises:
        RecipeError: The image is not uint8.
    """
    if spec.dtype != "uint8":
        raise RecipeError(f"it takes uint8 and gets {spec.dtype}; put it before the step that makes floats")


def check_fill(fill: Fill, spec: Spec) -> None:
    """Refuse a fill colour that the images cannot have.

    Raises:
        RecipeError: Another number of channels, outside 0..255 where the image is uint8, or more than float32 can hold.
    """
    if isinstance(fill, tuple) and len(fill) != spec.channels:
        raise RecipeError(f"fill: {list(fill)} has {len(fill)} numbers and the image {spec.channels} channel; give one number")
    values = fill if isinstance(fill, tuple) else (fill,)
    if not all(abs(value) <= _FLOAT32_MAX for value in values):
        raise RecipeError(f"fill: should be a number that float32 can hold, got {fill!r}")
    if spec.dtype == "uint8" and not all(0 <= value <= 255 and value == int(value) for value in values):
        raise RecipeError(f"fill: should be whole numbers from 0 to 255 for uint8 images, got {fill!r}")


def filled(spec: Spec, fill: Fill) -> tuple[float, float] | None:
    """Return the range of the images once `fill` is among their values."""
    if spec.value_range is None or spec.dtype == "uint8":
        return spec.value_range
    values = (*spec.value_range, *(fill if isinstance(fill, tuple) else (fill,)))
    return min(values), max(values)


def scalar(fill: Fill) -> tuple[float, float, float]:
    """Return the fill as OpenCV wants it: one number a channel."""
    return fill if isinstance(fill, tuple) else (fill, fill, fill)


def check_size(height: int, width: int, least_height: int, least_width: int) -> None:
    """Refuse an image of `height` x `width` that a step is too large for.

    Raises:
        LimitError: `too_small`.
    """
    if height < least_height or width < least_width:
        raise LimitError("too_small", f"it needs {least_height}x{least_width} or more, and gets {height}x{width}")


def check_made(image: Image, height: int, width: int) -> None:
    """Refuse to make an image that is larger than a step may make.

    Args:
        image: What it would be made of.
        height: Of the result, pixels.
        width: Of the result, pixels.

    Raises:
        LimitError: `too_large`.
    """
    if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE_PX:
        made = f"{image.shape[0]}x{image.shape[1]} would become {height}x{width}"
        raise LimitError("too_large", f"{made}; filter.max_aspect and filter.min_side keep such pictures out")
