"""Items on local disk, dealt into buckets by the hash of their key, so that a build of any size joins and sorts bucket by bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import pyarrow as pa

from ray_prep.arrays import exact_array
from ray_prep.errors import RecipeError
from ray_prep.seed import order
from ray_prep.work import batch_to_items, items_to_batch, plan_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ray_prep.sample import Item

# 100 million items make 390,000 a bucket: 300 MB while it is worked on.
BUCKETS = 256
_BUFFERED_ITEMS = 512


def bucket_of(key: str) -> int:
    """Return an item's bucket: the first byte of its place in the order, so that buckets in turn give all items in order."""
    return order(key) >> 56


class Spool:
    """Items in buckets: on disk but for the last few of each, which need no file.

    Args:
        folder: Where the files go; it must exist and is the caller's to remove.
        carried: Types of the carried columns.
    """

    def __init__(self, folder: Path, carried: pa.Schema) -> None:
        self._folder = folder
        self._carried = carried
        self._schema = plan_schema(carried)
        self._buffers: list[list[Item]] = [[] for _ in range(BUCKETS)]
        self._writers: dict[int, pa.RecordBatchStreamWriter] = {}
        self._on_disk: set[int] = set()
        self._last: dict[int, pa.RecordBatch] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.finish()

    def add(self, item: Item) -> None:
        """Take one item.

        Raises:
            RecipeError: A carried value does not fit its column's type.
        """
        bucket = bucket_of(item.key)
        buffer = self._buffers[bucket]
        buffer.append(item)
        if len(buffer) >= _BUFFERED_ITEMS:
            self._flush(bucket)

    def finish(self) -> None:
        """Close the files; after it the buckets may be read."""
        for bucket in range(BUCKETS):
            if self._buffers[bucket]:
                self._last[bucket] = self._taken(bucket)
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def bucket(self, bucket: int) -> list[Item]:
        """Return the items of one bucket as they came."""
        items: list[Item] = []
        if bucket in self._on_disk:
            with pa.OSFile(self._path(bucket), "rb") as file, pa.ipc.open_stream(file) as reader:
                items = [item for batch in reader for item in batch_to_items(batch, self._carried)]
        if bucket in self._last:
            items += batch_to_items(self._last[bucket], self._carried)
        return items

    def items(self) -> Iterator[Item]:
        """Yield all items, bucket by bucket, as they came."""
        for bucket in range(BUCKETS):
            yield from self.bucket(bucket)

    def _path(self, bucket: int) -> str:
        return str(self._folder / f"{bucket:02x}.arrow")

    def _taken(self, bucket: int) -> pa.RecordBatch:
        items, self._buffers[bucket] = self._buffers[bucket], []
        try:
            return items_to_batch(items, self._carried)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise self._unfit(items, error) from None

    def _unfit(self, items: Sequence[Item], error: Exception) -> RecipeError:
        """Return the error that names the item and the column whose value does not fit."""
        for known in self._carried:
            for item in items:
                value = item.columns.get(known.name)
                try:
                    exact_array([value], known.type)
                except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
                    what = f"{item.uri}: column {known.name!r} is {known.type} in the dataset, and {str(value)[:80]!r} is none"
                    return RecipeError(f"source: {what}; mend it, or build with --rebuild to start over with another type")
        return RecipeError(f"source: a carried column holds a value that does not fit its type: {error}")

    def _flush(self, bucket: int) -> None:
        batch = self._taken(bucket)
        writer = self._writers.get(bucket)
        if writer is None:
            writer = self._writers[bucket] = pa.ipc.new_stream(self._path(bucket), self._schema)
            self._on_disk.add(bucket)
        writer.write_batch(batch)
