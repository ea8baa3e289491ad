"""What the table holds, row by row and without pixels: what a plan is joined with."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from ray_prep.dataset.shard_reader import ShardReader, ahead
from ray_prep.errors import Damaged
from ray_prep.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ray_prep.dataset.log import Snapshot
    from ray_prep.dataset.shard import Shard
    from ray_prep.storage import StorageOptions, Store

_SHARDS_AHEAD = 8


def live_rows(
    snapshot: Snapshot, options: StorageOptions, columns: Sequence[str], on_damage: Callable[[Damaged], None] | None = None
) -> Iterator[pa.RecordBatch]:
    """Stream columns of all rows of a version, shard by shard in the order of their paths; as `shard_rows` otherwise."""
    return shard_rows(open_store(snapshot.uri, options), snapshot.shards, columns, on_damage)


def shard_rows(
    store: Store, shards: Iterable[Shard], columns: Sequence[str], on_damage: Callable[[Damaged], None] | None = None
) -> Iterator[pa.RecordBatch]:
    """Stream columns of all rows of some shards, published or not, in the shards' own order.

    A few shards are read ahead in threads; what is asked for of them is all that is in memory.

    Args:
        store: The table's folder.
        shards: The shards.
        columns: Which; `split` may be one. After them comes `shard`, the path of the row's file.
        on_damage: Is told, in any thread, of a shard that cannot be read, whose rows are then left out; None raises.

    Raises:
        Damaged: A shard is not there, or not what was published.
        StorageError: Storage is unreachable.
    """
    for batches in ahead((partial(_read, store, shard, tuple(columns), on_damage) for shard in shards), _SHARDS_AHEAD):
        yield from batches


def _read(store: Store, shard: Shard, columns: tuple[str, ...], on_damage: Callable[[Damaged], None] | None) -> list[pa.RecordBatch]:
    try:
        groups = _groups(store, shard, columns)
    except Damaged as error:
        if on_damage is None:
            raise
        on_damage(error)
        return []
    table = pa.concat_tables(groups).combine_chunks()
    place = pa.field("shard", pa.string())
    batches: list[pa.RecordBatch] = table.append_column(place, pa.repeat(pa.scalar(shard.path), table.num_rows)).to_batches()
    return batches


def _groups(store: Store, shard: Shard, columns: tuple[str, ...]) -> list[pa.Table]:
    with ShardReader(store, shard) as reader:
        if sum(reader.group_rows) != shard.rows:
            raise Damaged(store.uri_of(shard.path), f"holds {sum(reader.group_rows)} rows, and {shard.rows} were published")
        return [reader.table(group, columns) for group in range(len(reader.group_rows))]
