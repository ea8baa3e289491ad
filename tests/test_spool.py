from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from ray_prep.errors import RecipeError
from ray_prep.sample import Item
from ray_prep.seed import order
from ray_prep.spool import BUCKETS, Spool, bucket_of

if TYPE_CHECKING:
    from pathlib import Path

CARRIED = pa.schema([("weight", pa.int64())])


@pytest.mark.parametrize("buffered", [1, 2, 512])
def test_every_item_comes_back_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffered: int) -> None:
    """Whether they went to disk or not: all items, as they were, in the order in which they came into their bucket."""
    monkeypatch.setattr("ray_prep.spool._BUFFERED_ITEMS", buffered)
    items = [Item(f"k{number % 300}", f"/{number}", "v", "cat", None, {"weight": number}) for number in range(700)]
    with Spool(tmp_path, CARRIED) as spool:
        for item in items:
            spool.add(item)
    found = list(spool.items())
    assert sorted(found, key=lambda item: item.columns["weight"]) == items
    for bucket in range(BUCKETS):
        here = spool.bucket(bucket)
        assert [item.columns["weight"] for item in here] == sorted(item.columns["weight"] for item in here)
        assert all(bucket_of(item.key) == bucket for item in here)


def test_buckets_in_turn_are_in_order(tmp_path: Path) -> None:
    """An item of a later bucket never comes before one of an earlier bucket in the order of a build."""
    keys = sorted((f"k{number}" for number in range(300)), key=order)
    assert [bucket_of(key) for key in keys] == sorted(bucket_of(key) for key in keys)
    with Spool(tmp_path, pa.schema([])) as spool:
        spool.add(Item("only", "/a", ""))
    assert [item.key for item in spool.items()] == ["only"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["heavy", 7.9, 2**70])
def test_a_value_that_does_not_fit(tmp_path: Path, value: object) -> None:
    """A carried value of another type is a wrong recipe, not a traceback; and nothing is cut to fit."""
    spool = Spool(tmp_path, CARRIED)
    spool.add(Item("a", "/a", "", columns={"weight": value}))
    with pytest.raises(RecipeError, match=rf"column 'weight' is .* in the dataset, and '{value}' is none"):
        spool.finish()


def test_missing_values_are_null(tmp_path: Path) -> None:
    """A column that an item does not have is null."""
    with Spool(tmp_path, CARRIED) as spool:
        spool.add(Item("a", "/a", ""))
    assert [item.columns for item in spool.items()] == [{"weight": None}]
