"""Values that a type does not hold are refused, whatever pyarrow makes of them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_prep.arrays import exact_array, exact_cast

MOMENT = pa.timestamp("us", "UTC")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (7.9, pa.int64()),
        (float("nan"), pa.int32()),
        (2**40, pa.int32()),
        (True, pa.int8()),
        (1e300, pa.float32()),
        (True, pa.float64()),
        (2**53 + 1, pa.float64()),
        (1, pa.bool_()),
        (5, pa.string()),
        (5, pa.date32()),
        (datetime(2026, 1, 1, 12, tzinfo=UTC), pa.date32()),
        (5, MOMENT),
        ([1, 1.5], pa.list_(pa.int64())),
        ({"a": [0.5]}, pa.struct([("a", pa.list_(pa.int16()))])),
        ([{"a": 0.5}], pa.list_(pa.struct([("a", pa.int16())]))),
        ([{"a": "x", "b": 1, "c": 0.5}], pa.list_(pa.struct([("a", pa.string()), ("b", pa.int64()), ("c", pa.int16())]))),
    ],
)
def test_what_does_not_fit_is_refused(value: Any, kind: pa.DataType) -> None:
    """Also deep inside, and beside values that fit."""
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError, OverflowError)):
        exact_array([None, value], kind)


@pytest.mark.parametrize(
    ("value", "kind", "stored"),
    [
        (7.0, pa.int64(), 7),
        (0.1, pa.float32(), 0.10000000149011612),
        (float("inf"), pa.float32(), float("inf")),
        (3, pa.float64(), 3.0),
        (date(2026, 1, 1), pa.date32(), date(2026, 1, 1)),
        (datetime(2026, 1, 1, tzinfo=UTC), MOMENT, datetime(2026, 1, 1, tzinfo=UTC)),
        ({"a": 1, "late": 2}, pa.struct([("a", pa.int64())]), {"a": 1}),
        ([], pa.list_(pa.int64()), []),
    ],
)
def test_what_fits_is_stored(value: Any, kind: pa.DataType, stored: Any) -> None:
    """Whole floats as integers, floats rounded to float32; fields that came late are left out."""
    assert exact_array([value, None], kind).to_pylist() == [stored, None]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1), st.floats(allow_nan=False, width=32)), max_size=8))
def test_whatever_is_taken_equals_what_was_given(values: list[Any]) -> None:
    """Of integers."""
    try:
        array = exact_array(values, pa.int32())
    except (pa.ArrowInvalid, OverflowError):
        return
    assert array.to_pylist() == values


def test_a_cast_does_not_overflow() -> None:
    """Arrow makes infinity of what float32 cannot hold."""
    with pytest.raises(pa.ArrowInvalid, match=r"1e\+300 is no float"):
        exact_cast(pa.array([1.0, 1e300]), pa.float32())
    assert exact_cast(pa.array([1.0, float("inf"), None]), pa.float32()).to_pylist() == [1.0, float("inf"), None]
