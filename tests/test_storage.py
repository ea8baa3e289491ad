from __future__ import annotations

import errno
import http.server
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from ray_prep.errors import RecipeError, StorageError
from ray_prep.storage import (
    Patience,
    StorageOptions,
    Stores,
    absolute_uri,
    delta_options,
    local_path,
    local_uri,
    open_store,
    split_uri,
)
from ray_prep.storage.failure import PassingFault, Place, insist
from ray_prep.storage.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable

ODD_NAMES = (
    "sp ace.jpg",
    "h#h.jpg",
    "p%20c.jpg",
    "p%.jpg",
    "pl+us.jpg",
    "ü€.jpg",
    "q?x=1.jpg",
    "new\nline.jpg",
    os.fsdecode(b"bad-\xff.jpg"),
)


# ---- uris -------------------------------------------------------------------------------------------------------------


def test_local_uris_go_there_and_back(tmp_path: Path) -> None:
    """Every name a file system can have has a uri in UTF-8, and the uri leads back to it."""
    for name in ODD_NAMES:
        path = f"{tmp_path}/{name}"
        uri = local_uri(path)
        uri.encode("utf-8")
        assert local_path(uri) == path
    assert local_uri("/a b%#") == "/a b%#"
    assert local_path("file:///a%20b") == local_path("file://localhost/a%20b") == "/a b"
    assert local_path("a") == str(Path.cwd() / "a")
    assert local_path("~/a") == str(Path("~/a").expanduser())


def test_a_file_uri_of_another_host_is_refused() -> None:
    """`file://data/x` is a frequent slip; the message shows the right form."""
    with pytest.raises(RecipeError, match="file:///data/x"):
        open_store("file://data/x")


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://b/a/list.csv", ("s3://b/a", "list.csv")),
        ("s3://b/list.csv", ("s3://b", "list.csv")),
        ("/a/list.csv", ("/a", "list.csv")),
        ("/list.csv", ("/", "list.csv")),
        ("https://h/a/list.csv?v=1/2", ("https://h/a", "list.csv?v=1/2")),
    ],
)
def test_uris_are_split_at_the_name(uri: str, parts: tuple[str, str]) -> None:
    """The folder of a manifest is what its relative uris start from."""
    assert split_uri(uri) == parts


def test_uris_are_made_absolute() -> None:
    """The same uri means the same in a worker elsewhere; what names no place is refused."""
    assert absolute_uri("photos/") == str(Path.cwd() / "photos")
    assert absolute_uri("s3://u:p@bucket/a/") == "s3://bucket/a"
    for wrong in ("", "s3://", "s3:///a"):
        with pytest.raises(RecipeError):
            absolute_uri(wrong)


@pytest.mark.parametrize(
    ("uri", "hint"),
    [("s4://b/a", "there are local paths"), ("htps://b/a", "did you mean 'https'"), ("ftp://h/a", "there are local paths, file://, s3://")],
)
def test_unknown_schemes_are_refused(uri: str, hint: str) -> None:
    """The scheme is named, with the one that was meant."""
    with pytest.raises(RecipeError, match=hint):
        open_store(uri)


# ---- options ----------------------------------------------------------------------------------------------------------


def test_options_refuse_nonsense() -> None:
    """An endpoint is a url; anonymous and a profile contradict each other."""
    with pytest.raises(ValueError, match="endpoint: 'localhost:9000' is no url"):
        StorageOptions(endpoint="localhost:9000")
    with pytest.raises(ValueError, match="anonymous"):
        StorageOptions(anonymous=True, profile="x")
    with pytest.raises(ValueError, match="endpoint: holds a name or secret") as caught:
        StorageOptions(endpoint="https://me:hunter22@minio:9000")
    assert "hunter22" not in str(caught.value)
    with pytest.raises(ValueError, match="endpoint: holds a name or secret") as caught:
        StorageOptions(endpoint="ftp//me:hunter22@minio:9000")
    assert "hunter22" not in str(caught.value)


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No credentials of the machine's own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


def test_http_needs_to_be_allowed(bare_environment: pytest.MonkeyPatch) -> None:
    """An endpoint without TLS is refused unless recipe or environment allow it."""
    bare_environment.setenv("AWS_ACCESS_KEY_ID", "key")
    bare_environment.setenv("AWS_SECRET_ACCESS_KEY", "private-thing")
    bare_environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RecipeError, match="allow_http"):
        delta_options("s3://b", StorageOptions())
    assert delta_options("s3://b", StorageOptions(allow_http=True))["AWS_ALLOW_HTTP"] == "true"
    bare_environment.setenv("AWS_ALLOW_HTTP", "true")
    assert delta_options("s3://b", StorageOptions())["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"


def test_what_the_recipe_says_wins_over_the_environment(bare_environment: pytest.MonkeyPatch) -> None:
    """Endpoint and region: recipe, then AWS_ENDPOINT_URL_S3, then AWS_ENDPOINT_URL; AWS's own without any."""
    bare_environment.setenv("AWS_ACCESS_KEY_ID", "key")
    bare_environment.setenv("AWS_SECRET_ACCESS_KEY", "private-thing")
    bare_environment.setenv("AWS_SESSION_TOKEN", "session-thing")
    bare_environment.setenv("AWS_REGION", "eu-west-1")
    assert delta_options("s3://b", StorageOptions())["AWS_ENDPOINT_URL"] == "https://s3.eu-west-1.amazonaws.com"
    bare_environment.setenv("AWS_ENDPOINT_URL", "https://general")
    assert delta_options("s3://b", StorageOptions())["AWS_ENDPOINT_URL"] == "https://general"
    bare_environment.setenv("AWS_ENDPOINT_URL_S3", "https://special")
    assert delta_options("s3://b", StorageOptions())["AWS_ENDPOINT_URL"] == "https://special"
    given = delta_options("s3://b", StorageOptions(endpoint="https://recipe", region="r"))
    assert (given["AWS_ENDPOINT_URL"], given["AWS_REGION"], given["AWS_SESSION_TOKEN"]) == ("https://recipe", "r", "session-thing")
    anonymous = delta_options("s3://b", StorageOptions(anonymous=True))
    assert "AWS_SECRET_ACCESS_KEY" not in anonymous
    assert anonymous["AWS_SKIP_SIGNATURE"] == "true"


def test_no_credentials_is_one_clear_line(bare_environment: pytest.MonkeyPatch) -> None:
    """Without any credentials the message names the ways to give some."""
    bare_environment.setenv("AWS_REGION", "eu-west-1")
    with pytest.raises(StorageError, match=r"^s3://bucket/a: no credentials.*AWS_ACCESS_KEY_ID.*profile.*anonymous"):
        open_store("s3://bucket/a").check()


def test_an_unknown_profile_is_named(bare_environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A profile that is in neither file is exit 2, with the one that was meant."""
    bare_environment.setenv("AWS_REGION", "eu-west-1")
    (tmp_path / "credentials").write_text("[production]\naws_access_key_id = a\naws_secret_access_key = b\n")
    with pytest.raises(RecipeError, match=r"no profile 'producton'.*did you mean 'production'"):
        open_store("s3://bucket", StorageOptions(profile="producton")).check()


def test_credentials_are_shown_nowhere(bare_environment: pytest.MonkeyPatch) -> None:
    """Neither the text of a store nor its pickle holds a secret."""
    bare_environment.setenv("AWS_ACCESS_KEY_ID", "key")
    bare_environment.setenv("AWS_SECRET_ACCESS_KEY", "private-thing")
    store = open_store("s3://bucket/a", StorageOptions(endpoint="https://127.0.0.1:9"), patience=Patience(0.2, 0.2, 0.1))
    with pytest.raises(StorageError):
        store.get("x")
    assert "private-thing" not in repr(store) + repr(vars(store))
    assert b"private-thing" not in pickle.dumps(store)
    assert pickle.loads(pickle.dumps(store)) == store


# ---- local folders ----------------------------------------------------------------------------------------------------


def test_odd_names_survive(tmp_path: Path) -> None:
    """Spaces, #, %, +, ?, line ends and bytes that are not UTF-8 are listed and read by the name they have."""
    store = open_store(str(tmp_path))
    for name in ODD_NAMES:
        store.put(name, os.fsencode(name))
    assert sorted(entry.path for entry in store.list()) == sorted(ODD_NAMES)
    for entry in store.list():
        assert store.get(entry.path) == os.fsencode(entry.path)
        assert store.stat(entry.path) == entry
        found, path = Stores(StorageOptions()).of(store.uri_of(entry.path))
        assert found.get(path) == os.fsencode(entry.path)


def test_listing_is_sorted_recursive_and_below_a_folder(tmp_path: Path) -> None:
    """Names are sorted in each folder, whatever order the system gives; a prefix is a folder."""
    store = open_store(f"file://{tmp_path}")
    for name in ("b/2.jpg", "a.jpg", "b/1.jpg", "b/c/3.jpg", "bb/4.jpg"):
        store.put(name, b"1")
    assert [entry.path for entry in store.list()] == ["a.jpg", "b/1.jpg", "b/2.jpg", "b/c/3.jpg", "bb/4.jpg"]
    assert [entry.path for entry in store.list("b")] == ["b/1.jpg", "b/2.jpg", "b/c/3.jpg"]
    assert list(store.list("none")) == []


def test_a_path_too_long_to_open_is_no_silence(tmp_path: Path) -> None:
    """Its folder names it, so that it is there; nothing is left out of a listing without a word."""
    name = "d" * 240
    (tmp_path / "a.jpg").write_bytes(b"1")
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(18):
        os.mkdir(name, dir_fd=folder)
        inner = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    with pytest.raises(StorageError, match=r"d: File name too long$"):
        list(open_store(str(tmp_path)).list())


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    """Links to files and folders count as what they lead to; a folder within itself is not entered again; a dead link is listed empty."""
    store = open_store(str(tmp_path / "root"))
    store.put("real/x.jpg", b"12345")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "y.jpg").write_bytes(b"1")
    root = tmp_path / "root"
    (root / "link.jpg").symlink_to(root / "real" / "x.jpg")
    (root / "other").symlink_to(tmp_path / "elsewhere")
    (root / "real" / "circle").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "dead.jpg").symlink_to(root / "gone")
    os.mkfifo(root / "pipe.jpg")
    listed = {entry.path: entry for entry in store.list()}
    assert sorted(listed) == ["dead.jpg", "link.jpg", "other/y.jpg", "real/x.jpg", "self"]
    assert listed["link.jpg"].size_bytes == 5
    assert listed["link.jpg"].version == listed["real/x.jpg"].version
    assert listed["dead.jpg"].version == ""


def test_the_version_is_size_and_time(tmp_path: Path) -> None:
    """A local version changes with the size or with the time of the last change, to the nanosecond."""
    store = LocalStore(str(tmp_path))
    store.put("x", b"12")
    os.utime(tmp_path / "x", ns=(1, 1_234_567_890_123_456_789))
    entry = store.stat("x")
    assert entry is not None
    assert entry.version == "2-1234567890123456789"


def test_a_closed_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that may not be read fails the listing, or is handed to whoever asked for it."""
    store = open_store(str(tmp_path))
    store.put("open/x.jpg", b"1")
    store.put("shut/y.jpg", b"1")
    listdir = os.listdir

    def refusing(path: str) -> list[str]:
        if path.endswith("shut"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refusing)
    with pytest.raises(StorageError, match=r"shut: may not be read"):
        list(store.list())
    told: list[str] = []
    assert [entry.path for entry in store.list(on_unreadable=told.append)] == ["open/x.jpg"]
    assert told == ["shut"]


@pytest.mark.parametrize("name", ["nope", "x.jpg/y", "folder", "pipe", "n" * 300, "zero\0byte"])
def test_what_is_not_a_file_is_not_found(tmp_path: Path, name: str) -> None:
    """Nothing there, a folder, a pipe (which must not block), and impossible names are all FileNotFoundError, and None by size."""
    store = open_store(str(tmp_path))
    store.put("x.jpg", b"1")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        store.get(name)
    assert store.size(name) is None


def test_reading_gives_all_bytes(tmp_path: Path) -> None:
    """Empty files, ordinary ones, and files whose size the system does not tell (/proc)."""
    store = open_store(str(tmp_path))
    store.put("empty", b"")
    store.put("full", bytes(range(256)) * 5000)
    assert store.get("empty") == b""
    assert store.get("full") == bytes(range(256)) * 5000
    assert LocalStore("/").get("proc/self/status").startswith(b"Name:")


def test_writing_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing write leaves the old bytes and no other file."""
    store = open_store(str(tmp_path / "new" / "folders"))
    store.put("x", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / "source").write_bytes(b"new")
    for write in (lambda: store.put("x", b"new"), lambda: store.put_file("x", str(tmp_path / "source")), lambda: store.create("y", b"new")):
        with pytest.raises(StorageError, match="No space left"):
            write()
    monkeypatch.undo()
    assert [(entry.path, store.get(entry.path)) for entry in store.list()] == [("x", b"old")]


def test_a_written_file_obeys_the_umask(tmp_path: Path) -> None:
    """A shard is readable by those the user's umask allows, wherever its bytes were spooled."""
    store = open_store(str(tmp_path))
    spooled = tmp_path / "spooled"
    spooled.write_bytes(b"1")
    spooled.chmod(0o600)
    before = os.umask(0o022)
    try:
        store.put_file("shard", str(spooled))
    finally:
        os.umask(before)
    assert (tmp_path / "shard").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("has_links", [True, False])
def test_create_has_one_winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_links: bool) -> None:
    """Of many that create a file at once one wins and its bytes stand, also where the file system has no hard links."""
    if not has_links:

        def no_links(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_links)
    store = open_store(str(tmp_path))
    for round_number in range(10):
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda number: store.create(f"lease-{round_number}", b"%d" % number), range(16)))  # noqa: B023  used at once
        assert sum(won) == 1
        assert store.get(f"lease-{round_number}") == b"%d" % won.index(True)
    assert len(list(store.list())) == 10


def test_deleting_twice_is_fine(tmp_path: Path) -> None:
    """Deleting what is not there does nothing."""
    store = open_store(str(tmp_path))
    store.put("x", b"1")
    store.delete("x")
    store.delete("x")
    assert list(store.list()) == []


def test_parquet_is_read_through_a_store(tmp_path: Path) -> None:
    """`open_input` is a file pyarrow reads from."""
    parquet.write_table(pa.table({"x": [1, 2]}), tmp_path / "t.parquet")
    with open_store(str(tmp_path)).open_input("t.parquet") as file:
        assert parquet.ParquetFile(file).read().column("x").to_pylist() == [1, 2]
    with pytest.raises(FileNotFoundError):
        open_store(str(tmp_path)).open_input("nope")


def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    """Nothing there, a file instead of a folder, a target below a file; a target that does not exist yet is fine."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="no such folder"):
        open_store(str(tmp_path / "nope")).check()
    with pytest.raises(StorageError, match="is a file"):
        open_store(str(tmp_path / "file")).check()
    with pytest.raises(StorageError, match="file is not a folder"):
        open_store(str(tmp_path / "file" / "below")).check(writing=True)
    open_store(str(tmp_path)).check()
    open_store(str(tmp_path / "new" / "target")).check(writing=True)


def test_a_local_store_is_pickled_as_it_is(tmp_path: Path) -> None:
    """Workers get the same store."""
    store = open_store(str(tmp_path))
    assert pickle.loads(pickle.dumps(store)) == store


# ---- faults -----------------------------------------------------------------------------------------------------------


def test_insisting_ends_with_success_patience_or_a_word() -> None:
    """A passing fault is tried again until it passes, patience ends, or nobody wants it any more; others are raised at once."""
    attempts = iter([PassingFault("a"), PassingFault("b"), None])

    def attempt() -> str:
        fault = next(attempts)
        if fault is not None:
            raise fault
        return "done"

    assert insist(attempt, 10.0) == "done"

    def never() -> None:
        msg = "never"
        raise PassingFault(msg)

    begin = time.monotonic()
    with pytest.raises(StorageError, match=r"never \(tried for [01] s\)"):
        insist(never, 0.3)
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(StorageError, match="never"):
        insist(never, 600.0, stop)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (404, "NoSuchKey", FileNotFoundError, "not there"),
        (404, "NoSuchBucket", StorageError, "no bucket 'b'"),
        (403, "AccessDenied", StorageError, "refuses access"),
        (401, "", StorageError, "refuses access"),
        (400, "ExpiredToken", StorageError, "refuses access"),
        (403, "RequestTimeTooSkewed", StorageError, "clock"),
        (301, "PermanentRedirect", StorageError, "region"),
        (400, "InvalidRequest", StorageError, "answers 400"),
        (503, "SlowDown", PassingFault, "503"),
        (500, "InternalError", PassingFault, "500"),
        (429, "", PassingFault, "429"),
        (400, "RequestTimeout", PassingFault, "400"),
        (None, "", PassingFault, "does not answer"),
    ],
)
def test_each_answer_has_its_error(status: int | None, code: str, kind: type[Exception], said: str) -> None:
    """Missing, refused, misdirected and passing are told apart; each line names uri and endpoint."""
    fault = Place("s3://b/x", "https://host", "hint").fault(status, code, "")
    assert type(fault) is kind
    assert said in str(fault)
    assert str(fault).startswith("s3://b/x")


# ---- any other scheme -------------------------------------------------------------------------------------------------


class _Site(http.server.SimpleHTTPRequestHandler):
    refused = ""

    def do_GET(self) -> None:
        if self.path == "/private.jpg":
            self.send_error(403)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Any], str]) -> str:
    """A web server over a folder with a few files."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a b.jpg").write_bytes(b"spaced")
    (tmp_path / "x.jpg").write_bytes(b"0123456789")
    for name in ("sub/a b.jpg", "x.jpg"):
        os.utime(tmp_path / name, (1_700_000_000, 1_700_000_000))
    return serve(partial(_Site, directory=str(tmp_path)))


def test_a_web_server_is_a_store(site: str, tmp_path: Path) -> None:
    """Files are listed, read, sized, have versions that change with their time; missing and refused are told apart; nothing is written."""
    with pytest.raises(RecipeError, match="allow_http"):
        open_store(site)
    store = open_store(site + "/", StorageOptions(allow_http=True), patience=Patience(1, 2, 1))
    store.check()
    assert [entry.path for entry in store.list()] == ["sub/a%20b.jpg", "x.jpg"]
    assert store.get("x.jpg") == b"0123456789"
    assert store.get("sub/a%20b.jpg") == b"spaced"
    assert store.size("x.jpg") == 10
    assert store.size("nope.jpg") is None
    assert [entry.version for entry in store.list()] == ["6-1700000000", "10-1700000000"]
    (tmp_path / "index.html").write_text('<a href="x.jpg">x</a> <a href="gone.jpg">gone</a>')
    assert [(entry.path, entry.version) for entry in store.list()] == [("gone.jpg", ""), ("x.jpg", "10-1700000000")]
    (tmp_path / "index.html").unlink()
    assert store.stat("x.jpg") == next(entry for entry in store.list() if entry.path == "x.jpg")
    with store.open_input("x.jpg") as file:
        file.seek(4)
        assert file.read(3) == b"456"
    with pytest.raises(FileNotFoundError):
        store.get("nope.jpg")
    with pytest.raises(StorageError, match=r"refuses access.*presigned"):
        store.get("private.jpg")
    with pytest.raises(StorageError):
        store.put("new.jpg", b"")


def test_a_place_where_no_folder_can_be_made_is_a_storage_fault() -> None:
    """Writing below `/proc` is refused with a line for people, not with a missing file."""
    with pytest.raises(StorageError, match="/proc"):
        open_store("/proc/no-such-folder").put("a/b", b"")
