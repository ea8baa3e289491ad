from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ray_prep.dataset.record import Record, ShardFacts, read_record, read_rejections, read_shards, rejection_batches, write_record
from ray_prep.dataset.shard import Shard
from ray_prep.dataset.sums import add_sums, pooled
from ray_prep.errors import StorageError
from ray_prep.sample import Rejection
from ray_prep.storage import open_store

RECORD = Record(
    "2026-01-01-abc",
    3,
    engine="local",
    listed=10,
    unchanged=4,
    added=5,
    changed=1,
    accepted=9,
    rejected=1,
    rejected_by_reason={"truncated": 1},
    ignored={".txt": 2},
    seconds=1.5,
    versions={"numpy": "2.4"},
    classes=("cat", "größe"),
    counts={"train": {"cat": 9}},
    sums={"train": (10**15, 10**17, 10**19), "val": (5, 10, 20)},
    recipe={"seed": 7},
    frozen={"columns": {"sku": "string"}},
)


def sums_of(images: list[np.ndarray]) -> tuple[int, ...]:
    """n, Σ and Σ² of each channel, by numpy in 64 bits."""
    flat = np.concatenate([image.reshape(-1, image.shape[2]) for image in images]).astype(np.int64)
    return (len(flat), *map(int, flat.sum(0)), *map(int, (flat**2).sum(0)))


@pytest.mark.parametrize("channels", [1, 3])
def test_pooled_statistics_are_numpys_over_all_pixels(channels: int) -> None:
    """Mean and population standard deviation over all pixels of all images, in [0, 1], whatever the images' sizes."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*rng.integers(1, 30, 2), channels), np.uint8) for _ in range(9)]
    mean, std = pooled(add_sums(sums_of([image]) for image in images))
    flat = np.concatenate([image.reshape(-1, channels) for image in images]) / 255
    np.testing.assert_allclose(mean, flat.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, flat.std(0), rtol=1e-9)


def test_pooled_statistics_of_one_colour_have_no_deviation() -> None:
    """The difference of two large sums is exact: no NaN from a variance a hair below zero, also over 10^12 pixels."""
    count = 10**12
    assert pooled((count, 77 * count, 77 * 77 * count)) == ((77 / 255,), (0.0,))


def test_no_pixels_have_no_statistics() -> None:
    """A version without originals says nothing, instead of zeros."""
    assert pooled(add_sums([])) == ((), ())
    assert pooled((0, 0, 0)) == ((), ())


def test_a_record_comes_back_whole_and_equal_records_give_equal_bytes() -> None:
    """Also numbers beyond 64 bits and names that are not ASCII."""
    assert Record.from_json(RECORD.to_json()) == RECORD
    assert Record.from_json(RECORD.to_json()).to_json() == RECORD.to_json()


def test_a_record_can_be_read_without_us() -> None:
    """It is JSON with a format number; mean and std stand in it."""
    known = json.loads(RECORD.to_json())
    assert known["format"] == 1
    assert (known["mean"], known["std"]) == ([*RECORD.mean], [*RECORD.std])


def test_a_record_has_the_contracts_fields() -> None:
    """What `build --json` prints stands in the record, in the same order."""
    assert list(json.loads(RECORD.to_json()))[1:23] == [
        "build_id",
        "version",
        "engine",
        "listed",
        "unchanged",
        "added",
        "changed",
        "removed",
        "accepted",
        "rejected",
        "rejected_new",
        "rejected_by_reason",
        "ignored",
        "rows",
        "shards",
        "bytes",
        "decoded",
        "copied_rows",
        "seconds",
        "images_per_second",
        "recipe_fingerprint",
        "versions",
    ]


@pytest.mark.parametrize("data", [b'{"format": 2}', b"[1", b"{}"])
def test_another_format_is_refused(data: bytes) -> None:
    """Never half understood."""
    with pytest.raises(StorageError, match="record"):
        Record.from_json(data)


def test_a_record_and_its_lists_come_back_from_the_store(tmp_path: Path) -> None:
    """The complete rejections, odd texts included, and a row a live shard."""
    store = open_store(str(tmp_path))
    rejections = [
        Rejection(f"{number}.jpg", f"/x/{number}.jpg", "", "decode", "corrupt", f"bad \udcff {number}", 2) for number in range(12_345)
    ]
    shards = [
        ShardFacts(Shard("split=a/x.parquet", "a", 3, 99, "f" * 64, "k", "l"), "u1", 2, {"cat": 2}, (1, 2, 3)),
        ShardFacts(Shard("split=b/y.parquet", "b", 1, 9, "e" * 64, "k", "k"), "u2", 1, {}),
    ]
    path = write_record(store, "b7", RECORD, iter(rejections), iter(shards))
    assert path == "_ray_prep/builds/b7/record.json"
    assert read_record(store, path) == RECORD
    back = list(read_rejections(store, path))
    assert [known.key for known in back] == [known.key for known in rejections]
    assert (back[5].attempts, back[5].message) == (2, "bad ? 5")
    assert max(batch.num_rows for batch in rejection_batches(store, path)) <= 10_000
    assert list(read_shards(store, path)) == shards


def test_empty_lists_are_lists(tmp_path: Path) -> None:
    """Nothing rejected is not the same as nobody knows."""
    store = open_store(str(tmp_path))
    path = write_record(store, "b", RECORD, [], [])
    assert list(read_rejections(store, path)) == []
    assert list(read_shards(store, path)) == []


def test_a_lost_record_is_said_to_be_lost(tmp_path: Path) -> None:
    """The message names the file."""
    store = open_store(str(tmp_path))
    for read in (read_record, lambda *where: list(read_rejections(*where)), lambda *where: list(read_shards(*where))):
        with pytest.raises(StorageError, match=r"_ray_prep/builds/b/\w+\.\w+ is not there"):
            read(store, "_ray_prep/builds/b/record.json")
