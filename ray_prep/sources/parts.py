"""Which column of a manifest plays which part, and what becomes of the others."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from ray_prep.errors import RecipeError, did_you_mean
from ray_prep.sources.columns import TYPES, table_type
from ray_prep.sources.csv_table import CsvTable
from ray_prep.sources.json_lines import JsonLines
from ray_prep.sources.parquet_table import ParquetTable
from ray_prep.sources.table import FileOpener, Mixed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ray_prep.sources.table import Batch, Table
    from ray_prep.storage import Store

ROLES = ("image", "label", "split", "id")
# Taken where `columns` does not say: the first of these that is there.
_IMAGE_NAMES = ("uri", "image", "path", "file_name")
_VERSION_NAMES = ("version", "etag", "sha256")
_TEXT_ENDINGS = (".csv", ".tsv")
_JSON_ENDINGS = (".jsonl", ".ndjson", ".jsonlines")
_PARQUET_ENDINGS = (".parquet", ".pq", ".parq")

# Columns that are not there, each with the words for it.
Lost = tuple[tuple[str, str], ...]


class Roles(NamedTuple):
    """Which column is what; None where there is none."""

    image: str
    label: str | None
    split: str | None
    id: str | None
    version: str | None


class Layout(NamedTuple):
    """How a table is read: the columns that play a part, those it carries with their types, and those it should and does not have.

    A split is carried too, as text: which rule splits the images is the recipe's affair.
    """

    roles: Roles
    carried: pa.Schema
    lost: Lost


def open_table(store: Store, path: str) -> Table:
    """Return the table a file holds, by the end of its name: .csv, .tsv, .jsonl, .ndjson, each with .gz too, .parquet.

    Raises:
        RecipeError: The name ends otherwise.
    """
    file = FileOpener(store, path)
    name = path.lower().removesuffix(".gz")
    if name.endswith(_TEXT_ENDINGS):
        return CsvTable(file, "\t" if name.endswith(".tsv") else ",")
    if name.endswith(_JSON_ENDINGS):
        return JsonLines(file)
    if path.lower().endswith(_PARQUET_ENDINGS):
        return ParquetTable(file)
    msg = f"source.uri: {file.uri} is no manifest by its name; it should end in .csv, .tsv, .jsonl (each with .gz too) or .parquet"
    raise RecipeError(msg)


@lru_cache(maxsize=4)
def lay_out(table: Table, declared: tuple[tuple[str, str], ...], version: str) -> Layout:  # noqa: ARG001  the version is part of the cache's key
    """Decide what each column of a table is; remembered, as JSON lines are read to the end for it."""
    natural = table.columns()
    wanted = dict(declared)
    lost = lost_columns(table.file.uri, wanted, natural)

    def role(name: str, *usual: str) -> str | None:
        return wanted.get(name) or next((column for column in usual if column in natural), None)

    image = role("image", *_IMAGE_NAMES)
    if image is None:
        msg = (
            f"{table.file.uri}: no column names the images: it has {', '.join(natural)}, and none of {', '.join(_IMAGE_NAMES)}; "
            "name it in source.columns.image"
        )
        raise RecipeError(msg)
    version_name = next((name for name in _VERSION_NAMES if name in natural and name not in wanted.values()), None)
    roles = Roles(image, role("label", "label"), role("split", "split"), role("id", "id"), version_name)
    fields = []
    taken = {roles.image, roles.label, roles.id, roles.version}
    for name, kind in natural.items():
        if name in taken:
            continue
        if name == roles.split:
            fields.append(pa.field(name, pa.string()))
            continue
        if name in wanted and name not in ROLES:
            fields.append(pa.field(name, TYPES[wanted[name]]))
            continue
        if isinstance(kind, Mixed):
            raise RecipeError(kind.message)
        fitting = table_type(kind)
        if fitting is None:
            msg = (
                f"{table.file.uri}: column {name!r} is {kind}, which a table cannot hold; give it a type in source.columns "
                f"(such as {{{name}: string}}), or write the manifest without it"
            )
            raise RecipeError(msg)
        fields.append(pa.field(name, fitting))
    return Layout(roles, pa.schema(fields), lost)


def lost_columns(uri: str, declared: Mapping[str, str], natural: Collection[str]) -> Lost:
    """Return the columns that the recipe gives types to and a file does not have, each with the words for it.

    Args:
        uri: The file.
        declared: `source.columns`.
        natural: The file's columns.

    Raises:
        RecipeError: A column that is to play a part is not there.
    """
    lost = []
    for name, value in declared.items():
        column = value if name in ROLES else name
        if column not in natural:
            hint = did_you_mean(column, natural) or f"; it has {', '.join(natural)}"
            words = f"source.columns.{name}: {uri} has no column {column!r}{hint}"
            if name in ROLES:
                raise RecipeError(words)
            lost.append((column, words))
    return tuple(lost)


def check_lost(lost: Lost, published: Collection[str]) -> None:
    """Refuse to give a type to a column that neither the source nor the dataset has.

    Raises:
        RecipeError: There is such a column.
    """
    for column, words in lost:
        if column not in published:
            raise RecipeError(words)


def texts_of(uri: str, name: str, batch: Batch) -> Sequence[str | None]:
    """Return a column that plays a part as texts: whole numbers without a point, true and false, null for empty."""
    values = batch.values.get(name)
    if values is None:
        return [None] * len(batch.places)
    if not isinstance(values, list):
        values = values.to_pylist()
    return [
        (value or None) if type(value) is str and value.isascii() else _text(uri, name, place, value)
        for place, value in zip(batch.places, values, strict=True)
    ]


def _text(uri: str, name: str, place: str, value: object) -> str | None:
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (str, int, float, date)):
        text = str(value)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            text = ""
        if text:
            return text
    msg = f"{uri}: {place}, column {name!r}: {str(value)[:60]!r} is no text"
    raise RecipeError(msg)
