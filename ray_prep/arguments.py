"""Arguments as they come from Python code: what is obviously meant is taken, of all else it is said what would be right."""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING, Any

from ray_prep.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterable


def whole_number(name: str, value: Any, least: int = 0) -> int:
    """Return a whole number; numpy's are taken too.

    Args:
        name: What it is called.
        value: What was given.
        least: The smallest that will do.

    Raises:
        RecipeError: It is none, such as `"3"`, `3.0` or `True`, or too small.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        msg = f"{name}: {value!r} is no whole number of {least} or more"
        raise RecipeError(msg)
    return number


def texts(name: str, value: str | Iterable[str]) -> list[str]:
    """Return a list of texts; a single text is a list of one, never of its letters.

    Args:
        name: What it is called.
        value: What was given.

    Raises:
        RecipeError: It is something else.
    """
    try:
        given: list[Any] = [value] if isinstance(value, str) else list(value)
    except TypeError:
        given = [value]
    if wrong := [one for one in given if not isinstance(one, str)]:
        msg = f"{name}: should be a list of texts, and {wrong[0]!r} is none"
        raise RecipeError(msg)
    return given


def place(name: str, value: Any) -> str:
    """Return a path or uri as text.

    Args:
        name: What it is called.
        value: What was given.

    Raises:
        RecipeError: It is neither.
    """
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str):
        msg = f"{name}: should be a path or a uri such as s3://bucket/folder, got {value!r}"
        raise RecipeError(msg)
    return path
