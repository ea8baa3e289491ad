from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from ray_prep.errors import StorageError
from ray_prep.image.fetch import fetch
from ray_prep.sample import Item
from ray_prep.sources.class_folders import ClassFolders
from ray_prep.sources.files import Files
from ray_prep.sources.manifest import Manifest
from ray_prep.storage import Patience, StorageOptions, delta_options, open_store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.s3

# Short, so that a test of giving up takes seconds.
BRIEF = Patience(connect_s=1.0, stall_s=2.0, retry_s=2.0)
ODD_KEYS = (
    "a/b.jpg",
    "a//b.jpg",
    "/lead.jpg",
    "a/sp ace.jpg",
    "a/h#h.jpg",
    "a/p%20c.jpg",
    "a/p%c.jpg",
    "a/pl+us.jpg",
    "a/ü€.jpg",
    "a/q?x=1&y.jpg",
    "a/{b}*.jpg",
    "a/back\\slash.jpg",
    "a/delete\x7f.jpg",
)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_odd_keys_survive_listing_and_reading(moto_server: Any) -> None:
    """Spaces, #, %, +, ?, unicode, empty and leading parts: what was put is listed by the same name and read back."""
    bucket = moto_server.new_bucket()
    store = open_store(f"s3://{bucket}")
    for key in ODD_KEYS:
        store.put(key, key.encode())
    listed = {entry.path: entry for entry in store.list()}
    assert set(listed) == set(ODD_KEYS)
    for key in ODD_KEYS:
        assert store.get(key) == key.encode()
        assert store.stat(key) == listed[key]
        with store.open_input(key) as file:
            assert file.read() == key.encode()
    for key in ODD_KEYS:
        store.delete(key)
    assert list(store.list()) == []


def test_a_root_is_a_folder_not_a_beginning_of_names(moto_server: Any) -> None:
    """`s3://bucket/a` holds `a/x`, and neither `ab/x` nor the object `a`."""
    bucket = moto_server.new_bucket()
    moto_server.upload(bucket, {"a/x.jpg": b"1", "a/sub/y.jpg": b"22", "ab/x.jpg": b"3", "a": b"4"})
    store = open_store(f"s3://{bucket}/a/")
    assert [(entry.path, entry.size_bytes) for entry in store.list()] == [("sub/y.jpg", 2), ("x.jpg", 1)]
    assert [entry.path for entry in store.list("sub")] == ["sub/y.jpg"]
    assert list(store.list("nothing")) == []
    assert store.uri_of("x.jpg") == f"s3://{bucket}/a/x.jpg"


def test_listing_takes_pages(faulty_proxy: Any, moto_server: Any) -> None:
    """1,001 objects come in two pages, in the order of their keys, the second asked for when the first is used up."""
    bucket = moto_server.new_bucket()
    store = open_store(f"s3://{bucket}")
    names = [f"img_{number:05d}.jpg" for number in range(1001)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: store.put(name, b""), names))
    faulty_proxy.counts.clear()
    entries = store.list()
    first = next(entries)
    assert faulty_proxy.gets(bucket) == 1
    assert [entry.path for entry in (first, *entries)] == names
    assert faulty_proxy.gets(bucket) == 2


@pytest.mark.parametrize("code", ["InternalError", "SlowDown"])
def test_a_page_that_is_no_page_does_not_end_a_listing(faulty_proxy: Any, moto_server: Any, code: str) -> None:
    """An error that comes with status 200 is asked for again; taken for the last page it would cost all objects behind it."""
    bucket = moto_server.new_bucket()
    store = open_store(f"s3://{bucket}")
    for number in range(3):
        store.put(f"{number}.jpg", b"")
    faulty_proxy.answer(200, times=2, method="GET", key=f"^{bucket}/?$", code=code)
    assert [entry.path for entry in store.list()] == ["0.jpg", "1.jpg", "2.jpg"]
    faulty_proxy.answer(200, times=100, method="GET", key=f"^{bucket}/?$", code=code)
    with pytest.raises(StorageError, match="no listing; is it an S3 server"):
        list(open_store(f"s3://{bucket}", patience=Patience(1, 1, 1)).list())


def test_keys_are_encoded_where_the_server_says_so(moto_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a proxy's has the listing asked for again, encoded; a server that ignores that means its keys as they are."""
    pages = iter([b"<html><br></html", b"<ListBucketResult><Contents><Key>a+b%20c.jpg</Key></Contents></ListBucketResult>"])
    monkeypatch.setattr("ray_prep.storage.aws.S3Requests.send", lambda *_, **__: ({}, next(pages)))
    assert [entry.path for entry in open_store(f"s3://{moto_server.new_bucket()}").list()] == ["a+b%20c.jpg"]


@pytest.mark.parametrize("token", ["", "<NextContinuationToken>a</NextContinuationToken>"])
def test_a_listing_that_cannot_go_on_is_an_error(moto_server: Any, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """A server that knows version 1 of listings says that there is more, and not where; another one says the same for ever."""
    page = f"<ListBucketResult><IsTruncated>true</IsTruncated>{token}<Contents><Key>a.jpg</Key></Contents></ListBucketResult>"
    monkeypatch.setattr("ray_prep.storage.aws.S3Requests.send", lambda *_, **__: ({}, page.encode()))
    with pytest.raises(StorageError, match="does not say where they go on"):
        list(open_store(f"s3://{moto_server.new_bucket()}").list())


def test_versions_change_with_bytes(moto_server: Any) -> None:
    """The version is the etag without quotes: other bytes, other version; the same bytes, the same."""
    store = open_store(f"s3://{moto_server.new_bucket()}")
    versions = []
    for data in (b"one", b"two", b"one"):
        store.put("x", data)
        entry = store.stat("x")
        assert entry is not None
        assert entry == next(iter(store.list()))
        versions.append(entry.version)
    assert versions[0] == versions[2] != versions[1]
    assert '"' not in versions[0]


def test_large_files_are_uploaded_in_parts(faulty_proxy: Any, moto_server: Any, tmp_path: Path) -> None:
    """A file above 8 MiB goes up in parts and comes back whole; one below is one PUT."""
    bucket = moto_server.new_bucket()
    store = open_store(f"s3://{bucket}")
    data = os.urandom(20 << 20)
    (tmp_path / "large").write_bytes(data)
    (tmp_path / "small").write_bytes(data[:1000])
    store.put_file("large", str(tmp_path / "large"))
    assert store.size("large") == len(data)
    assert store.get("large") == data
    assert faulty_proxy.counts["PUT", f"{bucket}/large"] == 3
    store.put_file("small", str(tmp_path / "small"))
    assert faulty_proxy.counts["PUT", f"{bucket}/small"] == 1


def test_parquet_reads_ranges(faulty_proxy: Any, moto_server: Any) -> None:
    """A row group is read without fetching the whole file."""
    bucket = moto_server.new_bucket()
    sink = io.BytesIO()
    table = pa.table({"n": list(range(1000)), "noise": [os.urandom(10_000) for _ in range(1000)]})
    parquet.write_table(table, sink, row_group_size=100, compression="none")
    store = open_store(f"s3://{bucket}")
    store.put("t.parquet", sink.getvalue())
    faulty_proxy.counts.clear()
    with store.open_input("t.parquet") as file:
        assert parquet.ParquetFile(file).read_row_group(3, columns=["n"]).column("n").to_pylist() == list(range(300, 400))
    assert 1 <= faulty_proxy.gets(f"{bucket}/t.parquet") <= 4


def test_create_has_one_winner(moto_server: Any) -> None:
    """Only the first create of a key writes."""
    store = open_store(f"s3://{moto_server.new_bucket()}")
    assert store.create("lease", b"first")
    assert not store.create("lease", b"second")
    assert not store.create("lease", b"first")
    assert store.get("lease") == b"first"


def test_create_survives_a_lost_reply(faulty_proxy: Any, moto_server: Any) -> None:
    """A PUT that went through and whose reply was lost was ours; somebody else's object is not."""
    bucket = moto_server.new_bucket()
    store = open_store(f"s3://{bucket}")
    faulty_proxy.lose_reply(times=1, method="PUT", key="mine")
    assert store.create("mine", b"token-1")
    store.put("theirs", b"token-2")
    faulty_proxy.drop(times=1, method="PUT", key="theirs")
    assert not store.create("theirs", b"token-1")


def test_create_waits_for_a_conflicting_put(faulty_proxy: Any, moto_server: Any) -> None:
    """S3's 409 while another conditional PUT is under way is asked again."""
    store = open_store(f"s3://{moto_server.new_bucket()}")
    faulty_proxy.answer(409, times=2, method="PUT", key="lease", code="ConditionalRequestConflict")
    assert store.create("lease", b"1")


def test_passing_faults_pass(faulty_proxy: Any, moto_server: Any) -> None:
    """503s, throttling and connections dropped before or amid the body end in the right bytes, for every kind of request."""
    bucket = moto_server.new_bucket()
    store = open_store(f"s3://{bucket}/p")
    faulty_proxy.answer(503, times=2, method="PUT")
    store.put("x.jpg", b"x" * 100_000)
    faulty_proxy.answer(503, times=2, method="GET")
    faulty_proxy.answer(429, times=1, method="GET")
    faulty_proxy.drop(times=2, method="GET", key="x.jpg")
    faulty_proxy.drop(times=2, method="GET", key="x.jpg", after_bytes=5000)
    assert store.get("x.jpg") == b"x" * 100_000
    faulty_proxy.answer(500, times=2, method="HEAD")
    assert store.size("x.jpg") == 100_000
    faulty_proxy.answer(503, times=2, method="GET")
    faulty_proxy.drop(times=1, method="GET")
    faulty_proxy.drop(times=1, method="GET", after_bytes=50)
    assert [entry.path for entry in store.list()] == ["x.jpg"]


def test_an_outage_longer_than_the_clients_own_retries_is_waited_out(faulty_proxy: Any, moto_server: Any) -> None:
    """Patience, not a number of attempts, decides when a store is given up."""
    bucket = moto_server.new_bucket()
    moto_server.upload(bucket, {"x.jpg": b"x"})
    store = open_store(f"s3://{bucket}", patience=Patience(1.0, 2.0, 60.0))
    faulty_proxy.answer(503, times=12, method="GET", key="x.jpg")
    assert store.get("x.jpg") == b"x"
    assert faulty_proxy.gets(f"{bucket}/x.jpg") == 13


def test_a_store_that_stays_away_is_given_up(faulty_proxy: Any, moto_server: Any) -> None:
    """After its patience the store is a StorageError that names uri, endpoint and status."""
    bucket = moto_server.new_bucket()
    faulty_proxy.answer(503, times=1000)
    begin = time.monotonic()
    with pytest.raises(StorageError, match=rf"s3://{bucket}/x.jpg: {faulty_proxy.endpoint} .*503") as caught:
        open_store(f"s3://{bucket}", patience=BRIEF).get("x.jpg")
    assert time.monotonic() - begin < 10
    assert "testsecret" not in str(caught.value)


def test_a_missing_bucket_is_named(moto_server: Any, tmp_path: Path) -> None:
    """No operation takes a missing bucket for a missing object, and none creates it."""
    bucket = moto_server.new_bucket() + "-not"
    store = open_store(f"s3://{bucket}/p")
    (tmp_path / "file").write_bytes(b"x")
    for operation in (
        store.check,
        lambda: list(store.list()),
        lambda: store.get("x"),
        lambda: store.put("x", b""),
        lambda: store.put_file("x", str(tmp_path / "file")),
        lambda: store.create("x", b""),
        lambda: list(Files(f"s3://{bucket}/p").items(Counter())),
        lambda: list(Manifest(f"s3://{bucket}/list.csv").items(Counter())),
    ):
        with pytest.raises(StorageError, match=f"there is no bucket '{bucket}' at {moto_server.endpoint}"):
            operation()


def test_a_missing_object_is_no_storage_error(moto_server: Any) -> None:
    """One object that is not there is FileNotFoundError, None or nothing to delete."""
    store = open_store(f"s3://{moto_server.new_bucket()}")
    with pytest.raises(FileNotFoundError):
        store.get("nope.jpg")
    with pytest.raises(FileNotFoundError):
        store.get("odd//nope.jpg")
    with pytest.raises(FileNotFoundError):
        store.open_input("nope.jpg")
    assert store.size("nope.jpg") is None
    assert store.size("odd//nope.jpg") is None
    store.delete("nope.jpg")


@pytest.mark.usefixtures("moto_server")
@pytest.mark.parametrize("what", ["refused", "silent"])
def test_an_unreachable_endpoint_is_reported_soon(what: str) -> None:
    """A closed port and a server that never answers are reported within 15 s, with uri and endpoint."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if what == "silent":
            server.listen(64)
        port = server.getsockname()[1]
        options = StorageOptions(endpoint=f"http://127.0.0.1:{port}", allow_http=True)
        begin = time.monotonic()
        with pytest.raises(StorageError, match=rf"s3://bucket/p.*http://127.0.0.1:{port} does not answer"):
            open_store("s3://bucket/p", options).check()
        assert time.monotonic() - begin < 15


@pytest.mark.usefixtures("moto_server")
@pytest.mark.parametrize("versions", ["head", "never_changes"])
def test_a_manifest_of_images_at_an_unreachable_endpoint_is_reported_soon(tmp_path: Path, versions: Any) -> None:
    """A table on local disk is read, and the images' store does not answer: that is told within 15 s, not insisted on for minutes."""
    (tmp_path / "list.csv").write_text("uri,label\ns3://bucket/a.jpg,x\ns3://bucket/b.jpg,y\n")
    options = StorageOptions(endpoint="http://127.0.0.1:9", allow_http=True)
    begin = time.monotonic()
    with pytest.raises(StorageError, match=r"s3://bucket/a\.jpg.*http://127.0.0.1:9 does not answer"):
        list(Manifest(str(tmp_path / "list.csv"), versions=versions, storage_options=options).items(Counter()))
    assert time.monotonic() - begin < 15


def test_a_refusal_fails_at_once(faulty_proxy: Any, moto_server: Any) -> None:
    """403 is not retried; the message says what to look at."""
    bucket = moto_server.new_bucket()
    faulty_proxy.answer(403, times=1000, code="AccessDenied")
    store = open_store(f"s3://{bucket}/p")
    for operation in (
        store.check,
        lambda: store.get("x"),
        lambda: store.put("x", b""),
        lambda: list(store.list()),
        lambda: store.size("x"),
    ):
        with pytest.raises(StorageError, match=r"refuses access \(403.*AWS_ACCESS_KEY_ID"):
            operation()
    assert max(faulty_proxy.counts.values()) <= 3


def test_stores_and_sources_open_again_in_another_process(moto_server: Any) -> None:
    """A pickled store has no connection and no credentials in it, and works where it arrives."""
    bucket = moto_server.new_bucket()
    store = open_store(f"s3://{bucket}")
    store.put("x", b"bytes")
    packed = pickle.dumps(store)
    assert b"testsecret" not in packed
    assert pickle.loads(packed).get("x") == b"bytes"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(store.get, ("x",)) == b"bytes"


_FORKING = """
import os
from ray_prep.errors import StorageError
from ray_prep.storage import open_store
store = open_store("s3://BUCKET")
store.get("x")
if os.fork() == 0:
    try:
        open_store("s3://BUCKET").get("x")
    except StorageError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""


def test_a_forked_process_is_refused_instead_of_hanging(moto_server: Any) -> None:
    """Threads of obstore do not survive a fork: a request in the child would wait for ever."""
    bucket = moto_server.new_bucket()
    moto_server.upload(bucket, {"x": b"1"})
    command = [sys.executable, "-c", _FORKING.replace("BUCKET", bucket)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "start processes with `spawn`" in done.stdout


def test_delta_options_reach_the_server(moto_server: Any) -> None:
    """Deltalake finds the bucket with them, and says quickly where there is none."""
    from deltalake import DeltaTable, write_deltalake

    bucket = moto_server.new_bucket()
    options = dict(delta_options(f"s3://{bucket}/t", StorageOptions()))
    write_deltalake(f"s3://{bucket}/t", pa.table({"x": [1]}), storage_options=options)
    assert DeltaTable(f"s3://{bucket}/t", storage_options=options).version() == 0
    away = StorageOptions(endpoint=f"http://127.0.0.1:{_free_port()}", allow_http=True)
    begin = time.monotonic()
    with pytest.raises(OSError, match="error sending request"):
        DeltaTable(f"s3://{bucket}/t", storage_options=dict(delta_options(f"s3://{bucket}/t", away, patience=BRIEF)))
    assert time.monotonic() - begin < 15


def test_profile_credentials_are_used(moto_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`profile` takes keys, region and endpoint from the shared files, before any variable."""
    (tmp_path / "credentials").write_text("[lab]\naws_access_key_id = LABKEY\naws_secret_access_key = labsecret\n")
    (tmp_path / "config").write_text(f"[profile lab]\nregion = eu-west-1\nendpoint_url = {moto_server.endpoint}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_REGION")
    bucket = moto_server.new_bucket()
    options = StorageOptions(profile="lab")
    given = delta_options(f"s3://{bucket}", options)
    assert given["AWS_ACCESS_KEY_ID"] == "LABKEY"
    assert given["AWS_REGION"] == "eu-west-1"
    assert given["AWS_ENDPOINT_URL"] == moto_server.endpoint
    store = open_store(f"s3://{bucket}", options)
    store.put("x", b"1")
    assert store.get("x") == b"1"


def test_a_source_on_s3_lists_as_on_disk(moto_server: Any, tmp_path: Path) -> None:
    """Keys, labels, splits and what is ignored are the same from a bucket and from a folder; markers are ignored."""
    for name in ("train/cat/1.jpg", "train/dog/2.png", "valid/cat/3.jpg", "notes.txt", "_x/4.jpg", "cat/.hidden.jpg", "cat/5", "a.tar.gz"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    bucket = moto_server.new_bucket()
    moto_server.upload_folder(bucket, tmp_path / "photos", "photos")
    moto_server.upload(bucket, {"photos/train/": b"", "photos/": b"", "photos/old_$folder$": b""})
    there, here = Counter[str](), Counter[str]()
    remote = list(ClassFolders(f"s3://{bucket}/photos").items(there))
    local = list(ClassFolders(str(tmp_path / "photos")).items(here))
    assert [(item.key, item.label, item.split) for item in remote] == [(item.key, item.label, item.split) for item in local]
    assert there == here + Counter({"/": 3})
    with fetch(remote) as fetched:
        assert [data for _, data in fetched] == [item.key.encode() for item in remote]


def test_a_manifest_on_s3_asks_for_versions(faulty_proxy: Any, moto_server: Any) -> None:
    """Relative uris start from the manifest; HEADs run many at once, one an image; a missing image keeps its place."""
    bucket = moto_server.new_bucket()
    names = [f"img {number}.jpg" for number in range(60)]
    rows = [f"../images/{name},{number % 3}" for number, name in enumerate(names)] + [
        "../images/gone.jpg,1",
        f"s3://{bucket}/other/x.jpg,2",
    ]
    objects = {f"images/{name}": name.encode() for name in names} | {
        "other/x.jpg": b"x",
        "lists/all.csv": "\n".join(["uri,label", *rows]).encode(),
    }
    moto_server.upload(bucket, objects)
    faulty_proxy.counts.clear()
    faulty_proxy.answer(503, times=3, method="HEAD", key="img 7.jpg")
    items = list(Manifest(f"s3://{bucket}/lists/all.csv").items(Counter()))
    assert [item.uri for item in items[:60]] == [f"s3://{bucket}/images/{name}" for name in names]
    assert items[60].version == ""
    assert items[61].uri == f"s3://{bucket}/other/x.jpg"
    assert all(item.version for item in items if item is not items[60])
    assert faulty_proxy.counts["HEAD", f"{bucket}/images/img 3.jpg"] == 1
    assert faulty_proxy.largest_crowd > 4
    never = list(Manifest(f"s3://{bucket}/lists/all.csv", versions="never_changes").items(Counter()))
    assert {item.version for item in never} == {"never_changes"}


def test_fetch_is_in_order_with_one_get_an_image(faulty_proxy: Any, moto_server: Any) -> None:
    """Slow, failing and missing images keep their places; each that is well costs one GET, many at once."""
    bucket = moto_server.new_bucket()
    moto_server.upload(bucket, {f"p/{number:03d}.jpg": str(number).encode() * 50 for number in range(100) if number != 40})
    items = list(Files(f"s3://{bucket}/p").items(Counter()))
    items.insert(40, Item("040.jpg", f"s3://{bucket}/p/040.jpg", ""))
    faulty_proxy.counts.clear()
    faulty_proxy.stall(0.3, times=1, key="p/000.jpg")
    faulty_proxy.answer(503, times=2, key="p/010.jpg")
    with fetch(items) as fetched:
        outcomes = list(fetched)
    assert [item for item, _ in outcomes] == items
    assert [data for item, data in outcomes if item.key != "040.jpg"] == [str(n).encode() * 50 for n in range(100) if n != 40]
    missing = outcomes[40][1]
    assert not isinstance(missing, bytes)
    assert missing.reason == "missing"
    assert {faulty_proxy.gets(f"{bucket}/p/{number:03d}.jpg") for number in range(100) if number != 10} == {1}
    assert faulty_proxy.largest_crowd > 4


def test_fetch_stops_at_a_refusal(faulty_proxy: Any, moto_server: Any) -> None:
    """403 amid a build fails the build: it is never a rejection."""
    bucket = moto_server.new_bucket()
    moto_server.upload(bucket, {f"{number}.jpg": b"x" for number in range(5)})
    items = list(Files(f"s3://{bucket}").items(Counter()))
    faulty_proxy.answer(403, times=1, key="3.jpg", code="AccessDenied")
    with fetch(items) as fetched, pytest.raises(StorageError, match=r"3.jpg: .*refuses access"):
        list(fetched)


def test_fetch_says_that_it_waits(faulty_proxy: Any, moto_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the consumer waits for storage, `on_wait` is called."""
    bucket = moto_server.new_bucket()
    moto_server.upload(bucket, {"x.jpg": b"x"})
    monkeypatch.setattr("ray_prep.image.fetch._WAIT_S", 0.05)
    faulty_proxy.stall(0.5, times=1, key="x.jpg")
    calls: list[int] = []
    with fetch(list(Files(f"s3://{bucket}").items(Counter())), on_wait=lambda: calls.append(1)) as fetched:
        assert len(list(fetched)) == 1
    assert 3 <= len(calls) <= 12
