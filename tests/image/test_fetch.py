from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from ray_prep.errors import FetchError, RecipeError, StorageError
from ray_prep.image import fetch as fetch_module
from ray_prep.image.fetch import fetch
from ray_prep.sample import Item
from ray_prep.storage import LocalStore, Stores

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Slow:
    """A store whose every object takes a while; counts what is under way and what was asked."""

    def __init__(self, seconds: float, data: bytes = b"x") -> None:
        self.seconds = seconds
        self.data = data
        self.asked: list[str] = []
        self.crowd = self.largest_crowd = 0
        self.lock = threading.Lock()

    def get(self, path: str, *, stop: threading.Event | None = None) -> bytes:
        with self.lock:
            self.asked.append(path)
            self.crowd += 1
            self.largest_crowd = max(self.largest_crowd, self.crowd)
        assert stop is not None
        stop.wait(self.seconds)
        with self.lock:
            self.crowd -= 1
        if path == "refused":
            msg = "refused"
            raise StorageError(msg)
        if path == "bug":
            raise KeyError(path)
        return self.data


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> _Slow:
    """Makes every remote uri one of a slow store."""
    store = _Slow(0.02)
    monkeypatch.setattr(Stores, "of", lambda _, uri: (store, uri.rpartition("/")[2]))
    return store


def _remote(*names: str) -> list[Item]:
    return [Item(name, f"s3://bucket/{name}", "1") for name in names]


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ray_prep-fetch")]


def test_local_files_come_in_order_with_the_missing_in_their_place(tmp_path: Path) -> None:
    """Bytes or FetchError `missing` for each item, in the order of the items; no thread is needed for a warm disk."""
    for number in range(0, 200, 2):
        (tmp_path / f"{number}.jpg").write_bytes(b"%d" % number)
    items = [Item(str(number), f"{tmp_path}/{number}.jpg", "1") for number in range(200)]
    with fetch(items) as fetched:
        outcomes = list(fetched)
    assert [item for item, _ in outcomes] == items
    assert [data for _, data in outcomes[::2]] == [b"%d" % number for number in range(0, 200, 2)]
    missing = outcomes[1][1]
    assert isinstance(missing, FetchError)
    assert missing.reason == "missing"
    assert f"{tmp_path}/1.jpg" in missing.message


def test_the_disk_is_told_of_a_windows_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is announced once, a window before its turn; what is no file, or no uri, is an error in its turn and not before."""
    told: list[str] = []
    monkeypatch.setattr(fetch_module, "read_ahead", lambda path, _: told.append(path))
    paths = [f"{tmp_path}/{number}.jpg" for number in range(20)]
    (tmp_path / "0.jpg").write_bytes(b"0")
    items = [Item(path, path, "1") for path in paths]
    with fetch([*items, Item("x", "file://another-host/x", "1")], window=8) as fetched:
        outcomes = iter(fetched)
        assert next(outcomes)[1] == b"0"
        assert told == paths[:8]
        assert [type(next(outcomes)[1]) for _ in items[1:]] == [FetchError] * 19
        assert told == paths
        with pytest.raises(RecipeError, match="three slashes"):
            next(outcomes)


def test_remote_objects_are_fetched_ahead_in_order(slow: _Slow) -> None:
    """Many are under way at once, none is asked for twice, and they come in order."""
    items = _remote(*(f"{number}" for number in range(100)))
    begin = time.monotonic()
    with fetch(items) as fetched:
        assert [item for item, _ in fetched] == items
    assert time.monotonic() - begin < 1.0  # 2 s one by one
    assert sorted(slow.asked) == sorted(item.key for item in items)
    assert slow.largest_crowd > 4
    assert _threads() == []


def test_the_window_bounds_what_is_taken_and_fetched(slow: _Slow) -> None:
    """No more items are taken from the source, and no more images asked for, than the window allows."""
    taken: list[int] = []

    def items() -> Iterator[Item]:
        for number, item in enumerate(_remote(*(str(number) for number in range(1000)))):
            taken.append(number)
            yield item

    with fetch(items(), window=8) as fetched:
        iterator = iter(fetched)
        next(iterator)
        time.sleep(0.2)
        assert len(taken) == 8
        assert len(slow.asked) == 8
        next(iterator)
        assert len(taken) == 9
    assert _threads() == []


def test_bytes_bound_the_window_too(slow: _Slow) -> None:
    """Large images are fetched ahead in smaller numbers: what came and what is expected stay within the bound."""
    slow.seconds, slow.data = 0.0, b"x" * 1_000_000
    with fetch(_remote(*(str(number) for number in range(300))), window=64, window_bytes=10_000_000) as fetched:
        iterator = iter(fetched)
        for _ in range(100):
            next(iterator)
        time.sleep(0.1)
        held = len(slow.asked) - 100
    assert 5 <= held <= 12


def test_leaving_early_ends_the_threads(slow: _Slow) -> None:
    """A consumer that stops leaves no thread behind, and waits for no outage."""
    with fetch(_remote(*(str(number) for number in range(100)))) as fetched:
        next(iter(fetched))
        assert _threads() != []
        slow.seconds = 60.0
        time.sleep(0.1)
    assert _threads() == []
    fetched.close()
    assert list(fetched) == []


def test_a_refusal_is_raised_in_its_place(slow: _Slow) -> None:
    """What came before is handed out first; then the build fails."""
    with fetch(_remote("1", "2", "refused", "3")) as fetched:
        outcomes = iter(fetched)
        got = [next(outcomes)[0].key, next(outcomes)[0].key]
        with pytest.raises(StorageError, match="refused"):
            next(outcomes)
    assert got == ["1", "2"]
    assert slow.asked.count("refused") == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_a_reader_does_not_hang_the_consumer(slow: _Slow) -> None:
    """A reader that dies is an error where its image was due, not a wait without end."""
    assert slow.asked == []
    with fetch(_remote("1", "bug")) as fetched, pytest.raises(RuntimeError, match="its reader died"):
        list(fetched)


def test_waiting_is_told(slow: _Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the consumer waits for storage it says so, again and again; otherwise it is silent."""
    monkeypatch.setattr(fetch_module, "_WAIT_S", 0.02)
    slow.seconds = 0.3
    calls: list[int] = []
    with fetch(_remote("1"), on_wait=lambda: calls.append(1)) as fetched:
        list(fetched)
    assert 3 <= len(calls) <= 16


def test_slow_local_reads_move_to_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cold disk or a network mount is read by many at once, a warm disk by nobody but the consumer."""
    items = [Item(str(number), f"{tmp_path}/{number}", "1") for number in range(120)]
    for item in items:
        (tmp_path / item.key).write_bytes(item.key.encode())
    get = LocalStore.get
    readers: set[str] = set()

    def cold(store: LocalStore, path: str, *, stop: threading.Event | None = None) -> bytes:
        readers.add(threading.current_thread().name)
        time.sleep(0.004)
        return get(store, path, stop=stop)

    with fetch(items) as fetched:
        assert len(list(fetched)) == 120
        assert _threads() == []
    monkeypatch.setattr(LocalStore, "get", cold)
    with fetch(items) as fetched:
        assert [data for _, data in fetched] == [item.key.encode() for item in items]
    assert len(readers) > 8
    assert _threads() == []


def test_a_warm_disk_stays_one_though_reads_pause_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has to share its core waits in a read, too; handing reads to threads for that took 5 % of its time."""
    items = [Item(str(number), f"{tmp_path}/{number}", "1") for number in range(120)]
    get = LocalStore.get
    readers: set[str] = set()

    def busy(store: LocalStore, path: str, *, stop: threading.Event | None = None) -> bytes:
        readers.add(threading.current_thread().name)
        if int(path.rpartition("/")[2]) % 20 == 5:
            time.sleep(0.008)
        return get(store, path, stop=stop)

    for item in items:
        (tmp_path / item.key).write_bytes(b"")
    monkeypatch.setattr(LocalStore, "get", busy)
    with fetch(items) as fetched:
        assert len(list(fetched)) == 120
    assert readers == {"MainThread"}
