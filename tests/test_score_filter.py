"""Scores from the recipe to the table: stored where asked, limits that reject without counting as faults."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from ray_prep import build
from ray_prep import open as open_dataset
from ray_prep.dataset.record import read_record
from ray_prep.dataset.table import open_table
from ray_prep.errors import LimitError
from ray_prep.image.scores import SCORES, measure
from ray_prep.recipe import Recipe
from ray_prep.recipe_schema import recipe_schema
from ray_prep.reproduction import reproduce
from ray_prep.sample import Item
from ray_prep.sections import Filter
from ray_prep.show.explain import explain
from ray_prep.show.preview import preview, walked
from ray_prep.storage import StorageOptions, open_store
from ray_prep.walk import Walk

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

COPIES = {"copies": 2, "transforms": [{"HorizontalFlip": {"p": 0.5}}]}


def picture(height: int = 120, width: int = 160) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Draw a picture with edges of several sizes, from dark to light."""
    rows, columns = np.mgrid[0:height, 0:width] * (160 / width)
    fine, coarse = (rows // 6 + columns // 6) % 2, (rows // 40 + columns // 40) % 2
    return np.stack([fine * 150 + coarse * 90 + 10, coarse * 160 + columns / 2, fine * 120 + rows / 2 + 20], axis=2).astype(np.uint8)


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """Encode without loss."""
    return bytes(cv2.imencode(".png", pixels)[1])


def walk(**sections: Any) -> Walk:
    """Return a walk to 24 x 24 pixels, with sections replaced."""
    known = {"source": {"uri": "/s"}, "output": {"uri": "/t"}, "preprocess": [{"resize": {"height": 24, "width": 24}}]}
    return Walk(Recipe.parse({**known, **sections}), {})


def rows(made: Walk, data: bytes) -> list[dict[str, Any]]:
    """Return the rows of one picture."""
    return made.rows("train", Item("a", "/s/a", "v"), data)


def test_rows_hold_the_scores_that_are_listed() -> None:
    """Those of the decoded picture, the same in every copy; others are null, and without a list there are none."""
    data = png(picture())
    expected = measure(np.ascontiguousarray(picture()[..., ::-1]), SCORES)
    made = rows(walk(scores=list(SCORES), augment=COPIES), data)
    assert [row["scores"] for row in made] == [expected] * 3
    (row,) = rows(walk(scores=["contrast"], filter={"min_sharpness": 0.01}), data)
    assert row["scores"] == {"sharpness": None, "brightness": None, "contrast": expected["contrast"]}
    assert all("scores" not in row for sections in ({}, {"filter": {"min_sharpness": 0.01}}) for row in rows(walk(**sections), data))


def test_limits_hold_at_the_stored_value() -> None:
    """A picture is in at its very score and out beside it; the message names score, value, limit."""
    data = png(picture())
    scores = rows(walk(scores=list(SCORES)), data)[0]["scores"]
    for name, side in (("sharpness", "min"), ("brightness", "min"), ("brightness", "max"), ("contrast", "min")):
        limit = scores[name]
        assert rows(walk(filter={f"{side}_{name}": limit}), data)
        beyond = float(np.nextafter(np.float32(limit), np.float32(2 if side == "min" else -1)))  # the next score that there is
        told = rf"a {name} of [\d.]+; filter\.{side}_{name} (asks for|allows) [\d.]+ (or more|at the most)"
        with pytest.raises(LimitError, match=told) as caught:
            rows(walk(filter={f"{side}_{name}": beyond}), data)
        assert (caught.value.reason, caught.value.stage) == ("score", "filter")


def test_constants_are_not_measured_on_what_is_filtered() -> None:
    """The pass that measures `normalize: dataset` meets the same limits."""
    with pytest.raises(LimitError):
        walk(filter={"min_contrast": 1}).measured("train", Item("a", "/s/a", "v"), png(picture() // 2))


def test_scores_keep_a_large_jpeg_large_enough() -> None:
    """`jpeg_scaling` decodes no smaller than scores need, so that it changes them by little; without scores nothing changes."""
    data = bytes(cv2.imencode(".jpg", picture(1500, 2000), [cv2.IMWRITE_JPEG_QUALITY, 92])[1])
    plain, scored, exact = walk(), walk(scores=list(SCORES)), walk(scores=list(SCORES), decode={"jpeg_scaling": "exact"})
    sizes = [made.decoded("train", "a", data, made.header(data)).image.shape[:2] for made in (plain, scored, exact)]
    assert sizes == [(188, 250), (750, 1000), (1500, 2000)]
    ours, known = (rows(made, data)[0]["scores"] for made in (scored, exact))
    assert ours == pytest.approx(known, rel=0.03, abs=0.01)


def test_a_build_rejects_what_is_dark_blurred_or_flat(collection: Any) -> None:
    """Three drawn pictures leave with reason `score`, all others stay; no budget is touched, and the column holds what was measured."""
    sharp = picture()
    collection.write("cat/clear.png", png(sharp))
    collection.write("cat/dark.png", png(sharp // 8))
    collection.write("cat/blurred.png", png(cv2.GaussianBlur(sharp, (0, 0), 6)))
    collection.write("cat/flat.png", png(sharp // 16 + 120))
    for name in ("cat/cut_short.jpg", "dog/web_page.jpg"):
        (collection.folder / name).unlink()
    sections = {
        "scores": ["contrast", "sharpness"], "augment": COPIES, "checks": {"max_rejected": 0},
        "filter": {"min_sharpness": 0.06, "min_brightness": 0.1, "min_contrast": 0.12},
    }  # fmt: skip
    report = build(collection.recipe(**sections), workers=0)
    assert report.rejected_by_reason == {"score": 3}
    assert (report.listed, report.accepted) == (44, 41)
    told = {row["key"]: (row["stage"], row["message"].split(";")[1]) for row in collection.rejections()}
    assert told == {
        "cat/dark.png": ("filter", " filter.min_brightness asks for 0.1 or more"),
        "cat/blurred.png": ("filter", " filter.min_sharpness asks for 0.06 or more"),
        "cat/flat.png": ("filter", " filter.min_contrast asks for 0.12 or more"),
    }
    expected = measure(np.ascontiguousarray(sharp[..., ::-1]), SCORES) | {"brightness": None}
    dataset = open_dataset(str(collection.target))
    stored = {(row["key"], row["copy"]): row["scores"] for row in dataset.to_arrow(columns=["key", "copy", "scores"]).to_pylist()}
    assert stored["cat/clear.png", 0] == expected
    assert all(scores == stored[key, 0] and scores["brightness"] is None for (key, _), scores in stored.items())
    assert pq.read_schema(dataset.files[0]).field("scores").type == dataset.schema.field("scores").type
    snapshot = open_table(str(collection.target), StorageOptions())
    assert snapshot is not None
    assert snapshot.record is not None
    made = reproduce(snapshot, read_record(open_store(snapshot.uri), snapshot.record), StorageOptions(), 20)
    assert made.rows >= 20
    assert not made.findings
    again = build(collection.recipe(**sections), workers=0)
    assert (again.decoded, again.rejected) == (0, 3)
    loose = build(collection.recipe(**sections | {"filter": {}}), workers=0)
    assert (loose.accepted, loose.rejected) == (44, 0)


def test_preview_shows_scores(collection: Any) -> None:
    """They stand beside the picture, also of one that they keep out; without them nothing does."""
    data = png(picture())
    item = Item("a", "/s/a", "v", "cat")
    kept = walked(collection.recipe(scores=["brightness"], filter={"min_contrast": 0.1}), item, data)
    assert list(kept.scores) == ["brightness", "contrast"]
    out = walked(collection.recipe(filter={"min_contrast": 1}), item, png(picture() // 2))
    assert out.error is not None
    assert (out.error.reason, list(out.scores), len(out.stages)) == ("score", ["contrast"], 1)
    assert not walked(collection.recipe(), item, data).scores
    sheets = []
    for name, sections in (("plain.png", {}), ("scored.png", {"scores": list(SCORES)})):
        preview(collection.recipe(**sections), collection.home / name, 2)
        sheets.append((collection.home / name).read_bytes())
    assert sheets[0] != sheets[1]


def test_explain_tells_scores(collection: Any) -> None:
    """A line with the scores, and why the item is out."""
    recipe = collection.file(scores=["sharpness"], filter={"min_brightness": 0.99})
    told = explain(str(recipe), "cat/03.jpg", (), None, StorageOptions())
    assert "\n  scores            sharpness 0." in told
    assert ", brightness 0." in told
    assert "\n  rejected          filter: score: a brightness of 0." in told
    assert "filter.min_brightness asks for 0.99 or more" in told


def test_editors_know_the_names() -> None:
    """The JSON Schema lists the scores and the limits on them."""
    properties = recipe_schema()["properties"]
    assert properties["scores"]["items"] == {"enum": ["sharpness", "brightness", "contrast"]}
    assert {"min_sharpness", "min_brightness", "max_brightness", "min_contrast"} <= properties["filter"]["properties"].keys()


@pytest.mark.parametrize("tenths", range(1, 10))
def test_a_score_at_its_limit_is_within_it(tenths: int) -> None:
    """Scores are float32, and 0.6 is another number there."""
    limits = Filter(max_brightness=tenths / 10, min_brightness=tenths / 10)
    limits.check_scores({"brightness": float(np.float32(tenths / 10))})
    with pytest.raises(LimitError):
        limits.check_scores({"brightness": float(np.float32(tenths / 10 + 1e-6))})
