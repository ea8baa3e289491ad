"""Rows of a Parquet file as items: bytes, key, label, split, and the columns that are carried through."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from ray_prep.errors import DecodeError, FetchError, LimitError, RecipeError, SampleError
from ray_prep.sample import Item
from ray_prep.sources.columns import UNFIT, cast_array, table_type
from ray_prep.sources.container import member_uri
from ray_prep.sources.parquet_images import Roles, label_of, text_of
from ray_prep.sources.table import first_unfit
from ray_prep.storage import clean_uri

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Stands for text that is not UTF-8.
_NO_TEXT = object()


class Batch(NamedTuple):
    """Some rows of a file.

    Args:
        roles: How they are read.
        first: Number of the first one in the file.
        rows: Their columns.
    """

    roles: Roles
    first: int
    rows: pa.RecordBatch


def members_of(container: Item, batch: Batch, seen: set[str]) -> Iterator[tuple[Item, bytes | SampleError]]:
    """Stream the images of a batch.

    Args:
        container: The file.
        batch: Rows of it.
        seen: Ids of the rows before; those of these rows are added.

    Raises:
        RecipeError: A value of a carried column does not fit the type it is to have.
    """
    roles, rows = batch.roles, batch.rows
    images = _images(rows.column(roles.image))
    labels, splits, ids = (_plain(rows.column(name)) if name else None for name in (roles.label, roles.split, roles.id))
    carried = {known.name: _carried(container, batch, known) for known in roles.carried if known.name != roles.split}
    for place, image in enumerate(images):
        number = batch.first + place
        row = _Row(container.split, {name: None if name == roles.split else carried[name][place] for name in roles.carried.names})
        data = image
        try:
            row.check_columns()
            if ids is not None:
                row.name(_told(ids[place], roles.id), number, seen)
            if labels is not None:
                row.label, row.label_id = label_of(_utf8(labels[place], roles.label), roles.names)
            if splits is not None and roles.split is not None:
                told = _told(splits[place], roles.split)
                row.split = told or row.split
                if roles.split in row.columns:
                    row.columns[roles.split] = told
        except LimitError as error:
            data = error
        key = f"{container.key}#{number}" if row.key is None else row.key
        uri = member_uri(container, str(number))
        yield Item(key, uri, container.version, row.label, row.split, row.columns, row.label_id), data


@dataclass(slots=True)
class _Row:
    """What is known of a row so far."""

    split: str | None
    columns: dict[str, Any]
    key: str | None = None
    label: str | None = None
    label_id: int | None = None

    def check_columns(self) -> None:
        """Refuse carried text that is none.

        Raises:
            LimitError: `annotation_invalid`.
        """
        bad = [name for name, value in self.columns.items() if value is _NO_TEXT]
        if bad:
            self.columns |= dict.fromkeys(bad)
            raise LimitError("annotation_invalid", f"column {bad[0]!r} holds text that is not UTF-8")

    def name(self, key: str | None, number: int, seen: set[str]) -> None:
        """Take a key.

        Raises:
            LimitError: `annotation_invalid`: there is none. `duplicate_key`: it is taken.
        """
        if key is None:
            raise LimitError("annotation_invalid", "the column of ids is empty, and the key of each image comes from it")
        key = clean_uri(key)
        self.key = key
        if key in seen:
            raise LimitError("duplicate_key", f"row {number} has the id of one before it in this file, which stays")
        seen.add(key)


def _images(values: pa.Array) -> list[bytes | SampleError]:
    """Return the images of a column, or what is wrong with each."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    paths: Sequence[Any] = [None] * len(values)
    if pa.types.is_struct(values.type):
        kind, parts = values.type, values.flatten()
        values = parts[kind.get_field_index("bytes")]
        at = kind.get_field_index("path")
        paths = paths if at < 0 else _plain(parts[at])
    return [_image(value.as_py(), path) for value, path in zip(values, paths, strict=True)]


def _image(data: bytes | None, path: object) -> bytes | SampleError:
    if data is not None:
        return data
    if isinstance(path, str) and path:
        return FetchError(
            "missing", f"the row names the file {path!r} and does not hold its bytes; write the dataset with its images embedded"
        )
    return DecodeError("empty", "the row holds no image (null)")


def _plain(values: pa.Array) -> list[Any]:
    """Return plain values; `_NO_TEXT` for those that hold text which is not UTF-8."""
    try:
        plain: list[Any] = values.to_pylist()
    except UnicodeDecodeError:
        plain = [_one(value) for value in values]
    return plain


def _one(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return _NO_TEXT


def _carried(container: Item, batch: Batch, known: pa.Field) -> list[Any]:
    """Return a carried column as plain values of its type."""
    values = batch.rows.column(known.name)
    if table_type(values.type) is None and known.type == pa.string():
        return [_as_text(value) for value in _plain(values)]
    try:
        return _plain(values if values.type == known.type else cast_array(values, known.type))
    except UNFIT as error:
        place = first_unfit(cast_array, values, known.type)
        msg = f"{container.uri}: row {batch.first + place}, column {known.name!r}: {str(values[place])[:80]} is no {known.type}"
        raise RecipeError(msg) from error


def _as_text(value: object) -> object:
    """Return a value of a type that no table holds as text: JSON where it is a list or has fields."""
    if value is None or value is _NO_TEXT:
        return value
    return json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, (dict, list, tuple)) else str(value)


def labels_of(values: pa.Array) -> set[str]:
    """Return the labels a column tells; what names no class is left out."""
    found = set()
    for value in _plain(values.unique()):
        try:
            label, _ = label_of(_utf8(value, "label"), ())
        except LimitError:
            continue
        if label is not None:
            found.add(label)
    return found


def _told(value: object, what: str | None) -> str | None:
    return text_of(_utf8(value, what), what or "")


def _utf8(value: object, what: str | None) -> object:
    if value is _NO_TEXT:
        raise LimitError("annotation_invalid", f"column {what!r} is no text in UTF-8")
    return value
