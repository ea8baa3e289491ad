"""A starter recipe says what a person would have written after a look at the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from ray_prep.advice import recipe_advice
from ray_prep.errors import RecipeError, StorageError
from ray_prep.recipe import Recipe
from ray_prep.starter import starter_recipe
from ray_prep.storage import StorageOptions

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Collection


def _starter(uri: Path) -> str:
    return starter_recipe(str(uri), "/out", StorageOptions())


def test_splits_of_the_source_are_taken(collection: Collection) -> None:
    """Split folders and a split column make `by: source`; where some images have none, shares stand there, and a line says why."""
    home = collection.home / "given"
    for name in ("train/cat/1.jpg", "train/dog/2.jpg", "valid/cat/2.jpg", "test/dog/3.jpg"):
        collection.write(f"../given/{name}", collection.pictures["cat/06.jpg"])
    collection.manifest(["image,split", "pictures/cat/06.jpg,a", "pictures/cat/09.jpg,b"])
    for uri in (home, collection.home / "list.csv"):
        assert yaml.safe_load(_starter(uri))["split"] == {"by": "source"}
    collection.write("../given/cat/4.jpg", collection.pictures["cat/06.jpg"])
    text = _starter(home)
    assert yaml.safe_load(text)["split"] == {"train": 0.8, "val": 0.1, "test": 0.1, "by": "key"}
    assert "# 4 of them are told to be in a split (test, train, val), 1 are not: give these one, then split: {by: source}" in text


def test_names_of_folders_and_splits_may_be_any(collection: Collection, tmp_path: Path) -> None:
    """Line ends in names of classes stay in the comment; splits that do not do as names are told of, and not taken."""
    collection.write("c\nx: [/1.png", collection.pictures["cat/06.jpg"])
    assert yaml.safe_load(_starter(collection.folder))["source"]["layout"] == "class_folders"
    (collection.home / "l.csv").write_text("uri,split\npictures/cat/06.jpg,training set\n", encoding="utf-8")
    text = _starter(collection.home / "l.csv")
    assert "the source's splits (training set) do not do as names" in text
    assert Recipe.parse(yaml.safe_load(text)).split.by == "key"
    with pytest.raises(RecipeError, match=r"recipes fill in \{date\}"):
        _starter(tmp_path / "{date}")
    dated = starter_recipe(str(collection.folder), "/out/{date}", StorageOptions())
    assert yaml.safe_load(dated)["output"]["uri"] == "/out/{date}"


def test_containers_are_told_of(tmp_path: Path) -> None:
    """Nobody lists them as images; the layout that reads them is named."""
    (tmp_path / "a.tar").write_bytes(b"x")
    with pytest.raises(StorageError, match=r"\.tar files of images are `layout: webdataset`"):
        _starter(tmp_path)


def test_copies_are_there_to_be_taken(collection: Collection) -> None:
    """As it is written nothing needs a warning; with the # of `augment` taken away it is a recipe with copies."""
    text = _starter(collection.folder)
    recipe = Recipe.parse(yaml.safe_load(text))
    assert (recipe.copies.copies, list(recipe_advice(recipe))) == (0, [])
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("#augment:"))
    augmented = Recipe.parse(yaml.safe_load("\n".join(line.removeprefix("#") if at >= first else line for at, line in enumerate(lines))))
    assert (augmented.copies.copies, len(augmented.augment), list(recipe_advice(augmented))) == (1, 3, [])
