"""A dataset as PyTorch takes it (imports torch; `Dataset.to_torch` imports it when asked)."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Dataset as MapDataset
from torch.utils.data import IterableDataset, get_worker_info

from ray_prep.arguments import whole_number
from ray_prep.dataset.pixels import Pixels
from ray_prep.dataset.schema import OWN_INTEGERS
from ray_prep.dataset.shard_reader import ShardReader, ahead
from ray_prep.dataset.values import plain
from ray_prep.errors import RecipeError
from ray_prep.storage import is_local

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ray_prep.dataset.reader import Dataset

    Row = tuple["Group", int]

# Row groups that had to be copied out of their files and are kept for the next row: some 200 MB.
_GROUPS_KEPT = 8


@dataclass(frozen=True)
class Order:
    """In which order the rows come, and which of them come here.

    Args:
        shuffle: Rows of the buffer a batch is drawn from; 0 keeps the stored order.
        seed: Of the order.
        epoch: Of the order.
        rank: This process among those that train together.
        world_size: How many they are.
    """

    shuffle: int = 0
    seed: int = 0
    epoch: int = 0
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        for name, least in (("shuffle", 0), ("seed", 0), ("epoch", 0), ("rank", 0), ("world_size", 1)):
            whole_number(name, getattr(self, name), least)
        if self.rank >= self.world_size:
            msg = f"rank: {self.rank} is none of world_size {self.world_size}; ranks begin at 0"
            raise RecipeError(msg)

    def rng(self, *what: int) -> np.random.Generator:
        """Return the random stream of one part of the order."""
        return np.random.default_rng([self.seed, self.epoch, *what])


@dataclass(frozen=True)
class Group:
    """The rows of one row group, read: images, and the other columns by name."""

    pixels: Pixels
    columns: dict[str, Any]


class Batches(IterableDataset):  # type: ignore[misc]  # torch is not followed
    """Batches of a dataset; all ranks and workers together see each row once an epoch.

    Rows are dealt out by number, so that shares differ by one row at the most whatever the shards are.

    Args:
        dataset: What is read.
        batch_size: Rows a batch; the last of each worker may be smaller.
        order: In which order.
        columns: What a batch has beside `image`.
    """

    def __init__(self, dataset: Dataset, batch_size: int, order: Order, columns: tuple[str, ...]) -> None:
        super().__init__()
        self.dataset = dataset
        self.batch_size = batch_size
        self.order = order
        self.columns = columns
        self._pid = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pid = os.getpid()

    def set_epoch(self, epoch: int) -> None:
        """Change the order; call it before the epoch's iterator is made (workers that persist do not hear of it)."""
        self.order = replace(self.order, epoch=epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        _refuse_fork(self.dataset, self._pid)
        worker = get_worker_info()
        rows = self._shuffled(self._rows(worker), 0 if worker is None else worker.id)
        batch: list[Row] = []
        for row in rows:
            batch.append(row)
            if len(batch) == self.batch_size:
                yield _collate(batch, self.columns)
                batch = []
        if batch:
            yield _collate(batch, self.columns)

    def _rows(self, worker: Any) -> Iterator[Row]:
        """Go through this worker's share of the rows, row groups in random order where rows are to be shuffled."""
        total, order = len(self.dataset), self.order
        share = _part(range(total), order.rank, order.world_size)
        if worker is not None:
            share = _part(share, worker.id, worker.num_workers)
        calls = (partial(self._read, reader, group, rows) for reader, group, rows in self._groups(share))
        for rows in ahead(calls, 0 if is_local(self.dataset.uri) else 1):
            yield from rows

    def _groups(self, share: range) -> Iterator[tuple[ShardReader, int, range]]:
        """Find the row groups of a share: which, and which of their rows."""
        order, shards = self.order, self.dataset.shards
        places = order.rng(0).permutation(len(shards)) if order.shuffle else range(len(shards))
        begin = 0
        for place in places:
            shard = shards[place]
            end = begin + shard.rows
            if begin < share.stop and share.start < end:
                reader = ShardReader(self.dataset.store, shard)
                groups = order.rng(1, place).permutation(len(reader.group_rows)) if order.shuffle else range(len(reader.group_rows))
                at = begin
                for group in groups:
                    rows = range(max(share.start - at, 0), min(share.stop - at, reader.group_rows[group]))
                    if rows:
                        yield reader, int(group), rows
                    at += reader.group_rows[group]
            begin = end

    def _read(self, reader: ShardReader, number: int, rows: range) -> list[Row]:
        group = _read(reader, number, self.columns)
        if self.order.shuffle and not group.pixels.is_view:
            # In the buffer one row would keep its whole row group in memory.
            return [(_alone(group, place), 0) for place in rows]
        return [(group, place) for place in rows]

    def _shuffled(self, rows: Iterator[Row], worker: int) -> Iterator[Row]:
        """Draw each row from a buffer that the next one refills."""
        size = self.order.shuffle
        if not size:
            yield from rows
            return
        rng = self.order.rng(2, self.order.rank, worker)
        buffer: list[Row] = []
        for row in rows:
            if len(buffer) < size:
                buffer.append(row)
                continue
            place = int(rng.integers(size))
            yield buffer[place]
            buffer[place] = row
        yield from (buffer[place] for place in rng.permutation(len(buffer)))


class Rows(MapDataset):  # type: ignore[misc]  # torch is not followed
    """Rows of a dataset by number.

    The other columns are read at once; images when asked for: one by one from a local table of raw images of one shape, else a row group
    at a time, of which the last few are kept.

    Args:
        dataset: What is read.
        columns: What a row has beside `image`.
    """

    def __init__(self, dataset: Dataset, columns: tuple[str, ...]) -> None:
        self.dataset = dataset
        self.columns = columns
        table = dataset.to_arrow(columns=columns)
        self._values: dict[str, Any] = {}
        for name in columns:
            column = table.column(name)
            self._values[name] = plain(column, name) if name in OWN_INTEGERS else column
        self._pid = os.getpid()
        self._shard_ends = list(accumulate(shard.rows for shard in dataset.shards))
        self._shards: dict[int, tuple[ShardReader, list[int]]] = {}
        self._mapped: dict[tuple[int, int], np.ndarray[Any, np.dtype[Any]]] = {}
        self._kept: OrderedDict[tuple[int, int], Pixels] = OrderedDict()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": {}, "_mapped": {}, "_kept": OrderedDict()}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return one row: `image` as a tensor (C, H, W), integers of ours as numbers, other columns as Python values."""
        total = len(self.dataset)
        if not -total <= number < total:
            msg = f"row {number} of {total}"
            raise IndexError(msg)
        number %= total
        row: dict[str, Any] = {"image": _tensor(np.array(self._image(number)))}
        for name, values in self._values.items():
            row[name] = int(values[number]) if name in OWN_INTEGERS else values[number].as_py()
        return row

    def _image(self, number: int) -> np.ndarray[Any, np.dtype[Any]]:
        place = bisect_right(self._shard_ends, number)
        number -= self._shard_ends[place - 1] if place else 0
        if place not in self._shards:
            _refuse_fork(self.dataset, self._pid)
            reader = ShardReader(self.dataset.store, self.dataset.shards[place])
            self._shards[place] = reader, list(accumulate(reader.group_rows))
        reader, ends = self._shards[place]
        group = bisect_right(ends, number)
        number -= ends[group - 1] if group else 0
        images: Any = self._mapped.get((place, group))
        if images is None:
            images = self._group(reader, place, group)
        image: np.ndarray[Any, np.dtype[Any]] = images[number]
        return image

    def _group(self, reader: ShardReader, place: int, group: int) -> Any:
        _refuse_fork(self.dataset, self._pid)
        if (place, group) in self._kept:
            self._kept.move_to_end((place, group))
            return self._kept[place, group]
        pixels = reader.pixels(group)
        if pixels.is_view and (stacked := pixels.stacked) is not None:
            return self._mapped.setdefault((place, group), stacked)
        self._kept[place, group] = pixels
        if len(self._kept) > _GROUPS_KEPT:
            self._kept.popitem(last=False)
        return pixels


def _refuse_fork(dataset: Dataset, pid: int) -> None:
    """Refuse to read an object store in a process forked from the one that opened it: the client's threads are gone there, and it hangs."""
    if not is_local(dataset.uri) and os.getpid() != pid:
        msg = "an object store cannot be read after a fork: DataLoader(…, multiprocessing_context='forkserver')"
        raise RecipeError(msg)


def _part(whole: range, number: int, parts: int) -> range:
    """Return one of several equal parts of a range; sizes differ by one at the most."""
    return whole[len(whole) * number // parts : len(whole) * (number + 1) // parts]


def _read(reader: ShardReader, number: int, columns: tuple[str, ...]) -> Group:
    table = reader.table(number, columns)
    return Group(reader.pixels(number), {name: plain(table.column(name), name) for name in columns})


def _alone(group: Group, place: int) -> Group:
    """Return one row of a group that keeps nothing of the others in memory."""
    known = group.pixels
    stored = pa.array([known.stored[place].as_py()], pa.large_binary())
    sizes = () if known.heights is None or known.widths is None else (known.heights[[place]], known.widths[[place]])
    return Group(Pixels(known.image, stored, *sizes), {name: [values[place]] for name, values in group.columns.items()})


def _collate(rows: Sequence[Row], columns: tuple[str, ...]) -> dict[str, Any]:
    batch: dict[str, Any] = {"image": _images(rows)}
    for name in columns:
        values = [group.columns[name][place] for group, place in rows]
        batch[name] = torch.from_numpy(np.array(values, np.int64)) if name in OWN_INTEGERS else values
    return batch


def _images(rows: Sequence[Row]) -> Any:
    image = rows[0][0].pixels.image
    if image.shape is None:
        return [_tensor(np.array(group.pixels[place])) for group, place in rows]
    made = np.empty((len(rows), *image.shape), image.dtype)
    for number, (group, place) in enumerate(rows):
        made[number] = group.pixels[place]
    return torch.from_numpy(made).permute(0, 3, 1, 2)


def _tensor(image: np.ndarray[Any, np.dtype[Any]]) -> Any:
    """Shape: (H, W, C) -> (C, H, W), as a view.   Dtype: kept.   Range: kept.   Random: no."""
    return torch.from_numpy(image).permute(2, 0, 1)
