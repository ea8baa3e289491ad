"""Every kind of damage is made on purpose, on a table that a build made; each is found, with the file it is in and what is wrong."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ray_prep.build import build
from ray_prep.dataset.record import ShardFacts, read_record, read_rejections, read_shards, write_record
from ray_prep.dataset.schema import image_column, table_schema
from ray_prep.dataset.shard import ShardWriter
from ray_prep.dataset.table import commit, open_table
from ray_prep.dataset.verify import sampled_rows, verify
from ray_prep.errors import RecipeError, StorageError
from ray_prep.recipe import Recipe
from ray_prep.storage import StorageOptions, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ray_prep.dataset.finding import Verification
    from ray_prep.dataset.log import Snapshot

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

HERE = StorageOptions()
OUTPUTS: dict[str, dict[str, Any]] = {
    "tensor": {},
    "varies": {"shape": "varies"},
    "png": {"image": "png"},
    "jpeg": {"image": "jpeg", "shape": "varies"},
    "measured": {},
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Build a table of 20 drawn images and a web page, in two classes and two splits, with a copy of each training image; once a kind."""
    home = tmp_path_factory.mktemp("verify")
    for number in range(20):
        path = home / "pictures" / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (20 + number % 3, 24, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    (home / "pictures" / "a" / "page.png").write_text("<html>")

    def made(kind: str) -> Path:
        target = home / kind
        if not target.exists():
            data = {
                "source": {"uri": str(home / "pictures"), "layout": "class_folders"},
                "finish": [] if "shape" in OUTPUTS[kind] else [{"center_crop": {"height": 16, "width": 16}}],
                **({"finish": [{"center_crop": {"height": 16, "width": 16}}, {"normalize": "dataset"}]} if kind == "measured" else {}),
                "augment": {"copies": 1, "transforms": [{"HorizontalFlip": {"p": 0.5}}]},
                "split": {"train": 0.7, "val": 0.3},
                "checks": {"max_rejected": 0.1},
                "output": {"uri": str(target), "shard_mb": 0.004, **OUTPUTS[kind]},
            }
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "fsync", lambda _descriptor: None)
                build(Recipe.parse(data), workers=0)
        return target

    return made


@pytest.fixture
def table(built: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Give a copy of such a table, to be damaged."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    return lambda kind="tensor": Path(shutil.copytree(built(kind), tmp_path / kind))


def check(target: Path, **options: Any) -> Verification:
    """Verify a table of which every stored pixel is counted, and look at every image."""
    return verify(str(target), HERE, **{"sample": 100, "has_stored_sums": lambda _record: True, **options})


def said(target: Path, **options: Any) -> list[tuple[str, str]]:
    """Return what is wrong, as (file, what)."""
    return [(finding.place, finding.what) for finding in check(target, **options).findings]


def shards(target: Path) -> list[str]:
    """Return the paths of the live shards."""
    snapshot = open_table(str(target), HERE)
    assert snapshot is not None
    return [shard.path for shard in snapshot.shards]


def record_path(target: Path) -> Path:
    """Return the file of the one record there is."""
    return next((target / "_ray_prep" / "builds").rglob("record.json"))


def rewritten(
    target: Path,
    change: Callable[[list[dict[str, Any]]], object] = lambda _rows: None,
    schema: Callable[[pa.Schema], pa.Schema] = lambda known: known,
    footer: Mapping[str, str] | None = None,
    rule: Callable[[ShardFacts], ShardFacts] = lambda facts: facts,
    *,
    is_added: bool = False,
) -> str:
    """Write the first shard anew and publish it, with a name, log and record that are true of the new file; return its path."""
    snapshot = open_table(str(target), HERE)
    assert snapshot is not None
    assert snapshot.record is not None
    shard = snapshot.shards[0]
    parquet = pq.ParquetFile(target / shard.path)
    image = image_column(parquet.schema_arrow)
    assert image is not None
    rows = parquet.read().to_pylist()
    known = schema(parquet.schema_arrow.remove_metadata())
    for row in rows:
        if image.encoding == "tensor":
            row["image"] = np.frombuffer(row["image"], image.dtype).reshape(row["height"], row["width"], row["channels"])
    change(rows)
    old = {name.decode(): value.decode() for name, value in parquet.metadata.metadata.items() if name != b"ARROW:schema"}
    writer = ShardWriter(target.parent, known, shard.split, footer={**old, **(footer or {"ray-prep": "rewritten"})})
    for row in rows:
        writer.append({name: value for name, value in row.items() if name in known.names})
    file = writer.close()
    store = open_store(str(target))
    store.put_file(file.shard.path, str(file.local_path))
    facts = {one.shard.path: one for one in read_shards(store, snapshot.record)}
    made = rule(replace(facts[shard.path], shard=file.shard))
    if not is_added:
        del facts[shard.path]
    facts[made.shard.path] = made
    record = read_record(store, snapshot.record)
    sizes = sum(one.shard.bytes for one in facts.values())
    record = replace(record, rows=sum(one.shard.rows for one in facts.values()), bytes=sizes, shards=len(facts))
    path = write_record(store, "again", record, list(read_rejections(store, snapshot.record)), facts.values())
    commit(str(target), HERE, snapshot.schema, snapshot.version, [file.shard], [] if is_added else [shard.path], path)
    return file.shard.path


@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_healthy_table_has_no_findings(built: Callable[[str], Path], kind: str) -> None:
    """Whatever its images are; every file is read, all rows are compared, the sample is decoded; in bounded time."""
    began = time.monotonic()
    found = check(built(kind))
    assert found.findings == []
    assert found.snapshot is not None
    assert (found.version, found.shards, found.rejections) == (0, len(found.snapshot.shards), 1)
    assert found.bytes == sum(shard.bytes for shard in found.snapshot.shards)
    assert found.rows == found.decoded == found.snapshot.rows > 30
    assert {shard.split for shard in found.snapshot.shards} == {"train", "val"}
    assert time.monotonic() - began < 5


def test_a_rewritten_shard_is_as_good_as_the_first(table: Callable[..., Path]) -> None:
    """What these tests do to publish a damaged row is itself no damage; and older versions can be checked after it."""
    target = table()
    assert rewritten(target) in shards(target)
    assert said(target) == said(target, version=0) == []


def test_the_sample_is_spread_over_the_rows(built: Callable[[str], Path]) -> None:
    """As many rows as asked for, or all; each once; the same ones each time."""
    snapshot = open_table(str(built("tensor")), HERE)
    assert snapshot is not None
    assert sampled_rows(snapshot, 0) == {}
    some = sampled_rows(snapshot, 10)
    assert some == sampled_rows(snapshot, 10)
    assert sum(map(len, some.values())) == 10
    assert sampled_rows(snapshot, 10**6) == {shard.path: list(range(shard.rows)) for shard in snapshot.shards}
    assert check(built("tensor"), sample=3).decoded == 3


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.unlink()  # the copy shares no bytes with the original, but a reader may have it mapped
    path.write_bytes(data)


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-100])


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (_flip, "its bytes are not those it was published with"),
        (_cut, "it was cut"),
        (lambda path: path.write_bytes(path.read_bytes() + b"more"), "it was changed"),
        (lambda path: path.write_bytes(b""), "has 0 bytes instead of"),
        (Path.unlink, "is not there, though the log names it"),
    ],
)
def test_a_file_that_is_not_what_was_published(table: Callable[..., Path], damage: Callable[[Path], object], what: str) -> None:
    """One bit flipped, an end cut off, bytes added, emptied, deleted: one finding, that names the file."""
    target = table()
    path = shards(target)[1]
    damage(target / path)
    ((place, found),) = said(target)
    assert place == path
    assert what in found


def test_two_files_that_changed_places(table: Callable[..., Path]) -> None:
    """Each is told whose bytes it holds."""
    target = table()
    one, other = shards(target)[:2]
    first, second = (target / one).read_bytes(), (target / other).read_bytes()
    (target / one).write_bytes(second)
    (target / other).write_bytes(first)
    assert said(target) == [(one, f"holds the bytes of {other}"), (other, f"holds the bytes of {one}")]


def test_rows_that_are_there_twice(table: Callable[..., Path]) -> None:
    """The same rows in two files, each of which is sound; and in one file."""
    target = table()
    first = shards(target)[0]
    rows = pq.read_metadata(target / first).num_rows
    added = rewritten(target, is_added=True)
    one, other = sorted([first, added])
    found = [(place, what) for place, what in said(target) if "twice" in what]
    assert [place for place, _ in found] == [other]
    assert found[0][1].startswith(f"{rows} rows are there twice, by key and copy: row ")
    assert "(key '" in found[0][1]
    assert f"in {one} too" in found[0][1]

    target = Path(shutil.copytree(target, target.with_name("within")))
    second = rewritten(target, lambda rows: rows.insert(1, dict(rows[0])))
    assert any(place == second and "1 row is there twice" in what and "row 1 (key '" in what for place, what in said(target))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rows", 1),
        ("shards", 99),
        ("bytes", 5),
        ("accepted", 19),
        ("rejected", 2),
        ("listed", 20),
        ("added", 3),
        ("rejected_by_reason", {"truncated": 1}),
        ("counts", {"train": {"a": 1}}),
        ("sums", {}),
        ("fingerprints", {"train": "0" * 20, "val": "0" * 20}),
        ("classes", ["b", "a"]),
    ],
)
def test_a_record_that_is_wrong(table: Callable[..., Path], name: str, value: object) -> None:
    """Each count is held against the log, the files or the lists beside it."""
    target = table()
    path = record_path(target)
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    found = said(target)
    if name in {"fingerprints", "classes"}:
        assert {place for place, _ in found} <= set(shards(target))
        assert all(("fingerprint" if name == "fingerprints" else "by the record's classes") in what for _, what in found)
    else:
        assert {place for place, _ in found} == {str(path.relative_to(target))}
        assert any(what.startswith((name, f"{name} of", "unchanged + added")) for _, what in found)
    assert found


@pytest.mark.parametrize("name", ["record.json", "rejections.parquet", "shards.parquet"])
def test_a_record_that_is_gone_or_garbled(table: Callable[..., Path], name: str) -> None:
    """Its own finding; the shards are checked all the same, so that damage to one of them is found beside it."""
    target = table()
    path = record_path(target).with_name(name)
    place = str(path.relative_to(target))
    kept = path.read_bytes()
    path.write_bytes(kept[: len(kept) // 2])
    assert [(where, what.split(":")[0].removesuffix(" as Parquet")) for where, what in said(target)] == [(place, "cannot be read")]
    path.write_bytes(b"[]")
    assert [where for where, _ in said(target)] == [place]
    path.unlink()
    _flip(target / shards(target)[0])
    found = check(target)
    assert [finding.place for finding in found.findings] == [place, shards(target)[0]]
    assert "is not there" in found.findings[0].what
    assert found.shards == len(shards(target))


def test_a_list_of_shards_that_is_not_the_logs(table: Callable[..., Path]) -> None:
    """Files that are missing in it, strangers, and facts that are not those of the file."""
    target = table()
    path = record_path(target).with_name("shards.parquet")
    known = pq.read_table(path)
    rows = known.to_pylist()
    rows[0]["path"] = "split=train/ffffffffffffffffffff.parquet"
    rows[1]["sha256"] = "0" * 64
    rows[2] |= {"rows": 99, "images": 98, "sums": [1, 2]}
    pq.write_table(pa.Table.from_pylist(rows, known.schema), path)
    found = dict(said(target))
    place = str(path.relative_to(target))
    texts = [what for _, what in said(target)]
    assert "split=train/ffffffffffffffffffff.parquet is not live in version 0" in texts
    assert f"{shards(target)[0]} is live and does not stand there" in texts
    assert place in found
    assert any(where == rows[1]["path"] and "its sha256 is" in what for where, what in said(target))
    assert sum(where == rows[2]["path"] for where, _ in said(target)) == 3


def test_rejections_that_are_not_those_that_were_counted(table: Callable[..., Path]) -> None:
    """Counts by reason are held against the list; a reason that there is not is named."""
    target = table()
    path = record_path(target).with_name("rejections.parquet")
    known = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist([{**known.to_pylist()[0], "reason": "moody"}], known.schema), path)
    found = dict(said(target))
    assert "the reason 'moody', which there is not" in found[str(path.relative_to(target))]
    assert (
        "rejected_by_reason is {'not_an_image': 1} there, and right would be {'moody': 1}"
        in found[str(record_path(target).relative_to(target))]
    )


def test_a_damaged_log(table: Callable[..., Path]) -> None:
    """A commit that is cut or gone is named; nothing is raised, and nothing else is said, for nothing else is known."""
    target = table()
    rewritten(target)
    first, second = sorted((target / "_delta_log").glob("*.json"))
    kept = first.read_bytes()
    first.write_bytes(kept[: len(kept) // 2])
    found = check(target)
    assert found.version is None
    assert [finding.place for finding in found.findings] == [f"_delta_log/{first.name}"]
    first.unlink()
    assert said(target)[0][0].startswith("_delta_log")
    first.write_bytes(kept)
    second.write_bytes(b"\xff" * 100)
    assert [place for place, _ in said(target)] == [f"_delta_log/{second.name}"]


def test_a_log_that_says_other_numbers(table: Callable[..., Path]) -> None:
    """Rows, sizes and keys of a file by the log are held against the file."""
    target = table()
    log = target / "_delta_log" / f"{0:020}.json"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    add = next(line["add"] for line in lines if "add" in line)
    add["size"] += 1
    add["stats"] = json.dumps({**json.loads(add["stats"]), "numRecords": 77, "minValues": {"key": "0"}})
    log.write_text("\n".join(json.dumps(line) for line in lines))
    texts = [what for place, what in said(target) if place == add["path"]]
    assert any(what.endswith("rows, and the log says 77") for what in texts)
    assert any(what.endswith(f"bytes, and the log says {add['size']}") for what in texts)
    assert any(what.startswith("smallest key") and "the log says '0'" in what for what in texts)


def test_a_log_that_no_longer_says_what_an_image_is(table: Callable[..., Path]) -> None:
    """A record is there, so that it is a table of ours, and damaged; without one it is somebody else's."""
    target = table()
    log = target / "_delta_log" / f"{0:020}.json"
    log.write_text(log.read_text().replace("encoding", "encodinq"))
    assert said(target) == [("_delta_log", "the image column says nothing of its shape and dtype any more: the schema is damaged")]
    log.write_text(log.read_text().replace("ray_prep.record", "ray_prep.recorb"))
    with pytest.raises(RecipeError, match="not made by ray_prep"):
        check(target)


def _set(name: str, value: object) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[0].update({name: value})


def _darker(rows: list[dict[str, Any]]) -> None:
    row = next(row for row in rows if row["copy"] == 0)
    row["image"] = row["image"] // 2


@pytest.mark.parametrize(
    ("kind", "change", "what"),
    [
        ("tensor", _set("height", 17), "1 rows say another size than 16 x 16 x 3, such as 17 x 16 x 3 of"),
        ("tensor", _set("label_id", 5), "has the id 5, and by the record's classes it is"),
        ("tensor", _set("label", "zebra"), "label 'zebra' has the id"),
        ("tensor", _set("copy", None), "1 rows have no copy"),
        ("tensor", _darker, "its sums are not those of its pixels"),
        ("varies", _set("height", 7), "its image has"),
        ("varies", _darker, "its sums are not those of its pixels"),
        ("png", _set("image", b"\x89PNG but no more"), "its png of 16 bytes does not decode"),
        ("png", _set("image", b""), "its png of 0 bytes does not decode"),
        ("png", _set("width", 3), "another size than"),
        ("jpeg", _set("width", 3), "and the row says"),
    ],
)
def test_rows_that_were_wrong_from_the_start(
    table: Callable[..., Path], kind: str, change: Callable[[list[dict[str, Any]]], object], what: str
) -> None:
    """A file may be just what was published and hold what cannot be: rows are read, and images decoded."""
    target = table(kind)
    path = rewritten(target, change)
    assert any(place == path and what in text for place, text in said(target)), said(target)


def test_sums_are_taken_on_trust_where_other_pixels_are_stored(table: Callable[..., Path]) -> None:
    """Of a JPEG, or where a float step comes between, the stored pixels are not those that were added up."""
    target = table()
    rewritten(target, _darker)
    assert said(target, has_stored_sums=lambda _record: False) == []


def test_a_shard_of_another_table(table: Callable[..., Path]) -> None:
    """Other columns, other types, another image, another fingerprint."""
    target = table()
    path = rewritten(target, footer={"fingerprint": "f" * 20})
    assert [(place, what.split(",")[0]) for place, what in said(target)] == [(path, f"its footer names the fingerprint {'f' * 20}")]

    for change, what in (
        (lambda schema: schema.remove(schema.get_field_index("params")), "params is missing"),
        (lambda schema: schema.append(pa.field("more", pa.int64())), "more is no column of the table"),
        (
            lambda schema: schema.set(schema.get_field_index("label_id"), pa.field("label_id", pa.int64())),
            "label_id is int64 instead of int32",
        ),
        (lambda schema: table_schema(replace(image_column(schema), color="gray"), pa.schema([])), "its image field says"),  # type: ignore[type-var]
    ):
        other = Path(shutil.copytree(target, target.with_name(f"other-{what[:4]}")))
        path = rewritten(other, schema=change, footer={"fingerprint": "f" * 20})
        assert any(place == path and what in text for place, text in said(other)), said(other)


def test_whatever_is_damaged_nothing_is_raised(table: Callable[..., Path]) -> None:
    """Bits flipped and ends cut anywhere in any live file: of shards each one is found, and no damage ends in an error."""
    target = table()
    live = {*(target / path for path in shards(target)), *record_path(target).parent.iterdir(), *(target / "_delta_log").glob("*.json")}
    rng = random.Random(5)
    for _ in range(30):
        path = rng.choice(sorted(live))
        kept = path.read_bytes()
        data = bytearray(kept)
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
        path.unlink()
        path.write_bytes(data if rng.random() < 0.7 else kept[:place])
        findings = said(target, sample=10)
        assert findings or "split=" not in str(path)
        path.write_bytes(kept)


def test_what_is_no_table_of_ours_is_an_error(tmp_path: Path, built: Callable[[str], Path]) -> None:
    """There is nothing to verify: no folder, no log, a file instead of a folder, no such version."""
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(StorageError, match="no dataset"):
            check(place)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file: is a file; a dataset is a folder"):
        check(tmp_path / "file")
    with pytest.raises(RecipeError, match="no version 7"):
        check(built("tensor"), version=7)


def test_files_are_told_as_they_are_checked(built: Callable[[str], Path]) -> None:
    """How much there is first, then each file."""
    told: list[Any] = []
    found = check(built("tensor"), expect=lambda rows, files: told.append((rows, files)), notify=lambda one: told.append(one.path))
    snapshot: Snapshot | None = found.snapshot
    assert snapshot is not None
    assert told == [(snapshot.rows, len(snapshot.shards)), *(shard.path for shard in snapshot.shards)]
