"""Images that are there twice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ray_prep.build import build
from ray_prep.dataset.reader import open as open_dataset
from ray_prep.dataset.shard import ShardWriter
from ray_prep.duplicates import holders_of_the_same
from ray_prep.errors import CheckFailed

if TYPE_CHECKING:
    from tests.conftest import Collection

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

COPIES = {"augment": {"copies": 1, "transforms": [{"HorizontalFlip": {"p": 0.5}}]}, "filter": {"duplicates": "drop"}}


def _twins(collection: Collection) -> dict[str, str]:
    """Add files with the bytes of others; return which key each of them loses to."""
    for twin, name in {"cat/zz.jpg": "cat/06.jpg", "owl/aa.jpg": "owl/05.jpg", "dog/yy.jpg": "cat/06.jpg"}.items():
        collection.write(twin, collection.pictures[name])
    return {"cat/zz.jpg": "cat/06.jpg", "dog/yy.jpg": "cat/06.jpg", "owl/aa.jpg": "owl/05.jpg"}


def test_the_smallest_key_stays(collection: Collection) -> None:
    """Of files with the same bytes one image is kept with all its copies; the others are rejections that name it, and no fault."""
    losers = _twins(collection)
    report = build(collection.recipe(**COPIES), workers=0)
    rows = collection.rows()
    assert report.listed == report.accepted + report.rejected == 45
    assert report.rejected_by_reason["duplicate"] == 3
    messages = {row["key"]: row["message"] for row in collection.rejections() if row["reason"] == "duplicate"}
    assert messages == {key: f"{winner} has the same bytes and stays" for key, winner in losers.items()}
    assert not losers.keys() & {key for key, _ in rows}
    stored = [row["source_sha256"] for (_, copy), row in rows.items() if copy == 0]
    assert len(stored) == len(set(stored)) == report.accepted


def test_survivors_are_what_they_are_without_the_others(collection: Collection) -> None:
    """A shard that loses rows keeps the rest of them byte for byte, and its sums and labels are those of the rest."""
    alone = collection.home / "alone"
    build(collection.recipe(alone, **COPIES), workers=0)
    _twins(collection)
    build(collection.recipe(**COPIES), workers=0)
    assert collection.rows() == collection.rows(alone)
    one, other = (open_dataset(str(target)).record for target in (alone, collection.target))
    assert (one.sums, one.counts, one.mean) == (other.sums, other.counts, other.mean)


def test_the_second_build_finds_it_all(collection: Collection) -> None:
    """Duplicates are decided again and come out the same: nothing to do; when the winner goes, the next one takes its place."""
    _twins(collection)
    build(collection.recipe(**COPIES), workers=0)
    again = build(collection.recipe(**COPIES), workers=0)
    assert (again.is_published, again.decoded, again.unchanged) == (False, 0, 45)
    (collection.folder / "cat/06.jpg").unlink()
    changed = build(collection.recipe(**COPIES), workers=0)
    assert (changed.removed, changed.rejected_by_reason["duplicate"]) == (1, 2)
    assert ("cat/zz.jpg", 0) in collection.rows()


def test_copies_that_a_row_group_parts_stay_one_item(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row group may end between the copies of an item; it is copied, and counted, as the one item it is."""
    losers = _twins(collection)
    monkeypatch.setitem(ShardWriter.__init__.__kwdefaults__, "row_group_bytes", 3 * 24 * 24 * 3)  # an item has two rows
    report = build(collection.recipe(**COPIES), workers=0)
    assert report.rejected_by_reason["duplicate"] == len(losers)
    assert len(collection.rows()) == report.rows


@pytest.mark.parametrize("image", ["tensor", "png"])
def test_every_output_can_lose_rows(collection: Collection, image: str) -> None:
    """Raw and encoded images are copied as they are."""
    _twins(collection)
    report = build(collection.recipe(**COPIES, output={"image": image}), workers=0)
    assert report.rejected_by_reason["duplicate"] == 3
    assert len(collection.rows()) == report.rows


def test_twins_in_two_splits_are_refused_where_asked(collection: Collection) -> None:
    """`checks.cross_split_duplicates` counts images with a twin in another split, and holds them against its number."""
    for number in range(12):  # in one split all of them: one in 4,000
        collection.write(f"cat/twin{number}.jpg", collection.pictures["cat/06.jpg"])
    sections: dict[str, Any] = {"checks": {"max_rejected": 0.1, "cross_split_duplicates": 0}}
    with pytest.raises(CheckFailed, match=r"13 images have the same bytes as one in another split, and 0 may; set filter.duplicates"):
        build(collection.recipe(**sections), workers=0)
    assert not (collection.target / "_delta_log").exists()
    sections["checks"]["cross_split_duplicates"] = 13
    assert build(collection.recipe(**sections), workers=0).is_published


def test_groups_are_found_by_value_and_in_order(collection: Collection, tmp_path: Path) -> None:
    """Copies of one image are one holder; groups hold two or more, smallest key first."""
    _twins(collection)
    build(collection.recipe(augment=COPIES["augment"]), workers=0)
    dataset = open_dataset(str(collection.target))
    (tmp_path / "spool").mkdir()
    groups = list(holders_of_the_same(dataset.store, dataset.shards, "source_sha256", tmp_path / "spool"))
    assert sorted([holder.key for holder in group] for group in groups) == [
        ["cat/06.jpg", "cat/zz.jpg", "dog/yy.jpg"],
        ["owl/05.jpg", "owl/aa.jpg"],
    ]
