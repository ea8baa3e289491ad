from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_prep.dataset.page import pixels_start, read_page
from ray_prep.dataset.schema import ImageColumn, table_schema
from ray_prep.dataset.shard import MAX_GROUP_ROWS, Compression, ShardFile, ShardWriter
from ray_prep.errors import RecipeError

TENSOR = ImageColumn("tensor", (6, 5, 3), "uint8", "rgb", (0.0, 255.0))
VARIES = ImageColumn("tensor", None, "uint8", "gray", (0.0, 255.0))
JPEG = ImageColumn("jpeg", None, "uint8", "rgb", (0.0, 255.0))
ROW = 6 * 5 * 3


def schema(image: ImageColumn = TENSOR, carried: pa.Schema | None = None) -> pa.Schema:
    """Return the columns of a shard."""
    return table_schema(image, carried or pa.schema([]))


def pixels(number: int, shape: tuple[int, ...] = (6, 5, 3), dtype: str = "uint8") -> np.ndarray[Any, Any]:
    """Return an image that the number decides."""
    return np.random.default_rng(number).integers(0, 256, shape).astype(dtype)


def write(folder: Path, rows: list[dict[str, Any]], columns: pa.Schema | None = None, **settings: Any) -> ShardFile:
    """Write rows into one shard."""
    writer = ShardWriter(folder, columns or schema(), "train", **({"footer": {"fingerprint": "f", "cpu_level": "x86-64-v3"}} | settings))
    for row in rows:
        writer.append(row)
    return writer.close()


def some(count: int) -> list[dict[str, Any]]:
    """Return so many rows."""
    return [{"key": f"{number:05d}", "image": pixels(number), "label": "cat"} for number in range(count)]


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_rows_come_back_as_they_were_given(tmp_path: Path, compression: Compression) -> None:
    """Every column, whatever the image's compression, by plain pyarrow."""
    carried = pa.schema([("at", pa.timestamp("ns")), ("tags", pa.list_(pa.string())), ("score", pa.float16()), ("id", pa.uint32())])
    given = {
        "key": "a/b.jpg",
        "copy": 2,
        "image": pixels(1),
        "height": 6,
        "width": 5,
        "channels": 3,
        "label": "größe",
        "label_id": 7,
        "boxes": [{"x_min": 1.0, "y_min": 2.0, "x_max": 3.5, "y_max": 4.0, "area": 5.0, "label": "cat", "label_id": 1, "is_crowd": True}],
        "mask": b"\x89PNG",
        "keypoints": [{"x": 1.0, "y": 2.0, "visibility": 2, "name": "nose", "box": 0}],
        "source_bytes": 2**40,
        "sums": [2**60, 1],
        "scores": {"sharpness": 1.5, "brightness": None, "contrast": 0.25},
        "params": "[]",
        "tags": ["x", None],
        "score": 0.5,
        "id": 2**32 - 1,
    }
    file = write(tmp_path, [given, {"key": "b", "image": pixels(2)}], schema(carried=carried), compression=compression)
    table = pq.read_table(file.local_path, partitioning=None)
    first, second = table.to_pylist()
    assert first["image"] == pixels(1).tobytes()
    assert second["image"] == pixels(2).tobytes()
    assert first["boxes"][0] == {**given["boxes"][0], "source_id": None, "rle": None}
    assert {name: first[name] for name in given if name not in {"image", "boxes"}} == {
        name: value for name, value in given.items() if name not in {"image", "boxes"}
    }
    assert [name for name, value in second.items() if value is not None] == ["key", "image"]
    assert table.schema.equals(schema(carried=carried), check_metadata=False)
    assert table.schema.field("image").metadata == schema().field("image").metadata


def test_one_row_group_is_one_raw_page(tmp_path: Path) -> None:
    """So that a reader maps the file and finds image i at start + i x its size; groups end before they exceed the limit."""
    file = write(tmp_path, some(10), row_group_bytes=4 * ROW + 1)
    data = memoryview(file.local_path.read_bytes())
    metadata = pq.read_metadata(file.local_path)
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [4, 4, 2]
    number = 0
    for group in range(metadata.num_row_groups):
        rows, chunk = metadata.row_group(group).num_rows, metadata.row_group(group).column(2)
        page = read_page(data, chunk.data_page_offset)
        assert page.end == chunk.data_page_offset + chunk.total_compressed_size
        start = pixels_start(data, chunk, rows, ROW)
        assert start is not None
        for place in range(rows):
            assert bytes(data[start + place * ROW : start + (place + 1) * ROW]) == pixels(number).tobytes()
            number += 1
    assert number == 10


def test_a_group_of_tiny_images_is_one_page_too(tmp_path: Path) -> None:
    """Pyarrow ends a page after 20,000 rows: a group ends before."""
    image = ImageColumn("tensor", (1, 1, 1), "uint8", "gray", (0.0, 255.0))
    rows = [{"key": str(number), "image": np.full((1, 1, 1), number % 256, np.uint8)} for number in range(MAX_GROUP_ROWS + 1)]
    file = write(tmp_path, rows, schema(image))
    data, metadata = memoryview(file.local_path.read_bytes()), pq.read_metadata(file.local_path)
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [MAX_GROUP_ROWS, 1]
    assert pixels_start(data, metadata.row_group(0).column(2), MAX_GROUP_ROWS, 1) is not None


def test_an_image_larger_than_a_group_gets_one_of_its_own(tmp_path: Path) -> None:
    """A group has one row at least."""
    file = write(tmp_path, some(3), row_group_bytes=ROW - 1)
    assert pq.read_metadata(file.local_path).num_row_groups == 3


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_the_same_rows_give_the_same_bytes(tmp_path: Path, compression: Compression) -> None:
    """No time, host or path gets in; the footer's order does not matter."""
    one = write(tmp_path, some(9), row_group_bytes=4 * ROW, compression=compression, footer={"a": "1", "b": "2"})
    other = write(tmp_path, some(9), row_group_bytes=4 * ROW, compression=compression, footer={"b": "2", "a": "1"})
    assert one.local_path != other.local_path
    assert one.local_path.read_bytes() == other.local_path.read_bytes()
    assert one.shard == other.shard


def test_the_caller_may_use_its_array_again(tmp_path: Path) -> None:
    """An image is copied when it is given."""
    writer = ShardWriter(tmp_path, schema(), "train", footer={})
    scratch = pixels(1)
    writer.append({"key": "a", "image": scratch})
    scratch[:] = 0
    file = writer.close()
    assert pq.read_table(file.local_path, partitioning=None).column("image")[0].as_py() == pixels(1).tobytes()


def test_a_shard_is_named_by_its_bytes_and_knows_its_keys(tmp_path: Path) -> None:
    """Other bytes, other name; size and hash are the file's; keys compare by code points."""
    keys = ["b", "ä", "B", "a"]
    file = write(tmp_path, [{"key": key, "image": pixels(1)} for key in keys])
    data = file.local_path.read_bytes()
    assert file.shard.sha256 == hashlib.sha256(data).hexdigest()
    assert file.shard.path == f"split=train/{file.shard.sha256[:20]}.parquet"
    assert (file.shard.bytes, file.shard.rows, file.shard.min_key, file.shard.max_key) == (len(data), 4, "B", "ä")


def test_the_footer_holds_what_it_was_told_and_statistics_of_keys_only(tmp_path: Path) -> None:
    """Small images would otherwise stand in the footer; Delta needs the keys'."""
    metadata = pq.read_metadata(write(tmp_path, some(3)).local_path)
    told = {name: value for name, value in metadata.metadata.items() if name != b"ARROW:schema"}
    assert told == {b"fingerprint": b"f", b"cpu_level": b"x86-64-v3"}
    group = metadata.row_group(0)
    with_statistics = [group.column(place).path_in_schema for place in range(group.num_columns) if group.column(place).is_stats_set]
    assert with_statistics == ["key"]
    assert (group.column(0).statistics.min, group.column(0).statistics.max) == ("00000", "00002")
    assert not any(group.column(place).has_column_index for place in range(group.num_columns))


def test_images_that_differ_in_size_keep_theirs(tmp_path: Path) -> None:
    """A varying tensor column is plain binary; one image may exceed the buffer."""
    shapes = [(3, 4, 1), (1, 1, 1), (40, 50, 1), (2, 2, 1)]
    rows = [{"key": str(number), "image": pixels(number, shape)} for number, shape in enumerate(shapes)]
    file = write(tmp_path, rows, schema(VARIES), row_group_bytes=16)
    stored = pq.read_table(file.local_path, partitioning=None).column("image").to_pylist()
    assert stored == [pixels(number, shape).tobytes() for number, shape in enumerate(shapes)]


def test_encoded_images_are_stored_as_they_are(tmp_path: Path) -> None:
    """Any bytes-like object, the empty one included."""
    rows = [{"key": "a", "image": b"one"}, {"key": "b", "image": memoryview(b"three")}, {"key": "c", "image": b""}]
    file = write(tmp_path, rows, schema(JPEG))
    assert pq.read_table(file.local_path, partitioning=None).column("image").to_pylist() == [b"one", b"three", b""]


@pytest.mark.parametrize(
    ("columns", "image"),
    [
        (schema(), pixels(1, (5, 6, 3))),
        (schema(), pixels(1).astype(np.float32)),
        (schema(), np.asfortranarray(pixels(1))),
        (schema(), pixels(1).tobytes()),
        (schema(VARIES), pixels(1)),
        (schema(JPEG), pixels(1)),
    ],
    ids=["shape", "dtype", "order", "bytes", "channels", "array"],
)
def test_an_image_that_is_not_what_the_schema_says_is_refused(tmp_path: Path, columns: pa.Schema, image: object) -> None:
    """Wrong pixels never reach a file; that is nobody's data, but a mistake in the code."""
    writer = ShardWriter(tmp_path, columns, "train", footer={})
    with pytest.raises(ValueError, match="column takes"):
        writer.append({"key": "a", "image": image})
    writer.abort()


def test_an_unknown_column_is_refused(tmp_path: Path) -> None:
    """What the table has no column for would be lost silently."""
    writer = ShardWriter(tmp_path, schema(), "train", footer={})
    with pytest.raises(ValueError, match="lable"):
        writer.append({"key": "a", "image": pixels(1), "lable": "cat"})
    writer.abort()


def test_a_carried_value_that_does_not_fit_names_its_column(tmp_path: Path) -> None:
    """Types are frozen at the first build: unfit values are exit 2."""
    writer = ShardWriter(tmp_path, schema(carried=pa.schema([("age", pa.int8())])), "train", footer={})
    writer.append({"key": "a", "image": pixels(1), "age": 1000})
    with pytest.raises(RecipeError, match="'age' is int8"):
        writer.close()
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_an_abandoned_shard_leaves_nothing(tmp_path: Path) -> None:
    """abort() removes the file; twice is as good as once."""
    writer = ShardWriter(tmp_path, schema(), "train", footer={}, row_group_bytes=ROW)
    for row in some(3):
        writer.append(row)
    writer.abort()
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_shard_without_rows_is_refused(tmp_path: Path) -> None:
    """There is no empty shard."""
    writer = ShardWriter(tmp_path, schema(), "train", footer={})
    with pytest.raises(ValueError, match="one row at least"):
        writer.close()
    writer.abort()


def test_the_size_so_far_counts_buffered_rows(tmp_path: Path) -> None:
    """So that the caller can close a shard in time, also within a row group."""
    writer = ShardWriter(tmp_path, schema(), "train", footer={}, row_group_bytes=4 * ROW)
    sizes = []
    for row in some(10):
        writer.append(row)
        sizes.append(writer.bytes_written)
    assert sizes == sorted(sizes)
    assert all(size >= (number + 1) * ROW for number, size in enumerate(sizes))
    assert writer.rows == 10
    file = writer.close()
    assert file.shard.bytes > sizes[-1]
