"""Images that are there twice: found over all shards by one column, on disk, bucket by bucket."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import pyarrow as pa

from ray_prep.dataset.live import shard_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ray_prep.dataset.shard import Shard
    from ray_prep.storage import Store

_BUCKETS = 256
_COLUMNS = ("key", "source_uri", "source_version", "source_sha256", "split", "shard")
_SCHEMA = pa.schema([pa.field(name, pa.string()) for name in _COLUMNS])


@dataclass(frozen=True, slots=True)
class Holder:
    """One image as the shards know it: rows of its copies count once.

    Args:
        key: Its key.
        uri: Where its bytes were.
        version: Their version.
        sha256: Their digest.
        split: Its split.
        shard: Path of the shard that holds it.
    """

    key: str
    uri: str
    version: str
    sha256: str
    split: str
    shard: str


def holders_of_the_same(store: Store, shards: Iterable[Shard], column: str, folder: Path) -> Iterator[list[Holder]]:
    """Yield every group of two images or more that have one value in common, smallest key (then uri) first.

    Memory holds a 256th of the images' names at a time.

    Args:
        store: The table's folder.
        shards: The shards, published or not.
        column: `source_sha256`, or `key`.
        folder: An empty local folder.
    """
    writers = [pa.ipc.new_stream(str(folder / f"{bucket:02x}.arrow"), _SCHEMA) for bucket in range(_BUCKETS)]
    try:
        for batch in shard_rows(store, shards, _COLUMNS[:-1]):
            _deal(batch, _COLUMNS.index(column), writers)
    finally:
        for writer in writers:
            writer.close()
    for bucket in range(_BUCKETS):
        with pa.OSFile(str(folder / f"{bucket:02x}.arrow"), "rb") as file, pa.ipc.open_stream(file) as reader:
            yield from _groups([Holder(**row) for row in _rows(reader)], column)


def _deal(batch: pa.RecordBatch, place: int, writers: list[pa.RecordBatchStreamWriter]) -> None:
    """Put the first row of each image into the bucket of its value."""
    dealt: dict[int, list[tuple[str, ...]]] = {}
    last = None
    for row in zip(*(batch.column(name).to_pylist() for name in _COLUMNS), strict=True):
        if row[0] != last:
            dealt.setdefault(blake2b(row[place].encode(), digest_size=1).digest()[0], []).append(row)
        last = row[0]
    for bucket, rows in dealt.items():
        writers[bucket].write_batch(
            pa.RecordBatch.from_arrays([pa.array(values, pa.string()) for values in zip(*rows, strict=True)], schema=_SCHEMA)
        )


def _rows(reader: pa.RecordBatchStreamReader) -> Iterator[dict[str, str]]:
    for batch in reader:
        for row in batch.to_pylist():
            yield {"key": row["key"], "uri": row["source_uri"], "version": row["source_version"], "sha256": row["source_sha256"]} | {
                "split": row["split"],
                "shard": row["shard"],
            }


def _groups(holders: list[Holder], column: str) -> Iterator[list[Holder]]:
    groups: dict[str, list[Holder]] = {}
    for holder in holders:
        groups.setdefault(holder.sha256 if column == "source_sha256" else holder.key, []).append(holder)
    for _, group in sorted(groups.items()):
        if len(group) > 1:
            yield sorted(group, key=lambda holder: (holder.key, holder.uri))
