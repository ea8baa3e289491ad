from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ray_prep.dataset import export
from ray_prep.dataset.reader import Dataset
from ray_prep.dataset.reader import open as open_dataset
from ray_prep.dataset.schema import ImageColumn
from ray_prep.errors import RecipeError

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

Make = Callable[..., Any]
RANGE = (0.0, 255.0)
FIXED = ImageColumn("tensor", (6, 5, 3), "uint8", "rgb", RANGE)
VARIES = ImageColumn("tensor", None, "uint8", "gray", RANGE)
VARIES_RGB = ImageColumn("tensor", None, "uint8", "rgb", RANGE)
PNG = ImageColumn("png", None, "uint8", "rgb", RANGE)
PNG_FIXED = ImageColumn("png", (4, 7, 3), "uint8", "rgb", RANGE)
WEBP = ImageColumn("webp", (8, 8, 3), "uint8", "rgb", RANGE)
WEBP_GRAY = ImageColumn("webp", (8, 8, 1), "uint8", "gray", RANGE)


def by_key(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows in the order of their keys."""
    return sorted(rows, key=lambda row: row["key"])


@pytest.mark.parametrize("image", [FIXED, VARIES, PNG], ids=["fixed", "varies", "png"])
def test_polars_has_the_rows_arrow_has(a_table: Make, image: ImageColumn) -> None:
    """Every column, lists of structs and nulls included."""
    pytest.importorskip("polars")
    dataset = open_dataset(a_table(image).uri)
    frame = dataset.to_polars()
    assert frame.columns == dataset.schema.names
    assert frame.to_dicts() == dataset.to_arrow().to_pylist()
    assert dataset.to_polars(["key", "split"]).columns == ["key", "split"]


@pytest.mark.parametrize("image", [FIXED, VARIES], ids=["fixed", "varies"])
def test_hugging_face_hands_out_arrays_of_raw_images(a_table: Make, image: ImageColumn) -> None:
    """By row and by slice; the bytes are there after reset_format, with their size where it varies, and all other columns as they are."""
    pytest.importorskip("datasets")
    made = a_table(image)
    dataset = open_dataset(made.uri)
    rows = dataset.to_hf()
    assert rows.num_rows == len(dataset)
    for row in rows:
        np.testing.assert_array_equal(row["image"], made.pixels[row["key"]])
        assert row["boxes"] == made.rows[row["key"]]["boxes"]
    assert [pixels.shape for pixels in rows[:3]["image"]] == [made.pixels[key].shape for key in rows[:3]["key"]]
    stored = dataset.to_arrow().to_pylist()
    if not image.shape:
        stored = [{**row, "image": {"bytes": row["image"], "height": row["height"], "width": row["width"]}} for row in stored]
    assert by_key(list(rows.with_format(None))) == by_key(stored)


@pytest.mark.parametrize("image", [FIXED, VARIES, VARIES_RGB], ids=["fixed", "varies", "varies-rgb"])
def test_hugging_face_needs_no_other_column_for_arrays(a_table: Make, image: ImageColumn) -> None:
    """Columns are those that were asked for, before or after; images are arrays all the same, never bytes without a size."""
    pytest.importorskip("datasets")
    made = a_table(image)
    dataset = open_dataset(made.uri)
    expected = [made.pixels[key] for key in dataset.to_arrow(["key"]).column("key").to_pylist()]
    whole = dataset.to_hf()
    for rows, names in (
        (dataset.to_hf(["image", "label"]), ["image", "label"]),
        (dataset.to_hf(["width", "image"]), ["width", "image"]),
        (whole.select_columns(["image", "label"]), ["image", "label"]),
        (whole.select_columns("image"), ["image"]),
    ):
        assert rows.column_names == names
        assert list(rows[0]) == names
        for pixels, row in zip(expected, rows, strict=True):
            np.testing.assert_array_equal(pixels, row["image"])
        np.testing.assert_array_equal(expected[-1], rows["image"][-1])
    assert "image" not in whole.remove_columns("image")[0]


@pytest.mark.parametrize("image", [PNG, PNG_FIXED, WEBP, WEBP_GRAY], ids=["png", "png-fixed", "webp", "webp-gray"])
def test_hugging_face_has_encoded_images_as_its_image_feature(a_table: Make, image: ImageColumn) -> None:
    """What a Hugging Face user expects: a PIL image a row."""
    datasets = pytest.importorskip("datasets")
    made = a_table(image)
    rows = open_dataset(made.uri).to_hf()
    assert isinstance(rows.features["image"], datasets.Image)
    for row in rows:
        assert row["image"].mode == ("L" if image.channels == 1 else "RGB")
        np.testing.assert_array_equal(np.asarray(row["image"]).reshape(made.pixels[row["key"]].shape), made.pixels[row["key"]])


def test_hugging_face_can_filter_map_and_select(a_table: Make) -> None:
    """The dataset is an ordinary one: its fingerprint is known without reading a pixel, and a selection keeps its arrays."""
    pytest.importorskip("datasets")
    made = a_table(FIXED)
    dataset = open_dataset(made.uri)
    rows = dataset.to_hf()
    assert rows._fingerprint == dataset.to_hf()._fingerprint != open_dataset(made.uri, split="val").to_hf()._fingerprint
    chosen = rows.select([3, 1])
    np.testing.assert_array_equal(chosen[0]["image"], made.pixels[rows[3]["key"]])
    assert dataset.to_hf(["key", "split"]).column_names == ["key", "split"]


def test_a_library_that_is_missing_is_named_with_its_extra(a_table: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install, instead of a ModuleNotFoundError."""
    monkeypatch.setattr(export, "find_spec", lambda _name: None)
    dataset: Dataset = open_dataset(a_table().uri)
    for call, extra in ((dataset.to_polars, "polars"), (dataset.to_hf, "hf"), (dataset.to_torch, "torch")):
        with pytest.raises(RecipeError, match=rf"pip install 'ray_prep\[{extra}\]'"):
            call()


@pytest.mark.ray
class TestRay:
    """One local Ray for all of them."""

    @pytest.fixture(scope="class", autouse=True)
    def _ray(self) -> Any:
        ray = pytest.importorskip("ray")
        ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
        yield
        ray.shutdown()

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("image", [FIXED, VARIES, PNG, PNG_FIXED], ids=["fixed", "varies", "png", "png-fixed"])
    def test_ray_has_images_as_tensors(self, a_table: Make, image: ImageColumn) -> None:
        """Every row once, with its split, pixels as arrays (H, W, C); batches of one shape are (N, H, W, C)."""
        made = a_table(image, {"train": [7, 7], "val": [4]})
        rows = open_dataset(made.uri).to_ray(["key", "split", "image", "label_id", "boxes"])
        seen = []
        for row in rows.iter_rows():
            np.testing.assert_array_equal(row["image"], made.pixels[row["key"]])
            assert row["split"] == made.splits[row["key"]]
            seen.append(row["key"])
        assert sorted(seen) == sorted(made.rows)
        if image.shape:
            assert next(iter(rows.iter_batches(batch_size=5)))["image"].shape == (5, *image.shape)

    @pytest.mark.filterwarnings("ignore")
    def test_ray_counts_and_selects(self, a_table: Make) -> None:
        """Columns are those that were asked for; a dataset without images needs none."""
        rows = open_dataset(a_table().uri, split="val").to_ray(["key"])
        assert rows.count() == 4
        assert rows.schema().names == ["key"]

    @pytest.mark.filterwarnings("ignore")
    def test_ray_has_a_column_once_and_counts_rows_of_none(self, a_table: Make) -> None:
        """A column that is asked for twice comes once; without any there are as many rows."""
        dataset = open_dataset(a_table().uri, split="val")
        assert dataset.to_ray(["key", "label", "key"]).schema().names == ["key", "label"]
        rows = dataset.to_ray([])
        assert (rows.count(), len(list(rows.iter_rows()))) == (4, 4)
