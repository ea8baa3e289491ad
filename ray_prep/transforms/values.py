"""Steps that make floats of grey levels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import cv2
import numpy as np

from ray_prep.errors import RecipeError
from ray_prep.transforms.transform import Image, check_uint8, with_image

if TYPE_CHECKING:
    from ray_prep.sample import Sample
    from ray_prep.spec import Spec

# name: (mean, std) of [0, 1]. imagenet: torchvision's. clip: OpenAI's CLIP, preprocess of clip.py. half: to [-1, 1], Inception and ViT.
_NAMED = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5,), (0.5,)),
}
Constants = Literal["imagenet", "clip", "half", "dataset"] | tuple[float, ...] | float


@dataclass(frozen=True)
class ToFloat:
    """Makes floats: value / 255.

    Shape: (H, W, C) -> (H, W, C).   Dtype: uint8 -> float32.   Range: [0, 1].   Random: no.   Targets: image.
    """

    version: ClassVar[int] = 1
    is_random: ClassVar[bool] = False

    def output_spec(self, spec: Spec, /) -> Spec:
        check_uint8(spec)
        return replace(spec, dtype="float32", value_range=(0.0, 1.0))

    def __call__(self, sample: Sample, _rng: np.random.Generator, /) -> Sample:
        return with_image(sample, _looked_up(sample.image, _UNIT))


@dataclass(frozen=True)
class Normalize:
    """Makes floats with known moments: (value - mean) / std, the value in [0, 1]: uint8 is divided by 255 first.

    Shape: (H, W, C) -> (H, W, C).   Dtype: float32.   Range: open.   Random: no.   Targets: image.

    Args:
        mean: Of each channel, for values in [0, 1]: numbers, one for all channels or one for each; imagenet; clip; half
            (0.5); or dataset: measured over the training originals' pixels at the first publish, and frozen.
        std: The same; not 0.
    """

    version: ClassVar[int] = 1
    is_random: ClassVar[bool] = False
    shorthand: ClassVar[tuple[str, ...]] = ("mean", "std")

    mean: Constants = "imagenet"
    std: Constants = "imagenet"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            if value == ():
                msg = f"{name}: should be one number, or one for each channel, got an empty list"
                raise ValueError(msg)
        if not isinstance(self.std, str) and not all(value > 0 for value in _numbers(self.std, 1)):
            msg = f"std: should be above 0, got {self.std!r}"
            raise ValueError(msg)

    @property
    def needs_constants(self) -> bool:
        """Whether constants measured on the dataset are still missing."""
        return "dataset" in (self.mean, self.std)

    @property
    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std as numbers, one for all channels or one for each; both empty while they are not measured."""
        return ((), ()) if self.needs_constants else (_numbers(self.mean, 0), _numbers(self.std, 1))

    def frozen(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Normalize:
        """Return the step with the measured constants, of [0, 1], in place of `dataset`."""
        return Normalize(mean if self.mean == "dataset" else self.mean, std if self.std == "dataset" else self.std)

    def output_spec(self, spec: Spec, /) -> Spec:
        if spec.dtype != "uint8" and (spec.value_range is None or not (spec.value_range[0] >= 0 and spec.value_range[1] <= 1)):
            raise RecipeError(f"it takes uint8, or float32 in [0, 1], and gets {spec}")
        for name, place in (("mean", 0), ("std", 1)):
            count = len(_numbers(getattr(self, name), place)) if getattr(self, name) != "dataset" else 1
            if count not in (1, spec.channels):
                raise RecipeError(f"{name}: {getattr(self, name)!r} has {count} numbers, and the image has {spec.channels} channels")
        if not self.needs_constants and not self._is_finite():
            raise RecipeError(f"mean: {self.mean!r} and std: {self.std!r} make values that float32 cannot hold")
        return replace(spec, dtype="float32", value_range=None)

    def __call__(self, sample: Sample, _rng: np.random.Generator, /) -> Sample:
        image = sample.image
        if image.dtype == np.uint8:
            return with_image(sample, _looked_up(image, self._table))
        return with_image(sample, ((image - self._mean) / self._std).astype(np.float32))

    def _is_finite(self) -> bool:
        with np.errstate(over="ignore"):
            ends = ((np.array([[0.0], [1.0]]) - self._mean) / self._std).astype(np.float32)
        return bool(np.isfinite(ends).all())

    @cached_property
    def _table(self) -> Image:
        return ((np.arange(256)[:, None] / 255 - self._mean) / self._std).astype(np.float32)

    @cached_property
    def _mean(self) -> Image:
        return self._known("mean", 0)

    @cached_property
    def _std(self) -> Image:
        return self._known("std", 1)

    def _known(self, name: str, place: int) -> Image:
        value = getattr(self, name)
        if value == "dataset":
            msg = f"normalize: {name} of the dataset was not measured before use"
            raise RuntimeError(msg)
        return np.asarray(_numbers(value, place), np.float64)


def _numbers(value: Constants, place: int) -> tuple[float, ...]:
    """Return the numbers a parameter stands for; `place` 0 is the mean of a named pair, 1 its std."""
    if isinstance(value, str):
        return _NAMED[value][place]
    return value if isinstance(value, tuple) else (value,)


# Correctly rounded: the quotients are computed in double precision. One pass, four times as fast as numpy's division.
_UNIT = (np.arange(256) / 255).astype(np.float32)[:, None]


def _looked_up(image: Image, table: Image) -> Image:
    """Return table[image], the table of shape (256, 1) or (256, C)."""
    one_row = np.ascontiguousarray(table[None] if table.shape[1] == image.shape[2] else table[None, :, 0])
    result: Image = cv2.LUT(image, one_row)
    return result.reshape(image.shape)
