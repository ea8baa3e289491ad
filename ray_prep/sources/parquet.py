"""The layout `parquet`: Parquet files with an encoded image a row."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
from pyarrow import parquet

from ray_prep.errors import DecodeError, FetchError, SampleError, did_you_mean
from ray_prep.sample import Item
from ray_prep.sources.columns import TYPES
from ray_prep.sources.container import Offer, ahead, containers, open_container
from ray_prep.sources.listing import check_globs
from ray_prep.sources.parquet_images import Roles, merged, roles_of
from ray_prep.sources.parquet_rows import Batch, labels_of, members_of
from ray_prep.sources.parts import ROLES, check_lost
from ray_prep.storage import StorageOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

TABLES = Offer("Parquet file", (".parquet",))

# A batch: so many bytes, about, as the footer tells how large a row is on average.
_BATCH_BYTES = 16 << 20
_MOST_ROWS = 1024
# Read at once of each column: a page of it is what has to be in memory.
_BUFFER_BYTES = 4 << 20
# What a footer takes, usually: one request.
_FOOTER_BYTES = 64 << 10
_SMALLEST_BYTES = 12
_FOOTERS_AT_ONCE = 16
_LABEL_ROWS = 1 << 16
# What pyarrow 26 raises over damaged files: ArrowInvalid, ArrowIOError (an OSError) and its kin; out of memory is no damage.
_DAMAGE = (pa.ArrowException, OSError, ValueError)


@dataclass(frozen=True)
class ParquetImages:
    """Every Parquet file (.parquet) below a root, or one of them; its rows are images, its other columns are carried through.

    The image is encoded bytes, or Hugging Face's struct of `bytes` and `path`; without `columns.image` it is the first of image, img, jpg,
    jpeg, png, webp, bytes and image_bytes that holds bytes, or the only column that does. Labels are texts, or numbers, which stand for
    names where the file says so (Hugging Face's ClassLabel) and are the label_id otherwise; -1 is none. Columns of a type that no table
    holds (decimal, map, time) are carried as text.

    Args:
        uri: The root, or a file.
        include: Globs below the root, of which one must match a file.
        exclude: Globs below the root, of which none may match.
        columns: As in a manifest: `image`, `label`, `split` and `id` name the column that plays that part; any other key is a column to be
            carried, and its value the type it gets. Without an id, keys are `<file>#<row>`, counted from 0.
        storage_options: How the files are reached.
    """

    layout: ClassVar[str] = "parquet"
    is_container: ClassVar[bool] = True
    lists_files: ClassVar[bool] = True

    uri: str
    include: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    storage_options: StorageOptions = field(default_factory=StorageOptions)

    def __post_init__(self) -> None:
        check_globs(self.include, self.exclude)
        for name, value in self.columns.items():
            if name not in ROLES and value not in TYPES:
                hint = did_you_mean(value, TYPES) or f"; types are {', '.join(TYPES)}"
                msg = f"columns.{name}: {value!r} is no type{hint} ({', '.join(ROLES)} name a column, any other key is one)"
                raise ValueError(msg)

    def items(self, ignored: Counter[str]) -> Iterator[Item]:
        """Stream the files."""
        return containers(self.uri, self.storage_options, self.include, self.exclude, ignored, TABLES)

    def members(
        self,
        container: Item,
        on_wait: Callable[[], None] | None = None,
        *,
        ignored: Counter[str] | None = None,  # noqa: ARG002  every row is on offer
    ) -> Iterator[tuple[Item, bytes | SampleError]]:
        """Read a file once, row group by row group; of it, one batch of 16 MB is in memory (three of a remote one), and a page a column.

        Rows that cannot be read are named in one rejection of the file's own, after all those that can.

        Args:
            container: One of `items`.
            on_wait: Called every other second while the consumer waits for a remote store.
            ignored: Stays as it is.
        """
        seen: set[str] = set()
        batches = ahead(partial(_batches, container, self.storage_options, self.columns), container, on_wait, window=1)
        try:
            for batch in batches:
                yield from members_of(container, batch, seen)
        except FileNotFoundError as error:
            yield container, FetchError("missing", str(error))
        except DecodeError as error:
            yield container, error
        finally:
            batches.close()

    def carried_columns(self, published: Collection[str] = ()) -> pa.Schema:
        """Return the carried columns of all files, of which the footers are read; a file that is damaged tells none.

        Raises:
            StorageError: The files cannot be listed or read.
            RecipeError: A column is missing, plays a part it cannot play, or has types in two files that nothing holds both of.
        """
        files = list(self.items(Counter()))
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE, thread_name_prefix="ray_prep-footer") as pool:
            found = [(file.uri, roles) for file, roles in zip(files, pool.map(self._roles, files), strict=True) if roles is not None]
        schema = merged((uri, roles.carried) for uri, roles in found)
        for _, roles in found:
            check_lost(roles.lost, {*published, *schema.names})
        return schema

    def split_column(self) -> str | None:
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE, thread_name_prefix="ray_prep-footer") as pool:
            told = [roles.split for roles in pool.map(self._roles, self.items(Counter())) if roles is not None]
        return next((name for name in told if name is not None), None)

    def offers(self, path: str) -> bool:
        return TABLES.takes(path, self.include, self.exclude)

    def class_names(self) -> tuple[str, ...]:
        """Return the classes: in the order the files give them where they name them, then all other labels, numbers by their size.

        The label column alone is read, and only of files that do not name their classes.
        """
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE, thread_name_prefix="ray_prep-labels") as pool:
            told = list(pool.map(self._classes, self.items(Counter())))
        named = dict.fromkeys(name for names, _ in told for name in names)
        others = set().union(*(labels for _, labels in told)) - named.keys()
        are_numbers = all(label.isascii() and label.isdigit() for label in others)
        return (*named, *sorted(others, key=int if are_numbers else None))

    def _roles(self, container: Item) -> Roles | None:
        schema = _schema(container.uri, container.version, self.storage_options)
        return None if schema is None else roles_of(container.uri, schema, self.columns)

    def _classes(self, container: Item) -> tuple[tuple[str, ...], set[str]]:
        """Return the names a file gives its classes, and the labels of one that gives none."""
        roles = self._roles(container)
        if roles is None or roles.label is None or roles.names:
            return (() if roles is None else roles.names), set()
        labels: set[str] = set()
        try:
            with _opened(container, self.storage_options) as table:
                for batch in table.iter_batches(batch_size=_LABEL_ROWS, columns=[roles.label], use_threads=False):
                    labels |= labels_of(batch.column(0))
        except (DecodeError, *_DAMAGE) as error:
            # What is wrong with the file is told when its members are read, and what has no member needs no class.
            if isinstance(error, MemoryError):
                raise
        return (), labels


@contextmanager
def _opened(container: Item, options: StorageOptions) -> Iterator[Any]:
    """Open a Parquet file.

    Raises:
        FileNotFoundError: It is not there.
        DecodeError: `empty`, `truncated` or `corrupt`: it is no Parquet file.
    """
    with open_container(container, options, buffer_bytes=_FOOTER_BYTES) as file:
        begin = file.read(4)
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(size_bytes - 4, 0))
        is_cut = size_bytes < _SMALLEST_BYTES or file.read(4) != b"PAR1"
        file.seek(0)
        if not begin:
            raise DecodeError("empty", "the file holds no bytes")
        try:
            table = parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)
        except _DAMAGE as error:
            if isinstance(error, MemoryError):
                raise
            if begin != b"PAR1":
                raise DecodeError("corrupt", f"no Parquet file: it begins with the bytes {begin.hex(' ')}") from error
            raise DecodeError(
                "truncated" if is_cut else "corrupt", f"the Parquet file has no footer that can be read: {_line(error)}"
            ) from error
        with table:
            yield table


@lru_cache(maxsize=4096)
def _schema(uri: str, version: str, options: StorageOptions) -> pa.Schema | None:
    """Return the columns a file has, remembered; None where it is not there or damaged."""
    try:
        with _opened(Item(uri, uri, version), options) as table:
            return table.schema_arrow
    except (FileNotFoundError, DecodeError):
        return None


def _batches(container: Item, options: StorageOptions, declared: Mapping[str, str]) -> Iterator[Batch]:
    """Stream a file; raises DecodeError at its end where rows of it cannot be read."""
    faults = []
    with _opened(container, options) as table:
        roles = roles_of(container.uri, table.schema_arrow, declared)
        start = 0
        for number in range(table.metadata.num_row_groups):
            group = table.metadata.row_group(number)
            at, start = start, start + group.num_rows
            batch_rows = min(max(_BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1), 1), _MOST_ROWS)
            why = "there are fewer rows than the footer says"
            try:
                for rows in table.iter_batches(batch_size=batch_rows, row_groups=[number], columns=roles.columns, use_threads=False):
                    yield Batch(roles, at, rows)
                    at += rows.num_rows
            except _DAMAGE as error:
                if isinstance(error, MemoryError):
                    raise
                why = _line(error)
            if at < start:
                faults.append(f"{at} to {start - 1} ({why})")
    if faults:
        shown = "; ".join(faults[:3]) + (f"; and {len(faults) - 3} more such places" if len(faults) > 3 else "")
        raise DecodeError("corrupt", f"rows of the Parquet file cannot be read: {shown}")


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
