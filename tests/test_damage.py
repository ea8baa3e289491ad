"""A dataset that was damaged on disk: what a build says of it, and that a rebuild is always the way out."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_prep.build import build
from ray_prep.dataset.reader import open as open_dataset
from ray_prep.dataset.verify import verify
from ray_prep.errors import Damaged, StorageError
from ray_prep.show.outlook import outlook
from ray_prep.storage import StorageOptions

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

Damage = Callable[[Path], None]


def _shard(target: Path) -> Path:
    return min(target.glob("split=*/*.parquet"))


def _beside_record(target: Path, name: str) -> Path:
    (path,) = target.glob(f"_ray_prep/builds/*/{name}")
    return path


def _replace_shard(target: Path) -> None:
    _shard(target).write_bytes(_beside_record(target, "rejections.parquet").read_bytes())


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a shard is gone": (lambda target: _shard(target).unlink(), r"split=\S+ is not there"),
    "a shard is cut": (
        lambda target: _shard(target).write_bytes(_shard(target).read_bytes()[:1000]),
        r"split=\S+ cannot be read as Parquet",
    ),
    "a shard is empty": (lambda target: _shard(target).write_bytes(b""), r"split=\S+ cannot be read as Parquet"),
    "a shard is another file": (_replace_shard, r"split=\S+ holds 2 rows, and \d+ were published"),
    "all shards are gone": (lambda target: [path.unlink() for path in target.glob("split=*/*")] and None, r"split=\S+ is not there"),
    "the record is gone": (lambda target: _beside_record(target, "record.json").unlink(), r"record\.json is not there"),
    "the record is empty": (lambda target: _beside_record(target, "record.json").write_bytes(b""), r"record\.json cannot be read"),
    "the record is a list": (lambda target: _beside_record(target, "record.json").write_bytes(b"[]"), r"record\.json cannot be read"),
    "the record lacks all": (
        lambda target: _beside_record(target, "record.json").write_bytes(b'{"format": 1}'),
        r"record\.json cannot be read",
    ),
    "the rejections are gone": (lambda target: _beside_record(target, "rejections.parquet").unlink(), r"rejections\.parquet is not there"),
    "the rejections are cut": (
        lambda target: _beside_record(target, "rejections.parquet").write_bytes(b"x"),
        r"rejections\.parquet cannot be",
    ),
    "the rejections are others": (
        lambda target: _beside_record(target, "rejections.parquet").write_bytes(_shard(target).read_bytes()),
        r"rejections\.parquet cannot be",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_dataset_is_named_and_made_anew(collection: Any, name: str) -> None:
    """A build and a plan name the file and --rebuild, exit 3; verify finds it; a rebuild makes a version in which all is well."""
    damage, what = DAMAGES[name]
    target = str(collection.target)
    build(collection.recipe(), workers=0)
    whole = collection.shards()
    damage(collection.target)
    for act in (partial(build, collection.recipe(), workers=0), partial(outlook, collection.recipe())):
        with pytest.raises(Damaged, match=what) as caught:
            act()
        assert caught.value.exit_code == 3
        assert "ray-prep build RECIPE --rebuild makes the dataset anew" in str(caught.value)
    assert verify(target, StorageOptions()).findings
    report = build(collection.recipe(), workers=0, rebuild=True)
    assert (report.version, report.decoded, report.accepted, report.rejected) == (1, 42, 40, 2)
    assert "version 0 is damaged (files: " in report.warnings[0]
    assert not verify(target, StorageOptions(), sample=100).findings
    assert collection.shards() == whole
    assert not build(collection.recipe(), workers=0).is_published


@pytest.mark.parametrize("name", ["a shard is gone", "the record is gone", "the rejections are cut"])
def test_a_damaged_dataset_of_containers(collection: Any, name: str) -> None:
    """Members are counted against the version before twice, which is no more in the way of a rebuild; one warning says of it."""
    path = collection.home / "tables" / "all.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"image": list(collection.pictures.values())}), path)
    recipe = collection.recipe(source={"uri": str(path.parent), "layout": "parquet"})
    build(recipe, workers=0)
    damage, what = DAMAGES[name]
    damage(collection.target)
    with pytest.raises(Damaged, match=what):
        build(recipe, workers=0)
    report = build(recipe, workers=0, rebuild=True)
    assert (report.version, report.listed, report.accepted) == (1, 42, 40)
    assert len(report.warnings) == 1
    assert not verify(str(collection.target), StorageOptions(), sample=100).findings


def test_bytes_that_rotted_are_made_anew(collection: Any) -> None:
    """A changed byte in a shard, which only `verify` sees, is gone after a rebuild: finished work is not taken over by its size."""
    build(collection.recipe(), workers=0)
    shard = _shard(collection.target)
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 255
    shard.write_bytes(data)
    assert [finding.place for finding in verify(str(collection.target), StorageOptions()).findings] == [f"{shard.parent.name}/{shard.name}"]
    build(collection.recipe(), workers=0, rebuild=True)
    assert not verify(str(collection.target), StorageOptions()).findings


def test_a_lost_list_of_shards_stops_no_build(collection: Any) -> None:
    """Only `verify` reads the record's `shards.parquet`; a rebuild writes it anew."""
    build(collection.recipe(), workers=0)
    _beside_record(collection.target, "shards.parquet").unlink()
    assert not build(collection.recipe(), workers=0).is_published
    assert [finding.what for finding in verify(str(collection.target), StorageOptions()).findings] == [
        "is not there, though it belongs to the record"
    ]
    build(collection.recipe(), workers=0, rebuild=True)
    assert not verify(str(collection.target), StorageOptions()).findings


def test_a_damaged_file_is_said_on_one_line() -> None:
    """The text has place, fault and way out; it survives the way from a worker's process."""
    error = pickle.loads(pickle.dumps(Damaged("/data/a.parquet", "is not there")))
    assert str(error).startswith("/data/a.parquet is not there; ")
    assert (error.place, error.what, len(str(error).splitlines())) == ("/data/a.parquet", "is not there", 1)


def test_a_limited_dataset_without_its_record(collection: Any) -> None:
    """That the old build had a limit is not known any more: a rebuild may have one."""
    sections = {"checks": {"max_rejected": 0.5}}
    build(collection.recipe(**sections), workers=0, limit=10)
    _beside_record(collection.target, "record.json").unlink()
    assert build(collection.recipe(**sections), workers=0, limit=10, rebuild=True).listed == 10


@pytest.mark.parametrize("name", ["00000000000000000000.json", "00000000000000000001.json", "00000000000000000002.json"])
@pytest.mark.parametrize("is_gone", [True, False])
def test_a_damaged_log_is_named(collection: Any, name: str, *, is_gone: bool) -> None:
    """One line that says what is damaged and two ways out, of which the second finds all finished work; exit 3."""
    for _ in range(3):
        build(collection.recipe(), workers=0, rebuild=True)
    path = collection.target / "_delta_log" / name
    if is_gone:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:200])
    if is_gone and name.endswith("2.json"):  # who deletes the newest commit goes back to the one before
        assert open_dataset(str(collection.target)).version == 1
        return
    for rebuild in (False, True):
        with pytest.raises(StorageError, match="a file of _delta_log is missing or damaged") as caught:
            build(collection.recipe(), workers=0, rebuild=rebuild)
        assert "move _delta_log away and build again" in str(caught.value)
        assert "unknown" not in str(caught.value)
    (collection.target / "_delta_log").rename(collection.home / "old_log")
    report = build(collection.recipe(), workers=0)
    assert (report.version, report.decoded, report.accepted) == (0, 0, 40)
    assert not verify(str(collection.target), StorageOptions()).findings
