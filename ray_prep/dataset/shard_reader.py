"""One shard, open for reading: mapped where it is a local file, by ranges where it is in an object store."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ray_prep.dataset.page import pixels_start
from ray_prep.dataset.pixels import Pixels, large_binary, with_offsets
from ray_prep.dataset.schema import PARTITION, image_column
from ray_prep.errors import Damaged, StorageError
from ray_prep.storage import is_local, local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ray_prep.dataset.schema import ImageColumn
    from ray_prep.dataset.shard import Shard
    from ray_prep.storage import Store

    T = TypeVar("T")


# What pyarrow 26 raises over files that are no Parquet, or are damaged.
_DAMAGE = (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError, OSError)


class ShardReader:
    """Reads one shard, row group by row group.

    Args:
        store: The table's folder.
        shard: The file; it must be live, or not yet vacuumed.

    Raises:
        Damaged: It is not there, or not what was published.
        StorageError: Storage is unreachable.
    """

    def __init__(self, store: Store, shard: Shard) -> None:
        self.shard = shard
        self._uri = store.uri_of(shard.path)
        self._mapped: pa.Buffer | None = None
        self._file: Any = None
        try:
            if is_local(store.uri):
                # The buffer keeps the mapping alive, not the file: 10,000 open shards need no file descriptor.
                with pa.memory_map(str(Path(local_path(store.uri)) / shard.path)) as mapping:
                    self._mapped = mapping.read_buffer()
                self._parquet = pq.ParquetFile(pa.BufferReader(self._mapped))
            else:
                self._file = store.open_input(shard.path)
                self._parquet = pq.ParquetFile(self._file)
        except FileNotFoundError:
            raise Damaged(self._uri, "is not there: the version it belongs to was vacuumed, or it was deleted by hand") from None
        except _DAMAGE as error:
            raise self._damaged(error) from error
        metadata = self._parquet.metadata
        self.group_rows: list[int] = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self.schema: pa.Schema = self._parquet.schema_arrow
        self.image: ImageColumn | None = image_column(self.schema)
        leaves = self._parquet.schema
        self._image_leaf = next((place for place in range(len(leaves)) if leaves.column(place).path == "image"), -1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; what was read from it stays valid."""
        self._parquet.close()
        if self._file is not None:
            self._file.close()

    @property
    def footer(self) -> dict[str, str]:
        """What the file says of its making."""
        raw: dict[bytes, bytes] = self._parquet.metadata.metadata or {}
        return {name.decode(): value.decode() for name, value in raw.items() if not name.startswith(b"ARROW:")}

    def table(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Return columns of one row group, in the order asked for; `split` is one of them, and `image` is large_binary.

        Args:
            group: Number of the row group.
            columns: Names the table has.

        Raises:
            StorageError: The file is damaged, or storage is unreachable.
        """
        rows = self.group_rows[group]
        small = self._read(group, [name for name in columns if name not in {PARTITION, "image"}])
        made: list[pa.Array | pa.ChunkedArray] = []
        for name in columns:
            if name == PARTITION:
                made.append(pa.repeat(pa.scalar(self.shard.split), rows))
            elif name == "image":
                view = self._view(group)
                made.append(self._copy(group) if view is None else view)
            else:
                made.append(small.column(name))
        if not columns:
            return small
        return pa.Table.from_arrays(made, names=list(columns))

    def pixels(self, group: int) -> Pixels:
        """Return the images of one row group.

        Raises:
            StorageError: The file is damaged, or storage is unreachable.
        """
        image = self.image
        if image is None:
            msg = f"{self._uri} was not made by ray_prep: its image column says nothing of shape and dtype"
            raise StorageError(msg)
        view = self._view(group)
        if view is not None:
            return Pixels(image, view, is_view=True)
        stored = self._copy(group)
        if image.shape is not None or image.encoding != "tensor":
            return Pixels(image, stored)
        sizes = self._read(group, ["height", "width"])
        return Pixels(image, stored, sizes.column("height").to_numpy(), sizes.column("width").to_numpy())

    def _view(self, group: int) -> pa.LargeBinaryArray | None:
        """Return the images of one row group where they lie in the mapped file; None where it is not mapped, or they do not lie there raw.

        pyarrow 26 copies a FIXED_LEN_BYTE_ARRAY column even from a mapped file (20 µs for 224x224x3); ray_prep writes it as one page, so
        that the values can be taken where they are.
        """
        if self._mapped is None or self.image is None or not self.image.is_fixed_tensor:
            return None
        rows, row_bytes = self.group_rows[group], self.image.nbytes or 0
        chunk = self._parquet.metadata.row_group(group).column(self._image_leaf)
        try:
            start = pixels_start(memoryview(self._mapped), chunk, rows, row_bytes)
        except ValueError as error:
            raise self._damaged(error) from error
        return None if start is None else with_offsets(self._mapped.slice(start, rows * row_bytes), rows, row_bytes)

    def _copy(self, group: int) -> pa.LargeBinaryArray:
        """Return the images of one row group as Parquet's decoder gives them."""
        return large_binary(self._read(group, ["image"]).column(0).combine_chunks())

    def _read(self, group: int, columns: list[str]) -> pa.Table:
        try:
            read = self._parquet.read_row_group(group, columns, use_threads=False)
        except _DAMAGE as error:
            raise self._damaged(error) from error
        # Parquet's reader passes over names that a file does not have.
        if lacking := [name for name in columns if name not in read.column_names]:
            raise Damaged(self._uri, f"has no column {lacking[0]!r}: it was replaced")
        return read

    def _damaged(self, error: Exception) -> Damaged:
        return Damaged(self._uri, f"cannot be read as Parquet: {str(error)[:200]}")


def read_shard(store: Store, shard: Shard, schema: pa.Schema) -> list[pa.Table]:
    """Return columns of one shard, a table a row group.

    Args:
        store: The table's folder.
        shard: The file.
        schema: The columns.
    """
    with ShardReader(store, shard) as reader:
        groups = [reader.table(group, schema.names) for group in range(len(reader.group_rows))]
    # Made of no columns a table would have no rows.
    return [pa.Table.from_arrays(group.columns, schema=schema) if schema.names else group for group in groups]


def ahead(calls: Iterable[Callable[[], T]], depth: int) -> Iterator[T]:
    """Make the calls in threads, in order, some of them ahead of whoever takes the results.

    Args:
        calls: What to do.
        depth: How many may be under way or done and not yet taken; 0 makes each when it is asked for.
    """
    calls = iter(calls)
    if depth == 0:
        for call in calls:
            yield call()
        return
    with ThreadPoolExecutor(depth) as pool:
        waiting: deque[Future[T]] = deque(pool.submit(call) for call in islice(calls, depth))
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(call) for call in islice(calls, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()
