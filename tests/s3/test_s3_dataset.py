"""The table and its readers in an object store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from ray_prep.dataset.live import live_rows
from ray_prep.dataset.reader import open as open_dataset
from ray_prep.dataset.record import Record, write_record
from ray_prep.dataset.schema import ImageColumn, delta_schema, table_schema
from ray_prep.dataset.shard import Shard, ShardWriter
from ray_prep.dataset.table import commit, history, open_table
from ray_prep.errors import Conflict, RecipeError, StorageError
from ray_prep.storage import StorageOptions, open_store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.s3

FIXED = ImageColumn("tensor", (6, 5, 3), "uint8", "rgb", (0.0, 255.0))
VARIES = ImageColumn("tensor", None, "uint8", "rgb", (0.0, 255.0))


def pixels(image: ImageColumn, number: int) -> np.ndarray[Any, Any]:
    """Return an image that the number decides."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, image.shape or (*rng.integers(2, 9, 2), 3), np.uint8)


def put_shard(uri: str, options: StorageOptions, folder: Path, image: ImageColumn, numbers: range, split: str = "train") -> Shard:
    """Put a shard into the table's folder: one image a number."""
    writer = ShardWriter(folder, table_schema(image, pa.schema([])), split, footer={}, row_group_bytes=300)
    for number in numbers:
        array = pixels(image, number)
        height, width, channels = array.shape
        writer.append({"key": f"{number:03d}", "copy": 0, "image": array, "height": height, "width": width, "channels": channels})
    file = writer.close()
    open_store(uri, options).put_file(file.shard.path, str(file.local_path))
    return file.shard


def publish(uri: str, options: StorageOptions, image: ImageColumn, base: int | None, add: list[Shard], remove: list[str]) -> int:
    """Commit with a record of its own."""
    build = "b" if base is None else f"b{base + 1}"
    path = write_record(open_store(uri, options), build, Record(build, 0), [], [])
    return commit(uri, options, delta_schema(table_schema(image, pa.schema([]))), base, add, remove, path)


@pytest.mark.parametrize("image", [FIXED, VARIES], ids=["fixed", "varies"])
def test_a_table_lives_in_an_object_store(moto_server: Any, tmp_path: Path, image: ImageColumn) -> None:
    """Created, changed, travelled in time, and read by every reader: the same rows as were put there."""
    uri, options = f"s3://{moto_server.new_bucket()}/some/where", moto_server.options
    assert open_table(uri, options) is None
    one, two = put_shard(uri, options, tmp_path, image, range(7)), put_shard(uri, options, tmp_path, image, range(7, 12), "val")
    assert publish(uri, options, image, None, [one, two], []) == 0
    three = put_shard(uri, options, tmp_path, image, range(20, 25))
    assert publish(uri, options, image, 0, [three], [one.path]) == 1
    with pytest.raises(Conflict):
        publish(uri, options, image, 0, [put_shard(uri, options, tmp_path, image, range(30, 31))], [])
    dataset = open_dataset(uri, storage_options={"endpoint": moto_server.endpoint, "region": "us-east-1", "allow_http": True})
    numbers = [*range(7, 12), *range(20, 25)]
    keys = [f"{number:03d}" for number in numbers]
    assert [file.split("/")[2:5] for file in dataset.files] == [[uri.split("/")[2], "some", "where"]] * 2
    assert sorted(dataset.to_arrow().column("key").to_pylist()) == keys
    assert len(open_dataset(uri, version=0, storage_options=options)) == 12
    for batch in dataset.batches(2):
        for key, array in zip(batch["key"], batch["image"], strict=True):
            np.testing.assert_array_equal(array, pixels(image, int(key)))
    snapshot = open_table(uri, options)
    assert snapshot is not None
    assert sorted(key for part in live_rows(snapshot, options, ["key"]) for key in part.column("key").to_pylist()) == keys
    assert [known.record for known in history(uri, options)] == ["_ray_prep/builds/b1/record.json", "_ray_prep/builds/b/record.json"]


def test_torch_reads_an_object_store_in_workers_that_are_no_forks(moto_server: Any, tmp_path: Path) -> None:
    """The client does not survive a fork: that is said instead of hanging; other workers see each row once."""
    pytest.importorskip("torch")
    from torch.utils.data import DataLoader

    uri, options = f"s3://{moto_server.new_bucket()}/t", moto_server.options
    publish(uri, options, FIXED, None, [put_shard(uri, options, tmp_path, FIXED, range(11))], [])
    dataset = open_dataset(uri, storage_options=options)
    batches = dataset.to_torch(3, shuffle=5)
    rows = dataset.to_torch(random_access=True)
    np.testing.assert_array_equal(rows[4]["image"].permute(1, 2, 0).numpy(), pixels(FIXED, 4))
    seen = [
        key for batch in DataLoader(batches, batch_size=None, num_workers=2, multiprocessing_context="forkserver") for key in batch["key"]
    ]
    assert sorted(seen) == [f"{number:03d}" for number in range(11)]
    for forked in (DataLoader(batches, batch_size=None, num_workers=1), DataLoader(rows, num_workers=1)):
        with pytest.raises(RecipeError, match="forkserver"):
            list(forked)


@pytest.mark.parametrize("fault", ["lose_reply", "reset"])
def test_a_commit_that_a_connection_fails(faulty_proxy: Any, moto_server: Any, tmp_path: Path, fault: str) -> None:
    """Whether the log's entry is in and its answer lost, or it never came: one commit, once; given up only where it goes on."""
    options = StorageOptions(endpoint=faulty_proxy.endpoint, region="us-east-1", allow_http=True)
    uri = f"s3://{moto_server.new_bucket()}/t"
    one, two = (put_shard(uri, options, tmp_path, FIXED, range(start, start + 3)) for start in (0, 5))
    for version, shard in enumerate((one, two)):
        getattr(faulty_proxy, fault)(times=1, method="PUT", key=f"{version:020}.json")
        assert publish(uri, options, FIXED, version - 1 if version else None, [shard], []) == version
    assert len(history(uri, options)) == 2
    assert len(open_dataset(uri, storage_options=options)) == 6
    faulty_proxy.reset(times=100, method="PUT", key="2.json")
    with pytest.raises(StorageError, match="cannot be reached, read or written"):
        publish(uri, options, FIXED, 1, [], [one.path])


def test_an_endpoint_that_is_not_there_is_said_so_in_time(moto_server: Any) -> None:
    """Within 30 s, by name; so is a bucket that does not exist."""
    nobody = StorageOptions(endpoint="http://127.0.0.1:9", region="us-east-1", allow_http=True)
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:9 does not answer"):
        open_dataset("s3://bucket/t", storage_options=nobody)
    with pytest.raises(StorageError, match="there is no bucket 'missing'"):
        open_dataset("s3://missing/t", storage_options=moto_server.options)
