"""What every source promises; a new one needs a line in `BUILDERS` only."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from ray_prep.sources import LATER_LAYOUTS, SOURCES
from ray_prep.storage import Stores, local
from ray_prep.validation import validate

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray_prep.sample import Item

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

NAMES = ("train/cat/1.jpg", "train/dog/2.jpg", "val/cat/3 x.jpg", "val/cat/4%20.jpg", "test/dog/ü.jpg")


def _folder(root: Path, labels: dict[str, str]) -> dict[str, Any]:
    """Lay the files out as folders; a label other than the usual one moves the file."""
    for name in NAMES:
        split, label, file = name.split("/")
        path = root / split / labels.get(name, label) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return {"uri": str(root)}


def _manifest(root: Path, labels: dict[str, str]) -> dict[str, Any]:
    _folder(root, {})
    rows = [{"uri": name, "label": labels.get(name, name.split("/")[1]), "id": f"id-{name}", "count": 3} for name in NAMES]
    (root / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"uri": str(root / "list.jsonl")}


def _tars(root: Path, labels: dict[str, str]) -> dict[str, Any]:
    """Pack a tar for each split."""
    root.mkdir(exist_ok=True)
    for split in ("train", "val", "test"):
        with tarfile.open(root / f"{split}.tar", "w") as tar:
            for name in NAMES:
                if name.startswith(split):
                    label = labels.get(name, name.split("/")[1])
                    stem = name.removesuffix(".jpg")
                    for member, data in ((f"{stem}.cls", label), (name, name), (f"{stem}.json", "{}"), (f"{stem}.txt", "t")):
                        info = tarfile.TarInfo(member)
                        info.size = len(data.encode())
                        tar.addfile(info, io.BytesIO(data.encode()))
    return {"uri": str(root)}


def _parquet_files(root: Path, labels: dict[str, str]) -> dict[str, Any]:
    """Write a Parquet file for each split."""
    root.mkdir(exist_ok=True)
    for split in ("train", "val", "test"):
        rows = [
            {"image": name.encode(), "label": labels.get(name, name.split("/")[1]), "id": f"id-{name}", "count": 3}
            for name in NAMES
            if name.startswith(split)
        ]
        parquet.write_table(pa.Table.from_pylist(rows), root / f"{split}.parquet")
    return {"uri": str(root)}


BUILDERS: dict[str, Callable[[Path, dict[str, str]], dict[str, Any]]] = {
    "files": _folder,
    "class_folders": _folder,
    "manifest": _manifest,
    "webdataset": _tars,
    "parquet": _parquet_files,
}


@pytest.fixture(params=sorted(SOURCES))
def layout(request: pytest.FixtureRequest) -> str:
    """Each layout there is."""
    return str(request.param)


def _source(layout: str, root: Path, labels: dict[str, str] | None = None) -> Any:
    return validate(SOURCES[layout], BUILDERS[layout](root, labels or {}), "source")


def _items(source: Any) -> list[Item]:
    """Return what is on offer: images, or the images in the containers."""
    offered = list(source.items(Counter()))
    return [item for one in offered for item, _ in source.members(one)] if source.is_container else offered


def _name(item: Item) -> str:
    """Return the end of the image's own name, from its key where its uri is a row's."""
    return (item.key if "#" in item.uri else item.uri).rpartition("/")[2].removesuffix(".jpg")


def test_every_layout_is_under_contract() -> None:
    """A layout without a builder here is not tested; a layout that is announced for later is not there."""
    assert set(BUILDERS) == set(SOURCES)
    assert not set(LATER_LAYOUTS) & set(SOURCES)
    assert all(kind.layout == name for name, kind in SOURCES.items())
    assert all(kind.is_container == hasattr(kind, "members") == hasattr(kind, "class_names") for kind in SOURCES.values())


def test_keys_are_unique_and_text(layout: str, tmp_path: Path) -> None:
    """Every image is listed once, under a key and a uri that are valid UTF-8."""
    items = _items(_source(layout, tmp_path))
    assert len(items) == len(NAMES) == len({item.key for item in items})
    for item in items:
        (item.key + item.uri).encode("utf-8")
        assert item.version


def test_the_order_is_stable(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two listings are equal, even where the file system changes its mind about the order."""
    source = _source(layout, tmp_path)
    first = _items(source)
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listdir(path), reverse=True))
    assert _items(source) == first


def test_uris_lead_to_the_bytes(layout: str, tmp_path: Path) -> None:
    """What an item's uri names is the image."""
    source = _source(layout, tmp_path)
    stores = Stores(source.storage_options)
    found = set()
    for item in source.items(Counter()):
        if source.is_container:
            for member, data in source.members(item):
                assert member.uri.rpartition("#")[0] == item.uri
                found.add(data.decode())
        else:
            store, path = stores.of(item.uri)
            found.add(store.get(path).decode())
    assert found == set(NAMES)


def test_no_image_is_read(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing opens no image."""
    source = _source(layout, tmp_path)
    opened: list[str] = []
    os_open, builtin_open = os.open, open
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: opened.append(str(path)) or os_open(path, *rest, **more))
    monkeypatch.setattr("builtins.open", lambda path, *rest, **more: opened.append(str(path)) or builtin_open(path, *rest, **more))
    monkeypatch.setattr(local, "read_local", lambda path: pytest.fail(f"{path} was read"))
    list(source.items(Counter()))
    assert [path for path in opened if path.endswith((".jpg", ".tar", ".parquet"))] == []


def test_the_version_changes_with_the_bytes(layout: str, tmp_path: Path) -> None:
    """Other bytes, other version, for this item only (of a container: for all that it holds); facts stay."""
    source = _source(layout, tmp_path)
    before = {item.key: item for item in _items(source)}
    if source.is_container:
        file = next(iter(source.items(Counter()))).uri
        os.utime(file, ns=(1, 1))
    else:
        file = str(tmp_path / NAMES[0])
        Path(file).write_bytes(b"other bytes")
    after = {item.key: item for item in _items(source)}
    changed = {key for key in before if after[key].version != before[key].version}
    assert changed == {key for key in before if before[key].uri.partition("#")[0] == file}
    assert changed
    assert all(after[key].facts == before[key].facts for key in before)


def test_facts_change_with_the_label(layout: str, tmp_path: Path) -> None:
    """Another label, other facts, where the layout knows labels."""
    before = {_name(item): item for item in _items(_source(layout, tmp_path / "a"))}
    after = {_name(item): item for item in _items(_source(layout, tmp_path / "b", {NAMES[0]: "bird"}))}
    changed = {name for name in before if before[name].facts != after[name].facts}
    assert changed == (set() if layout == "files" else {"1"})


def test_sources_go_to_workers(layout: str, tmp_path: Path) -> None:
    """A source is picklable, and lists the same afterwards."""
    source = _source(layout, tmp_path)
    again = pickle.loads(pickle.dumps(source))
    assert again == source
    assert _items(again) == _items(source)


def test_carried_columns_are_those_of_the_items(layout: str, tmp_path: Path) -> None:
    """The schema names the columns items have, and their values fit it."""
    source = _source(layout, tmp_path)
    schema = source.carried_columns()
    rows = [dict(item.columns) for item in _items(source)]
    assert set(schema.names) == set().union(*rows)
    assert pa.Table.from_pylist(rows, schema=schema).to_pylist() == rows if schema.names else rows == [{}] * len(NAMES)
