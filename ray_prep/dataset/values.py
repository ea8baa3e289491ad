"""Columns as a training loop takes them: numbers as arrays, all else as lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_prep.dataset.schema import OWN_INTEGERS

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_VALUE = -1


def plain(column: pa.ChunkedArray, name: str) -> np.ndarray[Any, np.dtype[np.int64]] | Sequence[Any]:
    """Return our integer columns as int64, -1 where there is no value (losses ignore it), and any other column as a list.

    Args:
        column: Its values.
        name: Its name.
    """
    if name not in OWN_INTEGERS:
        values: list[Any] = column.to_pylist()
        return values
    filled = pc.fill_null(column, NO_VALUE) if column.null_count else column
    return np.asarray(filled.to_numpy(), np.int64)
