from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from ray_prep.errors import RecipeError
from ray_prep.messages import Tick
from ray_prep.plan import Receipts, Unit, attempts_to_add, carried_columns, check_image, class_order, freeze, units
from ray_prep.receipt import Receipt, receipt_path
from ray_prep.recipe import Recipe
from ray_prep.sample import Rejection
from ray_prep.survey import survey
from ray_prep.unit import run_unit
from ray_prep.work import Frozen, read_items

if TYPE_CHECKING:
    from pathlib import Path

NO_COLUMNS = pa.schema([])


def nobody(_tick: Tick) -> None:
    """Watch nothing."""


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ({"b", "a", "C", "é"}, ["C", "a", "b", "é"]),
        ({"10", "9", "-1"}, ["-1", "9", "10"]),
        ({"10", "9", "x"}, ["10", "9", "x"]),
        ({"٣", "2"}, ["2", "٣"]),
        ({"01", "1"}, ["01", "1"]),
        (set(), []),
    ],
)
def test_classes_are_in_code_point_order_or_by_number(labels: set[str], wanted: list[str]) -> None:
    """Whole numbers count as such where all labels are; ids follow from the order, so it never depends on the set's."""
    assert class_order(labels) == wanted


def test_new_classes_are_appended(collection: Any) -> None:
    """Published ids stay; new labels come after them, in order among themselves; gone ones keep their place."""
    recipe = collection.recipe()
    first = freeze(recipe, None, NO_COLUMNS, {"dog", "cat"})
    assert first.classes == ("cat", "dog")
    assert freeze(recipe, first, NO_COLUMNS, {"dog", "bee", "ant"}).classes == ("cat", "dog", "ant", "bee")
    named = collection.recipe(classes=["dog", "cat"])
    assert freeze(named, None, NO_COLUMNS, {"cat"}).classes == ("dog", "cat")
    with pytest.raises(RecipeError, match="classes: the source has 'owl', which the list lacks"):
        freeze(named, None, NO_COLUMNS, {"owl"})
    with pytest.raises(RecipeError, match="in this order, and label ids follow from it; append new ones, or start over with --rebuild"):
        freeze(named, first, NO_COLUMNS, {"cat"})


def test_frozen_values_are_read_as_they_were_written() -> None:
    """What the record keeps gives the same frozen values, and any change of one another digest."""
    frozen = Frozen({"w": "int64"}, ("a", "b"), {"by": "key", "ratios": {"train": 1.0}}, (0.1, 0.2), (0.3, 0.4))
    assert Frozen.from_dict(frozen.to_dict()) == frozen
    others = [replace(frozen, classes=("b", "a")), replace(frozen, mean=(0.1, 0.3)), replace(frozen, columns={}), replace(frozen, split={})]
    assert len({known.digest(known.class_ids) for known in (frozen, *others)}) == 5


def test_what_the_published_image_is(collection: Any) -> None:
    """Another shape, dtype or colour is refused by name; the same passes."""
    recipe = collection.recipe()
    check_image(recipe, recipe.image_column.metadata)
    other = collection.recipe(finish=[{"center_crop": {"height": 24, "width": 24}}, "to_float"])
    with pytest.raises(RecipeError, match=r"the dataset's images have (dtype uint8, and the recipe makes dtype float32|range)"):
        check_image(other, recipe.image_column.metadata)


def cut_units(collection: Any, **sections: Any) -> list[Unit]:
    """Return the units of a recipe over the collection."""
    recipe = collection.recipe(**sections)
    carried = carried_columns(recipe, None, None).schema
    folder = collection.home / f"spool{random.random()}"
    folder.mkdir()
    found = survey(recipe, (), carried, folder, None)
    return list(units(recipe, freeze(recipe, None, carried, found.labels), found, "make", sorted(found.counts)))


def test_a_unit_id_follows_from_all_its_bytes_follow_from(collection: Any) -> None:
    """The same again gives the same ids; another step, frozen class or version of a file gives others; a name or check does not."""
    known = {unit.unit_id for unit in cut_units(collection)}
    assert known == {unit.unit_id for unit in cut_units(collection, name="x", checks={"max_rejected": 1}, seed=1)}
    for sections in ({"preprocess": [{"resize": {"short_side": 30}}]}, {"classes": ["owl", "dog", "cat"]}, {"decode": {"color": "gray"}}):
        assert known.isdisjoint(unit.unit_id for unit in cut_units(collection, **sections))
    collection.write("cat/06.jpg", collection.pictures["cat/06.jpg"] + b"x")
    after = {unit.unit_id for unit in cut_units(collection)}
    assert len(after - known) == len(known - after) == 1


def test_every_item_is_in_one_unit_of_its_split(collection: Any) -> None:
    """Units cover all items once, and none mixes splits."""
    made = cut_units(collection)
    assert sorted(item.key for unit in made for item in unit.items) == sorted(collection.pictures)
    assert all(item.split == unit.split for unit in made for item in unit.items)
    assert {unit.split for unit in made} == {"train", "val"}
    assert len(made) > 2


def test_a_plan_is_read_as_it_was_written(collection: Any) -> None:
    """An item's key, uri, version, label and carried values reach the worker unchanged."""
    source = {
        **collection.manifest(["image,weight,note", "pictures/cat/06.jpg,3,é", "pictures/cat/09.jpg,,"]),
        "columns": {"weight": "int64"},
    }
    work, refs = collection.planned(source=source, split=None)
    items = {item.key: item for ref in refs for item in read_items(work, ref)}
    assert items["pictures/cat/06.jpg"].columns == {"weight": 3, "note": "é"}
    assert items["pictures/cat/09.jpg"].columns["weight"] is None
    assert sum(ref.rows for ref in refs) == 2


def test_a_receipt_holds_under_its_conditions(collection: Any) -> None:
    """Unpublished: the same conditions and the file whole. Published: whatever the conditions. Without a shard: the conditions."""
    work, refs = collection.planned()
    receipt = run_unit(work, refs[0], nobody)
    path = receipt.shards[0].shard.path
    other = {**work.conditions, "numpy": "0"}

    def found(live: set[str], conditions: dict[str, str]) -> Receipt | None:
        return Receipts(work.store, live, conditions).find(refs[0].unit_id)

    assert found(set(), work.conditions) == receipt
    assert found(set(), other) is None
    assert found({path}, other) == receipt
    assert Receipts(work.store, set(), work.conditions).find("0" * 40) is None
    (collection.target / path).write_bytes(b"cut")
    assert found(set(), work.conditions) is None
    (collection.target / path).unlink()
    assert found(set(), work.conditions) is None
    work.store.put(receipt_path(refs[0].unit_id), replace(receipt, shards=()).to_json())
    assert found(set(), work.conditions) is not None
    assert found(set(), other) is None


@pytest.mark.parametrize(
    ("rejections", "retry_rejected", "wanted"),
    [
        ((), False, None),
        ((("corrupt", 1),), False, None),
        ((("corrupt", 1),), True, 1),
        ((("crashed", 1), ("corrupt", 1)), False, 1),
        ((("timed_out", 2),), False, 2),
        ((("crashed", 3),), False, None),
        ((("crashed", 3), ("timed_out", 1)), False, 1),
        ((("missing", 1),), False, 1),
        ((("missing", 3),), False, None),
    ],
)
def test_who_is_tried_again(rejections: tuple[tuple[Any, int], ...], retry_rejected: bool, wanted: int | None) -> None:  # noqa: FBT001
    """`crashed`, `timed_out` and what was gone although it was listed, up to three attempts; others when asked to."""
    made = tuple(Rejection("k", "/k", "v", "unit", reason, "", attempts) for reason, attempts in rejections)
    assert attempts_to_add(Receipt("0" * 40, "train", 1, rejections=made), lists_files=True, retry_rejected=retry_rejected) == wanted


@pytest.mark.parametrize(("uri", "version", "lists_files"), [("/k", "v", False), ("/k", "", True), ("/a.tar#k", "v", True)])
def test_what_was_never_seen_is_not_tried_again(uri: str, version: str, lists_files: bool) -> None:  # noqa: FBT001
    """A manifest's image, a link to nowhere, a sample of a tar without a picture: nights would be spent on them."""
    made = Receipt("0" * 40, "train", 1, rejections=(Rejection("k", uri, version, "fetch", "missing", ""),))
    assert attempts_to_add(made, lists_files=lists_files, retry_rejected=False) is None
    assert attempts_to_add(made, lists_files=lists_files, retry_rejected=True) == 1


def test_columns_of_the_first_publish_stay(collection: Any) -> None:
    """The table's columns and types are kept in their order; columns that came later are told."""
    first = collection.recipe(
        source={**collection.manifest(["image,weight,note", "pictures/cat/06.jpg,3,x"]), "columns": {"weight": "int32"}}
    )
    carried, late, gone = carried_columns(first, None, None)
    assert (carried.names, late, gone) == (["weight", "note"], [], [])
    frozen = Frozen({"weight": "int32", "note": "string"})
    schema = pa.schema([("key", pa.string()), ("weight", pa.int32()), ("note", pa.string())])
    second = collection.recipe(source=collection.manifest(["image,camera,note", "pictures/cat/06.jpg,b,x"]))
    kept, late, gone = carried_columns(second, frozen, schema)
    assert (kept.names, kept.field("weight").type, late, gone) == (["weight", "note"], pa.int32(), ["camera"], ["weight"])
    declared = {"weight": "int32", "colour": "string"}
    third = collection.recipe(source={**collection.manifest(["image,note", "pictures/cat/06.jpg,x"]), "columns": declared})
    with pytest.raises(RecipeError, match=r"^source\.columns\.colour: .* has no column 'colour'"):
        carried_columns(third, frozen, schema)
    with pytest.raises(RecipeError, match=r"^source\.columns\.\w+: .* has no column"):
        carried_columns(third, None, None)


def test_another_type_is_another_table(collection: Any) -> None:
    """What the recipe gives a column is frozen with it: the message names both types and the way out."""
    rows = ["image,weight,note", "pictures/cat/06.jpg,3,x"]
    frozen = Frozen({"weight": "int32", "note": "string"})
    schema = pa.schema([("key", pa.string()), ("weight", pa.int32()), ("note", pa.string())])
    same = collection.recipe(source={**collection.manifest(rows), "columns": {"weight": "int32"}})
    assert carried_columns(same, frozen, schema)[1] == []
    other = collection.recipe(source={**collection.manifest(rows), "columns": {"weight": "float32"}})
    with pytest.raises(RecipeError, match=r"^source\.columns\.weight: .* published with int32, and the recipe says float32;.*--rebuild"):
        carried_columns(other, frozen, schema)


def test_fields_that_come_late_are_told(collection: Any, tmp_path: Path) -> None:
    """Of a column of fields, and of lists of them, as of the table."""
    line = {"image": "a.jpg", "camera": {"name": "x", "lens": {"f": 2, "zoom": 1}}, "tags": [{"text": "t", "score": 0.5}]}
    (tmp_path / "all.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    recipe = collection.recipe(source={"layout": "manifest", "uri": str(tmp_path / "all.jsonl")})
    camera = pa.struct([("name", pa.string()), ("lens", pa.struct([("f", pa.int64())]))])
    schema = pa.schema([("camera", camera), ("tags", pa.list_(pa.struct([("text", pa.string())])))])
    found = carried_columns(recipe, Frozen({"camera": str(camera), "tags": ""}), schema)
    assert found == (schema, ["camera.lens.zoom", "tags.score"], [])


def test_shares_in_another_order_are_another_rule() -> None:
    """Hashes are held against the running sum of the shares, so that their order decides too; it is frozen with them."""
    data: dict[str, Any] = {"source": {"uri": "/nowhere"}, "output": {"uri": "/nowhere/out", "shape": "varies"}}
    first = Recipe.parse({**data, "split": {"train": 0.5, "val": 0.5}})
    other = Recipe.parse({**data, "split": {"val": 0.5, "train": 0.5}})
    frozen = freeze(first, None, pa.schema([]), set())
    assert freeze(first, Frozen.from_dict(frozen.to_dict()), pa.schema([]), set()) == frozen
    with pytest.raises(RecipeError, match="--rebuild"):
        freeze(other, frozen, pa.schema([]), set())
