"""A manifest as CSV or TSV."""

from __future__ import annotations

import csv
import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from ray_prep.errors import RecipeError
from ray_prep.sources.columns import texts_to_array
from ray_prep.sources.table import BATCH_ROWS, Batch, FileOpener, Mixed

if TYPE_CHECKING:
    from collections.abc import Iterator

# csv's own limit of 128 kB is below what polygons or captions may need.
_FIELD_CHARACTERS = 16 << 20


class CsvTable(NamedTuple):
    """Texts with a header; an empty field is null. RFC 4180, UTF-8 with or without a mark, any line ends.

    Args:
        file: The file.
        delimiter: What separates fields.
    """

    file: FileOpener
    delimiter: str

    def columns(self) -> dict[str, pa.DataType | Mixed]:
        with self._rows() as rows:
            header = next(rows, (0, []))[1]
        if not header:
            msg = f"{self.file.uri}: is empty; its first line should name the columns"
            raise RecipeError(msg)
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice or "" in header:
            what = f"names the column {twice[0]!r} twice" if twice and twice[0] else "leaves a column without a name"
            msg = f"{self.file.uri}: line 1 {what}"
            raise RecipeError(msg)
        return dict.fromkeys(header, pa.string())

    def batches(self) -> Iterator[Batch]:
        names = list(self.columns())
        with self._rows() as rows:
            next(rows)
            places: list[str] = []
            fields: list[list[str]] = []
            for line, row in rows:
                if len(row) != len(names):
                    msg = f"{self.file.uri}: line {line} has {len(row)} fields, and there are {len(names)} columns"
                    raise RecipeError(msg)
                places.append(f"line {line}")
                fields.append(row)
                if len(fields) == BATCH_ROWS:
                    yield self._batch(names, places, fields)
                    places, fields = [], []
            if fields:
                yield self._batch(names, places, fields)

    def to_array(self, values: Any, kind: pa.DataType) -> pa.Array:
        return texts_to_array(values, kind)

    def _batch(self, names: list[str], places: list[str], rows: list[list[str]]) -> Batch:
        columns = zip(*rows, strict=True)
        return Batch(places, {name: [text or None for text in column] for name, column in zip(names, columns, strict=True)})

    @contextmanager
    def _rows(self) -> Iterator[Iterator[tuple[int, list[str]]]]:
        csv.field_size_limit(max(csv.field_size_limit(), _FIELD_CHARACTERS))
        with self.file.open() as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
            yield self._numbered(csv.reader(text, delimiter=self.delimiter, strict=True))

    def _numbered(self, reader: Any) -> Iterator[tuple[int, list[str]]]:
        """Number rows by the line they begin at, and leave out empty lines."""
        begin = 1
        try:
            for row in reader:
                if row:
                    yield begin, row
                begin = reader.line_num + 1
        except csv.Error as error:
            msg = f"{self.file.uri}: line {begin} is no CSV: {error}"
            raise RecipeError(msg) from error
        except UnicodeDecodeError as error:
            msg = f"{self.file.uri}: near line {begin}: not UTF-8 ({error.reason}); save the file as UTF-8"
            raise RecipeError(msg) from error
