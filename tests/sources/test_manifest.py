from __future__ import annotations

import datetime
import gzip
import http.server
import json
import os
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ray_prep.errors import RecipeError, StorageError
from ray_prep.sources.columns import TIMESTAMP, table_type
from ray_prep.sources.manifest import Manifest
from ray_prep.storage import Patience, StorageOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ray_prep.sample import Item


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the images a.jpg, b.jpg and c.jpg."""
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(name.encode())
    return tmp_path


def _manifest(folder: Path, name: str, content: str | bytes | pa.Table, **fields: Any) -> Manifest:
    path = folder / name
    if isinstance(content, pa.Table):
        parquet.write_table(content, path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return Manifest(str(path), **fields)


def _items(source: Manifest) -> list[Item]:
    return list(source.items(Counter()))


def test_csv_with_all_its_trimmings(folder: Path) -> None:
    """Mark, CRLF, quotes, line ends within a field and empty lines are read; empty fields are null; columns are strings."""
    text = '\ufeffuri,label,note,n\r\na.jpg,cat,"two\r\nlines, and ""quotes""",1\r\n\r\nb.jpg,,,2\r\nc.jpg,dog,ü,\r\n'
    source = _manifest(folder, "list.csv", text)
    items = _items(source)
    assert [(item.key, item.uri, item.label) for item in items] == [
        ("a.jpg", str(folder / "a.jpg"), "cat"),
        ("b.jpg", str(folder / "b.jpg"), None),
        ("c.jpg", str(folder / "c.jpg"), "dog"),
    ]
    assert items[0].columns == {"note": 'two\r\nlines, and "quotes"', "n": "1"}
    assert items[2].columns == {"note": "ü", "n": None}
    assert source.carried_columns() == pa.schema([("note", pa.string()), ("n", pa.string())])


def test_packed_and_tabbed_tables_are_read(folder: Path) -> None:
    """`.csv.gz`, `.jsonl.gz` and `.tsv` are the same tables."""
    csv = _items(_manifest(folder, "list.csv.gz", gzip.compress(b"uri,label\na.jpg,cat\n")))
    json_lines = _items(_manifest(folder, "list.jsonl.gz", gzip.compress(b'{"uri": "a.jpg", "label": "cat"}\n')))
    tabs = _items(_manifest(folder, "list.tsv", "uri\tlabel\na.jpg\tcat\n"))
    assert csv == json_lines == tabs
    with pytest.raises(RecipeError, match=r"broken.csv.gz: cannot be unpacked"):
        _items(_manifest(folder, "broken.csv.gz", gzip.compress(b"uri\na.jpg\n" * 1000)[:-20]))


def test_columns_are_named_and_typed(folder: Path) -> None:
    """`image`, `label`, `split` and `id` name columns; every other key is a column and its type."""
    text = (
        "file,class,fold,sku,age,score,seen,born,ok\n"
        "a.jpg,cat,train,S1,7,0.1,2024-05-01T12:00:00+02:00,2020-02-29,true\n"
        "b.jpg,dog,val,S2,,,,,\n"
    )
    types = {"age": "int32", "score": "float32", "seen": "timestamp", "born": "date", "ok": "bool"}
    parts = {"image": "file", "label": "class", "split": "fold", "id": "sku"}
    source = _manifest(folder, "list.csv", text, columns=parts | types)
    first, second = _items(source)
    assert (first.key, first.label, first.split) == ("S1", "cat", "train")
    assert first.columns == {
        "fold": "train",
        "age": 7,
        "score": np.float32(0.1).item(),
        "seen": datetime.datetime(2024, 5, 1, 10, tzinfo=datetime.UTC),
        "born": datetime.date(2020, 2, 29),
        "ok": True,
    }
    assert second.columns == {"fold": "val", **dict.fromkeys(types)}
    assert source.carried_columns().types == [pa.string(), pa.int32(), pa.float32(), TIMESTAMP, pa.date32(), pa.bool_()]


@pytest.mark.parametrize("name", ["uri", "image", "path", "file_name"])
def test_usual_names_are_found(folder: Path, name: str) -> None:
    """Without a word in the recipe the usual names play their parts; only the first image column does, the others are carried."""
    (item,) = _items(_manifest(folder, "list.csv", f"file_name_2,{name},label,split,id\nx,a.jpg,cat,test,k1\n"))
    assert (item.key, item.uri, item.label, item.split) == ("k1", str(folder / "a.jpg"), "cat", "test")
    assert item.columns == {"file_name_2": "x", "split": "test"}
    (item,) = _items(_manifest(folder, "both.csv", "path,uri\nx,a.jpg\n"))
    assert (item.key, item.columns) == ("a.jpg", {"path": "x"})


def test_json_lines_keep_their_types(folder: Path) -> None:
    """Numbers, booleans, lists and objects keep their type over the whole file; integers among floats become floats; null fits all."""
    text = (
        '\ufeff{"uri": "a.jpg", "n": 1, "x": 1, "ok": true, "tags": ["u"], "box": {"w": 1}, "none": null}\n\n'
        '{"uri": "b.jpg", "n": null, "x": 0.5, "box": {"h": 2}}\r\n'
        '{"uri": "c.jpg", "late": "z"}'
    )
    source = _manifest(folder, "list.jsonl", text)
    schema = source.carried_columns()
    assert schema.field("n").type == pa.int64()
    assert schema.field("x").type == pa.float64()
    assert schema.field("tags").type == pa.list_(pa.string())
    assert schema.field("none").type == pa.string()
    items = _items(source)
    assert [type(item.columns["x"]) for item in items] == [float, float, type(None)]
    assert items[0].columns["box"] == {"w": 1, "h": None}
    assert items[2].columns["late"] == "z"


def test_json_types_are_those_of_the_whole_file(folder: Path) -> None:
    """A type shows only far down the file; facts of early rows know it too."""
    lines = [f'{{"uri": "a.jpg", "id": "{number}", "x": 1}}' for number in range(5000)]
    source = _manifest(folder, "list.jsonl", "\n".join([*lines, '{"uri": "a.jpg", "id": "last", "x": 1.5}']))
    assert source.carried_columns().field("x").type == pa.float64()
    first = _items(source)[0]
    assert isinstance(first.columns["x"], float)


@pytest.mark.parametrize(
    ("name", "text", "columns", "said"),
    [
        ("l.csv", "", {}, r"l.csv: is empty"),
        ("l.csv", "uri,uri\na,b\n", {}, r"line 1 names the column 'uri' twice"),
        ("l.csv", "uri,\na,b\n", {}, r"line 1 leaves a column without a name"),
        ("l.csv", "uri;label\na.jpg;cat\n", {}, r"no column names the images: it has uri;label"),
        ("l.csv", "uri,n\na.jpg,1\nb.jpg\n", {}, r"line 3 has 1 fields, and there are 2 columns"),
        ("l.csv", 'uri,n\n"a.jpg\nx",1\nb.jpg,1,2\n', {}, r"line 4 has 3 fields"),
        ("l.csv", 'uri,n\na.jpg,"x"y\n', {}, r"line 2 is no CSV"),
        ("l.csv", b"uri,n\na.jpg,\xff\n", {}, r"not UTF-8"),
        ("l.csv", "uri,n\na.jpg,7\nb.jpg,x\n", {"n": "int32"}, r"line 3, column 'n': 'x' is no int32"),
        ("l.csv", "uri,n\na.jpg,300\n", {"n": "int8"}, r"line 2, column 'n': '300' is no int8"),
        ("l.csv", "uri,n\na.jpg,1_0\n", {"n": "int64"}, r"'1_0' is no int64"),
        ("l.csv", "uri,n\na.jpg,maybe\n", {"n": "bool"}, r"'maybe' is no bool"),
        ("l.csv", "uri,n\n,1\n", {}, r"line 2, column 'uri': names no image"),
        ("l.csv", "uri,id\na.jpg,\n", {}, r"line 2, column 'id': is empty"),
        ("l.csv", "uri,klass\na.jpg,1\n", {"label": "class"}, r"columns.label: .* has no column 'class'.*'klass'"),
        ("l.csv", "uri,age\na.jpg,1\n", {"agee": "int32"}, r"columns.agee: .* no column 'agee'; did you mean 'age'"),
        ("l.csv", "uri\nzz://x/a.jpg\n", {}, r"line 2, column 'uri': zz://x/a.jpg: nothing is read or written by zz://"),
        ("l.jsonl", "", {}, r"is empty"),
        ("l.jsonl", '{"uri": "a.jpg"}\n{"uri": \n', {}, r"line 2 is no JSON"),
        ("l.jsonl", '{"uri": "a.jpg", "uri": "b.jpg"}', {}, r"line 1 is no JSON: the key 'uri' stands there twice"),
        ("l.jsonl", '[{"uri": "a.jpg"}]', {}, r"line 1 holds no object"),
        (
            "l.jsonl",
            '{"uri": "a.jpg", "x": 1}\n{"uri": "a.jpg", "x": "one"}\n',
            {},
            r"line 2, column 'x': \"one\" does not go with the int64",
        ),
        ("l.jsonl", '{"uri": "a.jpg", "x": true}\n{"uri": "a.jpg", "x": 2}\n', {}, r"line 2, column 'x': 2 does not go with the bool"),
        ("l.jsonl", '{"uri": ["a.jpg"]}\n', {}, r"line 1, column 'uri': .* is no text"),
        ("l.jsonl", '{"uri": "a.jpg", "x": {}}\n', {}, r"column 'x' is struct<>, which a table cannot hold"),
        ("l.jsonl", '{"uri": "a.jpg", "x": {"A": 1, "a": 2}}\n', {}, r"column 'x' is struct<A: int64, a: int64>, which a table"),
        ("l.jsonl", '{"uri": "a.jpg", "x": 99999999999999999999}\n', {}, r"line 1, column 'x': 9+ fits no type"),
        ("l.parquet", b"no parquet", {}, r"is no Parquet file"),
        ("l.txt", "uri\na.jpg\n", {}, r"should end in .csv"),
    ],
)
def test_errors_name_file_line_and_column(folder: Path, name: str, text: str | bytes, columns: dict[str, str], said: str) -> None:
    """What is wrong in a manifest is found by a person in one look."""
    source = _manifest(folder, name, text, columns=columns)
    with pytest.raises(RecipeError, match=said) as caught:
        _ = source.carried_columns(), _items(source)
    assert str(folder / name) in str(caught.value)


def test_mixed_values_can_be_declared_strings(folder: Path) -> None:
    """The way out that the message names: everything as a text."""
    text = '{"uri": "a.jpg", "x": 1}\n{"uri": "b.jpg", "x": "one"}\n{"uri": "c.jpg", "x": [1, null]}\n'
    assert [item.columns["x"] for item in _items(_manifest(folder, "l.jsonl", text, columns={"x": "string"}))] == ["1", "one", "[1, null]"]


def test_a_mixed_column_that_is_not_carried_hurts_nobody(folder: Path) -> None:
    """Labels and ids become texts, whatever they were."""
    text = '{"uri": "a.jpg", "label": 1, "id": "x"}\n{"uri": "b.jpg", "label": "one", "id": 2}\n'
    assert [(item.key, item.label) for item in _items(_manifest(folder, "l.jsonl", text))] == [("x", "1"), ("2", "one")]


def test_an_unknown_type_is_refused_when_the_recipe_is_read() -> None:
    """A wrong type, and a mapping the wrong way round, are exit 2 before the file is opened."""
    with pytest.raises(ValueError, match=r"columns.age: 'int23' is no type; did you mean 'int32'"):
        Manifest("/l.csv", columns={"age": "int23"})
    with pytest.raises(ValueError, match=r"columns.sku: 'id' is no type.*image, label, split, id name a column"):
        Manifest("/l.csv", columns={"sku": "id"})


def test_a_table_without_rows_lists_nothing(folder: Path) -> None:
    """A header alone is exit 3, as an empty folder is; so is a manifest that is not there."""
    with pytest.raises(StorageError, match="lists no image"):
        _items(_manifest(folder, "l.csv", "uri,label\n"))
    with pytest.raises(StorageError, match="no such manifest"):
        _items(Manifest(str(folder / "nope.csv")))
    with pytest.raises(StorageError, match="no such folder"):
        _items(Manifest(str(folder / "nope" / "list.csv")))


def test_parquet_types_become_the_tables(folder: Path) -> None:
    """Types a table cannot hold go to the next that can, with their values."""
    table = pa.table(
        {
            "uri": ["a.jpg", "b.jpg"],
            "label": pa.array(["cat", None]).dictionary_encode(),
            "small": pa.array([255, None], pa.uint8()),
            "huge": pa.array([2**40, 1], pa.uint64()),
            "half": pa.array(np.array([0.5, 1.5], np.float16)),
            "when": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns")),
            "zoned": pa.array([1_700_000_000, None], pa.timestamp("s", "Europe/Berlin")),
            "kind": pa.array(["x", "y"]).dictionary_encode(),
            "long": pa.array(["l", "m"], pa.large_string()),
            "vector": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
            "nested": pa.array([[{"n": 7}], []], pa.list_(pa.struct([("n", pa.uint32())]))),
        }
    )
    source = _manifest(folder, "l.parquet", table)
    schema = source.carried_columns()
    assert {name: str(schema.field(name).type) for name in schema.names} == {
        "small": "int16",
        "huge": "int64",
        "half": "float",
        "when": "timestamp[us, tz=UTC]",
        "zoned": "timestamp[us, tz=UTC]",
        "kind": "string",
        "long": "string",
        "vector": "list<item: float>",
        "nested": "list<item: struct<n: int64>>",
    }
    first, second = _items(source)
    assert (first.label, second.label) == ("cat", None)
    assert first.columns["when"] == datetime.datetime.fromtimestamp(1_700_000_000, datetime.UTC).replace(microsecond=123456)
    assert first.columns["zoned"] == datetime.datetime.fromtimestamp(1_700_000_000, datetime.UTC)
    assert (first.columns["small"], first.columns["half"], first.columns["nested"]) == (255, 0.5, [{"n": 7}])
    written = pa.Table.from_pylist([dict(item.columns) for item in (first, second)], schema=schema).to_pylist()
    assert written == [dict(first.columns), dict(second.columns)]


def test_values_that_do_not_fit_are_named(folder: Path) -> None:
    """uint64 has no larger signed type: a value above int64 is refused with its row."""
    source = _manifest(folder, "l.parquet", pa.table({"uri": ["a.jpg", "b.jpg"], "n": pa.array([1, 2**63], pa.uint64())}))
    with pytest.raises(RecipeError, match=r"l.parquet: row 2, column 'n': '9223372036854775808' is no int64"):
        _items(source)


@pytest.mark.parametrize(
    "kind", [pa.decimal128(5, 2), pa.time64("us"), pa.duration("s"), pa.map_(pa.string(), pa.int8()), pa.list_(pa.time32("s"))]
)
def test_unfit_types_are_refused_by_name(folder: Path, kind: pa.DataType) -> None:
    """A column the table cannot hold is exit 2 and names the column and its type."""
    assert table_type(kind) is None
    source = _manifest(folder, "l.parquet", pa.table({"uri": ["a.jpg"], "odd": pa.array([None], kind)}))
    with pytest.raises(RecipeError, match="column 'odd' is"):
        source.carried_columns()


def test_uris_start_from_the_manifest(folder: Path) -> None:
    """Relative, absolute and file uris; `..` goes up; odd names stay as they are."""
    (folder / "lists").mkdir()
    (folder / "sp ace#%20.jpg").write_bytes(b"x")
    text = f"uri\n../a.jpg\n{folder}/b.jpg\nfile://{folder}/c.jpg\n../sp ace#%20.jpg\n./../a.jpg\n"
    items = _items(_manifest(folder / "lists", "l.csv", text))
    assert [item.uri for item in items] == [
        f"{folder}/lists/../a.jpg",
        f"{folder}/b.jpg",
        f"{folder}/c.jpg",
        f"{folder}/lists/../sp ace#%20.jpg",
        f"{folder}/lists/../a.jpg",
    ]
    assert all(item.version for item in items)
    assert [item.key for item in items] == ["../a.jpg", f"{folder}/b.jpg", f"file://{folder}/c.jpg", "../sp ace#%20.jpg", "./../a.jpg"]


def test_secrets_are_cut_from_keys_and_uris(folder: Path) -> None:
    """A presigned uri leaves its signature behind; a local name with a question mark is a name."""
    (folder / "q?token=1.jpg").write_bytes(b"x")
    text = "uri\nhttps://u:p@host/a.jpg?X-Amz-Signature=s&v=2\nq?token=1.jpg\n"
    signed, local = _items(_manifest(folder, "l.csv", text, versions="never_changes"))
    assert signed.key == signed.uri == "https://host/a.jpg?v=2"
    assert (local.key, bool(local.version)) == ("q?token=1.jpg", True)
    text = "uri,id\na.jpg,https://u:p@host/a.jpg?sig=s&v=2\nb.jpg,7?sig=1\n"
    assert [item.key for item in _items(_manifest(folder, "m.csv", text))] == ["https://host/a.jpg?v=2", "7?sig=1"]


@pytest.mark.parametrize("where", ["local", "remote"])
def test_an_id_that_names_another_file_has_another_version(folder: Path, where: str) -> None:
    """Two files of one size and time, or uris that never change, are not one image; nor does a new signature or folder make one two."""
    place = "" if where == "local" else "https://host/"
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(name.encode())
        os.utime(folder / name, ns=(10**18, 10**18))

    def version(line: str, uri: str = "uri") -> str:
        (item,) = _items(_manifest(folder, "l.csv", f"id,{uri}\n{line}\n", versions="never_changes"))
        return item.version

    assert version(f"1,{place}a.jpg") != version(f"1,{place}b.jpg")
    assert version(f"1,{place}a.jpg") == version(f"2,{place}a.jpg")
    if where == "remote":
        assert version("1,https://host/a.jpg?sig=s") == version("1,https://host/a.jpg?sig=t") == version("1,https://host/a.jpg")
    (keyed,) = _items(_manifest(folder, "m.csv", f"uri\n{place}a.jpg\n", versions="never_changes"))
    assert "@" not in keyed.version
    (told,) = _items(_manifest(folder, "n.csv", f"id,uri,version\n1,{place}a.jpg,v7\n"))
    assert told.version == "v7"


@pytest.mark.parametrize("name", ["version", "etag", "sha256"])
def test_a_version_column_is_believed(folder: Path, name: str) -> None:
    """Its value is the version and it is not carried; where it is empty the store is asked."""
    known, asked = _items(_manifest(folder, "l.csv", f"uri,{name}\na.jpg,v7\nb.jpg,\n"))
    assert (known.version, known.columns) == ("v7", {})
    assert asked.version.startswith("1-")


def test_missing_images_keep_their_place(folder: Path) -> None:
    """An image that is not there is listed with no version; the build rejects it as `missing`."""
    items = _items(_manifest(folder, "l.csv", "uri\na.jpg\ngone.jpg\nb.jpg\n"))
    assert [(item.key, bool(item.version)) for item in items] == [("a.jpg", True), ("gone.jpg", False), ("b.jpg", True)]


def test_keys_that_come_twice_are_both_listed(folder: Path) -> None:
    """Which holder of a key stays is not the source's to decide."""
    assert [item.key for item in _items(_manifest(folder, "l.csv", "uri,id\na.jpg,k\nb.jpg,k\n"))] == ["k", "k"]


def test_labels_are_texts(folder: Path) -> None:
    """Whole numbers have no point, also where gaps made them floats; booleans are words; gaps are None."""
    floats = pa.table({"uri": ["a.jpg", "b.jpg", "c.jpg"], "label": [3.0, None, float("nan")], "id": [10, 11, 12]})
    assert [(item.key, item.label) for item in _items(_manifest(folder, "l.parquet", floats))] == [("10", "3"), ("11", None), ("12", None)]
    text = '{"uri": "a.jpg", "label": true}\n{"uri": "b.jpg", "label": false}\n'
    assert [item.label for item in _items(_manifest(folder, "l.jsonl", text))] == ["true", "false"]


def test_facts_do_not_depend_on_the_format(folder: Path) -> None:
    """The same rows as CSV with types, JSON lines and Parquet have the same facts."""
    csv = _manifest(folder, "l.csv", "uri,label,n,x\na.jpg,cat,1,0.25\n", columns={"n": "int64", "x": "float64"})
    json_lines = _manifest(folder, "l.jsonl", '{"uri": "a.jpg", "label": "cat", "n": 1, "x": 0.25}\n')
    table = _manifest(folder, "l.parquet", pa.table({"uri": ["a.jpg"], "label": ["cat"], "n": [1], "x": [0.25]}))
    assert len({_items(source)[0].facts for source in (csv, json_lines, table)}) == 1


def test_a_manifest_streams(folder: Path) -> None:
    """The first item comes before the file is read to its end."""
    text = "uri\n" + "a.jpg\n" * 20_000 + "b.jpg,too,many\n"
    items = _manifest(folder, "l.csv", text).items(Counter())
    assert next(items).key == "a.jpg"
    with pytest.raises(RecipeError, match="line 20002"):
        list(items)


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl", "list.parquet"])
def test_a_split_is_carried_as_text(folder: Path, name: str) -> None:
    """What a split column says is told as a split and carried as text, whatever its type; one that plays another part is that part's."""
    rows = [{"uri": "a.jpg", "fold": 3, "weight": 2}, {"uri": "b.jpg", "fold": None, "weight": 2}]
    if name.endswith("csv"):
        content: Any = "uri,fold,weight\na.jpg,3,2\nb.jpg,,2\n"
    else:
        content = pa.Table.from_pylist(rows) if name.endswith("parquet") else "".join(json.dumps(row) + "\n" for row in rows)
    source = _manifest(folder, name, content, columns={"split": "fold"})
    assert source.split_column() == "fold"
    assert source.carried_columns().field("fold").type == pa.string()
    assert [(item.split, item.columns["fold"]) for item in _items(source)] == [("3", "3"), (None, None)]
    twofold = _manifest(folder, name, content, columns={"split": "fold", "label": "fold"})
    assert twofold.carried_columns().names == ["weight"]
    assert _items(twofold)[0].label == "3"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over within seconds is over within one."""
    prompt = Patience(connect_s=1, stall_s=1, retry_s=0.3)
    for module in ("ray_prep.storage.remote", "ray_prep.sources.manifest"):
        monkeypatch.setattr(f"{module}.PROMPT", prompt)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


class _Files(http.server.SimpleHTTPRequestHandler):
    """A web server's folder, of which `private.csv` is refused."""

    def send_head(self) -> Any:
        if self.path == "/private.csv":
            self.send_error(403)
            return None
        return super().send_head()

    def list_directory(self, path: Any) -> None:  # noqa: ARG002  the base's
        self.send_error(403)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site(folder: Path, serve: Callable[[Any], str]) -> str:
    """A web server over the folder, which shows no listings."""
    return serve(partial(_Files, directory=str(folder)))


@pytest.mark.usefixtures("hasty")
def test_a_manifest_on_the_web(folder: Path, site: str, closed: str) -> None:
    """It is read; one that is not there, one that is refused, and a host that does not answer are told apart."""
    options = StorageOptions(allow_http=True)
    (folder / "l.csv").write_text("uri\na.jpg\nno.jpg\n")
    assert [bool(item.version) for item in _items(Manifest(f"{site}/l.csv", storage_options=options))] == [True, False]
    for uri, what in (
        (f"{site}/no.csv", "there is no such manifest"),
        (f"{site}/private.csv", "refuses access .403"),
        (f"{closed}/l.csv", "does not answer"),
    ):
        with pytest.raises(StorageError, match=f"^{uri}: .*{what}"):
            _items(Manifest(uri, storage_options=options))


@pytest.mark.usefixtures("hasty")
def test_images_on_a_web_server_that_does_not_answer(folder: Path, closed: str) -> None:
    """Where versions are asked for, it is told before anybody insists; where none are, listing asks nobody."""
    options = StorageOptions(allow_http=True)
    text = f"uri\na.jpg\n{closed.replace('http://', 'http://me:hunter22@')}/a.jpg?token=hunter22\n"
    with pytest.raises(StorageError, match=f"^{closed}/a.jpg: {closed} does not answer") as caught:
        _items(_manifest(folder, "l.csv", text, storage_options=options))
    assert "hunter22" not in str(caught.value)
    assert len(_items(_manifest(folder, "l.csv", text, storage_options=options, versions="never_changes"))) == 2


@pytest.mark.parametrize("scheme", ["ftp", "sftp", "foo"])
def test_an_image_that_nobody_can_fetch_is_a_wrong_manifest(folder: Path, scheme: str) -> None:
    """No picture is at fault, and no retry helps: the line, the column and the uri are named."""
    text = f"uri\na.jpg\n{scheme}://me:hunter22@host/b.jpg\n"
    with pytest.raises(RecipeError, match=rf"l.csv: line 3, column 'uri': {scheme}://host/b.jpg: nothing is read or written by") as caught:
        _items(_manifest(folder, "l.csv", text))
    assert "hunter22" not in str(caught.value)


def test_folders_tell_the_split_where_no_column_does(folder: Path) -> None:
    """A manifest may list what lies in train and val folders; a split column says it better."""
    text = "uri,label\ntrain/c/a.jpg,c\n./valid/c/b.jpg,c\nother/c.jpg,c\n/train/x.jpg,c\n"
    assert [item.split for item in _items(_manifest(folder, "l.csv", text))] == ["train", "val", None, None]
    assert [item.split for item in _items(_manifest(folder, "m.csv", "uri,split\ntrain/a.jpg,test\n"))] == ["test"]


def test_nested_values_can_be_declared_strings(folder: Path) -> None:
    """As JSON writes them, from Parquet as from JSON lines."""
    table = pa.table({"uri": ["a.jpg"], "tags": [[1, 2]], "box": pa.array([[("x", 1)]], pa.map_(pa.string(), pa.int8()))})
    (item,) = _items(_manifest(folder, "l.parquet", table, columns={"tags": "string", "box": "string"}))
    assert item.columns == {"tags": "[1, 2]", "box": '[["x", 1]]'}
