"""Rows are made again from their sources and held against the stored ones."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ray_prep.build import build
from ray_prep.dataset.record import read_record
from ray_prep.dataset.table import open_table
from ray_prep.reproduction import Reproduction, reproduce
from ray_prep.storage import StorageOptions, open_store
from ray_prep.walk import Walk

if TYPE_CHECKING:
    from ray_prep.dataset.log import Snapshot
    from ray_prep.dataset.record import Record
    from ray_prep.sample import Item
    from ray_prep.work import Work

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

COPIES = {"copies": 2, "transforms": [{"RandomCrop": {"height": 24, "width": 24}}, {"RandomBrightnessContrast": {"p": 1}}]}
HERE = StorageOptions()


class _Here:
    """Makes rows in this process, which is set up like a worker's: starting another takes a second."""

    def __init__(self, work: Work) -> None:
        self._walk = Walk(work.recipe, work.class_ids)

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def run(self, method: str, split: str, item: Item, data: bytes) -> Any:
        return getattr(self._walk, method)(split, item, data)


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_prep.reproduction.Isolation", _Here)


def _opened(collection: Any) -> tuple[Snapshot, Record]:
    snapshot = open_table(str(collection.target), HERE)
    assert snapshot is not None
    assert snapshot.record is not None
    return snapshot, read_record(open_store(snapshot.uri), snapshot.record)


def _again(collection: Any, count: int = 10**6, **changes: Any) -> Reproduction:
    snapshot, record = _opened(collection)
    return reproduce(snapshot, replace(record, **changes), HERE, count)


def _with_columns(collection: Any) -> dict[str, Any]:
    names = sorted(name for name in collection.pictures if "." in name)[:12]
    lines = ["uri,label,weight,colour", *(f"pictures/{name},{name[:3]},{place / 3},c{place}" for place, name in enumerate(names))]
    return collection.manifest(lines) | {"columns": {"weight": "float64"}}


@pytest.mark.slow
def test_what_was_built_comes_out_the_same(collection: Any) -> None:
    """Originals and copies, floats and measured constants, labels and carried columns, in splits by the recipe's shares."""
    build(
        collection.recipe(
            source=_with_columns(collection),
            augment=COPIES,
            finish=[{"center_crop": {"height": 24, "width": 24}}, {"normalize": {"mean": "dataset", "std": "dataset"}}],
            split={"train": 0.5, "val": 0.3, "test": 0.2},
            output={"shard_mb": 1},
            checks={"max_rejected": 1.0},
        ),
        workers=1,
    )
    snapshot, record = _opened(collection)
    made = _again(collection)
    assert (made.findings, made.notes) == ([], [])
    assert (made.rows, made.items) == (snapshot.rows, record.accepted)
    some = _again(collection, 3)
    assert 3 <= some.rows < snapshot.rows
    assert 1 <= some.items <= 3
    damaged = {shard.path for shard in snapshot.shards[1:]}
    assert reproduce(snapshot, record, HERE, 10**6, damaged).rows == snapshot.shards[0].rows


@pytest.mark.usefixtures("_here")
def test_rows_that_another_recipe_or_list_of_classes_would_make(collection: Any) -> None:
    """What differs is named: pixels, a copy's params, a label's id, the split, copies that are missing."""
    build(collection.recipe(augment=COPIES), workers=0)
    _, record = _opened(collection)
    for change, what in (
        ({"recipe": {**record.recipe, "seed": 8}}, "params: "),
        ({"recipe": {**record.recipe, "preprocess": [{"resize": {"short_side": 33}}]}}, "bytes differ, the first is number"),
        ({"recipe": {**record.recipe, "augment": {**COPIES, "copies": 1}}}, "has the copies 0, 1, 2, and made again 0, 1"),
        ({"recipe": {**record.recipe, "split": {"val": 0.2, "train": 0.8}}}, "and belongs to "),
        ({"recipe": {**record.recipe, "filter": {"min_side": 60}}}, "is rejected when it is made again: too_small: "),
        ({"frozen": {**record.frozen, "classes": ["owl", "cat", "dog"]}}, "label_id: "),
    ):
        made = _again(collection, 40, **change)
        assert any(what in finding.what for finding in made.findings), (what, made)
        assert {finding.place for finding in made.findings} <= {shard.path for shard in _opened(collection)[0].shards}
        assert made.notes == []


@pytest.mark.usefixtures("_here")
def test_a_source_that_has_changed_is_a_note(collection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Touched, replaced, deleted, another label: no finding, for the table is as it was; what can be compared still is."""
    source = _with_columns(collection)
    build(collection.recipe(source=source, checks={"max_rejected": 1.0}), workers=0)
    snapshot, _ = _opened(collection)
    keys = sorted(collection.rows(), key=str)
    touched, replaced, deleted, renamed = (key for key, _ in keys[:4])
    os.utime(collection.home / touched)
    (collection.home / replaced).write_bytes((collection.home / renamed).read_bytes())
    lines = (collection.home / "list.csv").read_text().splitlines()
    lines = [line.replace(",cat,", ",lynx,") if line.startswith(renamed) else line for line in lines if not line.startswith(deleted)]
    collection.manifest(lines)
    monkeypatch.setattr("ray_prep.reproduction.made_with", lambda: {"numpy": "0.1"})
    made = _again(collection)
    assert made.findings == []
    assert made.items == snapshot.rows - 2
    notes = "\n".join(made.notes)
    assert f"{touched}: the source has changed since: another source_version; its bytes are the same" in notes
    assert f"{replaced}: the source has changed since: it has other bytes" in notes
    assert f"{deleted}: the source has changed since: it lists it no longer" in notes
    assert f"{renamed}: the source has changed since: another colour, label, label_id, source_facts, weight" in notes
    assert ", and here it is 0.1: bytes may differ for that alone" in notes


def test_the_record_keeps_the_order_that_shares_and_columns_have(collection: Any) -> None:
    """An image's split follows from the order of the shares, and a table's columns from the source's."""
    build(collection.recipe(source=_with_columns(collection), split={"val": 0.5, "train": 0.5}, checks={"max_rejected": 1.0}), workers=0)
    _, record = _opened(collection)
    assert list(record.recipe["split"]) == ["val", "train"]
    assert list(record.frozen["columns"]) == ["weight", "colour"]
