"""Numbers that follow from names: random streams, splits and the order of items, each a hash of what it belongs to."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping


def digest(*parts: str | int) -> int:
    """Return 64 bits that depend on every part and on where one ends and the next begins (big-endian blake2b)."""
    hasher = blake2b(digest_size=8)
    for part in parts:
        data = str(part).encode("utf-8", "surrogatepass")
        hasher.update(len(data).to_bytes(8, "big"))
        hasher.update(data)
    return int.from_bytes(hasher.digest(), "big")


def order(key: str) -> int:
    """Return the place of an item in the order of a build: blake2b of its key, 8 bytes, big-endian."""
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def sample_rng(seed: int, key: str, copy: int) -> np.random.Generator:
    """Return the random stream of one copy of one item.

    It depends on nothing else: not on the worker, the unit or the neighbours, so that a build of any shape draws the
    same numbers (a law of the design).
    """
    return np.random.Generator(np.random.PCG64(digest(seed, key, copy)))


def split_of(value: str, ratios: Mapping[str, float]) -> str:
    """Return the split of a key (or of the by-value of a group), by its hash against the cumulative ratios.

    The seed has no part in it, nor has any other item: a split never changes because others came.

    Args:
        value: The key, or the value of the column that holds a group together.
        ratios: Share of each split, in the recipe's order; they add up to 1.
    """
    place = digest("split", value) / 2**64
    edge = 0.0
    for name, share in ratios.items():
        edge += share
        if place < edge:
            return name
    # Shares like 0.1 add up to a hair less than 1: what falls into that hair is the last split's.
    return [name for name, share in ratios.items() if share > 0][-1]
