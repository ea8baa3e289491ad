"""Albumentations' transforms as steps (the only importer of albumentations, which takes a second: import this late)."""

from __future__ import annotations

import inspect
import os
import random
import threading
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np

from ray_prep.errors import LimitError, RecipeError, TransformError, did_you_mean
from ray_prep.sample import Sample
from ray_prep.spec import MAX_SIDE_PX, Interval, Spec
from ray_prep.transforms.applied import check_numbers, plain
from ray_prep.transforms.effects import EFFECTS
from ray_prep.transforms.either import either
from ray_prep.transforms.transform import check_made, check_size, with_image

# Albumentations asks its update server at import unless this is set before; a law of the design forbids the call.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations
from albumentations.augmentations.crops.transforms import CropSizeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ray_prep.transforms.effects import Effect

# What Albumentations 2.0.8 and the libraries below it raise where an image does not suit a transform.
_FOREIGN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
    cv2.error,
)
# Not drawn, or not about the image: what the recipe says anyway, and what boxes and masks would have needed.
_UNRECORDED = frozenset(
    {"bbox_matrix", "fill_mask", "interpolation", "mask_drop_mask", "mask_drop_values", "mask_interpolation", "matrix_bbox", "shape"}
)
# Those that make of a large image a larger one; the others' results are bounded by their parameters or the image.
_GROWING = frozenset({"LongestMaxSize", "Pad", "RandomScale", "SmallestMaxSize"})
_CONSTANTS = ("INTER_", "BORDER_")
# Sides of the image that a step is tried on, where its input may have others; and the largest.
_TRIED_PX, _MOST_TRIED_PX = 96, 512


class _Erasing(albumentations.Erasing):  # type: ignore[misc]  # untyped
    """Erasing that leaves an image alone where no rectangle fits; 2.0.8 forgets the seed there and raises TypeError."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        return {"seed": 0, **super().get_params_dependent_on_data(params, data)}


class _Draws(random.Random):
    """A `random.Random` whose every number comes from a numpy Generator.

    Albumentations wants one of each. Seeding a new Mersenne Twister for each step of each sample takes 12 µs; this takes none.
    """

    generator: np.random.Generator
    gauss_next: float | None  # the half of a pair that `gauss` keeps

    def seed(self, *_args: Any, **_options: Any) -> None:
        """Do nothing: the state is the generator's."""

    def random(self) -> float:
        return self.generator.random()

    def getrandbits(self, k: int, /) -> int:
        return int.from_bytes(self.generator.bytes((k + 7) // 8), "little") >> (-k % 8)


@dataclass(frozen=True)
class Augmentation:
    """One transform of Albumentations, by its name and its own parameters; how it is applied is recorded in the sample.

    Shape: (H, W, C) -> by `effects`.   Dtype: by `effects`.   Range: by `effects`.   Random: yes, but for some at p = 1.   Targets: image.

    Args:
        name: Albumentations' class.
        parameters: Its arguments, all of them, `p` included; plain data. Interpolations and borders may be written as OpenCV's
            names, such as INTER_CUBIC and BORDER_REFLECT_101.
    """

    version: ClassVar[int] = 1

    name: str
    parameters: Mapping[str, Any]

    @property
    def p(self) -> float:
        """The probability that it is applied."""
        return float(self._transform.p)

    @cached_property
    def is_random(self) -> bool:
        """Whether anything about it is drawn."""
        return self.p != 0 and not (self.p == 1 and self._effect.is_fixed(self._transform))

    def __reduce__(self) -> tuple[type[Augmentation], tuple[str, Mapping[str, Any]]]:
        """Pickle what it is made of; what Albumentations builds of it stays in its thread."""
        return type(self), (self.name, self.parameters)

    @cached_property
    def _effect(self) -> Effect:
        return EFFECTS[self.name]

    @cached_property
    def _least(self) -> tuple[int, int]:
        return self._effect.smallest(self._transform)

    @cached_property
    def _thread(self) -> threading.local:
        # A transform holds its generator and what it drew last: each thread needs its own.
        return threading.local()

    @property
    def _tools(self) -> tuple[Any, _Draws]:
        thread = self._thread
        try:
            tools: tuple[Any, _Draws] = thread.tools
        except AttributeError:
            tools = thread.tools = _build(self.name, self.parameters), _Draws()
        return tools

    @property
    def _transform(self) -> Any:
        return self._tools[0]

    def output_spec(self, spec: Spec, /) -> Spec:
        if self.p == 0:
            return spec
        applied = self.forced_spec(spec)
        if self.p == 1:
            return applied
        return either((spec, applied), f"with p: {self.p:g} it is applied to some images only")

    def forced_spec(self, spec: Spec) -> Spec:
        """Return the spec of images that it is applied to; with p: 0 Albumentations applies it to none, chosen or not.

        Raises:
            RecipeError: It cannot be applied to any.
        """
        if self.p == 0:
            return spec
        try:
            made = self._effect.applied(self._transform, spec)
        except RecipeError:
            raise
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # what Albumentations takes and cannot use
            raise RecipeError(f"it cannot work with these parameters: {type(error).__name__}: {error}") from None
        if made.height.low * made.width.low <= _MOST_TRIED_PX**2:
            self._try(spec, made.channels)
        return made

    def _try(self, spec: Spec, channels: int) -> None:
        """Apply it once to an image of noise: some parameters Albumentations takes and then fails on with every image.

        Raises:
            RecipeError: It fails, makes values that are not finite, or other channels than it should.
        """
        sides = [
            min(max(side.low, least, _TRIED_PX), side.high or MAX_SIDE_PX, _MOST_TRIED_PX)
            for side, least in zip((spec.height, spec.width), self._least, strict=True)
        ]
        tried = (*sides, spec.channels, spec.dtype)
        if tried in self._tried:
            return
        rng = np.random.default_rng(0)
        image: np.ndarray[Any, np.dtype[Any]] = rng.integers(0, 256, (*sides, spec.channels), dtype=np.uint8)
        if spec.dtype != "uint8":
            low, high = spec.value_range or (-2.0, 2.0)
            image = (image * np.float32((high - low) / 255) + np.float32(low)).astype(np.float32)
        try:
            result = self.apply(Sample("tried", 1, image), rng, is_forced=True).image
        except (LimitError, MemoryError):  # this size is too small, or this machine; of others nothing is known
            return
        except TransformError as error:
            raise RecipeError(f"it cannot work with these parameters: {error.message}") from None
        if result.shape[2] != channels:
            raise RecipeError(f"it cannot work with these parameters: they make {result.shape[2]} channels of {spec.channels}")
        self._tried.add(tried)

    @cached_property
    def _tried(self) -> set[tuple[Any, ...]]:
        return set()

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        result = self.apply(sample, rng, is_forced=False)
        # What is done to every image in the same way stands in the recipe.
        return result if self.is_random else with_image(result, result.image, sample.applied)

    def apply(self, sample: Sample, rng: np.random.Generator, *, is_forced: bool) -> Sample:
        """Apply it, and record that.

        Args:
            sample: Is not written to.
            rng: All that is drawn comes from here.
            is_forced: Whether it is applied whatever p says.

        Raises:
            LimitError: `too_small`.
            TransformError: Albumentations cannot do it to this image.
        """
        image = sample.image
        transform, draws = self._tools
        if self.name in ("ToGray", "ToRGB") and image.shape[2] == (1 if self.name == "ToGray" else 3):
            return sample  # Albumentations would do nothing and warn, for every image
        draws.generator, draws.gauss_next = rng, None
        transform.set_random_state(rng, draws)
        if not transform.should_apply(force_apply=is_forced):
            return sample
        check_size(image.shape[0], image.shape[1], *self._least)
        read_only = image.view()
        read_only.flags.writeable = False
        try:
            if self.name in _GROWING:
                height, width = (Interval.exactly(side) for side in image.shape[:2])
                least = self._effect.spec(transform, Spec(height, width, image.shape[2], str(image.dtype)))
                check_made(image, least.height.low, least.width.low)
            result = _applied(transform, read_only)
        except CropSizeError as error:
            raise LimitError("too_small", str(error)) from error
        except _FOREIGN as error:
            if isinstance(error, cv2.error) and error.code == cv2.Error.STS_NO_MEM:
                raise MemoryError(str(error)) from error
            raise TransformError("transform_failed", f"{type(error).__name__}: {' '.join(str(error).split())}") from error
        if 0 in result.shape:
            raise LimitError("too_small", f"nothing of {image.shape[0]}x{image.shape[1]} would be left")
        if result.ndim != image.ndim and self.name not in ("ToGray", "ToRGB"):
            result = result[..., None]  # OpenCV's inpainting drops the only channel
        elif result.ndim != image.ndim:
            # ToGray and ToRGB squeeze sides of one pixel away, of a single pixel the channels too (2.0.8); they change no size.
            height, width = image.shape[:2]
            result = np.broadcast_to(result.reshape(height, width, -1), (height, width, transform.num_output_channels))
        if result.ndim != image.ndim or result.shape[2] not in (1, 3):
            raise TransformError("transform_failed", f"{self.name} made an image of shape {result.shape} of one of {image.shape}")
        if result.dtype == np.float64:
            result = result.astype(np.float32)  # Normalize, but for `standard` (2.0.8)
        if result.dtype == np.float32 and not np.isfinite(result).all():  # some warps of floats a pixel or two high
            raise TransformError("transform_failed", f"{self.name} made values that are not finite")
        applied = (*sample.applied, self._record(transform.params))
        return with_image(sample, image if result is read_only else result, applied)

    def _record(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        record: dict[str, Any] = {"name": self.name}
        for name, value in drawn.items():
            # CropAndPad alone draws its fill.
            if name not in _UNRECORDED and value is not None and (name != "fill" or self.name == "CropAndPad"):
                record[name] = plain(value)
        return record


def _applied(transform: Any, read_only: np.ndarray[Any, np.dtype[Any]]) -> Any:
    """Return what Albumentations makes of an image; a few transforms work in place and get a copy, and draw again for it."""
    try:
        return transform(image=read_only, force_apply=True)["image"]
    except (TypeError, ValueError) as error:
        if "read-only" not in str(error):
            raise
        return transform(image=read_only.copy(), force_apply=True)["image"]


def augmentation(name: str, given: Mapping[str, Any], place: str, *, always: bool) -> Augmentation:
    """Make a step of a recipe's words.

    Args:
        name: What may be a transform of Albumentations.
        given: Its parameters.
        place: Where it stands, its name included.
        always: Whether p is 1 where it is not given, rather than Albumentations' default.

    Raises:
        RecipeError: An unknown parameter, or values that Albumentations refuses.
    """
    signature = inspect.signature(getattr(albumentations, name).__init__).parameters
    for parameter in given:
        if parameter not in signature or parameter == "self":
            known = [known for known in signature if known != "self"]
            hint = did_you_mean(str(parameter), known) or f"; known are {', '.join(known)}"
            raise RecipeError(f"{place}.{parameter}: unknown key{hint}")
    check_numbers(given, place)
    defaults = {
        parameter: plain(detail.default, 1 << 20)
        for parameter, detail in signature.items()
        if detail.default is not inspect.Parameter.empty
    }
    parameters = {**defaults, **({"p": 1.0} if always else {}), **plain(dict(given), 1 << 20)}
    step = Augmentation(name, dict(sorted(parameters.items())))
    try:
        _ = step.is_random  # builds it
    except RecipeError as error:
        raise RecipeError("\n".join(place + line for line in str(error).splitlines())) from None
    return step


def _build(name: str, parameters: Mapping[str, Any]) -> Any:
    """Return Albumentations' own object.

    Raises:
        RecipeError: It refuses the parameters; lines of `.parameter: what is wrong`.
    """
    kind = _Erasing if name == "Erasing" else getattr(albumentations, name)
    arguments = {parameter: _constant(parameter, value) for parameter, value in parameters.items()}
    # With `strict`, 2.0.8 raises where it would otherwise warn and go on with its defaults; classes without a schema lack it.
    strict = {"strict": True} if hasattr(kind.__init__, "__signature__") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ShiftScaleRotate and the spectrogram transforms advise others
        try:
            return kind(**arguments, **strict)
        except (TypeError, ValueError) as error:
            raise RecipeError(_condensed(error)) from None


def _constant(parameter: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _constant(f"{parameter}.{name}", item) for name, item in value.items()}
    if not (isinstance(value, str) and value.startswith(_CONSTANTS)):
        return value
    if not hasattr(cv2, value):
        known = [name for name in dir(cv2) if name.startswith(_CONSTANTS)]
        raise RecipeError(f".{parameter}: OpenCV has no {value}{did_you_mean(value, known)}")
    return getattr(cv2, value)


def _condensed(error: Exception) -> str:
    """Return Albumentations' complaint as `.parameter: …` lines; pydantic's, under its ValueError, takes five for each."""
    details = getattr(error.__cause__, "errors", None)
    if details is None:
        return f": {' '.join(str(error).split())}"
    lines: dict[str, list[str]] = {}
    for detail in details(include_url=False):
        parameter = "".join(f".{part}" for part in detail["loc"][:1])
        wanted = " ".join(detail["msg"].removeprefix("Value error, ").replace("Input should be", "should be", 1).split())
        given = f", got {detail['input']!r}" if parameter and detail["type"] != "missing" else ""
        lines.setdefault(parameter, []).append(wanted[0].lower() + wanted[1:] + given)
    return "\n".join(f"{parameter}: {'; or '.join(dict.fromkeys(complaints))}" for parameter, complaints in lines.items())
