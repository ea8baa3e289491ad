"""Builds from tars and Parquet files."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_prep.build import build
from ray_prep.dataset.reader import open as open_dataset
from ray_prep.dataset.record import read_record
from ray_prep.dataset.table import open_table
from ray_prep.dataset.verify import verify
from ray_prep.errors import RecipeError, StorageError
from ray_prep.reproduction import reproduce
from ray_prep.storage import StorageOptions, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Collection

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

CLASSES = ["cat", "dog", "owl"]


def _tar(path: Path, pictures: dict[str, bytes], label: Any = None) -> None:
    """Write samples: each picture, and what `label` says of its class as .cls."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, data in sorted(pictures.items()):
            members = {name: data} | ({} if label is None else {name.rpartition(".")[0] + ".cls": str(label(name)).encode()})
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    os.utime(path, ns=(1_700_000_000_000_000_000, 1_700_000_000_000_000_000))


def _number(name: str) -> int:
    return CLASSES.index(name.split("/")[0])


def _tars(collection: Collection, label: Any = _number) -> dict[str, Any]:
    """Deal the pictures into two tars; return the `source` section."""
    names = sorted(collection.pictures)
    for place, suffix in enumerate((".tar", ".tar.gz")):
        _tar(collection.home / "tars" / f"{place}{suffix}", {name: collection.pictures[name] for name in names[place::2]}, label)
    return {"uri": str(collection.home / "tars"), "layout": "webdataset"}


def _pixels(collection: Collection, target: Any = None) -> dict[str, bytes]:
    """Return the stored original of each picture, by its name without folder of a container and suffix."""
    rows = collection.rows(target)
    return {"/".join(key.split("/")[-2:]).split(".")[0]: row["image"] for (key, copy), row in rows.items() if copy == 0}


def test_images_in_a_tar_are_those_of_a_folder(collection: Collection) -> None:
    """The same pictures give the same pixels; every member is listed, and in the dataset or rejected with its reason."""
    folder = build(collection.recipe(collection.home / "folder"), workers=0)
    tars = build(collection.recipe(source=_tars(collection)), workers=0)
    assert (tars.listed, tars.accepted, tars.rejected_by_reason) == (folder.listed, folder.accepted, folder.rejected_by_reason)
    assert _pixels(collection) == _pixels(collection, collection.home / "folder")


def test_numbers_of_classes_are_ids_and_get_names(collection: Collection) -> None:
    """An integer .cls is the label_id; `classes` gives it its name; text without `classes` is refused."""
    source = _tars(collection)
    build(collection.recipe(source=source), workers=0)
    assert {(row["label"], row["label_id"]) for row in collection.rows().values()} == {("0", 0), ("1", 1), ("2", 2)}
    assert verify(str(collection.target), StorageOptions(), has_stored_sums=lambda _record: True).findings == []
    named = collection.home / "named"
    build(collection.recipe(named, source=source, classes=CLASSES), workers=0)
    assert {(row["label"], row["label_id"]) for row in collection.rows(named).values()} == {("cat", 0), ("dog", 1), ("owl", 2)}
    assert verify(str(named), StorageOptions(), has_stored_sums=lambda _record: True).findings == []
    assert open_dataset(str(named)).classes == CLASSES
    with pytest.raises(RecipeError, match=r"the class that is called '\d' stands at place \d"):
        build(collection.recipe(collection.home / "shifted", source=source, classes=("1", "2", "3")), workers=0)
    text = _tars(collection, lambda name: name.split("/")[0])
    with pytest.raises(RecipeError, match="list every class in the recipe's `classes`"):
        build(collection.recipe(collection.home / "text", source=text), workers=0)
    build(collection.recipe(collection.home / "text", source=text, classes=CLASSES), workers=0)
    assert {(row["label"], row["label_id"]) for row in collection.rows(collection.home / "text").values()} == {
        ("cat", 0),
        ("dog", 1),
        ("owl", 2),
    }


@pytest.mark.parametrize("classes", [None, CLASSES])
def test_members_of_a_tar_are_made_again(collection: Collection, classes: list[str] | None) -> None:
    """With the class that their number stands for and all they carry: what nobody changed is as it was, without a note."""
    build(collection.recipe(source=_tars(collection), **({} if classes is None else {"classes": classes})), workers=0)
    snapshot = open_table(str(collection.target), StorageOptions())
    assert snapshot is not None
    assert snapshot.record is not None
    made = reproduce(snapshot, read_record(open_store(snapshot.uri), snapshot.record), StorageOptions(), 5)
    assert (made.items, made.findings, made.notes) == (5, [], [])


def test_what_is_in_no_sample_is_counted(collection: Collection) -> None:
    """Further pictures of a sample, hidden members and sidecars are `ignored`, by suffix, in every build's report."""
    source = _tars(collection)
    with tarfile.open(collection.home / "tars" / "0.tar", "a") as tar:
        for name in ("zz/a.jpg", "zz/a.png", "zz/_hidden.jpg", "zz/a.xml"):
            info = tarfile.TarInfo(name)
            info.size = len(collection.pictures["cat/06.jpg"])
            tar.addfile(info, io.BytesIO(collection.pictures["cat/06.jpg"]))
    first = build(collection.recipe(source=source), workers=0)
    assert first.ignored == {".jpg": 1, ".png": 1, ".xml": 1}
    (collection.home / "tars" / "notes.md").write_text("x")
    again = build(collection.recipe(source=source), workers=0)
    assert (again.is_published, again.ignored) == (False, {**first.ignored, ".md": 1})
    _tar(collection.home / "tars" / "2.tar", {"cat/new.jpg": collection.pictures["cat/06.jpg"]}, _number)
    assert build(collection.recipe(source=source), workers=0).ignored == again.ignored


def test_a_night_with_containers(collection: Collection) -> None:
    """Unchanged containers are not read; of a changed one members are counted as added, changed and removed."""
    source = _tars(collection)
    first = build(collection.recipe(source=source), workers=0)
    again = build(collection.recipe(source=source), workers=0)
    assert (again.is_published, again.decoded, again.unchanged) == (False, 0, first.listed)
    names = sorted(collection.pictures)[0::2]
    kept = {name: collection.pictures[name] for name in names[2:]} | {"cat/new.jpg": collection.pictures["cat/06.jpg"]}
    _tar(collection.home / "tars" / "0.tar", kept, _number)
    os.utime(collection.home / "tars" / "0.tar")
    night = build(collection.recipe(source=source), workers=0)
    assert (night.added, night.removed, night.changed) == (1, 2, len(names) - 2)
    assert night.decoded == len(kept)
    assert night.unchanged == first.listed - len(names)
    assert night.listed == night.accepted + night.rejected
    anew = collection.home / "anew"
    build(collection.recipe(anew, source=source), workers=0)
    assert collection.rows() == collection.rows(anew)
    assert collection.shards() == collection.shards(anew)


def _two_in_a_table(collection: Collection) -> None:
    path = collection.home / "tables" / "cats.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"image": [collection.pictures[name] for name in ("cat/06.jpg", "cat/09.jpg")]}), path)


@pytest.mark.parametrize("output", ["tables/dataset", "tables", "tables/a/b"])
def test_a_dataset_among_its_own_tables_is_refused(collection: Collection, output: str) -> None:
    """Its shards are Parquet files, which the next build would read as a source: exit 2 names both places and what would be right."""
    _two_in_a_table(collection)
    target, source = collection.home / output, {"uri": str(collection.home / "tables"), "layout": "parquet"}
    with pytest.raises(RecipeError, match=r"output\.uri: .* lies in source\.uri") as caught:
        build(collection.recipe(target, source=source), workers=0)
    assert str(target) in str(caught.value)
    assert str(collection.home / "tables") in str(caught.value)
    assert not (target / "_ray_prep").exists()


@pytest.mark.parametrize(
    ("output", "more"),
    [("tables/dataset", {"exclude": ["dataset/**"]}), ("tables/_dataset", {}), ("tables-made", {}), ("tables/d", {"include": ["*"]})],
)
def test_a_dataset_beside_its_tables_is_built_again(collection: Collection, output: str, more: dict[str, Any]) -> None:
    """Excluded, hidden or beside: the second build lists what the first did."""
    _two_in_a_table(collection)
    source = {"uri": str(collection.home / "tables"), "layout": "parquet", **more}
    for is_published in (True, False):
        report = build(collection.recipe(collection.home / output, source=source, split=None), workers=0)
        assert (report.listed, report.is_published) == (2, is_published)


@pytest.mark.parametrize("layout", ["files", "class_folders"])
def test_a_dataset_among_its_own_pictures_is_ignored(collection: Collection, layout: str) -> None:
    """Shards, records and the log are sidecars or hidden, for these layouts: the second build lists what the first did."""
    source = {"uri": str(collection.folder), "layout": layout}
    for is_published in (True, False):
        report = build(collection.recipe(collection.folder / "dataset", source=source), workers=0)
        assert (report.listed, report.is_published) == (42, is_published)


def test_a_damaged_container_loses_no_other(collection: Collection) -> None:
    """What a cut tar holds before the cut is there; the cut itself is one rejection of the container's; others live."""
    source = _tars(collection, None)
    whole = collection.home / "tars" / "0.tar"
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    report = build(collection.recipe(source=source, checks={"max_rejected": 0.5}), workers=0)
    assert collection.reasons()["0.tar"] == "truncated"
    assert report.listed == report.accepted + report.rejected
    assert sum(key.startswith("1.tar.gz/") for key, _ in collection.rows()) > 15
    again = build(collection.recipe(source=source, checks={"max_rejected": 0.5}), workers=0)
    assert (again.is_published, again.decoded) == (False, 0)


def test_a_table_of_images(collection: Collection) -> None:
    """Encoded bytes in a column: labels by name, ids as keys, other columns carried, splits by column."""
    names = sorted(collection.pictures)
    table = pa.table(
        {
            "image": [{"bytes": collection.pictures[name], "path": name} for name in names],
            "label": [name.split("/")[0] for name in names],
            "id": names,
            "split": ["val" if place % 4 == 0 else "train" for place in range(len(names))],
            "price": [float(place) for place in range(len(names))],
        }
    )
    (collection.home / "tables").mkdir()
    pq.write_table(table.slice(0, 20), collection.home / "tables" / "a.parquet", row_group_size=6)
    pq.write_table(table.slice(20), collection.home / "tables" / "b.parquet", row_group_size=6)
    source = {"uri": str(collection.home / "tables"), "layout": "parquet"}
    report = build(collection.recipe(source=source, split={"by": "source"}), workers=0)
    build(collection.recipe(collection.home / "folder"), workers=0)
    assert _pixels(collection) == _pixels(collection, collection.home / "folder")
    rows = collection.rows()
    assert report.accepted == 40
    assert open_dataset(str(collection.target)).classes == CLASSES
    for (key, _), row in rows.items():
        place = names.index(key)
        assert (row["label"], row["price"], row["split"]) == (key.split("/")[0], float(place), "val" if place % 4 == 0 else "train")
        assert "src_split" not in row
    other = build(collection.recipe(collection.home / "train", source=source, split=None), workers=0)
    assert other.warnings == (
        "split: the source's column 'split' tells splits, and all images go to train; `split: {by: source}` takes them as told",
    )
    carried = collection.rows(collection.home / "train")
    assert {row["split"] for row in carried.values()} == {"train"}
    assert {place: row["src_split"] for place, row in carried.items()} == {place: row["split"] for place, row in rows.items()}


def test_one_id_in_two_tables_is_one_image(collection: Collection) -> None:
    """Keys are unique over all containers: the smallest uri stays, the other is `duplicate_key`."""
    (collection.home / "tables").mkdir()
    for name, picture in (("a", "cat/06.jpg"), ("b", "owl/05.jpg")):
        table = pa.table({"image": [collection.pictures[picture], collection.pictures["dog/07.jpg"]], "id": ["same", name]})
        pq.write_table(table, collection.home / "tables" / f"{name}.parquet")
    source = {"uri": str(collection.home / "tables"), "layout": "parquet"}
    report = build(collection.recipe(source=source, checks={"max_rejected": 0.5}), workers=0)
    assert (report.listed, report.accepted, report.rejected_by_reason) == (4, 3, {"duplicate_key": 1})
    kept = collection.rows()["same", 0]
    assert kept["source_uri"].endswith("a.parquet#0")
    (rejection,) = collection.rejections()
    assert "a.parquet#0 has the same key and stays" in rejection["message"]
    again = build(collection.recipe(source=source, checks={"max_rejected": 0.5}), workers=0)
    assert (again.is_published, again.decoded) == (False, 0)


def test_constants_are_measured_over_containers(collection: Collection) -> None:
    """`normalize: dataset` takes training members alone, and gets the numbers that the same files give."""
    sections: dict[str, Any] = {
        "finish": [{"center_crop": {"height": 24, "width": 24}}, {"normalize": {"mean": "dataset", "std": "dataset"}}],
        "split": {"train": 1.0},
    }
    build(collection.recipe(source=_tars(collection), **sections), workers=0)
    build(collection.recipe(collection.home / "folder", **sections), workers=0)
    one, other = (open_dataset(str(target)).record.frozen for target in (collection.target, collection.home / "folder"))
    assert (one["mean"], one["std"]) == (other["mean"], other["std"])


def test_what_cannot_be(collection: Collection) -> None:
    """A limit would read whole containers for a few images; a folder without a container lists nothing."""
    with pytest.raises(RecipeError, match="containers are read whole"):
        build(collection.recipe(source=_tars(collection)), workers=0, limit=3)
    with pytest.raises(StorageError):
        build(collection.recipe(source={"uri": str(collection.folder), "layout": "webdataset"}), workers=0)
