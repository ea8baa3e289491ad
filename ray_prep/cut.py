"""Where one unit ends and the next begins: at places that the items' own hashes choose, so that one image more moves few of them."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from ray_prep.seed import order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ray_prep.recipe import Recipe
    from ray_prep.sample import Item

MB = 1_000_000
# A unit below this is mostly overhead: a process's turn, a file, a line in the table's log.
_WORTHWHILE_BYTES = 16 * MB
# What an encoded image is taken to need before one was encoded.
_LOSSY_BYTES = 100_000
_LOSSLESS_BYTES = 400_000


def item_bytes(recipe: Recipe, split: str) -> int:
    """Return the stored bytes an item is planned with, its copies included."""
    largest = recipe.spec.max_bytes if recipe.output.image == "tensor" else None
    if largest is None:
        largest = _LOSSY_BYTES if recipe.output.image in {"jpeg", "webp"} else _LOSSLESS_BYTES
    return largest * recipe.rows_per_item(split)


def typical_items(count: int, item_bytes: int, shard_mb: float) -> int:
    """Return m, the number of items a unit has on average.

    As many as fill a shard; but where the split has few items, fewer (down to what is worthwhile), so that there are units for all workers.

    Args:
        count: Items of the split to make in this build.
        item_bytes: Stored bytes of an item with its copies.
        shard_mb: Wanted size of a shard, in units of 10^6 bytes.
    """
    fills = int(shard_mb * MB) // item_bytes
    sixteenth = 1 << ((count // 16).bit_length() - 1) if count >= 16 else 0
    return max(1, min(fills, max(_WORTHWHILE_BYTES // item_bytes, sixteenth)))


def cut(items: Iterable[Item], typical: int) -> Iterator[list[Item]]:
    """Cut items of one split, in order of their keys' hash, into units.

    A unit ends at an item whose hash is a multiple of `typical`, but holds at least a quarter of it and at most twice as many items. So
    cuts follow from the items near them: one item more or less changes its own unit and at most the few until the next common cut.
    (Content-defined chunking, as in LBFS: Muthitacharoen et al., SOSP 2001.)

    Args:
        items: In the order of `seed.order`.
        typical: m, of `typical_items`.
    """
    unit: list[Item] = []
    for item in items:
        unit.append(item)
        is_cut = order(item.key) % typical == 0 and len(unit) * 4 >= typical
        if is_cut or len(unit) >= 2 * typical:
            yield unit
            unit = []
    if unit:
        yield unit


def unit_id(kind: str, split: str, fingerprint: str, frozen_digest: str, items: Iterable[Item]) -> str:
    """Return 40 hex digits that everything follows from which a unit's bytes follow from."""
    hasher = sha256()
    for text in (kind, split, fingerprint, frozen_digest):
        _feed(hasher, text)
    for item in items:
        for text in (item.key, item.uri, item.version, item.facts):
            _feed(hasher, text)
    return hasher.hexdigest()[:40]


def _feed(hasher: object, text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    hasher.update(len(data).to_bytes(4, "big") + data)  # type: ignore[attr-defined]
