from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_prep.arguments import place, texts, whole_number
from ray_prep.build import build
from ray_prep.dataset.reader import open as open_dataset
from ray_prep.errors import RecipeError
from ray_prep.recipe import Recipe


def test_what_is_meant_is_taken() -> None:
    """Numpy's numbers, a text for a list of one, a path object for its text."""
    assert whole_number("version", np.int64(3)) == 3
    assert texts("columns", "key") == texts("columns", (name for name in ["key"])) == ["key"]
    assert place("uri", Path("/data")) == "/data"


@pytest.mark.parametrize("value", ["3", 3.0, True, None, -1])
def test_what_is_no_whole_number_is_said(value: object) -> None:
    """A text, a float and a flag are none, whatever Python makes of them."""
    with pytest.raises(RecipeError, match=rf"version: {re.escape(repr(value))} is no whole number of 0 or more"):
        whole_number("version", value)


@pytest.mark.parametrize(("value", "wrong"), [(5, "5"), (["key", 5], "5"), ([None], "None")])
def test_what_is_no_list_of_texts_is_said(value: Any, wrong: str) -> None:
    """The first that is no text is named."""
    with pytest.raises(RecipeError, match=f"columns: should be a list of texts, and {wrong} is none"):
        texts("columns", value)


@pytest.mark.parametrize("value", [None, b"/data", 5])
def test_what_is_no_place_is_said(value: object) -> None:
    """Bytes are no text."""
    with pytest.raises(RecipeError, match="uri: should be a path or a uri"):
        place("uri", value)


@pytest.mark.slow
def test_the_python_interface_takes_paths_and_refuses_the_rest(collection: Any) -> None:
    """A recipe's file may stand for the recipe; what is of the wrong kind is exit 2 and never an error from within."""
    assert build(collection.file(), workers=0).version == 0
    assert build(str(collection.file()), workers=np.int32(0)).version == 0
    assert Recipe.load(collection.file(), "seed=8").seed == 8
    dataset = open_dataset(collection.target, version=np.int64(0), split="val")
    assert dataset.to_arrow(columns="key").column_names == ["key"]
    assert set(next(dataset.batches(np.int64(2), columns="key"))) == {"image", "key"}
    target: Any = collection.target
    for act, what in (
        (lambda: build({"source": {}}), "recipe: should be a recipe's path or what Recipe.load and Recipe.parse give, got dict"),
        (lambda: build(collection.recipe(), workers="2"), "--workers: '2' is no whole number"),
        (lambda: build(collection.recipe(), limit="2"), "--limit: '2' is no whole number"),
        (lambda: Recipe.load(None), "path: should be a path"),
        (lambda: open_dataset(None), "uri: should be a path"),
        (lambda: open_dataset(target, version="0"), "version: '0' is no whole number"),
        (lambda: open_dataset(target, version=-1), "version: -1 is no whole number"),
        (lambda: open_dataset(target, version=3), "there is no version 3; there are 0 to 0"),
        (lambda: open_dataset(target, split="trian"), "no split 'trian'; did you mean 'train'"),
        (lambda: open_dataset(target, split=["train"]), "there are train, val; without one, all are taken"),
        (lambda: dataset.to_arrow(columns=5), "columns: should be a list of texts"),
        (lambda: dataset.to_arrow(columns="kye"), "the dataset has no 'kye'; did you mean 'key'"),
        (lambda: next(dataset.batches("4")), "batch_size: '4' is no whole number of 1"),
        (lambda: dataset.to_torch(batch_size=0), "batch_size: 0 is no whole number of 1"),
        (lambda: dataset.to_torch(columns=["kye"]), "the dataset has no 'kye'"),
    ):
        with pytest.raises(RecipeError, match=re.escape(what)):
            act()
