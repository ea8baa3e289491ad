"""What is known of an image that went one way or another."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

from ray_prep.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ray_prep.spec import Spec


def either(specs: Iterable[Spec], why: str) -> Spec:
    """Return the narrowest spec that holds them all.

    Args:
        specs: One or more.
        why: What makes the image go one way or another, for the message.

    Raises:
        RecipeError: Channels or dtypes differ, which nothing later could undo for some images only.
    """
    return reduce(lambda one, other: _either(one, other, why), specs)


def _either(one: Spec, other: Spec, why: str) -> Spec:
    if (one.channels, one.dtype) != (other.channels, other.dtype):
        raise RecipeError(f"{why}: some images become {one}, others {other}; channels and dtype must be the same for all")
    value_range = None
    if one.value_range is not None and other.value_range is not None:
        value_range = min(one.value_range[0], other.value_range[0]), max(one.value_range[1], other.value_range[1])
    notes = tuple(dict.fromkeys((*one.notes, *other.notes)))
    return replace(one, height=one.height.union(other.height), width=one.width.union(other.width), value_range=value_range, notes=notes)
