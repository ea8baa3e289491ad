"""Which rows of a table share their key and copy: found on local disk, for no memory holds the keys of 100 million rows."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    Entries = np.ndarray[Any, np.dtype[Any]]

# 24 bytes a row: 100 million are 2.4 GB on disk, and 10 MB in memory at a time.
_ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("shard", "<u4"), ("row", "<u4")])
_DIGEST_BYTES = 16
_BUCKET_BITS = 8
_ROWS_IN_MEMORY = 1 << 20


class Place(NamedTuple):
    """One row: the number of its shard, and its own in there."""

    shard: int
    row: int


def digests(keys: Iterable[str | None], copies: Iterable[int | None]) -> bytes:
    """Return 16 bytes a row that stand for its key and copy; two rows share them where they share both, and by chance never.

    Args:
        keys: Of each row.
        copies: Of each row.
    """
    return b"".join(
        blake2b(f"{copy}\0{key}".encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
        for key, copy in zip(keys, copies, strict=True)
    )


class Repeats:
    """Takes the digests of all rows, shard by shard, and tells which come twice.

    Args:
        folder: An empty local folder.
        rows_in_memory: More rows than these go to disk, into 256 files by their digests.
    """

    def __init__(self, folder: Path, rows_in_memory: int = _ROWS_IN_MEMORY) -> None:
        self._folder = folder
        self._most = rows_in_memory
        self._held: list[Entries] = []
        self._count = 0
        self._is_on_disk = False

    def add(self, shard: int, rows: bytes) -> None:
        """Take the rows of one shard.

        Args:
            shard: Its number.
            rows: What `digests` gave.
        """
        pairs = np.frombuffer(rows, "<u8").reshape(-1, 2)
        entries = np.empty(len(pairs), _ENTRY)
        entries["high"], entries["low"] = pairs[:, 0], pairs[:, 1]
        entries["shard"], entries["row"] = shard, np.arange(len(pairs))
        self._held.append(entries)
        self._count += len(entries)
        if self._count > self._most:
            self._flush()

    def found(self) -> Iterator[tuple[Place, Place]]:
        """Yield rows with the same key and copy, two at a time: the first and the second, the second and the third."""
        if not self._is_on_disk:
            yield from _neighbours(self._taken())
            return
        self._flush()
        for path in sorted(self._folder.glob("*.rows")):
            yield from _neighbours(np.fromfile(path, _ENTRY))

    def _taken(self) -> Entries:
        entries = np.concatenate([np.empty(0, _ENTRY), *self._held])
        self._held, self._count = [], 0
        return entries

    def _flush(self) -> None:
        entries = self._taken()
        buckets = (entries["high"] >> np.uint64(64 - _BUCKET_BITS)).astype(np.uint8)
        order = np.argsort(buckets, kind="stable")
        ends = np.cumsum(np.bincount(buckets, minlength=1 << _BUCKET_BITS))
        for bucket, part in enumerate(np.split(entries[order], ends[:-1])):
            if len(part):
                with (self._folder / f"{bucket:02x}.rows").open("ab") as file:
                    file.write(part.tobytes())
        self._is_on_disk = True


def _neighbours(entries: Entries) -> Iterator[tuple[Place, Place]]:
    entries = entries[np.lexsort((entries["row"], entries["shard"], entries["low"], entries["high"]))]
    is_same = (entries["high"][1:] == entries["high"][:-1]) & (entries["low"][1:] == entries["low"][:-1])
    for place in np.flatnonzero(is_same):
        one, other = entries[place], entries[place + 1]
        yield Place(int(one["shard"]), int(one["row"])), Place(int(other["shard"]), int(other["row"]))
