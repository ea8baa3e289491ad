"""A dataset as its users have it: one version of the table, by its own list of files, never by what lies in the folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ray_prep.arguments import texts, whole_number
from ray_prep.dataset.pixels import tensors
from ray_prep.dataset.record import REJECTIONS, Record, read_record, rejection_batches
from ray_prep.dataset.shard_reader import ShardReader, ahead, read_shard
from ray_prep.dataset.sums import Stats, add_sums, pooled
from ray_prep.dataset.values import plain
from ray_prep.errors import RecipeError, StorageError, did_you_mean
from ray_prep.storage import StorageOptions, is_local, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ray_prep.dataset.pixels import Pixels
    from ray_prep.dataset.schema import ImageColumn
    from ray_prep.dataset.shard import Shard
    from ray_prep.storage import Store

# Shards fetched at once from an object store; a local file is mapped and needs no one to wait for it.
_SHARDS_AHEAD = 4
LABELLING = ("key", "copy", "label", "label_id")


@dataclass(frozen=True)
class Dataset:
    """One version of a dataset, or some splits of it. Picklable; pixels are read when they are asked for.

    Args:
        uri: The table.
        version: Delta's number of the version.
        shards: Its files, by path.
        schema: Columns of `to_arrow()`; the image field's metadata says shape, dtype, layout, color and range.
        image: The same as a value.
        options: How the store is reached.
        record_path: Path of the version's record below the table; None where no commit names one.
    """

    uri: str
    version: int
    shards: tuple[Shard, ...]
    schema: pa.Schema
    image: ImageColumn
    options: StorageOptions
    record_path: str | None

    def __len__(self) -> int:
        """Return the number of rows, copies included."""
        return sum(shard.rows for shard in self.shards)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the store's connections behind."""
        return {name: value for name, value in self.__dict__.items() if name != "store"}

    @cached_property
    def store(self) -> Store:
        """The table's folder."""
        return open_store(self.uri, self.options)

    @property
    def files(self) -> list[str]:
        """The version's files: absolute paths, or uris. What any other reader is to be given, instead of the folder."""
        return [self.store.uri_of(shard.path) for shard in self.shards]

    @property
    def shards_ahead(self) -> int:
        """How many shards are read before they are asked for: some of an object store's, and none of a disk's, which are mapped."""
        return 0 if is_local(self.uri) else _SHARDS_AHEAD

    @property
    def splits(self) -> list[str]:
        """Names of the splits that have rows."""
        return sorted({shard.split for shard in self.shards})

    @cached_property
    def record(self) -> Record:
        """What is true of the version: counts, classes, recipe, fingerprints, versions of libraries.

        Raises:
            StorageError: It is not there.
        """
        return read_record(self.store, self._record_path)

    @property
    def _record_path(self) -> str:
        if self.record_path is None:
            msg = f"{self.uri}: no commit up to version {self.version} names a record; was the table made by something else?"
            raise StorageError(msg)
        return self.record_path

    @property
    def stats(self) -> Stats:
        """Counts, and the pixels' pooled mean and standard deviation, over the splits that were opened."""
        splits = self.splits
        counts = {split: self.record.counts[split] for split in splits if split in self.record.counts}
        # Where no original of a split was counted, the others' pixels do not speak for them.
        is_known = self.record.sums.keys() >= counts.keys()
        mean, std = pooled(add_sums(self.record.sums[split] for split in counts) if is_known else ())
        return Stats(len(self), sum(sum(classes.values()) for classes in counts.values()), mean, std, counts)

    @property
    def classes(self) -> list[str]:
        """Class names; `label_id` is a place in this list."""
        return list(self.record.classes)

    @property
    def rejections(self) -> pa.Table:
        """Every item that was listed and is not in the dataset: key, uri, version, stage, reason, message, attempts."""
        return pa.Table.from_batches(rejection_batches(self.store, self._record_path), REJECTIONS)

    def batches(self, batch_size: int | None = None, columns: Sequence[str] = LABELLING) -> Iterator[dict[str, Any]]:
        """Go through the images in the stored order, without copying them where that can be.

        Raw images of one shape come as one array (N, H, W, C): of a local, uncompressed table a read-only view of the mapped file, which
        stays valid as long as it is held. Others come as a list of arrays (H, W, C), decoded where they are encoded.

        Args:
            batch_size: Images a batch; one ends with its row group, so that some are smaller. None takes row groups as they are.
            columns: What else a batch has, beside `image`. Our integer columns are arrays (-1 where there is no value), all others lists.

        Raises:
            RecipeError: There is no such column.
            StorageError: A file is not there or damaged, or storage is unreachable.
        """
        columns = self._beside_image(columns)
        if batch_size is not None:
            batch_size = whole_number("batch_size", batch_size, 1)
        # Whoever asks for what there is not hears of it here, not at the first batch.
        return self._batches(batch_size, columns)

    def _batches(self, batch_size: int | None, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        groups = (partial(_read, reader, group, columns) for reader, group in self._groups())
        # One thread at the most: the row groups of a shard are read through one file.
        for pixels, table in ahead(groups, min(1, self.shards_ahead)):
            stacked = pixels.stacked
            step = batch_size or len(pixels)
            for begin in range(0, len(pixels), step):
                places = range(begin, min(begin + step, len(pixels)))
                part = table.slice(begin, len(places))
                images = [pixels[place] for place in places] if stacked is None else stacked[places.start : places.stop]
                yield {"image": images, **{name: plain(part.column(name), name) for name in columns}}

    def to_arrow(self, columns: Sequence[str] | None = None, *, tensor: bool = False) -> pa.Table:
        """Return the rows as one Arrow table, a chunk a row group; raw images of a local table stay in the mapped files.

        `image` is large_binary: a `binary` column overflows above 2 GiB.

        Args:
            columns: Which; None takes all.
            tensor: Hand out raw images of one shape as `arrow.fixed_shape_tensor` (H, W, C) instead.

        Raises:
            RecipeError: There is no such column, or the images are encoded or differ in shape and cannot be one tensor.
            StorageError: A file is not there or damaged, or storage is unreachable.
        """
        schema = pa.schema([self.schema.field(name) for name in self.check_columns(columns)])
        if not schema.names:
            # Of tables without columns Arrow joins no rows; none need be read for their number either.
            return pa.table({"rows": pa.nulls(len(self))}).select([])
        parts = list(self.tables(schema.names))
        table = pa.concat_tables(parts) if parts else schema.empty_table()
        return tensors(table, self.image) if tensor and "image" in schema.names else table

    def to_polars(self, columns: Sequence[str] | None = None) -> Any:
        """Return the rows as a `polars.DataFrame`; images are Binary, as stored.

        Args:
            columns: Which; None takes all.

        Raises:
            RecipeError: There is no such column, or Polars is not installed.
            StorageError: A file is not there or damaged, or storage is unreachable.
        """
        from ray_prep.dataset.export import to_polars  # noqa: PLC0415  Polars only where it is asked for

        return to_polars(self, columns)

    def to_hf(self, columns: Sequence[str] | None = None) -> Any:
        """Return the rows as a `datasets.Dataset`.

        Encoded images get the `Image` feature (PIL images, decoded when a row is taken). Raw ones stay in the mapped files as bytes, and a
        transform of the dataset hands them out as numpy arrays (H, W, C); `reset_format()` shows the bytes, where shapes differ as
        `{bytes, height, width}`.

        Args:
            columns: Which; None takes all.

        Raises:
            RecipeError: There is no such column, or `datasets` is not installed.
            StorageError: A file is not there or damaged, or storage is unreachable.
        """
        from ray_prep.dataset.export import to_hf  # noqa: PLC0415  datasets only where it is asked for

        return to_hf(self, columns)

    def to_ray(self, columns: Sequence[str] | None = None) -> Any:
        """Return the rows as a lazy `ray.data.Dataset`: a task a shard, a block a row group or more.

        Images are tensors (H, W, C), decoded where they are encoded. Workers read the files themselves, with the credentials of their own
        environment, and need ray_prep installed.

        Args:
            columns: Which; None takes all.

        Raises:
            RecipeError: There is no such column.
        """
        from ray_prep.dataset.export import to_ray  # noqa: PLC0415  Ray only where it is asked for

        return to_ray(self, columns)

    def to_torch(
        self,
        batch_size: int = 32,
        shuffle: int = 0,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        *,
        random_access: bool = False,
        columns: Sequence[str] = ("key", "label_id"),
    ) -> Any:
        """Return a PyTorch dataset: an iterable of batches, or with `random_access` a map-style one of rows.

        The iterable goes into `DataLoader(dataset, batch_size=None, num_workers=…)`; each row comes once an epoch over all ranks and
        workers. `image` is a tensor (N, C, H, W) in `channels_last` memory, dtype as stored (raw images are uint8 unless the recipe
        normalizes); where shapes differ it is a list of (C, H, W). The map-style one goes into a DataLoader with a batch_size of its own.

        Args:
            batch_size: Rows a batch of the iterable.
            shuffle: Rows of the buffer a batch is drawn from, shards and row groups coming in random order; 0 keeps the stored order.
            seed: Of the order.
            epoch: Of the order: another one each epoch, the same one whenever seed and epoch are. `set_epoch` changes it.
            rank: This process among those that train together.
            world_size: How many they are.
            random_access: Rows by number; then order and ranks are the sampler's.
            columns: What else a batch has. Our integer columns are int64 tensors (-1 where there is no value), all others lists.

        Raises:
            RecipeError: An argument is wrong, or PyTorch is not installed.
        """
        from ray_prep.dataset.export import needs  # noqa: PLC0415  see to_polars

        columns = self._beside_image(columns)
        batch_size = whole_number("batch_size", batch_size, 1)
        needs("torch", "torch")
        from ray_prep.dataset.torch_reader import Batches, Order, Rows  # noqa: PLC0415  PyTorch only where it is asked for

        order = Order(shuffle, seed, epoch, rank, world_size)
        if not random_access:
            return Batches(self, batch_size, order, tuple(columns))
        if order != Order():
            msg = "random_access=True gives rows by number: shuffle, seed, epoch, rank and world_size belong to the DataLoader's sampler"
            raise RecipeError(msg)
        return Rows(self, tuple(columns))

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Go through the rows as Arrow tables, one a row group.

        Args:
            columns: Which; None takes all.
        """
        schema = pa.schema([self.schema.field(name) for name in self.check_columns(columns)])
        calls = (partial(read_shard, self.store, shard, schema) for shard in self.shards)
        return chain.from_iterable(ahead(calls, self.shards_ahead))

    def _groups(self) -> Iterator[tuple[ShardReader, int]]:
        for shard in self.shards:
            reader = ShardReader(self.store, shard)
            yield from ((reader, group) for group in range(len(reader.group_rows)))

    def check_columns(self, columns: Sequence[str] | None) -> list[str]:
        """Return the names of the columns that were asked for, each once, where it came first.

        Args:
            columns: None stands for all, a text for a list of one.

        Raises:
            RecipeError: There is no such column.
        """
        names = list(self.schema.names) if columns is None else list(dict.fromkeys(texts("columns", columns)))
        for name in names:
            if name not in self.schema.names:
                msg = f"columns: the dataset has no {name!r}{did_you_mean(name, self.schema.names)}"
                raise RecipeError(msg)
        return names

    def _beside_image(self, columns: Sequence[str] | None) -> list[str]:
        """Return the columns that were asked for without `image`, which a batch has anyway, as pixels and not as the bytes of a column."""
        return [name for name in self.check_columns(columns) if name != "image"]


def _read(reader: ShardReader, group: int, columns: Sequence[str]) -> tuple[Pixels, pa.Table]:
    return reader.pixels(group), reader.table(group, columns)
