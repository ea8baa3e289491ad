from __future__ import annotations

import datetime as dt
import decimal
import io
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from ray_prep.errors import RecipeError, SampleError, StorageError
from ray_prep.sources import parquet as parquet_module
from ray_prep.sources.parquet import ParquetImages

if TYPE_CHECKING:
    from pathlib import Path

    from ray_prep.sample import Item

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

PNG = b"\x89PNG\r\n\x1a\n"


def pictures(count: int, size: int = 100) -> list[bytes]:
    """Return bytes that begin as pictures do."""
    return [PNG + bytes([number % 256]) * size for number in range(count)]


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    """Write a Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path, **options)
    return path


def read(path: Path, **columns: str) -> list[tuple[Item, bytes | SampleError]]:
    """Return the members of the one file there is."""
    source = ParquetImages(str(path), columns=columns)
    (item,) = source.items(Counter())
    return list(source.members(item))


def reasons(found: list[tuple[Item, bytes | SampleError]]) -> list[tuple[str, str]]:
    """Return key and reason of each member; an empty reason for bytes."""
    return [(item.key, end.reason if isinstance(end, SampleError) else "") for item, end in found]


@pytest.mark.slow  # importing datasets takes seconds
def test_what_hugging_face_writes(tmp_path: Path) -> None:
    """A dataset with Image and ClassLabel features: its bytes, the names of its classes in their order, its other columns."""
    datasets = pytest.importorskip("datasets")
    images = pictures(7)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["zebra", "ant", "cow"]), "caption": datasets.Value("string")}
    )
    rows = {
        "image": [*({"bytes": data, "path": f"{number}.png"} for number, data in enumerate(images[:6])), None],
        "label": [0, 1, 2, 0, 1, -1, 2],
        "caption": [f"c{number}" for number in range(7)],
    }
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "train-00000-of-00001.parquet"))
    found = read(tmp_path)
    assert [end for _, end in found[:6]] == images[:6]
    assert reasons(found[6:]) == [("train-00000-of-00001.parquet#6", "empty")]
    assert [(item.label, item.label_id) for item, _ in found] == [
        (name, None) for name in ("zebra", "ant", "cow", "zebra", "ant", None, "cow")
    ]
    assert {item.split for item, _ in found} == {"train"}
    source = ParquetImages(str(tmp_path))
    assert source.class_names() == ("zebra", "ant", "cow")
    assert source.carried_columns() == pa.schema([("caption", pa.string())])
    assert found[2][0].columns == {"caption": "c2"}


def test_rows_are_items(tmp_path: Path) -> None:
    """Key, uri, version, split, label and carried columns of a row, across row groups, in order."""
    path = write(
        tmp_path / "val/a.parquet",
        {"image": pictures(10), "label": list(range(10)), "split": ["test", *[None] * 9], "size": list(range(10))},
        row_group_size=3,
    )
    found = read(tmp_path)
    stat = path.stat()
    assert [end for _, end in found] == pictures(10)
    assert [item.key for item, _ in found] == [f"val/a.parquet#{row}" for row in range(10)]
    assert [item.uri for item, _ in found] == [f"{path}#{row}" for row in range(10)]
    assert {item.version for item, _ in found} == {f"{stat.st_size}-{stat.st_mtime_ns}"}
    assert [item.split for item, _ in found] == ["test", *["val"] * 9]
    assert [(item.label, item.label_id) for item, _ in found] == [(str(row), row) for row in range(10)]
    assert [item.columns for item, _ in found] == [{"split": None if row else "test", "size": row} for row in range(10)]
    source = ParquetImages(str(tmp_path))
    assert (source.split_column(), source.carried_columns().names) == ("split", ["split", "size"])


def test_ids_are_keys(tmp_path: Path) -> None:
    """A column of ids names the images; of several with one id the first stays, and one without is rejected."""
    write(tmp_path / "a.parquet", {"image": pictures(5), "id": ["x", "y", "x", None, "z"]})
    found = read(tmp_path)
    assert reasons(found) == [
        ("x", ""),
        ("y", ""),
        ("x", "duplicate_key"),
        ("a.parquet#3", "annotation_invalid"),
        ("z", ""),
    ]
    write(tmp_path / "a.parquet", {"image": pictures(2), "id": ["s3://k:s@b/0.png?X-Amz-Signature=s", "s3://b/0.png"]})
    assert reasons(read(tmp_path)) == [("s3://b/0.png", ""), ("s3://b/0.png", "duplicate_key")]
    assert len({item.uri for item, _ in found}) == 5
    write(tmp_path / "a.parquet", {"image": pictures(2), "sku": [7, 8], "fold": ["a", "b"], "kind": [b"cat", b"\xff"]})
    found = read(tmp_path, id="sku", split="fold", label="kind")
    assert reasons(found) == [("7", ""), ("8", "annotation_invalid")]
    assert (found[0][0].split, found[0][0].label, found[0][0].columns) == ("a", "cat", {"fold": "a"})


@pytest.mark.parametrize(
    "kind",
    [
        pa.binary(),
        pa.large_binary(),
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        pa.struct([("path", pa.string()), ("bytes", pa.large_binary())]),
        pa.struct([("bytes", pa.binary())]),
        pa.dictionary(pa.int32(), pa.binary()),
    ],
    ids=str,
)
def test_columns_of_images(tmp_path: Path, kind: pa.DataType) -> None:
    """Bytes in any of Arrow's types for them, and in a struct; null is empty."""
    images: list[Any] = [*pictures(2), None]
    values = [None if data is None else {"bytes": data, "path": "p"} for data in images] if pa.types.is_struct(kind) else images
    if pa.types.is_dictionary(kind):
        column = pa.array(images, pa.binary()).dictionary_encode()
    else:
        column = (
            pa.array([value and {name: value[name] for name in kind.names} for value in values], kind)
            if pa.types.is_struct(kind)
            else pa.array(values, kind)
        )
    write(tmp_path / "a.parquet", {"image": column})
    found = read(tmp_path)
    assert [end for _, end in found[:2]] == images[:2]
    assert reasons(found[2:]) == [("a.parquet#2", "empty")]


def test_a_path_instead_of_bytes(tmp_path: Path) -> None:
    """A row that names a file and does not hold its bytes is missing."""
    write(tmp_path / "a.parquet", {"image": [{"bytes": None, "path": "x/1.png"}, {"bytes": PNG, "path": None}]})
    found = read(tmp_path)
    assert reasons(found) == [("a.parquet#0", "missing"), ("a.parquet#1", "")]
    assert "'x/1.png'" in str(found[0][1])


@pytest.mark.parametrize(
    ("columns", "declared", "image"),
    [
        ({"img": [PNG], "bytes": [b"x"]}, {}, "img"),
        ({"image": ["a/b.png"], "jpg": [PNG], "mask": [b"m"]}, {}, "jpg"),
        ({"photo": [PNG], "n": [1]}, {}, "photo"),
        ({"image": [b"x"], "other": [PNG]}, {"image": "other"}, "other"),
    ],
)
def test_which_column_is_the_image(tmp_path: Path, columns: dict[str, Any], declared: dict[str, str], image: str) -> None:
    """The column that is named, else the first usual name that holds bytes, else the only one that does; the others are carried."""
    write(tmp_path / "a.parquet", columns)
    ((item, end),) = read(tmp_path, **declared)
    assert end == PNG
    assert set(item.columns) == set(columns) - {image}


@pytest.mark.parametrize(
    ("columns", "declared", "message"),
    [
        ({"url": ["u"]}, {}, r"no column holds images as bytes; it has url \(string\)"),
        ({"a": [PNG], "b": [PNG]}, {}, "several columns hold bytes: a, b; name the one with the images in source.columns.image"),
        ({"image": [PNG]}, {"image": "imag"}, "has no column 'imag'; did you mean 'image'"),
        ({"image": [PNG], "n": [1]}, {"image": "n"}, "column 'n' of .* is int64, not bytes"),
        ({"image": [PNG], "label": [[1]]}, {}, "source.columns.label: column 'label' of .* is list"),
    ],
)
def test_columns_that_do_not_fit(tmp_path: Path, columns: dict[str, Any], declared: dict[str, str], message: str) -> None:
    """What is wrong with columns is said before any work, with the key of the recipe."""
    write(tmp_path / "a.parquet", columns)
    with pytest.raises(RecipeError, match=message):
        ParquetImages(str(tmp_path), columns=declared).carried_columns()


def test_a_typed_column_that_is_gone_is_null(tmp_path: Path) -> None:
    """It may be missing in some of the files; in all of them only if the dataset has it, as anything else is a slip of the pen."""
    write(tmp_path / "a.parquet", {"image": [PNG], "weight": [3]})
    write(tmp_path / "b.parquet", {"image": [PNG]})
    source = ParquetImages(str(tmp_path), columns={"weight": "int32"})
    assert source.carried_columns() == pa.schema([("weight", pa.int32())])
    rows = [item.columns for container in source.items(Counter()) for item, _ in source.members(container)]
    assert rows == [{"weight": 3}, {}]
    (tmp_path / "a.parquet").unlink()
    assert source.carried_columns(["weight"]) == pa.schema([])
    with pytest.raises(RecipeError, match=r"^source\.columns\.weight: .*b\.parquet has no column 'weight'; it has image"):
        source.carried_columns()


def test_types_of_carried_columns(tmp_path: Path) -> None:
    """Types become those a table holds; what no table holds is carried as text; a declared type is what values become."""
    moment = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC)
    write(
        tmp_path / "a.parquet",
        {
            "image": [PNG],
            "count": pa.array([3], pa.uint8()),
            "when": pa.array([moment], pa.timestamp("ms", "UTC")),
            "price": pa.array([decimal.Decimal("1.50")], pa.decimal128(5, 2)),
            "tags": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
            "hour": pa.array([dt.time(1, 2, 3)]),
            "box": [{"x": 1.5}],
            "number": ["12"],
            "kind": pa.array(["k"]).dictionary_encode(),
        },
    )
    source = ParquetImages(str(tmp_path), columns={"number": "int32"})
    schema = source.carried_columns()
    assert schema.types == [
        pa.int16(),
        pa.timestamp("us", "UTC"),
        pa.string(),
        pa.string(),
        pa.string(),
        pa.struct([("x", pa.float64())]),
        pa.int32(),
        pa.string(),
    ]
    ((item, _),) = read(tmp_path, number="int32")
    assert item.columns == {
        "count": 3,
        "when": moment,
        "price": "1.50",
        "tags": '[["a", 1]]',
        "hour": "01:02:03",
        "box": {"x": 1.5},
        "number": 12,
        "kind": "k",
    }
    assert pa.Table.from_pylist([dict(item.columns)], schema=schema).to_pylist() == [item.columns]
    with pytest.raises(RecipeError, match="row 0, column 'kind': k is no int8"):
        read(tmp_path, kind="int8")


def test_files_that_differ(tmp_path: Path) -> None:
    """Carried columns are those of all files; numbers take the wider type; text and number in one column are exit 2."""
    write(tmp_path / "1.parquet", {"image": [PNG], "n": pa.array([1], pa.int32()), "a": ["x"]})
    write(tmp_path / "2.parquet", {"image": [PNG], "n": pa.array([1.5]), "b": [True]})
    (tmp_path / "3.parquet").write_bytes(b"PAR1 damaged")
    source = ParquetImages(str(tmp_path))
    assert source.carried_columns() == pa.schema([("n", pa.float64()), ("a", pa.string()), ("b", pa.bool_())])
    write(tmp_path / "4.parquet", {"image": [PNG], "n": ["text"]})
    with pytest.raises(RecipeError, match=r"4\.parquet: column 'n' is string, and in .*1\.parquet it is"):
        source.carried_columns()


def test_classes_of_all_files(tmp_path: Path) -> None:
    """Labels of every file, numbers by their size, names by their letters; damaged files and labels that are none tell nothing."""
    write(tmp_path / "1.parquet", {"image": pictures(4), "label": [10, 9, -1, None]})
    write(tmp_path / "2.parquet", {"image": pictures(2), "label": [2, 10]})
    (tmp_path / "3.parquet").write_bytes(b"no")
    assert ParquetImages(str(tmp_path)).class_names() == ("2", "9", "10")
    write(tmp_path / "2.parquet", {"image": pictures(2), "label": ["b", "a"]})
    assert ParquetImages(str(tmp_path)).class_names() == ("10", "9", "a", "b")
    (tmp_path / "1.parquet").unlink()
    (tmp_path / "2.parquet").unlink()
    assert ParquetImages(str(tmp_path)).class_names() == ()


def test_class_names_that_do_not_fit(tmp_path: Path) -> None:
    """A number beyond the names that the file gives its classes is an annotation that cannot be right."""
    feature = b'{"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}'
    table = pa.table({"image": pictures(3), "label": [1, 2, -1]}).replace_schema_metadata({"huggingface": feature})
    parquet.write_table(table, tmp_path / "a.parquet")
    found = read(tmp_path)
    assert reasons(found) == [("a.parquet#0", ""), ("a.parquet#1", "annotation_invalid"), ("a.parquet#2", "")]
    assert [item.label for item, _ in found] == ["dog", None, None]


def test_text_that_is_none(tmp_path: Path) -> None:
    """A carried text, or a label, that is not UTF-8 rejects its row and no other."""
    bad = pa.array([b"ok", b"\xff"]).view(pa.string())
    write(tmp_path / "a.parquet", {"image": pictures(2), "txt": bad})
    assert reasons(read(tmp_path)) == [("a.parquet#0", ""), ("a.parquet#1", "annotation_invalid")]
    write(tmp_path / "a.parquet", {"image": pictures(2), "label": bad})
    assert reasons(read(tmp_path)) == [("a.parquet#0", ""), ("a.parquet#1", "annotation_invalid")]


@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "empty"), (b"<html>", "corrupt"), (b"PAR1", "truncated"), (b"PAR1" + bytes(100), "truncated")]
)
def test_files_that_are_none(tmp_path: Path, data: bytes, reason: str) -> None:
    """A file without a footer is one rejection of its own."""
    (tmp_path / "a.parquet").write_bytes(data)
    assert reasons(read(tmp_path)) == [("a.parquet", reason)]


def test_damaged_rows_are_told(tmp_path: Path) -> None:
    """A row group that cannot be read is named; the others are read."""
    path = write(
        tmp_path / "a.parquet",
        {"image": pictures(30, 3000)},
        row_group_size=10,
        write_page_checksum=True,
        use_dictionary=False,
        compression="none",
    )
    data = bytearray(path.read_bytes())
    at = parquet.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(1).column(0).data_page_offset
    data[at + 20_000] ^= 0xFF
    path.write_bytes(data)
    found = read(tmp_path)
    assert [end for _, end in found[:-1]] == [*pictures(30, 3000)[:10], *pictures(30, 3000)[20:]]
    assert reasons(found[-1:]) == [("a.parquet", "corrupt")]
    assert "10 to 19" in str(found[-1][1])


def test_files_cut_or_damaged_anywhere(tmp_path: Path) -> None:
    """Every row comes as it was, or a rejection tells that it does not."""
    path = write(tmp_path / "a.parquet", {"image": pictures(12, 300), "n": list(range(12))}, row_group_size=4, write_page_checksum=True)
    whole = path.read_bytes()
    rng = random.Random(5)
    for number in range(150):
        data = bytearray(whole[: rng.randrange(1, len(whole))] if number % 3 == 0 else whole)
        if number % 3:
            # Flips in the footer can make Arrow ask for any amount of memory; these are for the crash tests, in a process of their own.
            data[rng.randrange(4, len(whole) * 3 // 4)] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        found = read(tmp_path)
        whole_rows = [end for _, end in found if isinstance(end, bytes)]
        assert len(whole_rows) == 12 or isinstance(found[-1][1], SampleError)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    """A file that was removed after it was listed is one rejection."""
    path = write(tmp_path / "a.parquet", {"image": pictures(1)})
    source = ParquetImages(str(path))
    (item,) = source.items(Counter())
    path.unlink()
    assert reasons(list(source.members(item))) == [("a.parquet", "missing")]


def test_faults_of_the_disk_are_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the storage passes through pyarrow as what it is."""
    write(tmp_path / "a.parquet", {"image": pictures(300, 30_000)}, row_group_size=100, use_dictionary=False, compression="none")
    source = ParquetImages(str(tmp_path))
    (item,) = source.items(Counter())
    count = 0
    opened = parquet_module.open_container

    def open_failing(*given: Any, **more: Any) -> Any:
        file = opened(*given, **more)
        whole = file.read

        def fail(size: int = -1) -> bytes:
            nonlocal count
            count += 1
            if count > 3:
                msg = "the disk is gone"
                raise StorageError(msg)
            return whole(size)

        file.read = fail  # type: ignore[method-assign]
        return file

    monkeypatch.setattr(parquet_module, "open_container", open_failing)
    with pytest.raises(StorageError, match="the disk is gone"):
        list(source.members(item))


def test_memory_is_bounded_by_a_batch(tmp_path: Path) -> None:
    """Of a row group of 200 MB, a batch and a page are in memory."""
    schema = pa.schema([("image", pa.binary())])
    with parquet.ParquetWriter(tmp_path / "a.parquet", schema, use_dictionary=False, compression="none", write_batch_size=8) as writer:
        writer.write_table(pa.table({"image": [bytes([number]) * 500_000 for number in range(100)] * 4}, schema), row_group_size=400)
    source = ParquetImages(str(tmp_path))
    (item,) = source.items(Counter())
    before = pa.total_allocated_bytes()
    peak = max(pa.total_allocated_bytes() - before for _ in source.members(item))
    assert peak < 64 << 20
