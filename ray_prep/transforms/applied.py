"""What random steps did to a copy, as plain JSON."""

from __future__ import annotations

import json
import math
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from ray_prep.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_BYTES = 4096
MAX_NUMBERS = 64
_FEW_NUMBERS = 8
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)  # json.dumps would make one each time


def plain(value: Any, max_numbers: int = MAX_NUMBERS) -> Any:
    """Return a value that JSON can hold: numpy's numbers and arrays as Python's, tuples as lists.

    Args:
        value: What a step drew.
        max_numbers: Longer arrays and lists become `{"shape": …, "sha256": …}`.
    """
    # By type first: this runs for every parameter of every step of every copy.
    kind = type(value)
    if kind is float:
        return value if math.isfinite(value) else str(value)
    if kind is int or kind is str or kind is bool or value is None:
        return value
    if kind is np.ndarray:
        if value.size > max_numbers:
            return {"shape": list(value.shape), "sha256": sha256(np.ascontiguousarray(value).data).hexdigest()}
        items = value.tolist()
        return items if value.dtype.kind in "iu" else plain(items, max_numbers)
    if isinstance(value, np.generic):
        return plain(value.item(), max_numbers)
    if isinstance(value, dict):
        return {str(name): plain(item, max_numbers) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return _sequence([plain(item, max_numbers) for item in value], max_numbers)
    return repr(value) if not isinstance(value, (float, int, str)) else value


def check_numbers(value: Any, place: str) -> None:
    """Refuse numbers that are not finite, and texts in which numbers stand: Albumentations takes `.inf` and "15".

    Args:
        value: Plain data of a recipe.
        place: Where it stands.

    Raises:
        RecipeError: There is one.
    """
    if isinstance(value, dict):
        for name, item in value.items():
            check_numbers(item, f"{place}.{name}")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            check_numbers(item, f"{place}[{number}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{place}: should be a finite number, got {value!r}")
    elif isinstance(value, str) and _is_number(value):
        raise RecipeError(f"{place}: should be a number, got the text {value!r}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _sequence(items: list[Any], max_numbers: int) -> Any:
    if _count(items) <= max_numbers:
        return items
    return {"shape": [len(items)], "sha256": sha256(_text(items).encode()).hexdigest()}


def _count(items: list[Any]) -> int:
    return sum([_count(item) if type(item) is list else 1 for item in items])


def applied_json(applied: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the column `params`: JSON of at most 4096 bytes, or None where nothing was applied.

    Too much to say is said shorter, step by step: long lists as shape and sha256, then only the names, then their number.
    """
    if not applied:
        return None
    for steps in (
        lambda: list(applied),
        lambda: [plain(dict(step), _FEW_NUMBERS) for step in applied],
        lambda: [{"name": step["name"]} for step in applied],
        lambda: [{"steps": len(applied), "sha256": sha256(_text(list(applied)).encode()).hexdigest()}],
    ):
        text = _text(steps())
        if len(text.encode()) <= MAX_BYTES:
            break
    return text


def _text(value: Any) -> str:
    return _ENCODER.encode(value)
