"""Containers in an object store: read once, ahead of the consumer, through faults."""

from __future__ import annotations

import gzip
import io
import tarfile
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from ray_prep.errors import SampleError, StorageError
from ray_prep.sources import container
from ray_prep.sources.parquet import ParquetImages
from ray_prep.sources.webdataset import WebDataset
from ray_prep.storage import open_store

if TYPE_CHECKING:
    from ray_prep.sample import Item

pytestmark = pytest.mark.s3

PICTURES = [b"\xff\xd8\xff" + bytes([number]) * 700_000 for number in range(40)]


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number, data in enumerate(PICTURES):
            for name, content in ((f"{number:02}.cls", str(number % 4).encode()), (f"{number:02}.jpg", data)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _parquet() -> bytes:
    out = io.BytesIO()
    table = pa.table({"image": PICTURES, "label": [number % 4 for number in range(40)]})
    parquet.write_table(table, out, row_group_size=20, use_dictionary=False, compression="none")
    return out.getvalue()


def _read(source: Any, **more: Any) -> list[tuple[Item, bytes | SampleError]]:
    return [member for item in source.items(Counter()) for member in source.members(item, **more)]


@pytest.fixture
def bucket(faulty_proxy: Any, moto_server: Any) -> str:
    """A bucket with a tar, a packed tar and a Parquet file of the same pictures, behind the proxy."""
    name: str = moto_server.new_bucket()
    moto_server.upload(name, {"c/a.tar": _tar(), "c/a.tgz": gzip.compress(_tar(), 1), "c/a.parquet": _parquet(), "c/a.jpg": b""})
    faulty_proxy.counts.clear()
    return name


def test_tars_are_read_once(bucket: str, faulty_proxy: Any) -> None:
    """A tar comes whole in requests of megabytes, each part of it asked for once; so does the one that a uri names."""
    found = _read(WebDataset(f"s3://{bucket}/c"))
    assert [data for _, data in found] == PICTURES * 2
    assert [item.label_id for item, _ in found] == [number % 4 for number in range(40)] * 2
    assert {item.uri.partition("#")[0] for item, _ in found} == {f"s3://{bucket}/c/a.tar", f"s3://{bucket}/c/a.tgz"}
    assert faulty_proxy.gets(f"{bucket}/c/a.tar") == -(-len(_tar()) // (8 << 20))
    assert {item.version for item, _ in found[:40]} == {open_store(f"s3://{bucket}").stat("c/a.tar").version}  # type: ignore[union-attr]
    (one,) = WebDataset(f"s3://{bucket}/c/a.tar").items(Counter())
    assert (one.key, one.uri) == ("a.tar", f"s3://{bucket}/c/a.tar")


def test_parquet_is_read_once(bucket: str, faulty_proxy: Any) -> None:
    """A Parquet file's rows are those written; its bytes are asked for about once."""
    source = ParquetImages(f"s3://{bucket}/c")
    found = _read(source)
    assert [data for _, data in found] == PICTURES
    assert [item.key for item, _ in found] == [f"a.parquet#{row}" for row in range(40)]
    assert faulty_proxy.gets(f"{bucket}/c/a.parquet") <= 12
    assert source.class_names() == ("0", "1", "2", "3")
    assert source.carried_columns() == pa.schema([])


def test_faults_are_waited_out(bucket: str, faulty_proxy: Any) -> None:
    """A throttled and a dropped request in the middle of a container cost time and nothing else."""
    faulty_proxy.answer(503, times=2, method="GET", key=r"a\.tar$")
    faulty_proxy.drop(times=1, method="GET", key=r"a\.tar$", after_bytes=100_000)
    faulty_proxy.drop(times=1, method="GET", key=r"a\.parquet$", after_bytes=1000)
    assert [data for _, data in _read(WebDataset(f"s3://{bucket}/c/a.tar"))] == PICTURES
    assert [data for _, data in _read(ParquetImages(f"s3://{bucket}/c/a.parquet"))] == PICTURES


@pytest.mark.parametrize(("kind", "name"), [(WebDataset, "a.tar"), (ParquetImages, "a.parquet")])
def test_a_refusal_stops_the_build(kind: Any, name: str, bucket: str, faulty_proxy: Any) -> None:
    """Access refused in the middle of a container is the storage's fault and no rejection."""
    source = kind(f"s3://{bucket}/c/{name}")
    (item,) = source.items(Counter())
    faulty_proxy.answer(403, times=50, method="GET", key=name, code="AccessDenied")
    with pytest.raises(StorageError, match="refuses access"):
        list(source.members(item))


@pytest.mark.parametrize(("kind", "name"), [(WebDataset, "a.tar"), (ParquetImages, "a.parquet")])
def test_a_container_that_is_gone(kind: Any, name: str, bucket: str) -> None:
    """One that was removed after it was listed is one rejection."""
    source = kind(f"s3://{bucket}/c/{name}")
    (item,) = source.items(Counter())
    open_store(f"s3://{bucket}").delete(f"c/{name}")
    ((same, fault),) = source.members(item)
    assert isinstance(fault, SampleError)
    assert (same, fault.reason) == (item, "missing")


def test_waiting_is_told(bucket: str, faulty_proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While storage stalls, the one who waits says that it is alive."""
    monkeypatch.setattr(container, "_WAIT_S", 0.1)
    faulty_proxy.stall(1.0, times=1, method="GET", key=r"a\.tar$")
    told: list[float] = []
    found = _read(WebDataset(f"s3://{bucket}/c/a.tar"), on_wait=lambda: told.append(time.monotonic()))
    assert len(found) == 40
    assert len(told) >= 5


@pytest.mark.parametrize(("kind", "name"), [(WebDataset, "a.tar"), (ParquetImages, "a.parquet")])
def test_who_stops_early_leaves_nothing_behind(kind: Any, name: str, bucket: str) -> None:
    """A consumer that takes one image ends the reader's thread by closing."""
    source = kind(f"s3://{bucket}/c/{name}")
    (item,) = source.items(Counter())
    members = source.members(item)
    assert next(members)[1] == PICTURES[0]
    members.close()
    assert [thread.name for thread in threading.enumerate() if thread.name == "ray_prep-container"] == []
