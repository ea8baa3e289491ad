"""The main job in one process: what is counted, what is published, what a later build does."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from deltalake import write_deltalake
from PIL import Image

from ray_prep import build
from ray_prep import open as open_dataset
from ray_prep.build import BuildReport, Silence
from ray_prep.checks import Outcome, max_drop, max_rejected
from ray_prep.dataset.record import read_refusal
from ray_prep.dataset.verify import verify
from ray_prep.engines.local import Local
from ray_prep.errors import CheckFailed, Conflict, Interrupted, RayPrepError, RecipeError, RejectBudgetExceeded, StorageError, UnitsFailed
from ray_prep.plan import PlanFiles
from ray_prep.sections import Checks
from ray_prep.show.outlook import outlook
from ray_prep.sources.class_folders import ClassFolders
from ray_prep.storage import StorageOptions, open_store
from ray_prep.storage.local import LocalStore
from ray_prep.unit import Tick

if TYPE_CHECKING:
    pass

COPIES = {
    "copies": 2,
    "transforms": [{"RandomCrop": {"height": 24, "width": 24}}, {"HorizontalFlip": {"p": 0.5}}, {"RandomBrightnessContrast": {"p": 0.5}}],
}

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow


def made(collection: Any, target: Any = None, *, limit: int | None = None, rebuild: bool = False, **sections: Any) -> BuildReport:
    """Build in this process, and hold the report to what is true of every report."""
    report = build(collection.recipe(target, **sections), workers=0, limit=limit, rebuild=rebuild)
    assert report.listed == report.unchanged + report.added + report.changed == report.accepted + report.rejected
    assert report.rejected == sum(report.rejected_by_reason.values())
    dataset = open_dataset(str(target or collection.target))
    assert (report.version, report.rows, report.shards) == (dataset.version, len(dataset), len(dataset.shards))
    assert report.accepted == len(set(dataset.to_arrow(columns=["key"]).column("key").to_pylist()))
    assert report.rejected == dataset.rejections.num_rows
    return report


def same_rows(one: dict[Any, dict[str, Any]], other: dict[Any, dict[str, Any]]) -> bool:
    """Return whether two datasets are equal in all columns but `source_version`, which touching a file changes."""
    return {place: {**row, "source_version": ""} for place, row in one.items()} == {
        place: {**row, "source_version": ""} for place, row in other.items()
    }


def test_every_listed_image_is_a_row_or_a_rejection(collection: Any) -> None:
    """Whole pictures come out with copies in `train` alone; broken ones with a reason; nothing is lost."""
    report = made(collection, augment=COPIES)
    rows = collection.rows()
    train = {key for (key, _), row in rows.items() if row["split"] == "train"}
    assert (report.listed, report.accepted, report.rejected) == (42, 40, 2)
    assert report.rows == 40 + 2 * len(train)
    assert collection.reasons() == {"cat/cut_short.jpg": "truncated", "dog/web_page.jpg": "not_an_image"}
    assert {key for key, _ in rows} == collection.pictures.keys() - collection.reasons().keys()
    assert {key for (key, _), row in rows.items() if row["split"] == "val"}.isdisjoint(train)
    assert len(open_dataset(str(collection.target), split="train").shards) > 2
    for (key, _), row in rows.items():
        assert (row["label"], row["label_id"]) == (key.split("/")[0], ("cat", "dog", "owl").index(key.split("/")[0]))
        assert len(row["image"]) == row["height"] * row["width"] * row["channels"] == 24 * 24 * 3


def test_a_second_build_does_nothing(collection: Any) -> None:
    """The same source and recipe: the same version, nothing decoded, no file touched."""
    first = made(collection)
    before = sorted((path, path.stat().st_mtime_ns) for path in collection.target.rglob("*") if path.is_file())
    second = made(collection)
    assert (second.version, second.decoded, second.unchanged, second.is_published) == (first.version, 0, 42, False)
    assert before == sorted((path, path.stat().st_mtime_ns) for path in collection.target.rglob("*") if path.is_file())
    with pytest.raises(RecipeError, match="--engine spark: there is no such engine"):
        build(collection.recipe(), engine="spark")


def test_listing_order_changes_no_byte(collection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that lists backwards gives the same shards, by name and by bytes."""
    made(collection, augment=COPIES)
    forwards = ClassFolders.items
    monkeypatch.setattr(ClassFolders, "items", lambda self, ignored: reversed(list(forwards(self, ignored))))
    made(collection, collection.home / "backwards", augment=COPIES)
    assert collection.shards() == collection.shards(collection.home / "backwards")


def test_a_manifest_in_another_order_changes_no_byte(collection: Any) -> None:
    """The rows of a manifest may be shuffled: names, bytes and rejections stay."""
    names = sorted(collection.pictures)
    lines = [f"pictures/{name},{name.split('/')[0]}" for name in names]
    rejections = []
    for target, order in (("sorted", lines), ("shuffled", list(np.random.default_rng(3).permutation(lines)))):
        made(collection, collection.home / target, source=collection.manifest(["image,label", *order]))
        rejections.append(collection.reasons(collection.home / target))
    assert collection.shards(collection.home / "sorted") == collection.shards(collection.home / "shuffled")
    assert rejections[0] == rejections[1] != {}


def test_added_changed_and_removed_images_are_counted_and_right(collection: Any) -> None:
    """After a night of changes the rows are those of a build from nothing, and the counts say what happened."""
    made(collection, augment=COPIES, checks={"max_rejected": 0.2})
    whole = sorted(set(collection.pictures) - {"cat/cut_short.jpg", "dog/web_page.jpg"})
    collection.write("owl/new.jpg", collection.pictures["owl/05.jpg"])
    collection.write("owl/broken.jpg", b"\xff\xd8\xff")
    collection.write(whole[3], collection.pictures[whole[4]] + b"tail")
    (collection.folder / whole[7]).unlink()
    (collection.folder / "dog/web_page.jpg").unlink()
    report = made(collection, augment=COPIES, checks={"max_rejected": 0.2})
    assert (report.added, report.changed, report.removed, report.unchanged) == (2, 1, 1, 39)
    assert collection.reasons() == {"cat/cut_short.jpg": "truncated", "owl/broken.jpg": "truncated"}
    made(collection, collection.home / "anew", augment=COPIES, checks={"max_rejected": 0.2})
    assert same_rows(collection.rows(), collection.rows(collection.home / "anew"))
    assert len(open_dataset(str(collection.target), version=0)) > 0


def test_a_mended_image_comes_in(collection: Any) -> None:
    """A rejected image whose bytes change is `changed`, and accepted."""
    made(collection)
    collection.write("dog/web_page.jpg", collection.pictures["dog/04.jpg"])
    report = made(collection)
    assert (report.changed, report.added, report.accepted) == (1, 0, 41)
    assert ("dog/web_page.jpg", 0) in collection.rows()


def test_a_label_that_changes_is_a_change(collection: Any) -> None:
    """Facts count as the image does: another label in the manifest is `changed`, and the row has it."""
    lines = [f"pictures/{name},{name.split('/')[0]}" for name in sorted(collection.pictures)]
    made(collection, source=collection.manifest(["image,label", *lines]))
    lines[0] = lines[0].rpartition(",")[0] + ",owl"
    report = made(collection, source=collection.manifest(["image,label", *lines]))
    assert (report.changed, report.unchanged) == (1, 41)
    assert collection.rows()[lines[0].rpartition(",")[0], 0]["label"] == "owl"


def test_two_holders_of_a_key(collection: Any) -> None:
    """The smallest uri stays; the other is `duplicate_key`, named, counted once, and known the next time."""
    source = collection.manifest(["id,image", "a,pictures/cat/06.jpg", "b,pictures/cat/09.jpg", "a,pictures/cat/12.jpg"])
    report = made(collection, source=source, checks={"max_rejected": 0.5})
    assert (report.listed, report.accepted, report.rejected_by_reason, report.rejected_new) == (3, 2, {"duplicate_key": 1}, 1)
    (rejection,) = open_dataset(str(collection.target)).rejections.to_pylist()
    assert rejection["uri"].endswith("cat/12.jpg")
    assert "cat/06.jpg has the same key" in rejection["message"]
    assert collection.rows()["a", 0]["source_uri"].endswith("cat/06.jpg")
    again = made(collection, source=source, checks={"max_rejected": 0.5})
    assert (again.unchanged, again.decoded, again.is_published) == (3, 0, False)


def test_two_rows_of_one_image_that_contradict_each_other(collection: Any) -> None:
    """The same key and uri with two labels: one of them stays, and it is the same one in whatever order the manifest has them."""
    lines = [f"pictures/cat/06.jpg,{label}" for label in ("owl", "cat", "dog", "cat")]
    for target, order in (("one", lines), ("other", lines[::-1])):
        source = collection.manifest(["image,label", *order])
        report = made(collection, collection.home / target, source=source, split=None, checks={"max_rejected": 1})
        assert report.rejected_by_reason == {"duplicate_key": 3}
        again = made(collection, collection.home / target, source=source, split=None, checks={"max_rejected": 1})
        assert (again.is_published, again.unchanged, again.decoded) == (False, 4, 0)
    assert collection.shards(collection.home / "one") == collection.shards(collection.home / "other")
    assert collection.rejections(collection.home / "one") == collection.rejections(collection.home / "other")


def test_splits_by_column_keep_a_group_together(collection: Any) -> None:
    """`by: patient` puts all pictures of one patient into one split."""
    lines = [f"pictures/{name},{number // 4}" for number, name in enumerate(sorted(collection.pictures))]
    made(collection, source=collection.manifest(["image,patient", *lines]), split={"train": 0.5, "val": 0.5, "by": "patient"})
    splits: dict[str, set[str]] = {}
    for row in collection.rows().values():
        splits.setdefault(row["patient"], set()).add(row["split"])
    assert all(len(names) == 1 for names in splits.values())
    assert {name for names in splits.values() for name in names} == {"train", "val"}


def test_splits_by_source_come_from_folder_or_column(collection: Any) -> None:
    """`by: source` takes first folders (`valid` is `val`) or a split column; an image without one is a wrong recipe."""
    for name in ("train/cat/1.jpg", "valid/cat/2.jpg", "test/dog/3.jpg"):
        collection.write(f"given/{name}", collection.pictures["cat/06.jpg"])
    source = {"uri": str(collection.folder / "given"), "layout": "class_folders"}
    made(collection, source=source, split={"by": "source"})
    assert {key: row["split"] for (key, _), row in collection.rows().items()} == {
        "train/cat/1.jpg": "train",
        "valid/cat/2.jpg": "val",
        "test/dog/3.jpg": "test",
    }
    column = collection.manifest(["image,split", "pictures/cat/06.jpg,fold-1", "pictures/cat/09.jpg,fold-2"])
    made(collection, collection.home / "column", source=column, split={"by": "source"})
    assert open_dataset(str(collection.home / "column")).splits == ["fold-1", "fold-2"]
    assert "src_split" not in open_dataset(str(collection.home / "column")).schema.names
    with pytest.raises(RecipeError, match=r"'[a-z]+/[0-9]+\.[a-z]+' has none; name a split column"):
        made(collection, collection.home / "none", split={"by": "source"})


def test_splits_that_nobody_asks_for_are_said_and_kept(collection: Any) -> None:
    """Without `split`, a split column or split folders are warned of in one line, and the column is carried, its name being taken."""
    source = collection.manifest(
        ["image,split,label", "pictures/cat/06.jpg,train,cat", "pictures/cat/09.jpg,test,cat", "pictures/cat/12.jpg,,cat"]
    )
    report = made(collection, source=source, split=None)
    (warning,) = report.warnings
    assert warning == (
        "split: the source's column 'split' tells splits (test 1, train 1), and all images go to train; "
        "`split: {by: source}` takes them as told, once the other 1 have one, too"
    )
    assert {key: (row["split"], row["src_split"]) for (key, _), row in collection.rows().items()} == {
        "pictures/cat/06.jpg": ("train", "train"),
        "pictures/cat/09.jpg": ("train", "test"),
        "pictures/cat/12.jpg": ("train", None),
    }
    assert made(collection, source=source, split=None).warnings == (warning,)
    decided = made(collection, collection.home / "decided", source=source, split={"train": 0.5, "val": 0.5, "by": "label"})
    assert decided.warnings == ()
    for name in ("train/cat/1.jpg", "test/dog/3.jpg"):
        collection.write(f"given/{name}", collection.pictures["cat/06.jpg"])
    folders = {"uri": str(collection.folder / "given"), "layout": "class_folders"}
    (warning,) = made(collection, collection.home / "folders", source=folders, split=None).warnings
    assert warning.startswith("split: the source's folders and names tell splits (test 1, train 1), and all images go to train")
    assert made(collection, collection.home / "asked", source=folders, split={"by": "source"}).warnings == ()


def test_a_new_class_is_appended(collection: Any) -> None:
    """Label ids stay what they were: a label that comes later stands last, though its name would sort first."""
    made(collection)
    collection.write("ant/1.jpg", collection.pictures["cat/06.jpg"])
    made(collection)
    assert open_dataset(str(collection.target)).classes == ["cat", "dog", "owl", "ant"]
    assert collection.rows()["ant/1.jpg", 0]["label_id"] == 3
    assert collection.rows()["cat/06.jpg", 0]["label_id"] == 0


def test_a_new_class_makes_no_other_unit_anew(collection: Any) -> None:
    """An id that is appended changes no published row: what holds images of the class is made, the list grows, all else is found."""
    source = {"uri": str(collection.folder), "layout": "class_folders"}
    made(collection, source=source)
    before = collection.shards()
    grown = made(collection, source=source, classes=["cat", "dog", "owl", "yak"])
    assert (grown.decoded, grown.unchanged, grown.is_published, collection.shards()) == (0, 42, True, before)
    assert open_dataset(str(collection.target)).classes == ["cat", "dog", "owl", "yak"]
    collection.write("yak/1.jpg", collection.pictures["cat/06.jpg"])
    report = made(collection, source=source)
    assert report.added == 1
    assert report.decoded < report.listed
    assert len(set(collection.shards()) - set(before)) <= 2
    assert collection.rows()["yak/1.jpg", 0]["label_id"] == 3
    made(collection, collection.home / "anew", source=source)
    assert same_rows(collection.rows(), collection.rows(collection.home / "anew"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sections", "what"),
    [
        ({"split": {"train": 0.7, "val": 0.3}}, "split: the dataset was published with {train: 0.8, val: 0.2, by: key}"),
        ({"classes": ["dog", "cat", "owl"]}, "classes: the dataset was published with cat, dog, owl in this order"),
        ({"finish": [{"center_crop": {"height": 20, "width": 24}}]}, r"the dataset's images have shape \[24, 24, 3\]"),
        ({"output": {"image": "png"}}, "the dataset's images have"),
        ({"decode": {"color": "gray"}}, "the dataset's images have"),
    ],
)
def test_what_the_first_publish_fixed(collection: Any, sections: dict[str, Any], what: str) -> None:
    """A recipe that contradicts a frozen value is wrong, says which and names --rebuild; with it, the build starts over."""
    made(collection)
    with pytest.raises(RecipeError, match=what) as caught:
        made(collection, **sections)
    assert "--rebuild" in str(caught.value)
    report = made(collection, rebuild=True, **sections)
    assert (report.version, report.decoded) == (1, 42)
    made(collection, collection.home / "anew", **sections)
    assert same_rows(collection.rows(), collection.rows(collection.home / "anew"))
    assert made(collection, **sections).decoded == 0


@pytest.mark.slow
def test_another_transform_makes_the_rows_again(collection: Any) -> None:
    """The fingerprint of the rows decides: other pixels, one more version; what only names or checks things, no work."""
    made(collection)
    same = made(collection, name="other", checks={"max_rejected": 0.5}, seed=9)
    assert (same.decoded, same.version) == (0, 0)
    report = made(collection, preprocess=[{"resize": {"short_side": 28}}])
    assert (report.decoded, report.version, report.unchanged) == (42, 1, 42)
    made(collection, collection.home / "anew", preprocess=[{"resize": {"short_side": 28}}])
    assert collection.shards() == collection.shards(collection.home / "anew")


@pytest.mark.slow
def test_only_augmented_splits_follow_the_seed(collection: Any) -> None:
    """Another seed makes `train` again and leaves the shards of `val` where they are."""
    made(collection, augment=COPIES)
    before = collection.shards()
    report = made(collection, augment=COPIES, seed=8)
    after = collection.shards()
    assert 0 < report.decoded < report.listed
    assert [shard for shard in before if "split=val" in shard[0]] == [shard for shard in after if "split=val" in shard[0]]
    assert not {shard for shard in before if "split=train" in shard[0]} & set(after)


@pytest.mark.slow
def test_a_limited_build_takes_the_first_by_hash(collection: Any) -> None:
    """`--limit` takes the same few always, a later build without it adds the rest, and a whole dataset cannot be limited."""
    few = made(collection, limit=10, checks={"max_rejected": 0.5})
    assert few.listed == 10
    assert made(collection, limit=10, checks={"max_rejected": 0.5}).decoded == 0
    keys = set(collection.rows())
    report = made(collection)
    assert (report.listed, report.unchanged, report.added) == (42, 10, 32)
    assert keys <= set(collection.rows())
    with pytest.raises(RecipeError, match=r"--limit 10: .* was built without a limit"):
        made(collection, limit=10)
    everything = collection.home / "everything"
    assert made(collection, everything, limit=42).listed == 42
    whole = made(collection, everything)
    assert (whole.is_published, whole.decoded, whole.version) == (True, 0, 1)
    with pytest.raises(RecipeError, match="was built without a limit"):
        made(collection, everything, limit=10)
    assert not made(collection, everything).is_published
    with pytest.raises(RecipeError, match="--limit: 0"):
        build(collection.recipe(), workers=0, limit=0)


@pytest.mark.slow
def test_a_new_column_is_left_out_and_said_to_be(collection: Any) -> None:
    """Columns are fixed at the first publish: later ones are warned about, missing ones are null."""
    names = [name for name in sorted(collection.pictures) if "0" in name]
    rows = [f"pictures/{name},{number}" for number, name in enumerate(names)]
    made(collection, source=collection.manifest(["image,weight", *rows]))
    report = made(collection, source=collection.manifest(["image,weight,camera", *[f"{row},x" for row in rows]]))
    assert (report.decoded, report.unchanged) == (0, len(names))
    assert "camera" in report.warnings[0]
    assert "--rebuild" in report.warnings[0]
    missing = made(collection, source=collection.manifest(["image", *[f"pictures/{name}" for name in names]]))
    assert missing.changed == len(names)
    assert missing.warnings == (
        "columns of the dataset are no longer in the source (weight): they are null in all that is made from now on",
    )
    assert {row["weight"] for row in collection.rows().values()} == {None}
    typed = {**collection.manifest(["image", *[f"pictures/{name}" for name in names]]), "columns": {"weight": "string"}}
    assert made(collection, source=typed).decoded == 0
    with pytest.raises(RecipeError, match=r"source\.columns\.weight: .* has no column 'weight'"):
        made(collection, source=typed, rebuild=True)
    made(collection, source=collection.manifest(["image,camera", *[f"pictures/{name},x" for name in names]]), rebuild=True)
    assert {row["camera"] for row in collection.rows().values()} == {"x"}


@pytest.mark.slow
def test_normalize_by_the_dataset(collection: Any) -> None:
    """Constants are pooled over the training originals' pixels, stay what they were, and make what is stored."""
    made(collection, collection.home / "plain")
    plain = collection.rows(collection.home / "plain")
    train = np.stack([np.frombuffer(row["image"], np.uint8).reshape(-1, 3) for row in plain.values() if row["split"] == "train"]) / 255
    mean, std = train.mean(axis=(0, 1)), train.std(axis=(0, 1))
    finish = [{"center_crop": {"height": 24, "width": 24}}, {"normalize": {"mean": "dataset", "std": "dataset"}}]
    report = made(collection, finish=finish, augment=COPIES)
    frozen = open_dataset(str(collection.target)).record.frozen
    assert np.allclose(frozen["mean"], mean, rtol=0, atol=1e-12)
    assert np.allclose(frozen["std"], std, rtol=0, atol=1e-12)
    for (key, copy), row in collection.rows().items():
        if copy == 0:
            stored = np.frombuffer(row["image"], np.float32).reshape(24, 24, 3)
            pixels = np.frombuffer(plain[key, 0]["image"], np.uint8).reshape(24, 24, 3)
            assert np.allclose(stored, (pixels / 255 - mean) / std, atol=1e-5)
    for number in range(5):
        collection.write(f"owl/white{number}.jpg", collection.pictures["owl/05.jpg"])
    assert made(collection, finish=finish, augment=COPIES).version == report.version + 1
    assert open_dataset(str(collection.target)).record.frozen["mean"] == frozen["mean"]
    made(collection, finish=finish, augment=COPIES, rebuild=True)
    assert open_dataset(str(collection.target)).record.frozen["mean"] != frozen["mean"]


def test_normalize_by_a_dataset_that_keeps_no_originals(collection: Any) -> None:
    """The constants are those of the training originals all the same, though only their copies are stored."""
    finish = [{"center_crop": {"height": 24, "width": 24}}, {"normalize": {"mean": "dataset", "std": "dataset"}}]
    made(collection, finish=finish, augment=COPIES)
    made(collection, collection.home / "copies", finish=finish, augment={**COPIES, "keep_original": False})
    frozen = [open_dataset(str(target)).record.frozen for target in (collection.target, collection.home / "copies")]
    assert frozen[0]["mean"] == frozen[1]["mean"]
    assert frozen[0]["std"] == frozen[1]["std"]
    whole = collection.rows()
    for name, row in collection.rows(collection.home / "copies").items():
        assert row["image"] == whole[name]["image"]


def test_statistics_of_the_record(collection: Any) -> None:
    """Pooled mean and std of the originals, and counts by split and class, are those of the rows themselves."""
    made(collection, augment=COPIES)
    stats = open_dataset(str(collection.target), split="train").stats
    rows = [row for (_, copy), row in collection.rows().items() if row["split"] == "train" and copy == 0]
    pixels = np.stack([np.frombuffer(row["image"], np.uint8).reshape(-1, 3) for row in rows]) / 255
    assert np.allclose(stats.mean, pixels.mean(axis=(0, 1)), atol=1e-12)
    assert np.allclose(stats.std, pixels.std(axis=(0, 1)), atol=1e-12)
    assert stats.counts["train"] == {label: sum(row["label"] == label for row in rows) for label in ("cat", "dog", "owl")}


def test_copies_without_their_original(collection: Any) -> None:
    """`keep_original: false` stores copies alone in augmented splits, originals elsewhere, and counts images as before."""
    report = made(collection, augment={**COPIES, "keep_original": False})
    rows = collection.rows()
    assert {copy for (_, copy), row in rows.items() if row["split"] == "train"} == {1, 2}
    assert {copy for (_, copy), row in rows.items() if row["split"] == "val"} == {0}
    assert report.accepted == 40
    assert verify(str(collection.target), StorageOptions()).findings == []
    # The record tells of the originals all the same.
    made(collection, collection.home / "whole", augment=COPIES)
    copies, whole = (open_dataset(str(target)) for target in (collection.target, collection.home / "whole"))
    assert copies.record.mean == whole.record.mean
    assert copies.stats.mean == whole.stats.mean


def test_the_budget_refuses(collection: Any) -> None:
    """More rejections than the budget: a message with counts, examples and what to do; nothing is published."""
    with pytest.raises(RejectBudgetExceeded, match=r"2 of 42 images were rejected \(4\.76%\), and the budget is 1\.00%") as caught:
        made(collection, checks={"max_rejected": 0.01})
    assert caught.value.exit_code == 1
    assert "1 truncated, such as cat/cut_short.jpg" in str(caught.value)
    assert not (collection.target / "_delta_log").exists()
    assert f"All 2 rejections: ray-prep rejects {collection.target} --refused" in str(caught.value)
    _, left = read_refusal(open_store(str(collection.target))) or ("", None)
    report = made(collection)
    assert (report.decoded, report.accepted) == (0, 40)
    assert left is not None
    assert sorted(left.to_pylist(), key=repr) == sorted(collection.rejections(), key=repr)
    assert read_refusal(open_store(str(collection.target))) is None


def test_new_rejections_are_those_that_the_version_before_lacks(collection: Any) -> None:
    """Whichever units ran: a refused build's are new to the first version, and old ones are not new for a neighbour's sake."""
    with pytest.raises(RejectBudgetExceeded):
        made(collection, checks={"max_rejected": 0.01})
    assert (made(collection).rejected_new, made(collection).rejected_new) == (2, 0)
    collection.write("cat/new.jpg", collection.pictures["cat/06.jpg"])
    collection.write("cat/web_page.jpg", collection.pictures["dog/web_page.jpg"])
    assert made(collection).rejected_new == 1


def test_a_refusal_without_rejections_leaves_no_list(collection: Any) -> None:
    """Too few images, none of them rejected: there is nothing to list."""
    source = collection.manifest(["image", "pictures/cat/06.jpg"])
    with pytest.raises(CheckFailed) as caught:
        made(collection, source=source, checks={"min_images": 2})
    assert "--refused" not in str(caught.value)
    assert read_refusal(open_store(str(collection.target))) is None


@pytest.mark.parametrize(("share", "count"), [(0.29, 29), (0.57, 57), (0.58, 58), (1e-05, 0)])
def test_a_budget_may_be_met_to_the_image(share: float, count: int) -> None:
    """29 of 100 are not more than 0.29, whatever the product of floats says; one more is."""

    def outcome(rejected: int) -> Outcome:
        return Outcome(100, 100 - rejected, {"corrupt": rejected}, {"corrupt": "x.jpg"}, published=100, dropped=rejected)

    checks = Checks(max_rejected=share, max_drop=share)
    assert [max_rejected(checks, outcome(count)), max_drop(checks, outcome(count))] == [None, None]
    assert max_rejected(checks, outcome(count + 1))
    assert max_drop(checks, outcome(count + 1))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StorageError("may not be deleted")])
def test_what_happens_after_the_commit_hides_no_version(collection: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Ctrl-C then says that a version was published; a store that deletes nothing costs a warning."""

    def fail(_self: PlanFiles) -> None:
        raise error

    monkeypatch.setattr(PlanFiles, "remove", fail)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(Interrupted, match="version 0 was published before"):
            build(collection.recipe(), workers=0)
    else:
        assert any("may not be deleted" in warning for warning in build(collection.recipe(), workers=0).warnings)
    assert open_dataset(str(collection.target)).version == 0


def test_what_was_filtered_is_no_fault(collection: Any) -> None:
    """`too_small` pictures are counted and listed, and leave the budget alone."""
    for name in ("cat/cut_short.jpg", "dog/web_page.jpg"):
        (collection.folder / name).unlink()
    report = made(collection, filter={"min_side": 60}, checks={"max_rejected": 0})
    assert report.rejected_by_reason.keys() == {"too_small"}
    assert report.accepted + report.rejected == 40


@pytest.mark.slow
def test_checks_refuse(collection: Any) -> None:
    """Too few images, or too many gone since the last version: exit 1, and the version before stays."""
    with pytest.raises(CheckFailed, match="40 images would be published, and 41 are asked for"):
        made(collection, checks={"max_rejected": 0.1, "min_images": 41})
    made(collection)
    for path in sorted((collection.folder / "owl").iterdir()):
        path.unlink()
    with pytest.raises(CheckFailed, match=r"13 of 40 published images would go \(32\.5%\), and 20\.0% may; is the source complete"):
        made(collection)
    assert open_dataset(str(collection.target)).version == 0
    assert made(collection, checks={"max_rejected": 0.1, "max_drop": 0.5}).removed == 13


@pytest.mark.slow
def test_what_is_gone_is_counted_whatever_has_come(collection: Any) -> None:
    """Published images that are rejected now, or removed, are lost, though as many new ones make up the number."""
    loose = {"max_rejected": 1, "max_drop": 0.2}
    made(collection, checks=loose)
    names = sorted(name for name in collection.pictures if name.startswith("cat/"))
    for number, name in enumerate(names[:9]):
        collection.write(f"new/{number}.png", collection.pictures[name])
        if number < 5:
            collection.write(name, b"no image")
        else:
            (collection.folder / name).unlink()
    with pytest.raises(CheckFailed, match=r"checks\.max_drop: 9 of 40 published images would go"):
        made(collection, checks=loose)
    report = made(collection, checks=loose | {"max_drop": 0.225})
    assert (report.removed, report.accepted, report.rejected) == (4, 40, 7)


@pytest.mark.slow
def test_an_id_that_names_another_file_has_its_pixels(collection: Any) -> None:
    """Though both files are of one size and time: the row is made anew."""
    first, second = (collection.folder / name for name in ("a.bmp", "b.bmp"))
    for path, value in ((first, 10), (second, 200)):
        ok, data = cv2.imencode(".bmp", np.full((40, 40, 3), value, np.uint8))
        assert ok
        collection.write(path.name, data.tobytes())
    made(collection, source=collection.manifest(["id,image", f"1,{first}"]))
    report = made(collection, source=collection.manifest(["id,image", f"1,{second}"]))
    (row,) = collection.rows().values()
    assert (report.changed, row["source_uri"], row["image"][0]) == (1, str(second), 200)


@pytest.mark.slow
def test_labels_that_are_lost_are_told_of(collection: Any) -> None:
    """By a column that is gone or called otherwise all labels become null: not without a word."""
    names = [f"pictures/{name}" for name in sorted(collection.pictures) if name.startswith("cat/")]
    made(collection, source=collection.manifest(["image,label", *[f"{name},cat" for name in names]]))
    source = collection.manifest(["image,kind", *[f"{name},cat" for name in names]])
    assert any("no image has a label any more" in line for line in outlook(collection.recipe(source=source)).warnings)
    assert any("no image has a label any more" in line for line in made(collection, source=source).warnings)
    assert not any("label" in line for line in made(collection, source=source).warnings)


def test_a_class_that_shifts_is_refused(collection: Any) -> None:
    """Half the cats are gone: their share is compared with the version before, and named; a rebuild starts over."""
    checks = {"max_rejected": 0.1, "max_drop": 0.5, "max_class_shift": 0.1}
    made(collection, checks=checks)
    for path in sorted((collection.folder / "cat").iterdir())[::2]:
        path.unlink()
    with pytest.raises(CheckFailed, match=r"checks\.max_class_shift: the class 'cat' would be 21\.2% of all images and was 35\.0%"):
        made(collection, checks=checks)
    assert open_dataset(str(collection.target)).version == 0
    assert made(collection, checks={**checks, "max_class_shift": 0.14}).version == 1
    (collection.folder / "dog/01.webp").unlink()
    assert made(collection, checks={**checks, "max_class_shift": 0}, rebuild=True).version == 2


@pytest.mark.parametrize("last", [[], ["to_float"], [{"normalize": {"mean": "dataset", "std": "dataset"}}]])
def test_pixels_that_drift_are_refused(collection: Any, last: list[Any]) -> None:
    """White pictures come in: the training mean is compared with the frozen constants, or else with the version before."""
    sections = {"finish": [{"center_crop": {"height": 24, "width": 24}}, *last], "checks": {"max_rejected": 0.1, "max_mean_drift": 0.05}}
    made(collection, **sections)
    mean = open_dataset(str(collection.target)).record.mean
    white = Image.new("RGB", (48, 48), "white")
    for number in range(20):
        white.save(collection.folder / "owl" / f"white{number}.png")
    with pytest.raises(
        CheckFailed, match=r"checks\.max_mean_drift: .* in channel \d and was 0\.\d{4}, and it may drift by 0\.05"
    ) as caught:
        made(collection, **sections)
    assert any(f"was {value:.4f}" in str(caught.value) for value in mean)
    assert made(collection, **sections, rebuild=True).version == 1
    assert made(collection, **sections).version == 1


def test_changes_within_the_limits_pass(collection: Any) -> None:
    """Nothing shifts and nothing drifts: the strictest limits let a build pass that changes nothing else."""
    checks = {"max_rejected": 0.1, "max_class_shift": 0, "max_mean_drift": 0}
    made(collection, checks=checks)
    assert made(collection, checks=checks, output={"compression": "zstd"}, preprocess=[{"resize": {"short_side": 32}}]).version == 0
    os.utime(collection.folder / "cat/06.jpg")
    assert made(collection, checks=checks).version == 1


class _Rival(Silence):
    """Does something at the moment this build is about to publish."""

    def __init__(self, act: Any) -> None:
        self._act = act

    def stage(self, name: str) -> None:
        if name == "publishing":
            self._act()


@pytest.mark.slow
@pytest.mark.parametrize("is_first", [True, False])
def test_of_two_builds_the_second_to_publish_loses(collection: Any, *, is_first: bool) -> None:
    """A conflict is exit 4, says that the same command again builds upon it, and leaves the winner's version untouched."""
    if not is_first:
        made(collection)
        collection.write("owl/new.jpg", collection.pictures["owl/05.jpg"])
    rival = _Rival(lambda: made(collection, augment=COPIES))
    with pytest.raises(Conflict, match="the same command again") as caught:
        build(collection.recipe(), workers=0, progress=rival)
    assert caught.value.exit_code == 4
    after = open_dataset(str(collection.target))
    assert after.version == (0 if is_first else 1)
    assert {copy for _, copy in collection.rows()} == {0, 1, 2}


@pytest.mark.parametrize(("owner", "name"), [(sys.modules["ray_prep.build"], "commit"), (Local, "close")])
def test_an_interrupt_after_the_commit_says_so(collection: Any, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """Ctrl-C just when the commit is in, or while workers are let go: exit 4 names the version that is there."""
    done = getattr(owner, name)

    def interrupted(*given: Any, **named: Any) -> None:
        done(*given, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(Interrupted, match="interrupted, but version 0 was published before"):
        build(collection.recipe(), engine="local", workers=0)
    assert open_dataset(str(collection.target)).version == 0


class StoppedAtTheThirdUnit(Silence):
    """Presses Ctrl-C when it hears of a third unit."""

    units = 0

    def tick(self, tick: Tick) -> None:
        self.units += tick.items > 0
        if self.units == 3:
            raise KeyboardInterrupt


def test_a_stopped_build_goes_on_where_it_was(collection: Any) -> None:
    """Ctrl-C publishes nothing and says so; the next build finds the finished units and makes the same bytes."""
    made(collection, collection.home / "whole", augment=COPIES)

    with pytest.raises(Interrupted, match=r"nothing was published; the 2 units that are done are kept") as caught:
        build(collection.recipe(augment=COPIES), workers=0, progress=StoppedAtTheThirdUnit())
    assert caught.value.exit_code == 4
    assert not (collection.target / "_delta_log").exists()
    report = made(collection, augment=COPIES)
    assert 0 < report.decoded < 42
    assert collection.shards() == collection.shards(collection.home / "whole")


def test_a_build_that_is_stopped_before_it_hears_of_a_unit(collection: Any) -> None:
    """Ray tells of finished units late: that they are kept is said all the same, of a build that had handed units out."""

    class Stopping(Silence):
        def __init__(self, at: str) -> None:
            self.at = at

        def stage(self, name: str) -> None:
            if name == self.at:
                raise KeyboardInterrupt

        def tick(self, tick: Tick) -> None:  # noqa: ARG002  as Progress has it
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"nothing was published; what is done is kept, the same command goes on from there"):
        build(collection.recipe(), workers=0, progress=Stopping("nowhere"))
    with pytest.raises(Interrupted, match=r"nothing was published$"):
        build(collection.recipe(), workers=0, progress=Stopping("listing"))


def test_a_stopped_rebuild_begins_anew(collection: Any) -> None:
    """Nothing found is used by a rebuild, not even what an interrupted one left: it says so, and the next one makes all."""
    made(collection)
    with pytest.raises(Interrupted, match=r"nothing was published; with --rebuild the same command makes all anew"):
        build(collection.recipe(), workers=0, rebuild=True, progress=StoppedAtTheThirdUnit())
    assert made(collection, rebuild=True).decoded == 42


def test_receipts_of_other_conditions_are_no_receipts(collection: Any) -> None:
    """Finished units of a refused build are made again where the shard size or compression is another now."""
    with pytest.raises(RejectBudgetExceeded):
        made(collection, checks={"max_rejected": 0})
    report = made(collection, output={"compression": "zstd"})
    assert report.decoded == 42


def test_a_shard_that_is_gone_is_made_again(collection: Any) -> None:
    """A receipt whose file is missing or cut is not believed."""
    with pytest.raises(RejectBudgetExceeded):
        made(collection, checks={"max_rejected": 0})
    shards = sorted(collection.target.glob("split=*/*.parquet"))
    shards[0].unlink()
    shards[-1].write_bytes(b"cut")
    report = made(collection)
    assert 0 < report.decoded < 42
    assert all(path.startswith(f"split={path[6 : path.index('/')]}/{digest[:20]}") for path, digest in collection.shards())


def test_a_step_of_the_users_that_raises(collection: Any) -> None:
    """The image is `transform_failed` with the step's place and the exception; its neighbours live, and it is not tried again."""
    (collection.home / "picky_step.py").write_text(
        "def fn(image, rng):\n    if image.shape[0] > image.shape[1]:\n"
        "        raise ArithmeticError('too tall for https://me:hidden@host/x')\n    return image\n"
    )
    finish = [{"center_crop": {"height": 24, "width": 24}}]
    preprocess = [{"resize": {"short_side": 32}}, {"python": {"call": "picky_step:fn"}}]
    sections: dict[str, Any] = {"preprocess": preprocess, "finish": finish, "checks": {"max_rejected": 1}}
    report = made(collection, **sections)
    failed = {key for key, reason in collection.reasons().items() if reason == "transform_failed"}
    assert 0 < len(failed) < 40
    message = next(row["message"] for row in open_dataset(str(collection.target)).rejections.to_pylist() if row["key"] in failed)
    assert message == "preprocess[1].python: picky_step:fn raised ArithmeticError: too tall for https://host/x"
    assert report.accepted == 40 - len(failed)
    assert made(collection, **sections).decoded == 0
    again = build(collection.recipe(**sections), workers=0, retry_rejected=True)
    assert again.decoded > 0
    assert not again.is_published  # it came to the same: no version a night


@pytest.mark.slow
def test_each_image_that_is_gone_for_a_moment_has_its_own_attempts(collection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one is gone each night; what was gone is back the night after, however often its unit ran again."""
    names = sorted(collection.pictures)[:4]
    gone = ""
    get = LocalStore.get

    def absent(store: LocalStore, path: str, **more: Any) -> bytes:
        if gone and store.uri_of(path).endswith(gone):
            raise FileNotFoundError(path)
        return get(store, path, **more)

    one_unit: dict[str, Any] = {"output": {"shard_mb": 64}, "split": {"train": 1.0}}
    monkeypatch.setattr(LocalStore, "get", absent)
    for gone in names:
        report = made(collection, **one_unit)
        assert report.rejected_by_reason["missing"] == 1
        assert collection.reasons()[gone] == "missing"
    gone = ""
    assert "missing" not in made(collection, **one_unit).rejected_by_reason
    assert not made(collection, **one_unit).is_published


def test_what_a_killed_build_left_half_written_goes_after_a_week(collection: Any) -> None:
    """The next version's build removes it wherever it writes; what is younger may be another build's, and stays."""
    made(collection)
    (record,) = collection.target.glob("_ray_prep/builds/*/record.json")
    left = []
    for folder in (collection.target / "split=train", collection.target / "_ray_prep" / "work", record.parent):
        for name, age_s in (("old", 8 * 86400), ("young", 3600)):
            path = folder / f".tmp-{name}"
            path.write_bytes(b"cut")
            os.utime(path, (time.time() - age_s,) * 2)
            left.append(path)
    assert not made(collection).is_published
    assert all(path.exists() for path in left)
    collection.write("owl/new.jpg", collection.pictures["owl/05.jpg"])
    assert made(collection).is_published
    assert {path.name for path in left if path.exists()} == {".tmp-young"}


def test_a_bug_in_a_step_ends_the_build_and_names_it(collection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no image's fault fails the unit with its traceback, publishes nothing, and is exit 4."""
    monkeypatch.setattr("ray_prep.walk.integer_sums", lambda _image: 1 / 0)
    with pytest.raises(UnitsFailed, match=r"unit [0-9a-f]{40}: ZeroDivisionError: division by zero") as caught:
        made(collection)
    assert caught.value.exit_code == 4
    assert not (collection.target / "_delta_log").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sections", "column", "dtype"),
    [
        ({"decode": {"color": "gray"}}, (24, 24, 1), np.uint8),
        ({"finish": [{"center_crop": {"height": 24, "width": 24}}, "grayscale"]}, (24, 24, 1), np.uint8),
        ({"finish": [{"center_crop": {"height": 24, "width": 24}}, "to_float"]}, (24, 24, 3), np.float32),
        (
            {"finish": [{"center_crop": {"height": 24, "width": 24}}, {"normalize": {"mean": "imagenet", "std": "imagenet"}}]},
            (24, 24, 3),
            np.float32,
        ),
        ({"finish": [], "output": {"shape": "varies"}}, None, np.uint8),
        ({"finish": [], "preprocess": [], "output": {"shape": "varies"}}, None, np.uint8),
        ({"output": {"image": "jpeg"}}, (24, 24, 3), np.uint8),
        ({"output": {"image": "png"}}, (24, 24, 3), np.uint8),
        ({"output": {"image": "webp", "compression": "zstd"}}, (24, 24, 3), np.uint8),
        ({"decode": {"color": "gray"}, "output": {"image": "jpeg", "shape": "varies"}, "finish": []}, None, np.uint8),
    ],
)
def test_every_kind_of_output_is_read_back(collection: Any, sections: dict[str, Any], column: Any, dtype: Any) -> None:
    """Gray, float, varying shapes, and encoded images come back as arrays of the shape the row says."""
    made(collection, augment=None, **sections)
    count = 0
    for batch in open_dataset(str(collection.target)).batches(columns=("key", "height", "width", "channels")):
        for place, image in enumerate(batch["image"]):
            assert image.shape == tuple(int(batch[name][place]) for name in ("height", "width", "channels"))
            assert image.dtype == dtype
            assert column is None or image.shape == column
            count += 1
    assert count == 40


def test_pictures_are_stored_upright(collection: Any) -> None:
    """The same picture, stored turned and mirrored in eight ways with the EXIF orientation that says so, gives the same row."""
    rows, columns = np.mgrid[0:48, 0:64]
    upright = Image.fromarray(np.stack([rows * 5, columns * 4, (rows + columns) * 2], axis=2).astype(np.uint8))
    stored = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions that undo each orientation
    (collection.home / "turned").mkdir()
    for orientation, transposition in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = upright if transposition is None else upright.transpose(Image.Transpose(transposition))
        turned.save(collection.home / "turned" / f"{orientation}.jpg", quality=95, subsampling=0, exif=exif.tobytes())
    made(collection, source={"uri": str(collection.home / "turned")}, split=None)
    found = collection.rows()
    pixels = {row["source_orientation"]: np.frombuffer(row["image"], np.uint8).astype(int) for row in found.values()}
    assert pixels.keys() == stored.keys()
    assert max(np.abs(image - pixels[1]).mean() for image in pixels.values()) < 3
    assert {(row["source_height"], row["source_width"]) for row in found.values()} == {(48, 64), (64, 48)}


def test_names_of_any_bytes(collection: Any) -> None:
    """Names in other scripts are keys as they are; bytes that are not UTF-8 become %XX, and both are fetched."""
    source = {"uri": str(collection.home / "names"), "layout": "class_folders"}
    folder = os.fsencode(collection.home / "names" / "chat")
    os.makedirs(folder)
    for name in ("été 1.jpg".encode(), "写真.jpg".encode(), b"caf\xe9.jpg", b"new\nline.jpg", b"100%.jpg"):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(collection.pictures["cat/06.jpg"])
    report = made(collection, source=source, split=None)
    assert (report.listed, report.rejected) == (5, 0)
    assert {key for key, _ in collection.rows()} == {
        "chat/été 1.jpg",
        "chat/写真.jpg",
        "chat/caf%E9.jpg",
        "chat/new\nline.jpg",
        "chat/100%.jpg",
    }
    assert made(collection, source=source, split=None).decoded == 0


def test_values_of_a_manifest_are_carried(collection: Any) -> None:
    """Long texts, 64-bit numbers, nulls and an empty label come through; typed columns keep their types."""
    long = "x" * 100_000
    lines = [
        "image,label,note,count",
        f"pictures/cat/06.jpg,,{long},9223372036854775807",
        "pictures/cat/09.jpg,cat,,-9223372036854775808",
        "pictures/cat/12.jpg,cat,é\u2028,",
    ]
    source = {**collection.manifest(lines), "columns": {"count": "int64"}}
    made(collection, source=source, split=None)
    rows = collection.rows()
    assert rows["pictures/cat/06.jpg", 0]["label"] is None
    assert rows["pictures/cat/06.jpg", 0]["note"] == long
    assert [rows[f"pictures/cat/{name}.jpg", 0]["count"] for name in ("06", "09", "12")] == [2**63 - 1, -(2**63), None]
    assert rows["pictures/cat/12.jpg", 0]["note"] == "é\u2028"
    assert open_dataset(str(collection.target)).stats.counts["train"] == {"": 1, "cat": 2}
    assert made(collection, source=source, split=None).decoded == 0


def test_a_value_that_does_not_fit_is_a_wrong_recipe(collection: Any) -> None:
    """A text in a column of numbers is exit 2 and names file, line, column and value."""
    source = {**collection.manifest(["image,count", "pictures/cat/06.jpg,many"]), "columns": {"count": "int64"}}
    with pytest.raises(RecipeError, match=r"list\.csv: .*column 'count': 'many' is no int64"):
        made(collection, source=source)


def test_images_a_manifest_names_and_nobody_has(collection: Any) -> None:
    """One that is missing is a rejection; where all are, the source's place is wrong: exit 3, whatever the budget."""
    source = collection.manifest(["image", "pictures/cat/06.jpg", "gone.jpg"])
    assert made(collection, source=source, checks={"max_rejected": 0.5}, split=None).rejected_by_reason == {"missing": 1}
    for count in (5, 30):
        source = collection.manifest(["image", *[f"gone/{number}.jpg" for number in range(count)]])
        with pytest.raises(StorageError, match="is the path right, and is the storage mounted"):
            made(collection, collection.home / "gone", source=source, checks={"max_rejected": 1, "min_images": 0}, split=None)


@pytest.mark.parametrize(
    ("change", "error", "what"),
    [
        (lambda folder: {"uri": str(folder / "nowhere")}, StorageError, "nowhere"),
        (lambda folder: {"uri": str(folder / "empty")}, StorageError, "lists no image; nothing lies there"),
        (lambda folder: {"uri": str(folder / "texts")}, StorageError, "lists no image; ignored: 1 .txt"),
        (lambda folder: {"uri": str(folder / "list.csv"), "layout": "manifest"}, StorageError, "there is no such manifest"),
        (lambda folder: {"uri": str(folder / "pictures"), "include": ["*.gif"]}, StorageError, "42 left out by source.include"),
    ],
)
def test_sources_that_are_not_there(collection: Any, change: Any, error: type[RayPrepError], what: str) -> None:
    """A missing or empty source is exit 3, with the place and what was found instead."""
    (collection.home / "empty").mkdir()
    (collection.home / "texts").mkdir()
    (collection.home / "texts" / "a.txt").write_text("x")
    with pytest.raises(error, match=what):
        made(collection, source=change(collection.home))
    assert not (collection.target / "_delta_log").exists()


def test_a_table_of_somebody_elses(collection: Any) -> None:
    """A Delta table that ray_prep did not make is left alone, and the message says to write elsewhere."""
    import pyarrow as pa

    write_deltalake(str(collection.target), pa.table({"x": [1, 2]}))
    with pytest.raises((StorageError, RecipeError), match=r"not made by ray_prep|ray_prep did not make"):
        made(collection)
    assert sorted(path.name for path in (collection.target / "_delta_log").iterdir()) == ["00000000000000000000.json"]


def test_a_target_that_cannot_be_written(collection: Any) -> None:
    """A target below a file is exit 3 and names the place."""
    (collection.home / "file").write_text("x")
    with pytest.raises(StorageError, match="file/dataset"):
        made(collection, collection.home / "file" / "dataset")


def test_an_unreadable_receipt_is_no_receipt(collection: Any) -> None:
    """A receipt of another format, or cut by a full disk, makes its unit again."""
    with pytest.raises(RejectBudgetExceeded):
        made(collection, checks={"max_rejected": 0})
    receipts = sorted((collection.target / "_ray_prep" / "work").glob("*.json"))
    receipts[0].write_bytes(b"")
    receipts[1].write_bytes(b'{"format": 99}')
    report = made(collection)
    assert 0 < report.decoded < 42


def test_no_split_of_the_augmented_ones(collection: Any) -> None:
    """`augment.splits` that hold no image are warned about."""
    source = collection.manifest(["image,split", "pictures/cat/06.jpg,fold-1"])
    report = made(collection, source=source, split={"by": "source"}, augment=COPIES)
    assert any("no image is in the split 'train'; there are fold-1" in warning for warning in report.warnings)


def test_progress_is_told(collection: Any) -> None:
    """Stages come in order, and ticks add up to what was decoded and rejected."""

    class Watching(Silence):
        def __init__(self) -> None:
            self.stages: list[str] = []
            self.items = self.rejected = self.expected = 0

        def stage(self, name: str) -> None:
            self.stages.append(name)

        def expect(self, items: int, units: int) -> None:
            self.expected += items
            assert units > 1

        def tick(self, tick: Tick) -> None:
            self.items += tick.items
            self.rejected += tick.rejected

    watching = Watching()
    build(collection.recipe(), workers=0, progress=watching)
    assert watching.stages == ["listing", "building", "publishing"]
    assert (watching.items, watching.expected, watching.rejected) == (42, 42, 2)
