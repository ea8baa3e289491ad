"""A manifest as JSON lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from ray_prep.errors import RecipeError
from ray_prep.sources.columns import UNFIT, infer, merge, values_to_array
from ray_prep.sources.table import BATCH_ROWS, Batch, FileOpener, Mixed

if TYPE_CHECKING:
    from collections.abc import Iterator


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object whose keys are there once; of two, json would take the last without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        msg = f"the key {twice!r} stands there twice"
        raise ValueError(msg)
    return found


class JsonLines(NamedTuple):
    """One JSON object a line; a key that is missing is null.

    Args:
        file: The file.
    """

    file: FileOpener

    def columns(self) -> dict[str, pa.DataType | Mixed]:
        """Return what the whole file holds: its types are known when every line was seen."""
        types: dict[str, pa.DataType | Mixed] = {}
        for batch in self.batches():
            for name, values in batch.values.items():
                before = types.get(name, pa.null())
                if isinstance(before, Mixed):
                    continue
                try:
                    types[name] = merge(before, infer(values))
                except UNFIT:
                    types[name] = self._mixed(name, before, batch)
        if not types:
            msg = f"{self.file.uri}: is empty; it should hold one JSON object a line"
            raise RecipeError(msg)
        return types

    def batches(self) -> Iterator[Batch]:
        places: list[str] = []
        rows: list[dict[str, Any]] = []
        with self.file.open() as file:
            for number, line in enumerate(file, start=1):
                row = self._row(number, line)
                if row is None:
                    continue
                places.append(f"line {number}")
                rows.append(row)
                if len(rows) == BATCH_ROWS:
                    yield self._batch(places, rows)
                    places, rows = [], []
        if rows:
            yield self._batch(places, rows)

    def to_array(self, values: Any, kind: pa.DataType) -> pa.Array:
        return values_to_array(values, kind)

    def _row(self, number: int, line: bytes) -> dict[str, Any] | None:
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            row = json.loads(text, object_pairs_hook=_object) if text.strip() else None
        except UnicodeDecodeError as error:
            msg = f"{self.file.uri}: line {number}: not UTF-8 ({error.reason}); save the file as UTF-8"
            raise RecipeError(msg) from error
        except (ValueError, RecursionError) as error:
            msg = f"{self.file.uri}: line {number} is no JSON: {error}; there should be one object a line"
            raise RecipeError(msg) from error
        if row is not None and not isinstance(row, dict):
            msg = f"{self.file.uri}: line {number} holds no object but {text.strip()[:40]!r}; there should be one object a line"
            raise RecipeError(msg)
        return row

    def _batch(self, places: list[str], rows: list[dict[str, Any]]) -> Batch:
        names = dict.fromkeys(name for row in rows for name in row)
        return Batch(places, {name: [row.get(name) for row in rows] for name in names})

    def _mixed(self, name: str, kind: pa.DataType, batch: Batch) -> Mixed:
        """Find the first line whose value parts from those before it."""
        where = f"column {name!r}: its values have no one type"
        for place, value in zip(batch.places, batch.values[name], strict=True):
            try:
                kind = merge(kind, infer([value]))
            except UNFIT:
                why = "fits no type of a table" if pa.types.is_null(kind) else f"does not go with the {kind} of the lines before"
                where = f"{place}, column {name!r}: {json.dumps(value, default=str)[:60]} {why}"
                break
        return Mixed(f"{self.file.uri}: {where}; say its type in source.columns, such as {{{name}: string}}")
