from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ray_prep.dataset.reader import open as open_dataset
from ray_prep.dataset.schema import ImageColumn
from ray_prep.dataset.table import commit, history
from ray_prep.dataset.verify import verify
from ray_prep.errors import RecipeError, StorageError
from ray_prep.storage import StorageOptions

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

Make = Callable[..., Any]
RANGE = (0.0, 255.0)
FIXED = ImageColumn("tensor", (6, 5, 3), "uint8", "rgb", RANGE)
FLOAT = ImageColumn("tensor", (3, 3, 1), "float32", "gray", None)
VARIES = ImageColumn("tensor", None, "uint8", "rgb", RANGE)
PNG = ImageColumn("png", None, "uint8", "rgb", RANGE)
PNG_FIXED = ImageColumn("png", (4, 7, 3), "uint8", "rgb", RANGE)
PNG_GRAY = ImageColumn("png", None, "uint8", "gray", RANGE)
WEBP = ImageColumn("webp", (8, 8, 3), "uint8", "rgb", RANGE)
KINDS = pytest.mark.parametrize(
    "image", [FIXED, FLOAT, VARIES, PNG, PNG_FIXED, PNG_GRAY, WEBP], ids=lambda image: f"{image.encoding}-{image.dtype}-{image.shape}"
)


def test_a_dataset_knows_its_version_files_and_rows(make_table: Make) -> None:
    """The files are those of the version; a stray shard in the folder is not among them."""
    made = make_table()
    (Path(made.uri) / "split=train" / "stray.parquet").write_bytes(b"")
    dataset = open_dataset(made.uri)
    assert dataset.version == 0
    assert len(dataset) == 18
    assert dataset.files == sorted(f"{made.uri}/{shard.path}" for shard in made.shards)
    assert dataset.schema.field("image").type == pa.large_binary()
    assert dataset.classes == ["class 0", "class 1"]
    assert dataset.rejections.to_pylist() == [
        {
            "key": "bad.jpg",
            "uri": "/data/bad.jpg",
            "version": "1",
            "stage": "decode",
            "reason": "truncated",
            "message": "ends after 7 bytes",
            "attempts": 1,
        }
    ]


def test_a_split_is_a_dataset_of_its_own(a_table: Make) -> None:
    """Rows, files and statistics are the split's."""
    made = a_table()
    whole, val = open_dataset(made.uri), open_dataset(made.uri, split="val")
    assert (len(val), val.splits, whole.splits) == (4, ["val"], ["train", "val"])
    assert set(val.to_arrow(["split"]).column("split").to_pylist()) == {"val"}
    assert (val.stats.rows, val.stats.images, val.stats.mean[0]) == (4, 4, 100 / 255)
    assert whole.stats.mean[0] == pytest.approx(100 / 255)
    assert whole.stats.counts == {"train": {"class 0": 9, "": 5}, "val": {"class 1": 4}}


def test_an_old_version_is_read_by_its_number(make_table: Make) -> None:
    """After a replacement both are there, each with its own rows."""
    made = make_table()
    commit(made.uri, StorageOptions(), made.schema, 0, [], [made.shards[0].path], "_ray_prep/builds/b1/record.json")
    assert (len(open_dataset(made.uri)), len(open_dataset(made.uri, version=0))) == (11, 18)


def test_what_is_not_there_is_named(a_table: Make, tmp_path: Path) -> None:
    """Place, version, split, column, option: what was given, and what would be right."""
    made = a_table()
    with pytest.raises(StorageError, match="there is no dataset"):
        open_dataset(str(tmp_path / "nowhere"))
    with pytest.raises(RecipeError, match="no version 7"):
        open_dataset(made.uri, version=7)
    with pytest.raises(RecipeError, match="no split 'test'; there are train, val"):
        open_dataset(made.uri, split="test")
    with pytest.raises(RecipeError, match="no 'lable'; did you mean 'label'"):
        open_dataset(made.uri).to_arrow(columns=["lable"])
    with pytest.raises(RecipeError, match="batch_size: 0"):
        open_dataset(made.uri).batches(0)
    with pytest.raises(RecipeError, match="no 'lable'; did you mean 'label'"):
        open_dataset(made.uri).batches(columns=["lable"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"anonymous": "false"}, r"storage_options\.anonymous: should be true or false, got 'false'$"),
        ({"endpoint": 5}, r"storage_options\.endpoint: should be a text, got 5$"),
        ({"endpoint": "host:9000"}, r"storage_options\.endpoint: 'host:9000' is no url; write http://"),
        ({"region": Path("a")}, r"storage_options\.region: should be a text, or true or false, got PosixPath"),
        ({"end_point": "x"}, r"storage_options\.end_point: unknown key; did you mean 'endpoint'\?$"),
        (
            {"secret": {"of": "mine"}, 5: 6},
            r"storage_options\.secret: unknown key; known are endpoint, .*\nstorage_options\.5: unknown",
        ),
        ("eu-west-1", r"storage_options: should be a mapping of keys to values, .*got 'eu-west-1'$"),
    ],
)
def test_storage_options_are_held_to_the_rules_of_a_recipe(tmp_path: Path, given: Any, said: str) -> None:
    """From Python too each fault is told by its key: what was given, what is right; of an unknown key no value is shown."""
    with pytest.raises(RecipeError, match=said) as told:
        open_dataset(tmp_path, storage_options=given)
    assert "mine" not in str(told.value)


def test_storage_options_reach_the_dataset(a_table: Make) -> None:
    """As a mapping of any kind, or as what it stands for."""
    uri, options = a_table().uri, StorageOptions(region="eu-west-1", allow_http=True)
    for given in (MappingProxyType({"region": "eu-west-1", "allow_http": True, "profile": None}), options):
        assert open_dataset(uri, storage_options=given).options == options


def test_a_file_is_told_from_a_folder(a_table: Make) -> None:
    """A shard's path instead of the dataset's: that it is a file, never that a log is damaged."""
    made = a_table()
    shard = f"{made.uri}/{made.shards[0].path}"
    for call in (open_dataset, partial(verify, options=StorageOptions()), partial(history, options=StorageOptions())):
        with pytest.raises(StorageError, match=r"\.parquet: is a file; a dataset is a folder"):
            call(shard)


def test_a_dataset_that_may_only_be_read_is_read(make_table: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's folder, or a mount without writing: rows, versions and verification need no more than reading."""
    made = make_table()
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and allowed(path, mode))
    assert len(open_dataset(made.uri).to_arrow()) == 18
    assert [commit.version for commit in history(made.uri, StorageOptions())] == [0]
    assert verify(made.uri, StorageOptions()).rows == 18


def test_a_version_without_a_record_still_has_its_rows(make_table: Make) -> None:
    """Statistics are lost with the record, pixels are not."""
    made = make_table()
    (Path(made.uri) / "_ray_prep/builds/b1/record.json").unlink()
    dataset = open_dataset(made.uri)
    assert len(dataset.to_arrow()) == 18
    with pytest.raises(StorageError, match=r"record\.json is not there"):
        dataset.stats  # noqa: B018  a property


def test_arrow_gives_every_column_as_it_was_stored(a_table: Make) -> None:
    """Order and types are the schema's; nulls stay nulls; the split is a column."""
    made = a_table()
    table = open_dataset(made.uri).to_arrow()
    assert table.schema.equals(open_dataset(made.uri).schema, check_metadata=True)
    for row in table.to_pylist():
        given = made.rows[row["key"]]
        assert row["split"] == made.splits[row["key"]]
        assert row["image"] == made.pixels[row["key"]].tobytes()
        for name, value in row.items():
            if name not in {"image", "split"}:
                assert value == given.get(name), name
    assert sorted(table.column("key").to_pylist()) == sorted(made.rows)


def test_arrow_leaves_raw_pixels_in_the_mapped_files(a_table: Make) -> None:
    """A table of any size costs no memory for its pixels: nothing is allocated for them, and a chunk is a row group."""
    image = ImageColumn("tensor", (200, 200, 3), "uint8", "rgb", RANGE)
    made = a_table(image, {"train": [6]})
    dataset = open_dataset(made.uri)
    before = pa.total_allocated_bytes()
    column = dataset.to_arrow(columns=["image"]).column("image")
    assert pa.total_allocated_bytes() - before < image.nbytes  # type: ignore[operator]
    assert [len(chunk) for chunk in column.chunks] == [3, 3]
    for chunk in column.chunks:
        assert in_a_map(chunk.buffers()[2].address, chunk.buffers()[2].size)


def in_a_map(address: int, size: int) -> bool:
    """Return whether memory belongs to a mapped shard of this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(".parquet"):
            begin, _, end = line.split()[0].partition("-")
            if int(begin, 16) <= address and address + size <= int(end, 16):
                return True
    return False


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the addresses of mapped files are known on Linux only")
def test_batches_are_views_of_the_mapped_file(a_table: Make) -> None:
    """By address: the array's first byte lies in a mapped shard; it stays valid when the dataset is gone, and cannot be written."""
    made = a_table()
    batches = list(open_dataset(made.uri).batches())
    for batch in batches:
        array = batch["image"]
        assert in_a_map(array.__array_interface__["data"][0], array.nbytes)
        assert not array.flags.writeable
        for key, image in zip(batch["key"], array, strict=True):
            np.testing.assert_array_equal(image, made.pixels[key])
    assert sorted(len(batch["image"]) for batch in batches) == [1, 1, 1, 3, 3, 3, 3, 3]


@KINDS
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_every_kind_of_image_comes_back_as_pixels(a_table: Make, image: ImageColumn, compression: str) -> None:
    """Raw or encoded, fixed or varying, compressed or not: the pixels that were stored (these encodings are lossless), row by row."""
    made = a_table(image, {"train": [5], "val": [2]}, compression=compression)
    seen = []
    for batch in open_dataset(made.uri).batches(2):
        assert (isinstance(batch["image"], np.ndarray)) == image.is_fixed_tensor
        assert len(batch["image"]) <= 2
        for key, pixels in zip(batch["key"], batch["image"], strict=True):
            assert pixels.dtype == image.dtype
            np.testing.assert_array_equal(pixels, made.pixels[key])
            seen.append(key)
    assert sorted(seen) == sorted(made.pixels)


def test_a_batch_has_numbers_as_arrays_and_all_else_as_lists(a_table: Make) -> None:
    """No label is -1, whatever the batch; a batch of a loop never changes its types."""
    made = a_table()
    for batch in open_dataset(made.uri).batches(columns=["key", "label", "label_id", "copy", "boxes", "split", "source_bytes"]):
        assert list(batch) == ["image", "key", "label", "label_id", "copy", "boxes", "split", "source_bytes"]
        assert {name: type(values) for name, values in batch.items() if name != "image"} == {
            "key": list,
            "label": list,
            "label_id": np.ndarray,
            "copy": np.ndarray,
            "boxes": list,
            "split": list,
            "source_bytes": np.ndarray,
        }
        expected = [made.rows[key]["label_id"] for key in batch["key"]]
        assert batch["label_id"].tolist() == [-1 if value is None else value for value in expected]
        assert batch["boxes"] == [made.rows[key]["boxes"] for key in batch["key"]]


@pytest.mark.parametrize("image", [FIXED, FLOAT], ids=["uint8", "float32"])
def test_arrow_hands_out_tensors(a_table: Make, image: ImageColumn) -> None:
    """`tensor=True` is arrow.fixed_shape_tensor over the same pixels, at any offset in the file."""
    made = a_table(image)
    table = open_dataset(made.uri).to_arrow(tensor=True)
    column = table.column("image")
    assert column.type == pa.fixed_shape_tensor(pa.from_numpy_dtype(image.dtype), list(image.shape or ()))
    arrays = np.concatenate([chunk.to_numpy_ndarray() for chunk in column.chunks])
    for key, pixels in zip(table.column("key").to_pylist(), arrays, strict=True):
        np.testing.assert_array_equal(pixels, made.pixels[key])


def test_columns_need_no_image_and_may_name_it(a_table: Make) -> None:
    """`tensor=True` without images is a table without images; a batch's images stay arrays though they are asked for, once or twice."""
    dataset = open_dataset(a_table(FIXED).uri)
    assert dataset.to_arrow(["key"], tensor=True).equals(dataset.to_arrow(["key"]))
    plain = list(dataset.batches(columns=["key"]))
    for batch, same in zip(plain, dataset.batches(columns=["image", "key", "key"]), strict=True):
        assert same.keys() == batch.keys()
        np.testing.assert_array_equal(same["image"], batch["image"])


def test_a_column_that_is_asked_for_twice_comes_once(a_table: Make) -> None:
    """Where it stood first, in whatever the rows are handed to."""
    dataset = open_dataset(a_table(FIXED).uri)
    asked = ["label", "key", "label", "key"]
    assert dataset.to_arrow(asked).equals(dataset.to_arrow(["label", "key"]))
    assert dataset.to_polars(asked).columns == ["label", "key"]
    assert dataset.to_hf(asked).column_names == ["label", "key"]


def test_rows_of_no_columns_are_still_counted(a_table: Make) -> None:
    """Of the version, of a split, and row group by row group."""
    made = a_table(FIXED)
    for split, rows in ((None, 18), ("val", 4)):
        dataset = open_dataset(made.uri, split=split)
        table = dataset.to_arrow([])
        assert (table.num_rows, table.column_names) == (rows, [])
        assert [part.num_rows for part in dataset.tables([])] == [part.num_rows for part in dataset.tables(["key"])]


@pytest.mark.parametrize("image", [VARIES, PNG_FIXED], ids=["varies", "encoded"])
def test_what_is_no_tensor_is_refused_as_one(a_table: Make, image: ImageColumn) -> None:
    """The message names what hands out arrays instead."""
    with pytest.raises(RecipeError, match=r"cannot be one tensor; batches\(\)"):
        open_dataset(a_table(image).uri).to_arrow(tensor=True)


def test_a_damaged_shard_is_named(make_table: Make) -> None:
    """Cut short or overwritten: a few words with the file's name, never a wrong pixel or a traceback of Parquet."""
    made = make_table()
    path = Path(made.uri) / made.shards[0].path
    data = path.read_bytes()
    for broken in (data[: len(data) // 2], b"", b"PAR1" + b"\xff" * (len(data) - 4), data[:4] + b"\xff" * 400 + data[404:]):
        path.write_bytes(broken)
        with pytest.raises(StorageError, match=made.shards[0].path):
            list(open_dataset(made.uri).batches())
    path.unlink()
    with pytest.raises(StorageError, match=rf"{made.shards[0].path} is not there"):
        open_dataset(made.uri).to_arrow()


def test_a_damaged_image_is_said_to_be_damaged(make_table: Make) -> None:
    """A stored PNG that does not decode."""
    made = make_table(PNG_FIXED, {"train": [1]})
    path = Path(made.uri) / made.shards[0].path
    path.write_bytes(path.read_bytes().replace(b"\x89PNG\r\n", b"\x89XXX\r\n"))
    with pytest.raises(StorageError, match="stored png of"):
        list(open_dataset(made.uri).batches())


def test_an_empty_table_is_a_dataset_without_rows(make_table: Make) -> None:
    """After all rows were removed: every reader hands out nothing, with the right columns."""
    made = make_table()
    commit(made.uri, StorageOptions(), made.schema, 0, [], [shard.path for shard in made.shards], "_ray_prep/builds/b1/record.json")
    dataset = open_dataset(made.uri)
    assert (len(dataset), dataset.files, list(dataset.batches())) == (0, [], [])
    assert dataset.to_arrow().schema == dataset.schema
    assert dataset.to_arrow(tensor=True).num_rows == 0
    assert dataset.to_polars().columns == dataset.schema.names
    assert len(dataset.to_hf()) == 0
    if find_spec("torch"):
        assert list(dataset.to_torch()) == []


def test_a_dataset_can_be_sent_to_another_process(a_table: Make) -> None:
    """Pickled also after it was used; connections stay behind."""
    dataset = open_dataset(a_table().uri)
    assert len(dataset.to_arrow()) == 18
    again = pickle.loads(pickle.dumps(dataset))
    assert again.files == dataset.files
    assert again.to_arrow() == dataset.to_arrow()


def test_a_file_uri_is_the_folder(a_table: Make) -> None:
    """`file://` opens the same dataset."""
    made = a_table()
    assert open_dataset(f"file://{made.uri}").files == open_dataset(made.uri).files
