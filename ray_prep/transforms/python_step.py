"""A step that is the user's own function."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np

from ray_prep.errors import RayPrepError, RecipeError, TransformError
from ray_prep.sample import Sample
from ray_prep.spec import Interval, Spec
from ray_prep.transforms.transform import Image, check_parameters, with_image

if TYPE_CHECKING:
    from collections.abc import Sequence

Step = Callable[[Image, np.random.Generator], Image]
Side = int | tuple[int, int | None]


@dataclass(frozen=True)
class PythonOutput:
    """What a function returns, where that differs from what it gets; None: the same.

    Args:
        height: Pixels; or [smallest, largest], where null is no bound.
        width: The same.
        channels: 1 or 3.
        dtype: uint8 or float32.
        range: [smallest, largest] value of float32.
    """

    height: Side | None = None
    width: Side | None = None
    channels: Literal[1, 3] | None = None
    dtype: Literal["uint8", "float32"] | None = None
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_parameters(self, "height", "width", low=1)
        for name in ("height", "width"):
            side = getattr(self, name)
            if isinstance(side, tuple) and side[1] is not None and side[1] < side[0]:
                msg = f"{name}: should be [smallest, largest], got {list(side)}"
                raise ValueError(msg)
        if self.range is not None and self.range[1] < self.range[0]:
            msg = f"range: should be [smallest, largest], got {list(self.range)}"
            raise ValueError(msg)
        if self.range is not None and self.dtype != "float32":
            msg = "range: is for dtype float32; uint8 is always [0, 255]"
            raise ValueError(msg)

    def spec(self, spec: Spec) -> Spec:
        """Return what is known of the results for images of `spec`."""
        dtype = self.dtype or spec.dtype
        value_range = self.range or (spec.value_range if dtype == spec.dtype else (0.0, 255.0) if dtype == "uint8" else None)
        height, width = _interval(self.height, spec.height), _interval(self.width, spec.width)
        return Spec(height, width, self.channels or spec.channels, dtype, value_range, spec.notes)


def _interval(side: int | tuple[int, int | None] | None, kept: Interval) -> Interval:
    if side is None:
        return kept
    return Interval(*side) if isinstance(side, tuple) else Interval.exactly(side)


class _NoRandomness:
    """What a function gets for a generator while its step says that it is not random."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError(f"it draws random numbers (rng.{name}), and the step says random: false; say random: true")


@dataclass(frozen=True)
class Python:
    """Calls `fn(image, rng) -> image`: an array of shape (H, W, C) of its own to write into, and a numpy Generator.

    The module is looked for in the recipe's folder, then in the working directory, then where Python always looks.

    Shape: (H, W, C) -> as declared.   Dtype: as declared.   Range: as declared.   Random: as declared.   Targets: image.

    Args:
        call: `package.module:function`.
        version: Raise it when the function changes: images are then made anew. Its code is not looked at.
        output: What it returns, where that differs from what it gets.
        random: Whether it draws from `rng`. While it is false, `rng` refuses to be used.
    """

    shorthand: ClassVar[tuple[str, ...]] = ("call",)

    call: str
    version: int = 1
    output: PythonOutput = PythonOutput()
    random: bool = False
    folder: str | None = field(default=None, metadata={"is_parameter": False})

    def __post_init__(self) -> None:
        check_parameters(self, "version", low=0)
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", self.call):
            msg = f"call: should be package.module:function, got {self.call!r}"
            raise ValueError(msg)

    @property
    def is_random(self) -> bool:
        """Whether it says that it draws from the generator."""
        return self.random

    def in_folder(self, folder: str | None) -> Python:
        """Return the step as one whose module is looked for in `folder` first."""
        return replace(self, folder=folder)

    def output_spec(self, spec: Spec, /) -> Spec:
        result = self.output.spec(spec)
        try:
            import_call(self.call, self._folders)
        except ModuleNotFoundError as error:
            module = self.call.partition(":")[0]
            if error.name is not None and f"{module}.".startswith(f"{error.name}."):
                places = " or ".join(map(str, self._folders))
                raise RecipeError(f"call: there is no module {error.name} in {places}; start this where it lies") from None
            # It may need what only the workers have.
            return replace(result, notes=(*result.notes, f"{self.call} cannot be tried here: {error}"))
        except RecipeError:
            raise
        except Exception as error:
            raise RecipeError(f"call: importing {self.call} raised {type(error).__name__}: {error}") from error
        return result

    @property
    def _folders(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys([*([Path(self.folder)] if self.folder else []), Path.cwd()]))

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        call = import_call(self.call, self._folders)
        try:
            image = call(sample.image.copy(), rng if self.random else cast("np.random.Generator", _NoRandomness()))
        except (RayPrepError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            raise TransformError("transform_failed", f"{self.call} raised {type(error).__name__}: {error}") from error
        self._check(image, sample.image)
        applied = (*sample.applied, {"name": "python", "call": self.call}) if self.random else sample.applied
        return with_image(sample, image, applied)

    def _check(self, image: object, given: Image) -> None:
        """Hold what came back against what was declared.

        Raises:
            TransformError: It is no image, or not the one declared.
        """
        if not isinstance(image, np.ndarray):
            raise TransformError("transform_failed", f"{self.call} returned {type(image).__name__}, not a numpy array")
        if image.ndim != 3:
            message = f"{self.call} returned the shape {image.shape}; (height, width, channels) is needed, for grey images too"
            raise TransformError("transform_failed", message)
        height, width, channels = given.shape
        value_range = (0.0, 255.0) if given.dtype == np.uint8 else None
        before = Spec(Interval.exactly(height), Interval.exactly(width), channels, str(given.dtype), value_range)
        declared = self.output.spec(before)
        if not declared.admits(image.shape[0], image.shape[1], image.shape[2], str(image.dtype)):
            got = f"{image.shape[0]} x {image.shape[1]} x {image.shape[2]} {image.dtype}"
            message = f"{self.call} returned {got}; declared is {declared}"
            raise TransformError("transform_failed", f"{message}; say in output what it returns")
        if self.output.range is None and image.dtype == np.float32 and not np.isfinite(image).all():
            raise TransformError("transform_failed", f"{self.call} returned values that are not finite")
        if self.output.range is not None and not (self.output.range[0] <= image.min() and image.max() <= self.output.range[1]):
            message = f"{self.call} returned values from {image.min():g} to {image.max():g}, outside the declared {list(self.output.range)}"
            raise TransformError("transform_failed", message)


_IMPORTED: dict[tuple[str, tuple[Path, ...]], Step] = {}


def import_call(call: str, folders: Sequence[Path]) -> Step:
    """Return the function a recipe names; every process imports it once.

    Args:
        call: `package.module:function`.
        folders: Where to look before Python's own path. They are put at its front and stay there, for what the module
            imports later.

    Raises:
        ModuleNotFoundError: It, or something it imports, is not there.
        RecipeError: It has no such function.
    """
    place = (call, tuple(folders))
    if place not in _IMPORTED:
        for folder in reversed(folders):
            if str(folder) in sys.path:
                sys.path.remove(str(folder))
            sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        module_name, _, name = call.partition(":")
        _forget(module_name.partition(".")[0], folders)
        function = getattr(importlib.import_module(module_name), name, None)
        if not callable(function):
            raise RecipeError(f"call: module {module_name} has no function {name}")
        _IMPORTED[place] = function
    return _IMPORTED[place]


def _forget(top: str, folders: Sequence[Path]) -> None:
    """Drop a module of the same name that came from elsewhere: two recipes may each have their `steps.py`."""
    own = next((folder for folder in folders if (folder / f"{top}.py").exists() or (folder / top).is_dir()), None)
    loaded = getattr(sys.modules.get(top), "__file__", None)
    if own is None or loaded is None or Path(loaded).is_relative_to(own):
        return
    for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
        del sys.modules[name]
