"""Types of a source's own columns: which of them a table can hold, and how values become them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ray_prep.arrays import exact_array, exact_cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TIMESTAMP: pa.DataType = pa.timestamp("us", "UTC")

# Names that `source.columns` gives to types.
TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "date": pa.date32(),
    "timestamp": TIMESTAMP,
}

_NAMES = {kind: name for name, kind in TYPES.items()}

# Delta has no unsigned types: deltalake 1.6.6 accepts them and cannot read them back. uint64 has no larger signed type: values decide.
_SIGNED = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.int64()}
_KEPT = {pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.binary(), pa.date32()}


def type_name(kind: pa.DataType) -> str:
    """Return what a recipe calls a type; for one that it has no name for, Arrow's name."""
    return _NAMES.get(kind, str(kind))


def table_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type a column of this type has in the table; None where the table can hold none like it.

    Unsigned integers go to the next signed type, float16 to float32, timestamps to microseconds in UTC, dictionaries to the type of
    their values, large and fixed-size lists, strings and binaries to the plain ones; a column of nothing but nulls to string.
    """
    if kind in _KEPT:
        return kind
    if kind in _SIGNED:
        return _SIGNED[kind]
    if isinstance(kind, pa.BaseExtensionType):
        return table_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return table_type(kind.value_type)
    if pa.types.is_struct(kind):
        fields = [(field.name, table_type(field.type)) for field in kind]
        # Delta takes names that differ in case alone for one name.
        is_told_apart = len({name.lower() for name, _ in fields}) == len(fields)
        return pa.struct(fields) if fields and is_told_apart and all(inner is not None for _, inner in fields) else None
    if any(test(kind) for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)):
        inner = table_type(kind.value_type)
        return None if inner is None else pa.list_(inner)
    for test, plain in _PLAIN:
        if test(kind):
            return plain
    return None


_PLAIN: tuple[tuple[Callable[[pa.DataType], bool], pa.DataType], ...] = (
    (pa.types.is_float16, pa.float32()),
    (pa.types.is_timestamp, TIMESTAMP),
    (pa.types.is_date64, pa.date32()),
    (pa.types.is_large_string, pa.string()),
    (pa.types.is_string_view, pa.string()),
    (pa.types.is_null, pa.string()),
    (pa.types.is_large_binary, pa.binary()),
    (pa.types.is_binary_view, pa.binary()),
    (pa.types.is_fixed_size_binary, pa.binary()),
)

# What a value that does not fit raises: Arrow's own errors are ValueError, TypeError, NotImplementedError and OverflowError too.
UNFIT = (pa.ArrowException, ValueError, TypeError, OverflowError)


def cast_array(values: Any, kind: pa.DataType) -> pa.Array:
    """Return an Arrow array or chunked array as another type.

    Raises:
        ValueError, TypeError: A value does not fit (`UNFIT`).
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if kind == pa.string() and pa.types.is_nested(values.type):  # which Arrow casts to none
        return values_to_array(values.to_pylist(), kind)
    # Nanoseconds below a microsecond are cut, as a table cannot hold them; every other loss is an error.
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp("us", values.type.tz), safe=False)
    return exact_cast(values, kind)


def texts_to_array(values: Sequence[str | None], kind: pa.DataType) -> pa.Array:
    """Return texts, as CSV gives them, as an array of a type of `TYPES`.

    Raises:
        ValueError, TypeError: A text does not say such a value (`UNFIT`).
    """
    read = _READ.get(kind, str)
    return exact_array([None if text is None else read(text) for text in values], kind)


def values_to_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return plain values, as JSON gives them, as an array.

    Dates and times may be texts; for a string column, values that are no text are written as JSON.

    Raises:
        ValueError, TypeError: A value does not fit (`UNFIT`).
    """
    if kind == pa.string():
        values = [value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
    elif kind in {pa.date32(), TIMESTAMP}:
        values = [_READ[kind](value) if isinstance(value, str) else value for value in values]
    return exact_array(values, kind)


def infer(values: Sequence[Any]) -> pa.DataType:
    """Return the one type plain values have.

    Raises:
        ValueError, TypeError: They are of several kinds (`UNFIT`).
    """
    # pa.infer_type (26.0.1) looks at some of the values only.
    return pa.array(values).type


def merge(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Return the smallest type that holds both: int64 and float64 make float64, structs get the fields of both.

    Raises:
        ValueError, TypeError: There is none (`UNFIT`).
    """
    schemas = [pa.schema([("value", first)]), pa.schema([("value", second)])]
    return pa.unify_schemas(schemas, promote_options="permissive").field("value").type


def _read_bool(text: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if text.strip().lower() not in known:
        msg = "not true, false, 1 or 0"
        raise ValueError(msg)
    return known[text.strip().lower()]


def _read_int(text: str) -> int:
    if "_" in text:
        msg = "not a whole number"
        raise ValueError(msg)
    return int(text)


def _read_float(text: str) -> float:
    if "_" in text:
        msg = "not a number"
        raise ValueError(msg)
    return float(text)


def _read_timestamp(text: str) -> datetime:
    """Read ISO 8601; without a zone it is UTC."""
    moment = datetime.fromisoformat(text.strip())
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _read_date(text: str) -> date:
    return date.fromisoformat(text.strip())


_READ: dict[pa.DataType, Callable[[str], Any]] = {
    pa.bool_(): _read_bool,
    pa.int8(): _read_int,
    pa.int16(): _read_int,
    pa.int32(): _read_int,
    pa.int64(): _read_int,
    pa.float32(): _read_float,
    pa.float64(): _read_float,
    pa.date32(): _read_date,
    TIMESTAMP: _read_timestamp,
}
