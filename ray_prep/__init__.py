"""ray_prep turns a collection of images into a versioned, training-ready dataset of Parquet shards.

A recipe says what to read, how to clean, standardise, augment and split, and where to write. One image's walk:
`sources` list it; `survey` and `plan` give it a split and a unit; an engine hands the unit to `unit.run_unit`, which fetches,
walks (decode, preprocess, augment, finish), encodes and writes shards; `build` checks the whole and publishes it with one
commit of the table.

Importing starts nothing and loads nothing heavy: each public name loads its module when it is first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray_prep.build import build
    from ray_prep.build_report import BuildReport
    from ray_prep.dataset.reader import Dataset, open
    from ray_prep.errors import (
        BuildError,
        CheckFailed,
        Conflict,
        Interrupted,
        RayPrepError,
        RecipeError,
        RejectBudgetExceeded,
        StorageError,
        UnitsFailed,
    )
    from ray_prep.recipe import Recipe

_HOMES = {
    "BuildError": "ray_prep.errors",
    "BuildReport": "ray_prep.build_report",
    "CheckFailed": "ray_prep.errors",
    "Conflict": "ray_prep.errors",
    "Dataset": "ray_prep.dataset.reader",
    "Interrupted": "ray_prep.errors",
    "RayPrepError": "ray_prep.errors",
    "Recipe": "ray_prep.recipe",
    "RecipeError": "ray_prep.errors",
    "RejectBudgetExceeded": "ray_prep.errors",
    "StorageError": "ray_prep.errors",
    "UnitsFailed": "ray_prep.errors",
    "build": "ray_prep.build",
    "open": "ray_prep.dataset.reader",
}

__version__ = "0.1.0"
__all__ = [
    "BuildError",
    "BuildReport",
    "CheckFailed",
    "Conflict",
    "Dataset",
    "Interrupted",
    "RayPrepError",
    "Recipe",
    "RecipeError",
    "RejectBudgetExceeded",
    "StorageError",
    "UnitsFailed",
    "build",
    "open",
]


class _Package(ModuleType):
    """This module, in which `build` stays the function when somebody imports the module `ray_prep.build`."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'ray_prep' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, and the module's own."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
