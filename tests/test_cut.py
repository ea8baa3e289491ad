"""Where units end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ray_prep.cut import cut, typical_items, unit_id
from ray_prep.sample import Item
from ray_prep.seed import order


def _items(keys: list[str]) -> list[Item]:
    return [Item(key, f"/{key}", "1") for key in sorted(keys, key=lambda key: (order(key), key))]


def _cut(keys: list[str], typical: int) -> set[tuple[str, ...]]:
    return {tuple(item.key for item in unit) for unit in cut(_items(keys), typical)}


@given(st.integers(0, 2000), st.integers(1, 64))
@settings(deadline=None)
def test_every_item_is_in_one_unit_of_bounded_size(count: int, typical: int) -> None:
    """Units hold all items in order, each at least a quarter and at most twice the typical number, the last one excepted."""
    items = _items([f"image-{number}" for number in range(count)])
    units = list(cut(items, typical))
    assert [item for unit in units for item in unit] == items
    assert all(len(unit) <= 2 * typical for unit in units)
    assert all(len(unit) * 4 >= typical for unit in units[:-1])


def test_one_item_more_changes_few_units() -> None:
    """Over many collections and additions, the 95th percentile of units that change is three at most."""
    changed = []
    for trial in range(100):
        keys = [f"{trial}/{number}" for number in range(600)]
        before = _cut(keys, 16)
        after = _cut([*keys, f"{trial}/new"], 16)
        changed.append(len(after - before))
    assert sorted(changed)[int(len(changed) * 0.95)] <= 3


def test_a_unit_fills_a_shard_but_small_splits_have_units_for_all_workers() -> None:
    """M follows the design's formula: a shard's worth, or a sixteenth of the items where that is worth a unit."""
    image = 150_528
    assert typical_items(1_000_000, image, 128) == 850
    assert typical_items(100, image, 128) == 106  # 16 MB
    assert typical_items(4000, image, 128) == 128  # the largest power of two in a sixteenth
    assert typical_items(93, 3 * image, 4) == 8
    assert typical_items(10, 300_000_000, 128) == 1


def test_a_unit_id_follows_from_everything_its_bytes_follow_from() -> None:
    """Another kind, split, fingerprint, frozen value, item, version or fact is another unit."""
    items = _items(["a", "b"])
    ids = {
        unit_id("make", "train", "f", "z", items),
        unit_id("measure", "train", "f", "z", items),
        unit_id("make", "val", "f", "z", items),
        unit_id("make", "train", "g", "z", items),
        unit_id("make", "train", "f", "y", items),
        unit_id("make", "train", "f", "z", items[:1]),
        unit_id("make", "train", "f", "z", [items[0], Item("b", "/b", "2")]),
        unit_id("make", "train", "f", "z", [items[0], Item(items[1].key, items[1].uri, "1", label="cat")]),
    }
    assert len(ids) == 8
