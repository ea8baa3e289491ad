"""A manifest as Parquet."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from ray_prep.errors import RecipeError
from ray_prep.sources.columns import cast_array
from ray_prep.sources.table import BATCH_ROWS, Batch, FileOpener, Mixed

if TYPE_CHECKING:
    from collections.abc import Iterator


class ParquetTable(NamedTuple):
    """A Parquet file.

    Args:
        file: The file.
    """

    file: FileOpener

    def columns(self) -> dict[str, pa.DataType | Mixed]:
        with self._open() as table:
            schema = table.schema_arrow
        twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if twice:
            msg = f"{self.file.uri}: has two columns {twice[0]!r}"
            raise RecipeError(msg)
        return dict(zip(schema.names, schema.types, strict=True))

    def batches(self) -> Iterator[Batch]:
        first = 1
        with self._open() as table:
            for batch in table.iter_batches(batch_size=BATCH_ROWS):
                places = [f"row {number}" for number in range(first, first + batch.num_rows)]
                yield Batch(places, dict(zip(batch.schema.names, batch.columns, strict=True)))
                first += batch.num_rows

    def to_array(self, values: Any, kind: pa.DataType) -> pa.Array:
        return cast_array(values, kind)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with self.file.open() as file:
            try:
                with parquet.ParquetFile(file) as table:
                    yield table
            except (pa.ArrowInvalid, OSError) as error:
                if isinstance(error, FileNotFoundError):
                    raise
                msg = f"{self.file.uri}: is no Parquet file that can be read: {str(error).splitlines()[0]}"
                raise RecipeError(msg) from error
