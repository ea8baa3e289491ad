"""What images add up to: exact integer sums, and the mean and standard deviation that follow from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_WHITE = 255


@dataclass(frozen=True)
class Stats:
    """What the originals of some splits have in common.

    Args:
        rows: Rows, copies included.
        images: Accepted items.
        mean: Mean of each channel over the originals' pixels before any float step, in [0, 1]; empty where none of
            some split was counted.
        std: Standard deviation of each channel, as mean.
        counts: Accepted items by split and class; the class of items without a label is "".
    """

    rows: int
    images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    counts: Mapping[str, Mapping[str, int]]


def pooled(sums: Sequence[int]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, in [0, 1], from n, then Σ of each channel, then Σ² of each.

    Exact up to the last division: the sums are integers of 8-bit values. Both are empty where there are no pixels.
    """
    if not sums or not sums[0]:
        return (), ()
    count, channels = sums[0], len(sums) // 2
    firsts, squares = sums[1 : 1 + channels], sums[1 + channels :]
    mean = tuple(first / (count * _WHITE) for first in firsts)
    std = tuple(math.sqrt(count * square - first * first) / (count * _WHITE) for first, square in zip(firsts, squares, strict=True))
    return mean, std


def add_sums(parts: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Return the sums of several sets of pixels taken together; an empty one stands for no pixels."""
    total: tuple[int, ...] = ()
    for part in parts:
        if part:
            total = tuple(one + other for one, other in zip(total, part, strict=True)) if total else tuple(part)
    return total
