from __future__ import annotations

import errno
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ray_prep.errors import StorageError
from ray_prep.messages import Tick
from ray_prep.receipt import Receipt, receipt_path
from ray_prep.unit import run_unit
from ray_prep.work import read_items

COPIES = {"copies": 2, "transforms": [{"HorizontalFlip": {"p": 0.5}}]}


def nobody(_tick: Tick) -> None:
    """Watch nothing."""


def test_a_unit_leaves_shards_and_a_receipt(collection: Any) -> None:
    """Rows of an item stand together, original first; the receipt says what lies there; nothing else is left."""
    work, refs = collection.planned(augment=COPIES)
    ref = next(ref for ref in refs if ref.split == "train")
    receipt = run_unit(work, ref, nobody)
    assert Receipt.from_json(work.store.get(receipt_path(ref.unit_id))) == receipt
    keys = []
    for made in receipt.shards:
        path = collection.target / made.shard.path
        assert (path.stat().st_size, path.name) == (made.shard.bytes, f"{made.shard.sha256[:20]}.parquet")
        table = pq.read_table(path, partitioning=None)
        assert table.num_rows == made.shard.rows
        assert table.column("copy").to_pylist() == [0, 1, 2] * made.images
        keys += table.column("key").to_pylist()[::3]
        assert (made.shard.min_key, made.shard.max_key) == (min(keys), max(keys))
    items = read_items(work, ref)
    rejected = {rejection.key for rejection in receipt.rejections}
    assert keys == [item.key for item in items if item.key not in rejected]
    assert receipt.items == len(items) == len(keys) + len(rejected)
    assert sum((Counter(made.labels) for made in receipt.shards), Counter()) == Counter(key.split("/")[0] for key in keys)
    assert receipt.source_bytes == sum(len(collection.pictures[item.key]) for item in items)
    assert not [path for path in collection.target.rglob("*") if path.name.startswith(".tmp")]


def test_a_unit_may_run_again(collection: Any) -> None:
    """A retry writes the same names with the same bytes."""
    work, refs = collection.planned(augment=COPIES)
    first = run_unit(work, refs[0], nobody)
    files = {path: path.read_bytes() for path in collection.target.rglob("split=*/*")}
    again = run_unit(replace(work), refs[0], nobody)
    assert replace(again, seconds=0) == replace(first, seconds=0)
    assert {path: path.read_bytes() for path in collection.target.rglob("split=*/*")} == files


def test_footers_tell_what_a_shard_follows_from(collection: Any) -> None:
    """Fingerprint, library versions and CPU level; no time, host or build."""
    work, refs = collection.planned()
    receipt = run_unit(work, refs[0], nobody)
    footer = pq.read_metadata(collection.target / receipt.shards[0].shard.path).metadata
    known = {key.decode(): value.decode() for key, value in footer.items() if key != b"ARROW:schema"}
    assert known == {"fingerprint": work.recipe.fingerprint(refs[0].split), **work.made_with}


def test_a_measuring_unit_writes_no_shard(collection: Any) -> None:
    """It adds up the pixels of the originals, and its receipt holds the sums."""
    work, refs = collection.planned()
    ref = next(ref for ref in refs if ref.split == "train")
    sums = run_unit(work, replace(ref, kind="measure", unit_id="1" * 40), nobody).sums
    assert not list(collection.target.rglob("split=*/*"))
    made = run_unit(work, ref, nobody)
    pixels = np.concatenate(
        [
            np.frombuffer(image, np.uint8).reshape(-1, 3)
            for shard in made.shards
            for image in pq.read_table(collection.target / shard.shard.path, partitioning=None).column("image").to_pylist()
        ]
    ).astype(np.int64)
    assert sums == (len(pixels), *pixels.sum(axis=0), *(pixels**2).sum(axis=0))


def test_a_unit_of_large_images_closes_its_shard_early(collection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its limit a shard ends and the next begins, between items, never between copies; no row is lost."""
    monkeypatch.setattr("ray_prep.shelf._OVERRUN", 0.3)
    work, refs = collection.planned(augment=COPIES, output={"shard_mb": 0.04}, split=None)
    receipts = [run_unit(work, ref, nobody) for ref in refs]
    assert any(len(receipt.shards) > 1 for receipt in receipts)
    for receipt in receipts:
        assert all(made.shard.rows == made.images * 3 for made in receipt.shards)
        assert all(made.shard.bytes >= 0.3 * 0.04e6 for made in receipt.shards[:-1])
        assert sum(made.images for made in receipt.shards) + len(receipt.rejections) == receipt.items


def test_ticks_add_up(collection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every item is ticked once, with its bytes, and whether it was rejected."""
    monkeypatch.setattr("ray_prep.unit.TICK_S", 0.0)
    work, refs = collection.planned(output={"shard_mb": 1}, split=None)
    ticks: list[Tick] = []
    receipt = run_unit(work, refs[0], ticks.append)
    assert sum(tick.items for tick in ticks) == receipt.items == 42
    assert sum(tick.rejected for tick in ticks) == len(receipt.rejections) == 2
    assert sum(tick.source_bytes for tick in ticks) == receipt.source_bytes
    assert len(ticks) > 5


def test_a_unit_whose_pictures_are_all_gone(collection: Any) -> None:
    """Twenty missing and none there: storage is at fault, and the build stops; one that is there makes them rejections."""
    work, refs = collection.planned(output={"shard_mb": 1}, split=None)
    items = read_items(work, refs[0])
    for item in items[:30]:
        Path(item.uri).unlink()
    for ref in (refs[0], replace(refs[0], kind="measure")):
        with pytest.raises(StorageError, match="the first 20 pictures that it lists are not there"):
            run_unit(work, ref, nobody)
    Path(items[0].uri).write_bytes(collection.pictures["cat/06.jpg"])
    for ref in (refs[0], replace(refs[0], kind="measure")):
        assert Counter(rejection.reason for rejection in run_unit(work, ref, nobody).rejections)["missing"] == 29


def test_a_step_that_fails_leaves_no_half_shard(collection: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A unit that ends in the middle leaves neither shard nor receipt nor temporary file."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    work, refs = collection.planned(output={"shard_mb": 1}, split=None)
    count = iter(range(100))

    def fail(_image: Any) -> list[int]:
        if next(count) == 10:
            raise ZeroDivisionError
        return [1, 1, 1, 1, 1, 1, 1]

    monkeypatch.setattr("ray_prep.walk.integer_sums", fail)
    with pytest.raises(ZeroDivisionError):
        run_unit(work, refs[0], nobody)
    assert list(temporary.iterdir()) == []
    assert not list(collection.target.rglob("split=*/*"))
    assert not (collection.target / receipt_path(refs[0].unit_id)).exists()


@pytest.mark.parametrize(("number", "raised"), [(errno.ENOSPC, StorageError), (errno.EAGAIN, OSError)])
def test_a_full_temporary_disk_is_named(collection: Any, monkeypatch: pytest.MonkeyPatch, number: int, raised: type[Exception]) -> None:
    """With the way to another one; what is no fault of a disk (a process that cannot be started) is not laid on it."""

    def fail(*_: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    work, refs = collection.planned()
    monkeypatch.setattr("ray_prep.unit.tempfile.TemporaryDirectory", fail)
    with pytest.raises(raised) as caught:
        run_unit(work, refs[0], nobody)
    assert ("TMPDIR names another folder" in str(caught.value)) == (number == errno.ENOSPC)
