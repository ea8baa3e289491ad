"""The transforms in order: read from a recipe, followed by specs, run on samples."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Self

import cv2

from ray_prep.errors import RecipeError, SampleError, TransformError, did_you_mean
from ray_prep.transforms.applied import plain
from ray_prep.transforms.color import Contrast, Grayscale
from ray_prep.transforms.composition import COMPOSITIONS, Composition
from ray_prep.transforms.effects import EFFECTS, REFUSED
from ray_prep.transforms.filters import Denoise, Sharpen
from ray_prep.transforms.geometry import CenterCrop, Crop, Flip, Pad, Rotate90
from ray_prep.transforms.python_step import Python
from ray_prep.transforms.resize import Resize
from ray_prep.transforms.schema import native_schema
from ray_prep.transforms.transform import Step, Transform
from ray_prep.transforms.values import Normalize, ToFloat
from ray_prep.validation import validate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np

    from ray_prep.sample import Sample
    from ray_prep.spec import Spec

__all__ = ["TRANSFORMS", "Chain", "Step", "Transform", "parse_chain", "steps_schema"]

# The native steps, by the name a recipe uses: snake_case of the class. CamelCase names are Albumentations' (`effects`).
TRANSFORMS: dict[str, type[Any]] = {
    "center_crop": CenterCrop,
    "contrast": Contrast,
    "crop": Crop,
    "denoise": Denoise,
    "flip": Flip,
    "grayscale": Grayscale,
    "normalize": Normalize,
    "pad": Pad,
    "python": Python,
    "resize": Resize,
    "rotate90": Rotate90,
    "sharpen": Sharpen,
    "to_float": ToFloat,
}


@dataclass(frozen=True, slots=True)
class Chain:
    """Steps in order.

    Args:
        steps: None of them knows its neighbours.
    """

    steps: tuple[Step, ...] = ()

    def specs(self, spec: Spec) -> tuple[Spec, ...]:
        """Return what is known after each step; `spec` is what is known before the first.

        Raises:
            RecipeError: A step can work on no image that arrives there, or needs constants of pixels that nobody measured.
        """
        made: list[Spec] = []
        is_counted = spec.dtype == "uint8"  # whether pixels are still those whose sums are taken, or these / 255
        was_float = not is_counted  # sums are taken before the first float step, and what goes back to uint8 is not looked at again
        for step in self.steps:
            if isinstance(step.transform, Normalize) and step.transform.needs_constants and not is_counted:
                raise RecipeError(
                    f"{step.place}.{step.name}: `dataset` is measured on uint8 images; "
                    "between them and this step there may be to_float and no other step"
                )
            spec = step.output_spec(spec)
            was_float = was_float or spec.dtype != "uint8"
            is_counted = is_counted and (not was_float or isinstance(step.transform, ToFloat))
            made.append(spec)
        return tuple(made)

    def __call__(self, sample: Sample, rng: np.random.Generator, *, records_all: bool = False) -> Sample:
        """Run the steps, each on what the one before made.

        Args:
            sample: Is not written to.
            rng: All that random steps draw comes from here.
            records_all: Whether the sample shall tell of the steps that do the same to every image, too.

        Raises:
            SampleError: A step cannot be done to this image; the message begins with its place.
        """
        steps = iter(zip_longest(self.steps, self.steps[1:]))
        for step, after in steps:
            resize, crop = step.transform, after.transform if after else None
            if after and isinstance(resize, Resize) and resize.makes_parts and isinstance(crop, CenterCrop | Crop):
                # What the crop would drop is not made: a quarter of the pixels where photos become squares.
                with _located(step):
                    size = resize.size(sample)
                with _located(after):
                    rectangle = crop.rectangle(*size)
                with _located(step):
                    sample = resize.part(sample, rectangle)
                next(steps)
                done: tuple[Step, ...] = (step, after)
            else:
                with _located(step):
                    sample = step.transform(sample, rng)
                done = (step,)
            if records_all and (fixed := [_record(one) for one in done if not one.transform.is_random and not _is_never(one)]):
                sample = replace(sample, applied=(*sample.applied, *fixed))
        return sample

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        """Return the steps."""
        return iter(self.steps)

    def __getitem__(self, part: slice) -> Self:
        """Return some of the steps in their order, as a chain."""
        return type(self)(self.steps[part])

    def __add__(self, other: Chain) -> Self:
        """Return the steps of both, as a chain."""
        return type(self)(self.steps + other.steps)

    @property
    def is_random(self) -> bool:
        """Whether any step draws from the generator."""
        return any(step.transform.is_random for step in self.steps)

    def first_float(self, spec: Spec) -> int:
        """Return the index of the first step whose result is not uint8; the number of steps where there is none."""
        return next((place for place, after in enumerate(self.specs(spec)) if after.dtype != "uint8"), len(self.steps))

    @property
    def needs_constants(self) -> bool:
        """Whether a `normalize: dataset` waits for its constants."""
        return any(isinstance(step.transform, Normalize) and step.transform.needs_constants for step in self.steps)

    def freeze(self, mean: list[float], std: list[float]) -> Self:
        """Return the chain with the constants of `normalize: dataset` filled in.

        Args:
            mean: Of each channel, for values in [0, 1].
            std: The same; not 0.

        Raises:
            RecipeError: A std is 0: all pixels of that channel are the same.
        """
        return type(self)(tuple(_frozen(step, mean, std) for step in self.steps))

    def describe(self) -> list[dict[str, Any]]:
        """Return name, all parameters, and version of each step as plain data: what a fingerprint is taken of."""
        return [{"name": step.name, "params": _parameters(step.transform), "version": step.transform.version} for step in self.steps]


@contextmanager
def _located(step: Step) -> Iterator[None]:
    """Let errors begin with the step's place."""
    try:
        yield
    except SampleError as error:
        raise step.located(error) from error
    except cv2.error as error:
        if error.code == cv2.Error.STS_NO_MEM:
            raise MemoryError(str(error)) from error
        raise step.located(TransformError("transform_failed", f"OpenCV: {error.err or error}")) from error


def _frozen(step: Step, mean: list[float], std: list[float]) -> Step:
    if not isinstance(step.transform, Normalize) or not step.transform.needs_constants:
        return step
    try:
        return replace(step, transform=step.transform.frozen(tuple(mean), tuple(std)))
    except ValueError as error:
        raise RecipeError(f"{step.place}.{step.name}: the images it was measured on have one colour: {error}") from None


def _is_never(step: Step) -> bool:
    """Return whether it is a transform of Albumentations with p: 0."""
    return bool(getattr(step.transform, "p", 1) == 0)


def _record(step: Step) -> dict[str, Any]:
    """Return what a step does that draws nothing: its name, and those of its parameters that say anything."""
    given = {name: value for name, value in _parameters(step.transform).items() if name != "p" and value is not None}
    return {"name": step.name, **given}


def _parameters(part: Any) -> Any:
    """Return all parameters of a step, defaults included, as a recipe would write them."""
    if isinstance(part, Composition):
        children = [{step.name: _parameters(step.transform)} for step in part.steps]
        numbered = {"n": part.n, "replace": part.replace} if part.kind in ("SomeOf", "RandomOrder") else {}
        return {"transforms": children, "p": part.p, **numbered}
    if hasattr(part, "parameters"):
        return dict(part.parameters)
    if is_dataclass(part):
        shown = [field.name for field in fields(part) if field.metadata.get("is_parameter", True)]
        return {name: _parameters(getattr(part, name)) for name in shown}
    return plain(part)


def parse_chain(raw: object, place: str, *, always: bool, folder: str | None = None) -> Chain:
    """Read a list of steps as YAML gives it: `{resize: {short_side: 256}}`, `{flip: horizontal}` or `grayscale` each.

    Args:
        raw: The list; None for an empty one.
        place: The list's place in the recipe, such as `preprocess`.
        always: Whether an Albumentations step without `p` is applied to every image, rather than with its own default.
        folder: Where `python` steps are looked for first.

    Raises:
        RecipeError: The first step that is wrong: its place, what was given, what would be right.
    """
    if raw is None:
        return Chain()
    if not isinstance(raw, list):
        raise RecipeError(f"{place}: should be a list of steps, got {raw!r}; begin each step with a dash")
    return Chain(tuple(_step(item, f"{place}[{index}]", always=always, folder=folder) for index, item in enumerate(raw)))


def _step(raw: object, place: str, *, always: bool, folder: str | None) -> Step:
    if isinstance(raw, dict) and len(raw) == 1:
        name, given = next(iter(raw.items()))
    else:
        name, given = raw, None
    if not isinstance(name, str):
        hint = "; begin each step with a dash" if isinstance(raw, dict) else ""
        raise RecipeError(f"{place}: should be one step, such as grayscale or {{resize: {{short_side: 256}}}}, got {raw!r}{hint}")
    if name in REFUSED:
        raise RecipeError(f"{place}.{name}: {REFUSED[name]}")
    if name in COMPOSITIONS:
        return Step(name, _composition(name, _mapping(given, f"{place}.{name}"), f"{place}.{name}", always=always, folder=folder), place)
    if name in EFFECTS:
        # Albumentations takes a second to import, and most recipes' preprocess and finish need none of it.
        from ray_prep.transforms.augment import augmentation  # noqa: PLC0415

        return Step(name, augmentation(name, _mapping(given, f"{place}.{name}"), f"{place}.{name}", always=always), place)
    if name not in TRANSFORMS:
        raise RecipeError(f"{place}: unknown transform {name!r}{did_you_mean(name, [*TRANSFORMS, *EFFECTS, *COMPOSITIONS])}")
    kind = TRANSFORMS[name]
    if given is not None and not isinstance(given, dict) and hasattr(kind, "shorthand"):
        given = dict.fromkeys(kind.shorthand, given)
    if isinstance(given, dict) and "folder" in given:
        raise RecipeError(f"{place}.{name}.folder: unknown key")
    transform = validate(kind, given, f"{place}.{name}")
    return Step(name, transform.in_folder(folder) if isinstance(transform, Python) else transform, place)


def _mapping(given: object, place: str) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise RecipeError(f"{place}: should be a mapping of parameters to values, got {given!r}")
    return given


def _composition(name: str, given: Mapping[str, Any], place: str, *, always: bool, folder: str | None) -> Composition:
    known = ["transforms", "p", *(["n", "replace"] if name in ("SomeOf", "RandomOrder") else [])]
    for parameter in given:
        if parameter not in known:
            hint = did_you_mean(str(parameter), known) or "; known are " + ", ".join(known)
            raise RecipeError(f"{place}.{parameter}: unknown key{hint}")
    children = parse_chain(given.get("transforms"), f"{place}.transforms", always=always, folder=folder)
    for step in children:
        if step.name in TRANSFORMS:
            raise RecipeError(f"{step.place}: {name} takes Albumentations' transforms, and {step.name} is ray_prep's own")
    # OneOrOther's p does not say whether, but which.
    default = 1.0 if always and name != "OneOrOther" else COMPOSITIONS[name]
    numbers = {"p": given.get("p", default), "n": given.get("n", 1), "replace": given.get("replace", False)}
    for parameter, kinds in (("p", (int, float)), ("n", (int,)), ("replace", (bool,))):
        if not isinstance(numbers[parameter], kinds) or (parameter != "replace" and isinstance(numbers[parameter], bool)):
            wanted = "true or false" if parameter == "replace" else "a number"
            raise RecipeError(f"{place}.{parameter}: should be {wanted}, got {numbers[parameter]!r}")
    try:
        return Composition(name, tuple(replace(step, place=f"transforms[{index}]") for index, step in enumerate(children)), **numbers)
    except ValueError as error:
        raise RecipeError(f"{place}.{error}") from None


def steps_schema() -> dict[str, Any]:
    """Return the JSON Schema of a list of steps; Albumentations' parameters are left to Albumentations."""
    return native_schema(TRANSFORMS, [*EFFECTS, *COMPOSITIONS])
