from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_prep.errors import DecodeError, LimitError, TransformError
from ray_prep.recipe import Recipe
from ray_prep.sample import Item
from ray_prep.walk import Walk, integer_sums

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = [{"HorizontalFlip": {"p": 0.5}}, {"RandomBrightnessContrast": {"p": 0.9}}, {"Rotate": {"limit": 15, "p": 0.5}}]
CROP = [{"center_crop": {"height": 24, "width": 24}}]


def walk(**sections: Any) -> Walk:
    """Return a walk to 24 x 24 pixels, with sections replaced."""
    known = {"source": {"uri": "/s"}, "output": {"uri": "/t"}, "preprocess": [{"resize": {"short_side": 32}}], "finish": CROP, "seed": 7}
    return Walk(Recipe.parse({**known, **sections}), {"cat": 0})


def jpeg(height: int, width: int) -> bytes:
    """Return a smooth JPEG."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([rows * 200 // height, columns * 200 // width, (rows + columns) % 256], axis=2).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", pixels)[1])


def rows(made: Walk, key: str = "a", split: str = "train", data: bytes | None = None) -> list[dict[str, Any]]:
    """Return the rows of one picture."""
    return made.rows(split, Item(key, f"/s/{key}", "v", "cat"), data or jpeg(80, 100))


def test_original_then_copies() -> None:
    """An augmented split has the original and its copies in order; another one the original alone."""
    made = walk(augment={"copies": 3, "transforms": RANDOM}, split={"train": 0.5, "val": 0.5})
    assert [row["copy"] for row in rows(made)] == [0, 1, 2, 3]
    assert [row["copy"] for row in rows(made, split="val")] == [0]
    assert [row["sums"] is None for row in rows(made)] == [False, True, True, True]
    assert rows(made)[0]["params"] is None
    assert {step["name"] for row in rows(made)[1:] for step in json.loads(row["params"] or "[]")} <= {
        name for step in RANDOM for name in step
    }


def test_a_copy_depends_on_seed_key_and_number_alone() -> None:
    """More copies leave the first ones as they are; another key, seed or number draws other numbers; the split's name does not matter."""
    two, four = (rows(walk(augment={"copies": copies, "transforms": RANDOM})) for copies in (2, 4))
    assert [row["image"].tobytes() for row in two] == [row["image"].tobytes() for row in four[:3]]
    assert len({row["image"].tobytes() for row in four}) == 5
    without = rows(walk(augment={"copies": 2, "keep_original": False, "transforms": RANDOM}))
    assert [row["image"].tobytes() for row in without] == [row["image"].tobytes() for row in two[1:]]
    for other in (
        rows(walk(augment={"copies": 2, "transforms": RANDOM}, seed=8)),
        rows(walk(augment={"copies": 2, "transforms": RANDOM}), key="b"),
    ):
        assert other[0]["image"].tobytes() == two[0]["image"].tobytes()
        assert other[1]["image"].tobytes() != two[1]["image"].tobytes()


def test_preprocess_is_shared() -> None:
    """What preprocess drew at random, copies have as the original has it."""
    made = walk(
        preprocess=[{"resize": {"height": 24, "width": 24}}, {"HorizontalFlip": {"p": 0.5}}],
        finish=[],
        augment={"copies": 2, "transforms": [{"VerticalFlip": {"p": 1}}]},
    )
    for key in "abcdefgh":
        original, *copies = (row["image"] for row in rows(made, key=key))
        assert all(np.array_equal(copy, original[::-1]) for copy in copies)


def test_sums_are_of_the_pixels_before_any_float_step() -> None:
    """Sums are those of the stored pixels where they are integers, and of the same ones where a float step follows."""
    plain = rows(walk())[0]
    pixels = plain["image"].reshape(-1, 3).astype(np.int64)
    assert plain["sums"] == [len(pixels), *pixels.sum(axis=0), *(pixels**2).sum(axis=0)]
    for finish in ([*CROP, "to_float"], [*CROP, {"normalize": {"mean": "imagenet", "std": "imagenet"}}]):
        assert rows(walk(finish=finish))[0]["sums"] == plain["sums"]
    early = walk(preprocess=[{"resize": {"short_side": 32}}, "to_float"], finish=CROP)
    whole = walk(finish=[], output={"uri": "/t", "shape": "varies"})
    assert rows(early)[0]["sums"] == rows(whole)[0]["sums"]
    assert early.measured("train", Item("a", "/s/a", "v"), jpeg(80, 100)) == rows(whole)[0]["sums"]


@pytest.mark.parametrize("early", [False, True])
def test_an_original_that_is_not_kept_is_counted(early: bool) -> None:  # noqa: FBT001
    """Its sums stand on its first copy, wherever the first float step is; where it cannot be finished, copies are judged by themselves."""
    sections = {"preprocess": [{"resize": {"short_side": 32}}, "to_float"]} if early else {"finish": [*CROP, "to_float"]}
    kept = rows(walk(augment={"copies": 2, "transforms": RANDOM[:1]}, **sections))
    alone = rows(walk(augment={"copies": 2, "transforms": RANDOM[:1], "keep_original": False}, **sections))
    assert [row["sums"] for row in alone] == [kept[0]["sums"], None]
    assert [row["image"].tobytes() for row in alone] == [row["image"].tobytes() for row in kept[1:]]
    enlarging = {"copies": 1, "transforms": [{"Resize": {"height": 64, "width": 64}}], "keep_original": False}
    large = walk(preprocess=[], finish=[{"center_crop": {"height": 64, "width": 64}}], augment=enlarging)
    assert [(row["copy"], row["sums"]) for row in rows(large, data=jpeg(40, 50))] == [(1, None)]
    with pytest.raises(LimitError):  # what is measured must be there
        large.measured("train", Item("a", "/s/a", "v"), jpeg(40, 50))


def test_params_tell_of_fixed_steps_too() -> None:
    """What is done to every copy in the same way is done to it as well; not what p: 0 never does, nor what finish does to all rows."""
    steps = [{"HorizontalFlip": {"p": 1}}, {"Rotate": {"p": 1, "limit": 20}}, {"flip": "vertical"}, {"VerticalFlip": {"p": 0}}]
    first, copy = rows(walk(finish=CROP, augment={"copies": 1, "transforms": steps}))
    assert first["params"] is None
    flip, turn, native = json.loads(copy["params"])
    assert (flip, turn["name"], native) == ({"name": "HorizontalFlip"}, "Rotate", {"name": "flip", "direction": "vertical"})


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), channels=st.sampled_from([1, 3]), value=st.integers(0, 2**32 - 1))
def test_integer_sums_are_exact(height: int, width: int, channels: int, value: int) -> None:
    """n, then sums, then sums of squares, as integers add."""
    image = np.random.default_rng(value).integers(0, 256, (height, width, channels), np.uint8)
    wide = image.reshape(-1, channels).astype(np.int64)
    assert integer_sums(image) == [height * width, *wide.sum(axis=0), *(wide**2).sum(axis=0)]


def test_sums_do_not_overflow() -> None:
    """A bright picture of millions of pixels has sums beyond 32 bits."""
    assert integer_sums(np.full((4000, 3000, 3), 255, np.uint8)) == [12_000_000, *[255 * 12_000_000] * 3, *[255**2 * 12_000_000] * 3]


def test_a_large_picture_is_decoded_smaller_where_a_resize_comes_first() -> None:
    """`jpeg_scaling: auto` spares pixels where the first step shrinks; `exact`, or another first step, does not."""
    data = jpeg(640, 800)
    scaled = walk()
    sample = scaled.decoded("train", "a", data, scaled.header(data))
    assert sample.image.shape[:2] < (640, 800)
    assert (sample.full_size, sample.height, sample.width) == ((640, 800), 640, 800)
    exact = walk(decode={"jpeg_scaling": "exact"})
    assert exact.decoded("train", "a", data, exact.header(data)).image.shape == (640, 800, 3)
    other = walk(preprocess=[{"flip": "horizontal"}, {"resize": {"short_side": 32}}])
    assert other.decoded("train", "a", data, other.header(data)).image.shape == (640, 800, 3)
    copies = {"copies": 1, "transforms": [{"HorizontalFlip": {"p": 1}}]}
    finish = [{"resize": {"height": 24, "width": 24}}]
    alone, beside = walk(preprocess=[], finish=finish), walk(preprocess=[], finish=finish, augment=copies, split={"train": 0.5, "val": 0.5})
    # What is made of a split without copies does not depend on other splits' copies.
    assert np.array_equal(rows(alone, data=data)[0]["image"], rows(beside, split="val", data=data)[0]["image"])
    assert beside.decoded("train", "a", data, beside.header(data)).image.shape == (640, 800, 3)
    row = rows(scaled, data=data)[0]
    assert (row["source_height"], row["source_width"], row["image"].shape) == (640, 800, (24, 24, 3))
    difference = row["image"].astype(int) - rows(exact, data=data)[0]["image"]
    assert np.abs(difference).mean() < 2


def test_limits_come_before_pixels() -> None:
    """What the header says decides: too small, too long, too large are rejected without decoding."""
    for sections, reason in (
        ({"filter": {"min_side": 81}}, "too_small"),
        ({"filter": {"max_aspect": 1.2}}, "aspect"),
        ({"decode": {"max_pixels": 7999}}, "too_large"),
    ):
        with pytest.raises(LimitError) as caught:
            rows(walk(**sections))
        assert caught.value.reason == reason
    assert rows(walk(filter={"min_side": 80, "max_aspect": 1.25}, decode={"max_pixels": 8000}))


def test_a_picture_too_small_for_a_step() -> None:
    """A crop larger than the picture is `too_small`, and no row of the item is made."""
    made = walk(preprocess=[], finish=[{"center_crop": {"height": 90, "width": 90}}])
    with pytest.raises(LimitError) as caught:
        rows(made)
    assert caught.value.reason == "too_small"
    assert "center_crop" in caught.value.message


def test_rows_say_where_they_come_from() -> None:
    """Source columns hold what the file is: digest, bytes, format, size as stored, orientation, frames, facts."""
    data = jpeg(80, 100)
    item = Item("a", "/s/a", "v", "cat", None, {"weight": 3})
    (row,) = walk().rows("train", item, data)
    assert {name: value for name, value in row.items() if name not in {"image", "sums", "source_sha256"}} == {
        "key": "a",
        "copy": 0,
        "label": "cat",
        "label_id": 0,
        "source_uri": "/s/a",
        "source_version": "v",
        "source_facts": item.facts,
        "source_bytes": len(data),
        "source_format": "jpeg",
        "source_height": 80,
        "source_width": 100,
        "source_orientation": 1,
        "source_frames": 1,
        "columns": {"weight": 3},
        "height": 24,
        "width": 24,
        "channels": 3,
        "params": None,
    }
    assert len(row["source_sha256"]) == 64


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", jpeg(80, 100)[:700]])
def test_what_is_no_picture(data: bytes) -> None:
    """Bytes that make no picture are a DecodeError with a reason of the closed list."""
    with pytest.raises(DecodeError) as caught:
        rows(walk(), data=data or b"\x00")
    assert caught.value.reason in {"not_an_image", "truncated", "corrupt", "empty"}


SHRUNK = {"resize": {"short_side": 32, "interpolation": "area"}}


@pytest.mark.parametrize(
    ("preprocess", "finish"), [([SHRUNK], CROP), (["grayscale", SHRUNK], [*CROP, "to_float"]), (["to_float", SHRUNK], CROP), ([], CROP)]
)
def test_an_original_is_the_same_with_copies_and_without(preprocess: list[Any], finish: list[Any]) -> None:
    """Where no copy needs what preprocess made, its steps and those of finish run as one; nobody can tell by the rows."""
    alone = rows(walk(preprocess=preprocess, finish=finish))[0]
    beside = rows(walk(preprocess=preprocess, finish=finish, augment={"copies": 1, "transforms": [{"HorizontalFlip": {"p": 1}}]}))[0]
    assert np.array_equal(alone.pop("image"), beside.pop("image"))
    assert alone == beside


@pytest.mark.parametrize(("function", "fits"), [("image + 0", True), ("image * 3.5", False), ("image - 0.5", False)])
@pytest.mark.parametrize("section", ["preprocess", "augment", "finish"])
def test_a_function_cannot_break_the_promised_range(section: str, function: str, tmp_path: Path, *, fits: bool) -> None:
    """The image column says [0, 1]: what a step that declares nothing takes beyond it is a rejection that says what to do."""
    (tmp_path / "own_range.py").write_text(f"def change(image, rng):\n    return {function}\n", encoding="utf-8")
    step = [{"python": {"call": "own_range:change"}}]
    steps = {"preprocess": [{"resize": {"short_side": 32}}, "to_float"], "augment": [], "finish": CROP}
    steps[section] = [*steps[section], *step]
    sections = {"preprocess": steps["preprocess"], "finish": steps["finish"], "augment": {"copies": 1, "transforms": steps["augment"]}}
    raw = {"source": {"uri": "/s"}, "output": {"uri": "/t"}, **sections}
    made = Walk(Recipe.parse(raw, folder=str(tmp_path)), {"cat": 0})
    assert made.recipe.image_column.value_range == (0.0, 1.0)
    if fits:
        assert len(rows(made)) == 2
    else:
        with pytest.raises(TransformError, match=r"^values from .* would be stored, outside \[0, 1\]; say in the python step's output"):
            rows(made)
