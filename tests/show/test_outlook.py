"""`plan` says what a build then does; `explain` and `preview` tell of the same items."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ray_prep.build import build
from ray_prep.errors import RecipeError, StorageError
from ray_prep.show.explain import explain
from ray_prep.show.outlook import outlook, outlook_text
from ray_prep.show.preview import preview
from ray_prep.storage import StorageOptions
from ray_prep.walk import Walk

if TYPE_CHECKING:
    from ray_prep.sample import Item
    from tests.conftest import Collection

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow


def _reads_only(_path: object, mode: int) -> bool:
    """Answer like `os.access` where nothing may be written."""
    return not mode & os.W_OK


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_a_plan_foretells_the_build_and_writes_nothing(collection: Collection) -> None:
    """Units, items and bytes are the build's; after it there is nothing left to make."""
    recipe = collection.recipe(augment={"copies": 1, "transforms": [{"HorizontalFlip": {"p": 0.5}}]})
    before = _files(collection.home)
    found = outlook(recipe)
    assert _files(collection.home) == before
    assert found.version is None
    assert (found.units_to_run, found.items_to_run) == (found.units, found.listed)
    assert found.trial is not None
    assert 0 < found.trial.items <= 16
    assert found.trial.item_s > 0
    assert "to make: " in outlook_text(found)

    report = build(recipe, engine="local", workers=0)
    assert found.listed == report.listed
    rejected = [item for item in recipe.source.items(Counter()) if item.key in collection.reasons()]
    assert len(rejected) == report.rejected > 0
    assert found.rows == report.rows + sum(recipe.rows_per_item(recipe.split.of(item)) for item in rejected)

    again = outlook(recipe)
    assert (again.version, again.units_to_run, again.items_to_run, again.trial) == (0, 0, 0, None)
    assert again.unchanged == report.listed
    assert "a build would decode no image" in outlook_text(again)


def test_who_may_only_read_a_dataset_may_plan(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published, it is a warning; where nothing stands, it is what a build would say."""
    recipe = collection.recipe()
    with monkeypatch.context() as refusing:
        refusing.setattr("os.access", _reads_only)
        with pytest.raises(StorageError, match="does not allow it"):
            outlook(recipe)
    build(recipe, engine="local", workers=0)
    monkeypatch.setattr("os.access", _reads_only)
    found = outlook(recipe)
    assert found.unchanged == found.listed
    assert "warning: a build would fail: " in outlook_text(found)


def test_one_image_more_makes_one_unit_anew(collection: Collection) -> None:
    """Finished units are found: only the new image's has to be made."""
    recipe = collection.recipe()
    build(recipe, engine="local", workers=0)
    collection.write("cat/new.jpg", collection.pictures["cat/06.jpg"])
    found = outlook(recipe)
    assert (found.added, found.unchanged) == (1, found.listed - 1)
    assert 1 <= found.units_to_run < found.units
    assert found.items_to_run < found.listed
    assert build(recipe, engine="local", workers=0).decoded == found.items_to_run


def test_a_plan_says_why_and_how_much_is_rewritten(collection: Collection) -> None:
    """By what changed images differ, and what is made anew for each that differs."""
    lines = [f"pictures/{name},{name.split('/')[0]}" for name in sorted(collection.pictures)]
    recipe = collection.recipe(source=collection.manifest(["image,label", *lines]))
    assert outlook(recipe).rewriting is None
    build(recipe, engine="local", workers=0)
    os.utime(collection.home / lines[0].partition(",")[0], (1, 1))
    lines[1:4] = [line.partition(",")[0] + ",owl" for line in lines[1:4]]
    recipe = collection.recipe(source=collection.manifest(["image,label", *lines[:-1]]))
    found = outlook(recipe)
    assert (found.changes, found.removed) == ({"label or columns": 3, "version": 1}, 1)
    assert found.rewriting == pytest.approx(found.items_to_run / 5)
    text = outlook_text(found)
    assert "0 added, 4 changed (3 in label or columns, 1 in version), 1 removed" in text
    assert f"rewrites {found.rewriting:.1f} bytes for each byte" in text


def test_bytes_of_encoded_images_are_measured(collection: Collection) -> None:
    """What a few images take says what all will: within a factor of two, where a fixed guess would be off by a hundred."""
    recipe = collection.recipe(output={"image": "png"})
    found = outlook(recipe)
    build(recipe, engine="local", workers=0)
    rows_bytes = sum(len(row["image"]) for row in collection.rows().values())
    assert rows_bytes / 2 < found.bytes < rows_bytes * 2


def test_many_copies_are_guessed_from_a_few(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan makes some copies, whatever number is asked for; the time of the others is added, and their memory."""
    made: list[int] = []
    rows = Walk.rows

    def counted(walk: Walk, split: str, item: Item, data: bytes) -> list[dict[str, Any]]:
        found = rows(walk, split, item, data)
        made.append(len(found))
        return found

    monkeypatch.setattr(Walk, "rows", counted)
    blur = {"GaussianBlur": {"blur_limit": [11, 11], "p": 1}}
    trials = [
        outlook(collection.recipe(split={"train": 1}, augment={"copies": copies, "transforms": [blur]})).trial for copies in (100, 1000)
    ]
    assert max(made) == 17
    assert trials[0] is not None
    assert trials[1] is not None
    assert 4 < trials[1].item_s / trials[0].item_s < 20
    assert trials[1].worker_bytes - trials[0].worker_bytes == 900 * 24 * 24 * 3


def test_a_plan_warns_as_the_build_does(collection: Collection) -> None:
    """Splits that the source tells and nobody takes, and a split to augment that is empty: the same lines, before any work."""
    source = collection.manifest(["image,split", "pictures/cat/06.jpg,train", "pictures/cat/09.jpg,test"])
    recipe = collection.recipe(source=source, split=None)
    found = outlook(recipe)
    assert "  warning: split: the source's column 'split' tells splits (test 1, train 1)" in outlook_text(found)
    assert found.warnings == build(recipe, engine="local", workers=0).warnings
    recipe = collection.recipe(collection.home / "other", source=source, split={"by": "source"}, augment={"copies": 1, "splits": ["fold"]})
    assert found.to_dict()["warnings"] == found.warnings
    told = outlook(recipe).warnings
    assert told[0].startswith("augment.copies: 1 without transforms: every copy is an exact duplicate")
    assert any("no image is in the split 'fold'; there are test, train" in line for line in told)


def test_a_plan_warns_of_images_without_a_class(collection: Collection) -> None:
    """Where a class folder is named as a split, images lie beside the folders, or a label's column is written otherwise."""
    for name in ("bus/1.jpg", "train/2.jpg", "3.jpg"):
        collection.write(f"vehicles/{name}", collection.pictures["cat/06.jpg"])
    folders = {"uri": str(collection.folder / "vehicles"), "layout": "class_folders"}
    warnings = outlook(collection.recipe(source=folders)).warnings
    assert any(line.startswith("source: 2 images have no class: they lie at the root, or directly in") for line in warnings)
    source = collection.manifest(["image, Label", "pictures/cat/06.jpg,cat"])
    (warning,) = outlook(collection.recipe(source=source)).warnings
    assert warning.startswith("source.columns: no image has a class, and the column ' Label' is carried")


def test_explain_refuses_a_key_nobody_knows(collection: Collection) -> None:
    """Before and after a build; a likely key is named."""
    file = collection.file()
    options = StorageOptions()
    with pytest.raises(RecipeError, match=r"lists no such key; did you mean 'cat/06\.jpg'"):
        explain(str(file), "cat/06.jpeg", (), None, options)
    build(collection.recipe(), engine="local", workers=0)
    with pytest.raises(RecipeError, match="lists no such key; a key there is, for example, "):
        explain(str(file), "~~~", (), None, options)
    (collection.folder / "cat" / "notes.txt").write_text("x")
    (collection.folder / "_old").mkdir()
    (collection.folder / "_old" / "a.jpg").write_bytes(b"x")
    for key, why in (
        ("cat/notes.txt", r"it is there, but \.txt is ignored"),
        ("_old/a.jpg", r"it is there, but a part of its path begins with \. or _"),
        ("_old/b.jpg", "did you mean|for example"),
    ):
        with pytest.raises(RecipeError, match=f"lists no such key; {why}"):
            explain(str(file), key, (), None, options)
    assert "no: source.exclude matches it" in explain(str(file), "cat/06.jpg", ["source.exclude=[cat/**]"], None, options)
    with pytest.raises(RecipeError, match=r"^https://h/x: .* lists no such key"):
        explain(str(file), "https://u:secret@h/x?sig=secret", (), None, options)
    text = explain(str(file), "cat/cut_short.jpg", (), None, options)
    assert "truncated" in text
    assert "has it among the rejections" in text


def test_a_preview_shows_copies_first(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images of three are ones that get copies, whatever the splits of the first few are."""
    shown: list[str] = []
    recipe = collection.recipe(split={"train": 0.3, "val": 0.7}, augment={"copies": 1, "transforms": [{"HorizontalFlip": {"p": 0.5}}]})
    monkeypatch.setattr("ray_prep.show.preview.draw", lambda _recipe, rows, _path, _legend: shown.extend(row.split for row in rows))
    preview(recipe, Path("unused.png"), 6)
    assert shown == ["train"] * 4 + ["val"] * 2
