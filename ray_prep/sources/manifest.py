"""The layout `manifest`: a table with a row an image."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import pyarrow as pa

from ray_prep.errors import RecipeError, StorageError, did_you_mean
from ray_prep.sample import Item
from ray_prep.sources.columns import TYPES, UNFIT, type_name
from ray_prep.sources.listing import split_folder
from ray_prep.sources.parts import ROLES, Layout, check_lost, lay_out, open_table, texts_of
from ray_prep.sources.table import Batch, Table, first_unfit
from ray_prep.storage import (
    OBJECT_SCHEMES,
    PROMPT,
    StorageOptions,
    Stores,
    check_scheme,
    clean_uri,
    is_local,
    local_path,
    local_uri,
    open_store,
    scheme_of,
    split_uri,
)

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection, Iterator, Sequence

# What an item's version is where the user vouches that bytes behind a uri never change.
NEVER_CHANGES = "never_changes"
# HEAD requests under way: 32 at 30 ms are a thousand a second.
_HEADS_AT_ONCE = 32
_LEADING_DOTS = re.compile(r"^(?:\./+)+")


class Row(NamedTuple):
    """What a row says of its image, version aside where it does not."""

    place: str
    key: str
    uri: str
    version: str | None
    label: str | None
    split: str | None
    written: str


@dataclass(frozen=True)
class Manifest:
    """The images a CSV, JSON-lines or Parquet table lists; its other columns are carried through.

    Args:
        uri: The table. Relative uris in it start from the folder it lies in.
        columns: The keys `image`, `label`, `split` and `id` name the column that plays that part. Any other key is a column to be carried,
            and its value the type it gets (bool, int8 to int64, float32, float64, string, date, timestamp); CSV columns are strings
            otherwise.
        versions: Where the version of a remote image comes from if no column tells: `head` asks the store, `never_changes` asks nobody
            (but each bucket once whether it answers; web servers are asked that when images are to be fetched from them). Where ids are
            the keys, it is that of the uri, too.
        storage_options: How the table, and the images, are reached.
    """

    layout: ClassVar[str] = "manifest"
    is_container: ClassVar[bool] = False
    lists_files: ClassVar[bool] = False

    uri: str
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    versions: Literal["head", "never_changes"] = "head"
    storage_options: StorageOptions = field(default_factory=StorageOptions)

    def __post_init__(self) -> None:
        for name, value in self.columns.items():
            if name not in ROLES and value not in TYPES:
                hint = did_you_mean(value, TYPES) or f"; types are {', '.join(TYPES)}"
                msg = f"columns.{name}: {value!r} is no type{hint} ({', '.join(ROLES)} name a column, any other key is one)"
                raise ValueError(msg)

    def items(self, ignored: Counter[str]) -> Iterator[Item]:  # noqa: ARG002  a manifest lists nothing that it does not offer
        """Stream the rows in their order, with the version of each image but nothing of its bytes.

        An image that is not there has the version "" and is `missing` when it is fetched. Keys that come twice are both listed.
        """
        table, version = self._open()
        layout = lay_out(table, tuple(sorted(self.columns.items())), version)
        count = 0
        for batch in self._versioned(table, layout):
            count += len(batch)
            yield from batch
        if not count:
            msg = f"{self.uri}: lists no image; it has columns and no rows"
            raise StorageError(msg)

    def carried_columns(self, published: Collection[str] = ()) -> pa.Schema:
        """Return the columns that are neither image, label, id nor version, with the types the table can hold; the split as text.

        JSON lines are read once for it, to their end.

        Raises:
            StorageError: The table cannot be read.
            RecipeError: A column is missing, or is of a kind the table cannot hold.
        """
        table, version = self._open()
        layout = lay_out(table, tuple(sorted(self.columns.items())), version)
        check_lost(layout.lost, published)
        return layout.carried

    def split_column(self) -> str | None:
        table, version = self._open()
        return lay_out(table, tuple(sorted(self.columns.items())), version).roles.split

    def _open(self) -> tuple[Table, str]:
        """Return the table and its version, or say within seconds why there is none."""
        folder, name = split_uri(self.uri)
        prompt = open_store(folder, self.storage_options, patience=PROMPT)
        entry = prompt.stat(name)
        if entry is None:
            prompt.check()
            msg = f"{clean_uri(self.uri)}: there is no such manifest"
            raise StorageError(msg)
        return open_table(open_store(folder, self.storage_options), name), entry.version

    def _versioned(self, table: Table, layout: Layout) -> Iterator[list[Item]]:
        stores = Stores(self.storage_options)
        with ExitStack() as stack:
            heads: ThreadPoolExecutor | None = None
            for batch in table.batches():
                rows = list(self._rows(batch, layout))
                stores.greet(row.uri for row in rows if self._is_heard(row))
                versions = {row.uri: row.version for row in rows if row.version is not None}
                asked = list(dict.fromkeys(row.uri for row in rows if row.version is None))
                remote = [uri for uri in asked if not is_local(uri)]
                if remote and self.versions == NEVER_CHANGES:
                    versions |= dict.fromkeys(remote, NEVER_CHANGES)
                elif remote:
                    if heads is None:
                        heads = ThreadPoolExecutor(_HEADS_AT_ONCE, thread_name_prefix="ray_prep-head")
                        stack.callback(heads.shutdown, cancel_futures=True)
                    versions |= zip(remote, heads.map(partial(_version, stores), remote), strict=True)
                versions |= {uri: _version(stores, uri) for uri in asked if is_local(uri)}
                splits = [row.split for row in rows]
                carried = [splits if known.name == layout.roles.split else _carried(table, batch, known) for known in layout.carried]
                names = layout.carried.names
                yield [
                    Item(row.key, row.uri, _version_of(row, versions), row.label, row.split, columns)
                    for row, columns in zip(rows, _records(names, carried, len(rows)), strict=True)
                ]

    def _is_heard(self, row: Row) -> bool:
        """Return whether the place of a row's image is asked at once whether it answers.

        A web server that is not asked for a version is left alone until there are images to fetch from it: what was published years ago
        may lie on a host that is gone since.
        """
        is_asked = row.version is None and self.versions != NEVER_CHANGES
        return not is_local(row.uri) and (is_asked or scheme_of(row.uri) in OBJECT_SCHEMES)

    def _rows(self, batch: Batch, layout: Layout) -> Iterator[Row]:
        base, _ = split_uri(self.uri)

        def texts(name: str | None) -> Sequence[str | None]:
            return [None] * len(batch.places) if name is None else texts_of(self.uri, name, batch)

        roles = layout.roles
        columns = (texts(roles.image), texts(roles.id), texts(roles.version), texts(roles.label), texts(roles.split))
        for place, image, key, version, label, split in zip(batch.places, *columns, strict=True):
            if image is None:
                msg = f"{self.uri}: {place}, column {roles.image!r}: names no image"
                raise RecipeError(msg)
            if roles.id is not None and key is None:
                msg = f"{self.uri}: {place}, column {roles.id!r}: is empty, and the key of each image comes from it"
                raise RecipeError(msg)
            try:
                uri = _resolved(image, base)
            except RecipeError as error:
                msg = f"{self.uri}: {place}, column {roles.image!r}: {error}"
                raise RecipeError(msg) from error
            written = _as_written(image, base)
            if roles.split is None:
                split = split_folder(_LEADING_DOTS.sub("", written))
            yield Row(place, written if key is None else _as_written(key, base), uri, version, label, split, written)


def _carried(table: Table, batch: Batch, field: pa.Field) -> Sequence[Any] | None:
    """Return the values of a carried column as plain ones of its type; None where the batch has none of them."""
    values = batch.values.get(field.name)
    if values is None:
        return None
    try:
        plain: Sequence[Any] = table.to_array(values, field.type).to_pylist()
    except UNFIT as error:
        position = first_unfit(table.to_array, values, field.type)
        value = values[position]
        given = value.as_py() if isinstance(value, pa.Scalar) else value
        msg = f"{table.file.uri}: {batch.places[position]}, column {field.name!r}: {str(given)[:80]!r} is no {type_name(field.type)}"
        raise RecipeError(msg) from error
    return plain


def _records(names: Sequence[str], columns: Sequence[Sequence[Any] | None], count: int) -> Iterator[dict[str, Any]]:
    present = [(name, column) for name, column in zip(names, columns, strict=True) if column is not None]
    for position in range(count):
        yield {name: column[position] for name, column in present}


def _version_of(row: Row, versions: Mapping[str, str]) -> str:
    """Return the version: what the row tells, or else that of the image, and of the uri as it is written where that is not the key.

    An id that comes to name another file has another image, though both be of one size and time, or never change.
    """
    if row.version is not None:
        return row.version
    version = versions[row.uri]
    if not version or row.key == row.written:
        return version
    return f"{version}@{blake2b(row.written.encode(), digest_size=6).hexdigest()}"


def _version(stores: Stores, uri: str) -> str:
    """Ask for the version of one image; empty where it is not there."""
    store, path = stores.of(uri)
    entry = store.stat(path)
    return "" if entry is None else entry.version


def _as_written(text: str, base: str) -> str:
    """Return a uri as the manifest has it, without secrets."""
    return clean_uri(f"{base}/{text}")[len(base) + 1 :] if "?" in text and not scheme_of(text) and not is_local(base) else clean_uri(text)


def _resolved(text: str, base: str) -> str:
    """Return the uri that a text of the manifest means, without secrets.

    A text with a scheme, or an absolute path, stands for itself. Another one starts from the manifest's folder: on a local disk `..` is
    left to the system, which follows links; in an object store it is resolved here, as keys know no such thing.

    Raises:
        RecipeError: `..` leads out of the bucket, or nobody knows the scheme.
    """
    scheme = scheme_of(text)
    if scheme == "file":
        return local_uri(local_path(text))
    if scheme:
        check_scheme(text)
        return clean_uri(text)
    if text.startswith("/") or is_local(base):
        return local_uri(os.path.join(base, _LEADING_DOTS.sub("", text)))
    head, _, rest = base.partition("://")
    parts = rest.split("/")
    steps = text.split("/")
    while steps[0] in {".", ".."}:
        if steps.pop(0) == ".." and len(parts) > 1:
            parts.pop()
        elif not steps or len(parts) == 1:
            msg = f"{text!r} leads out of {base}"
            raise RecipeError(msg)
    return clean_uri(f"{head}://{'/'.join([*parts, *steps])}")
