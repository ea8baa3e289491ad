"""A manifest as JSON lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from ray_prep.errors import RecipeError
from ray_prep.sources.columns import UNFIT, infer, merge, values_to_array
from ray_prep.sources.table import BATCH_ROWS, Batch, FileOpener

if TYPE_CHECKING:
    from collections.abc import Iterator


class JsonLines(NamedTuple):
    """One JSON object a line; a key that is missing is null.

    Args:
        file: The file.
    """

    file: FileOpener

    def columns(self) -> dict[str, pa.DataType]:
        """Return what the whole file holds: its types are known when every line was seen."""
        types: dict[str, pa.DataType] = {}
        for batch in self.batches():
            for name, values in batch.values.items():
                try:
                    types[name] = merge(types.get(name, pa.null()), infer(values))
                except UNFIT:
                    self._refuse_mixed(name, types.get(name, pa.null()), batch)
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
            row = json.loads(text) if text.strip() else None
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

    def _refuse_mixed(self, name: str, before: pa.DataType, batch: Batch) -> None:
        """Name the first line whose value parts from those before it."""
        kind = before
        for place, value in zip(batch.places, batch.values[name], strict=True):
            try:
                kind = merge(kind, infer([value]))
            except UNFIT as error:
                msg = (
                    f"{self.file.uri}: {place}, column {name!r}: {json.dumps(value, default=str)[:60]} does not go with the {kind} of the "
                    f"lines before; say its type in source.columns, such as {{{name}: string}}"
                )
                raise RecipeError(msg) from error
        msg = f"{self.file.uri}: column {name!r} holds values of several kinds; say its type in source.columns, such as {{{name}: string}}"
        raise RecipeError(msg)
