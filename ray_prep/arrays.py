"""Plain values as Arrow arrays, without loss: `pyarrow.array` (26) cuts 7.9 to 7 where a whole number is wanted, and says nothing."""

from __future__ import annotations

from datetime import date, datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_FLOAT32_MAX = 3.4028234663852886e38


def exact_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return plain values as an array of a type. Whole floats fit integers, and any float rounds to float32; nothing else is changed.

    Fields that a struct type lacks are left out.

    Raises:
        ArrowInvalid, ArrowTypeError, OverflowError: A value is none of the type.
    """
    array = pa.array(values, kind)
    _check(values, kind)
    return array


def exact_cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return an array as another type.

    Raises:
        ArrowInvalid, ArrowNotImplementedError: A value would be another one.
    """
    result = values.cast(kind)
    if kind == pa.float32() and pa.types.is_floating(values.type):
        _check(values.to_pylist(), kind)
    return result


def _check(values: Sequence[Any], kind: pa.DataType) -> None:
    if pa.types.is_struct(kind):
        for field in kind:
            _check([value.get(field.name) for value in values if isinstance(value, dict)], field.type)
    elif pa.types.is_list(kind):
        _check([inner for value in values if value is not None for inner in value], kind.value_type)
    elif fits := _FITS.get(kind):
        for value in values:
            if value is not None and not fits(value):
                msg = f"{value!r} is no {kind}"
                raise pa.ArrowInvalid(msg)


def _is_whole(value: Any) -> bool:
    return not isinstance(value, float) or value.is_integer()


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool)


def _fits_float32(value: Any) -> bool:
    return not isinstance(value, bool) and (abs(value) <= _FLOAT32_MAX or not isfinite(value))


def _is_date(value: Any) -> bool:
    return isinstance(value, date) and not isinstance(value, datetime)


# What `pyarrow.array` takes for a type and is not of it. All other types refuse what does not fit.
_FITS: dict[pa.DataType, Callable[[Any], bool]] = {
    pa.int8(): _is_whole,
    pa.int16(): _is_whole,
    pa.int32(): _is_whole,
    pa.int64(): _is_whole,
    pa.float32(): _fits_float32,
    pa.float64(): _is_number,
    pa.date32(): _is_date,
    pa.timestamp("us", "UTC"): lambda value: isinstance(value, datetime),
}
