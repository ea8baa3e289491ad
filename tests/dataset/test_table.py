from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from ray_prep.dataset import table as table_module
from ray_prep.dataset.live import live_rows
from ray_prep.dataset.schema import ImageColumn, delta_schema, table_schema
from ray_prep.dataset.shard import Shard, ShardWriter
from ray_prep.dataset.table import commit, history, open_table
from ray_prep.errors import BuildError, Conflict, RecipeError, StorageError
from ray_prep.storage import StorageOptions, open_store

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

HERE = StorageOptions()
IMAGE = ImageColumn("tensor", (2, 2, 1), "uint8", "gray", (0.0, 255.0))


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A folder for a table, below names that are awkward."""
    return str(tmp_path / "a=1 [b] %x" / "table")


def shard(uri: str, *keys: str, split: str = "train", image: ImageColumn = IMAGE, carried: tuple[str, ...] = ()) -> Shard:
    """Write a shard into the table's folder."""
    import numpy as np

    spool = Path(uri).parent / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    writer = ShardWriter(spool, table_schema(image, pa.schema([(name, pa.string()) for name in carried])), split, footer={})
    for key in keys:
        writer.append({"key": key, "copy": 0, "source_version": f"v-{key}", "image": np.zeros(image.shape or (), image.dtype)})
    file = writer.close()
    open_store(uri).put_file(file.shard.path, str(file.local_path))
    return file.shard


def columns(image: ImageColumn = IMAGE, carried: tuple[str, ...] = ()) -> pa.Schema:
    """Return the table's columns."""
    return delta_schema(table_schema(image, pa.schema([(name, pa.string()) for name in carried])))


def paths(uri: str, version: int | None = None) -> set[str]:
    """Return the live files of a version."""
    snapshot = open_table(uri, HERE, version)
    assert snapshot is not None
    return {known.path for known in snapshot.shards}


def keys(uri: str, version: int | None = None) -> list[str]:
    """Return the keys of a version's rows."""
    snapshot = open_table(uri, HERE, version)
    assert snapshot is not None
    return [key for batch in live_rows(snapshot, HERE, ["key"]) for key in batch.column("key").to_pylist()]


def test_where_there_is_no_table_there_is_none(place: str, tmp_path: Path) -> None:
    """No folder, and a folder with something else in it."""
    assert open_table(place, HERE) is None
    assert open_table(str(tmp_path), HERE) is None
    assert history(place, HERE) == []


def test_a_first_commit_creates_the_table(place: str) -> None:
    """Schema with the image's metadata, shards with their facts, the record and how long things are kept."""
    one, two = shard(place, "a", "c"), shard(place, "b", split="val")
    assert commit(place, HERE, columns(), None, [one, two], [], "_ray_prep/builds/1/record.json") == 0
    snapshot = open_table(place, HERE)
    assert snapshot is not None
    assert [replace(known, sha256="") for known in (one, two)] == list(snapshot.shards)
    assert snapshot.schema.equals(columns(), check_metadata=True)
    assert (snapshot.version, snapshot.rows, snapshot.record) == (0, 3, "_ray_prep/builds/1/record.json")
    assert DeltaTable(place).metadata().configuration["delta.logRetentionDuration"] == "interval 3650 days"


def test_shards_are_replaced_in_one_commit_and_old_versions_stay(place: str) -> None:
    """Time travel gives each version its own files, record and schema."""
    one, two = shard(place, "a"), shard(place, "b")
    commit(place, HERE, columns(), None, [one, two], [], "r0")
    three = shard(place, "c")
    assert commit(place, HERE, columns(), 0, [three], [one.path], "r1") == 1
    assert paths(place) == {two.path, three.path}
    assert paths(place, 0) == {one.path, two.path}
    assert [open_table(place, HERE, version).record for version in (0, 1)] == ["r0", "r1"]  # type: ignore[union-attr]
    assert sorted(keys(place)) == ["b", "c"]


def test_a_commit_may_hold_nothing_but_a_record(place: str) -> None:
    """Where only rejections changed."""
    one = shard(place, "a")
    commit(place, HERE, columns(), None, [one], [], "r0")
    assert commit(place, HERE, columns(), 0, [], [], "r1") == 1
    assert paths(place) == {one.path}
    assert [(known.version, known.record, known.added, known.removed) for known in history(place, HERE)] == [
        (1, "r1", 0, 0),
        (0, "r0", 1, 0),
    ]
    assert len(history(place, HERE, limit=1)) == 1


def test_a_stale_base_loses(place: str) -> None:
    """Both replacing and merely adding: two nights that ran at once never both win (a plain Delta append would)."""
    one = shard(place, "a")
    commit(place, HERE, columns(), None, [one], [], "r0")
    commit(place, HERE, columns(), 0, [shard(place, "b")], [], "r1")
    for removed in ([one.path], []):
        with pytest.raises(Conflict, match="version 1 was published"):
            commit(place, HERE, columns(), 0, [shard(place, "c")], removed, "late")
    assert sorted(keys(place)) == ["a", "b"]


def test_a_table_is_created_once(place: str) -> None:
    """The second first build loses."""
    commit(place, HERE, columns(), None, [shard(place, "a")], [], "r0")
    with pytest.raises(Conflict, match="a table was created"):
        commit(place, HERE, columns(), None, [shard(place, "b")], [], "late")


def overtaken(monkeypatch: pytest.MonkeyPatch, name: str, rival: Callable[[], object]) -> None:
    """Let somebody else publish between our look at the table and our commit."""
    owner: Any = DeltaTable if name == "create_write_transaction" else table_module
    real = getattr(owner, name)

    def late(*args: Any, **settings: Any) -> None:
        monkeypatch.setattr(owner, name, real)
        rival()
        real(*args, **settings)

    monkeypatch.setattr(owner, name, late)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_race_has_one_winner(place: str, monkeypatch: pytest.MonkeyPatch, is_first: bool) -> None:  # noqa: FBT001  a parameter
    """Somebody publishes in the moment of our commit: it is refused, not rebased."""
    base = None if is_first else commit(place, HERE, columns(), None, [shard(place, "a")], [], "r0")
    name = "create_table_with_add_actions" if is_first else "create_write_transaction"
    overtaken(monkeypatch, name, lambda: commit(place, HERE, columns(), base, [shard(place, "rival")], [], "rival"))
    with pytest.raises(Conflict, match="came from elsewhere"):
        commit(place, HERE, columns(), base, [shard(place, "late")], [], "late")
    assert open_table(place, HERE).record == "rival"  # type: ignore[union-attr]
    assert "late" not in keys(place)


@pytest.mark.parametrize("error", [OSError("connection reset"), RuntimeError("anything")])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_commit_whose_reply_was_lost_is_found_by_its_token(
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    is_first: bool,  # noqa: FBT001  a parameter
    error: Exception,
) -> None:
    """It is in, whatever was raised: reported as what it is, and not made twice; also when somebody has published since."""
    base = None if is_first else commit(place, HERE, columns(), None, [shard(place, "a")], [], "r0")
    owner: Any = table_module if is_first else DeltaTable
    name = "create_table_with_add_actions" if is_first else "create_write_transaction"
    real = getattr(owner, name)

    def lose(*args: Any, **settings: Any) -> None:
        monkeypatch.setattr(owner, name, real)
        real(*args, **settings)
        commit(place, HERE, columns(), 0 if is_first else 1, [shard(place, "next")], [], "next")
        raise error

    monkeypatch.setattr(owner, name, lose)
    assert commit(place, HERE, columns(), base, [shard(place, "ours")], [], "ours") == (0 if is_first else 1)
    assert sorted(keys(place)) == sorted(["next", "ours", *([] if is_first else ["a"])])


@pytest.mark.parametrize(("raised", "reported"), [(OSError("disk full"), StorageError), (RuntimeError("a bug"), RuntimeError)])
def test_a_commit_that_never_was_is_told_by_its_cause(
    place: str, monkeypatch: pytest.MonkeyPatch, raised: Exception, reported: type[Exception]
) -> None:
    """Storage trouble is exit 3; what nobody foresaw stays what it is."""
    commit(place, HERE, columns(), None, [shard(place, "a")], [], "r0")

    def fail(*_args: Any, **_settings: Any) -> None:
        raise raised

    monkeypatch.setattr(DeltaTable, "create_write_transaction", fail)
    with pytest.raises(reported, match=str(raised)):
        commit(place, HERE, columns(), 0, [shard(place, "b")], [], "r1")
    assert paths(place) == paths(place, 0)


def test_a_vacuum_in_between_is_passed_over(place: str) -> None:
    """Its commits change nothing and name no record; the build publishes upon them."""
    one = shard(place, "a")
    commit(place, HERE, columns(), None, [one], [], "r0")
    (Path(place) / "split=train" / "stray.parquet").write_bytes(b"")
    DeltaTable(place).vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True)
    newest = DeltaTable(place).version()
    assert newest > 0
    two = shard(place, "b")
    assert commit(place, HERE, columns(), 0, [two], [one.path], "r1") == newest + 1
    assert keys(place) == ["b"]
    assert [open_table(place, HERE, version).record for version in (newest, newest + 1)] == ["r0", "r1"]  # type: ignore[union-attr]


def test_columns_are_frozen_until_they_are_rebuilt(place: str) -> None:
    """Delta would ignore other metadata and wider schemas silently; `overwrite` replaces files, columns and metadata at once."""
    commit(place, HERE, columns(), None, [shard(place, "a")], [], "r0")
    larger = replace(IMAGE, shape=(4, 4, 1))
    for image, carried, said in ((larger, (), r"shape=\[4, 4, 1\]"), (IMAGE, ("sku",), "sku is new")):
        new = shard(place, "b", image=image, carried=carried)
        with pytest.raises(RecipeError, match=rf"{said}.*--rebuild"):
            commit(place, HERE, columns(image, carried), 0, [new], [], "r1")
    new = shard(place, "b", image=larger, carried=("sku",))
    assert commit(place, HERE, columns(larger, ("sku",)), 0, [new], [], "r1", mode="overwrite") == 1
    assert paths(place) == {new.path}
    assert open_table(place, HERE).schema.equals(columns(larger, ("sku",)), check_metadata=True)  # type: ignore[union-attr]
    assert open_table(place, HERE, 0).schema.equals(columns(), check_metadata=True)  # type: ignore[union-attr]


def test_a_rebuild_that_comes_out_the_same_keeps_its_shards(place: str) -> None:
    """Same bytes, same name: such a shard is neither added nor removed; the others are."""
    one, two = shard(place, "a"), shard(place, "b")
    commit(place, HERE, columns(), None, [one, two], [], "r0")
    three = shard(place, "c")
    assert commit(place, HERE, columns(), 0, [one, three], [], "r1", mode="overwrite") == 1
    assert paths(place) == {one.path, three.path}
    known = history(place, HERE)[0]
    assert (known.added, known.removed) == (1, 1)


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_rebuild_publishes_no_shard_that_is_not_whole(place: str, *, is_gone: bool) -> None:
    """One that comes out under the name of a live one is looked at as any other: it may be the one that was damaged."""
    one = shard(place, "a")
    commit(place, HERE, columns(), None, [one], [], "r0")
    (Path(place) / one.path).unlink() if is_gone else (Path(place) / one.path).write_bytes(b"cut")
    with pytest.raises(StorageError, match="is not there any more" if is_gone else "has 3 bytes instead of"):
        commit(place, HERE, columns(), 0, [one], [], "r1", mode="overwrite")


def test_shards_that_do_not_fit_the_live_ones_are_refused(place: str) -> None:
    """The log would take all of these silently: doubles, strangers, missing and cut files."""
    one, two = shard(place, "a"), shard(place, "b")
    with pytest.raises(BuildError, match="added twice: two units"):
        commit(place, HERE, columns(), None, [one, one], [], "r0")
    commit(place, HERE, columns(), None, [one], [], "r0")
    with pytest.raises(BuildError, match="added twice: it is live"):
        commit(place, HERE, columns(), 0, [one], [], "r1")
    with pytest.raises(BuildError, match="is not live"):
        commit(place, HERE, columns(), 0, [], [two.path], "r1")
    file = Path(place) / two.path
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    with pytest.raises(StorageError, match=f"has {len(data) - 1} bytes instead of {len(data)}"):
        commit(place, HERE, columns(), 0, [two], [], "r1")
    file.unlink()
    with pytest.raises(StorageError, match="is not there any more"):
        commit(place, HERE, columns(), 0, [two], [], "r1")
    assert len(history(place, HERE)) == 1


@pytest.mark.parametrize("version", [-1, 1, 99])
def test_a_version_that_is_not_there_is_refused_by_number(place: str, version: int) -> None:
    """And the message says which there are."""
    commit(place, HERE, columns(), None, [shard(place, "a")], [], "r0")
    with pytest.raises(RecipeError, match=f"no version {version}; there are 0 to 0"):
        open_table(place, HERE, version)


def test_a_table_that_went_away_is_a_storage_error(place: str) -> None:
    """Deleted, or deleted and made anew, while the build ran."""
    commit(place, HERE, columns(), None, [shard(place, "a")], [], "r0")
    commit(place, HERE, columns(), 0, [], [], "r1")
    shutil.rmtree(Path(place) / "_delta_log")
    with pytest.raises(StorageError, match="no table any more"):
        commit(place, HERE, columns(), 1, [], [], "r2")
    commit(place, HERE, columns(), None, [], [], "anew")
    with pytest.raises(StorageError, match="made anew"):
        commit(place, HERE, columns(), 1, [], [], "r2")


@pytest.mark.parametrize("name", ["a%20b", "a\\b", "a\nb"])
def test_a_place_delta_does_not_find_again_is_refused(tmp_path: Path, name: str) -> None:
    """Deltalake 1.6 creates a table there and cannot open it."""
    with pytest.raises(RecipeError, match="choose another folder"):
        open_table(str(tmp_path / name), HERE)


def test_a_damaged_log_is_a_storage_error(place: str) -> None:
    """With delta-rs's reason on one line, and no colour codes."""
    commit(place, HERE, columns(), None, [shard(place, "a")], [], "r0")
    (Path(place) / "_delta_log" / f"{0:020}.json").write_text("{")
    with pytest.raises(StorageError, match=r"^[^\n\x1b]*$"):
        open_table(place, HERE)


def test_a_foreign_table_is_refused(tmp_path: Path) -> None:
    """A Delta table that something else made."""
    from deltalake import write_deltalake

    write_deltalake(str(tmp_path / "t"), pa.table({"x": [1]}))
    with pytest.raises(RecipeError, match="not made by ray_prep"):
        open_table(str(tmp_path / "t"), HERE)


def test_the_live_rows_stream_without_pixels(place: str) -> None:
    """Each row's split and file beside what was asked for, shard by shard in the order of their paths."""
    shards = [
        shard(place, *(f"{number}{letter}" for letter in "abc"), split=split) for number, split in enumerate(["val", "train", "train"])
    ]
    commit(place, HERE, columns(), None, shards, [], "r0")
    snapshot = open_table(place, HERE)
    assert snapshot is not None
    rows = [row for batch in live_rows(snapshot, HERE, ["key", "split", "source_version"]) for row in batch.to_pylist()]
    expected = [
        {"key": f"{number}{letter}", "split": known.split, "source_version": f"v-{number}{letter}", "shard": known.path}
        for number, known in enumerate(shards)
        for letter in "abc"
    ]
    assert rows == sorted(expected, key=lambda row: (row["shard"], row["key"]))


def test_live_rows_of_a_vacuumed_version_name_the_missing_file(place: str) -> None:
    """Instead of a bare traceback."""
    one = shard(place, "a")
    commit(place, HERE, columns(), None, [one], [], "r0")
    snapshot = open_table(place, HERE)
    assert snapshot is not None
    (Path(place) / one.path).unlink()
    with pytest.raises(StorageError, match=rf"{one.path}.*vacuumed"):
        list(live_rows(snapshot, HERE, ["key"]))


def test_statistics_hold_keys_of_any_letters(place: str) -> None:
    """Keys with quotes, line breaks and what JSON escapes come back from the log as they are."""
    given = sorted(['a"b', "c\nd", "ä/ö", "\u2028", "😀", "\\"])
    commit(place, HERE, columns(), None, [shard(place, *given)], [], "r0")
    snapshot = open_table(place, HERE)
    assert snapshot is not None
    assert (snapshot.shards[0].min_key, snapshot.shards[0].max_key) == (given[0], given[-1])


def test_other_delta_readers_see_the_same_table(tmp_path: Path) -> None:
    """Deltalake's own dataset and Polars read the version's rows, and no others."""
    import polars as pl

    place = str(tmp_path / "table")  # Polars 2.1 takes `a=1` in the folder's own name for a partition
    one, two = shard(place, "a", "b"), shard(place, "c", split="val")
    commit(place, HERE, columns(), None, [one, two], [], "r0")
    commit(place, HERE, columns(), 0, [shard(place, "d")], [one.path], "r1")
    assert sorted(DeltaTable(place).to_pyarrow_table(columns=["key", "split"]).to_pylist(), key=lambda row: row["key"]) == [
        {"key": "c", "split": "val"},
        {"key": "d", "split": "train"},
    ]
    assert sorted(pl.scan_delta(place).select("key").collect()["key"]) == ["c", "d"]
    assert json.loads(DeltaTable(place).schema().to_json())["fields"][3]["name"] == "image"
