"""Web servers: who does not answer, who refuses, and who just has nothing there."""

from __future__ import annotations

import http.server
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from ray_prep.errors import StorageError
from ray_prep.storage import Patience, StorageOptions, Stores, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

HTTP = StorageOptions(allow_http=True)
HASTY = Patience(connect_s=1, stall_s=1, retry_s=0.3)


class _Statuses(http.server.BaseHTTPRequestHandler):
    """Answers with the status that a path names; `no-head` answers HEAD with 405 and GET with 200."""

    asked: list[str]

    def _answer(self, status: int) -> None:
        self.asked.append(f"{self.command} {self.path}")
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self._answer(405 if self.path == "/no-head" else self._status())

    def do_GET(self) -> None:
        self._answer(self._status())

    def _status(self) -> int:
        name = self.path.strip("/")
        return int(name) if name.isdecimal() else 200

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Web servers of a test are asked directly."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,no-such-host.invalid")


@pytest.fixture
def asked() -> list[str]:
    """What the web server was asked."""
    return []


@pytest.fixture
def site(asked: list[str], serve: Callable[[Any], str]) -> str:
    """A web server that answers with any status."""
    return serve(type("_Site", (_Statuses,), {"asked": asked}))


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield f"http://127.0.0.1:{holder.getsockname()[1]}"


def test_who_does_not_answer_is_not_an_empty_place(closed: str) -> None:
    """No connection and no such host are faults of the place, whatever is asked for."""
    for root, why in ((closed, "connection refused"), ("http://no-such-host.invalid", "nobody knows this name")):
        store = open_store(root, HTTP, patience=HASTY)
        with pytest.raises(StorageError, match=f"{root}/a.jpg: {root} does not answer .{why}"):
            store.stat("a.jpg")
        with pytest.raises(StorageError, match="does not answer"):
            store.get("a.jpg")
        with pytest.raises(StorageError, match="does not answer"):
            list(store.list())


def test_what_a_web_server_says_of_a_file(site: str) -> None:
    """404 and 410: nothing is there; 401 and 403: a refusal; 503 may pass, and ends patience; a HEAD that is not allowed: no answer."""
    store = open_store(site, HTTP, patience=HASTY)
    assert store.stat("404") is None
    assert store.stat("410") is None
    assert store.stat("no-head") is not None
    for status in (401, 403):
        with pytest.raises(StorageError, match=f"refuses access .{status}"):
            store.stat(str(status))
    with pytest.raises(StorageError, match=r"is not able to answer .503.*tried for"):
        store.stat("503")


def test_an_address_that_is_none_is_told_at_once() -> None:
    """A port that cannot be is not insisted on."""
    begin = time.monotonic()
    with pytest.raises(StorageError, match=r"http://127.0.0.1:99999/a.jpg: Port out of range"):
        open_store("http://127.0.0.1:99999", HTTP).get("a.jpg")
    assert time.monotonic() - begin < 5


def test_a_server_without_tls_is_none_for_https(site: str) -> None:
    """It is told at once: what has no certificate now will have none in a minute."""
    root = site.replace("http://", "https://")
    with pytest.raises(StorageError, match=f"{root}/a.jpg: {root} is no server that TLS trusts"):
        open_store(root).get("a.jpg")


@pytest.mark.slow
def test_greeting_is_over_soon(closed: str, silent: str) -> None:
    """A closed port, and a server that is silent: each is told within 15 s."""
    for root in (closed, silent):
        begin = time.monotonic()
        with pytest.raises(StorageError, match=f"{root}/a.jpg.* does not answer"):
            Stores(HTTP).greet([f"{root}/a.jpg"])
        assert time.monotonic() - begin < 15


def test_any_answer_does_for_a_greeting(site: str, asked: list[str]) -> None:
    """A signed address may allow GET alone, a server may have nothing at its root: it is there; each is asked once."""
    for name in ("404", "403", "no-head", "a.jpg"):
        asked.clear()
        stores = Stores(HTTP)
        stores.greet([f"{site}/{name}", f"{site}/other.jpg", "/a/local.jpg"])
        stores.greet([f"{site}/third.jpg"])
        assert {line.split()[1] for line in asked} == {f"/{name}"}
    open_store(site, HTTP).check()


def test_one_dead_host_of_many_is_found(site: str, closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, and those that are slow to answer are not waited for."""
    monkeypatch.setattr("ray_prep.storage.remote.PROMPT", HASTY)
    with pytest.raises(StorageError, match=f"{closed}/b.jpg: {closed} does not answer"):
        Stores(HTTP).greet([f"{site}/a.jpg", f"{closed}/b.jpg", f"{closed}/c.jpg"])


def test_greeting_has_an_end(site: str, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No more hosts are greeted than the bound allows, nor for longer."""
    names = [site, site.replace("127.0.0.1", "127.0.0.2"), site.replace("127.0.0.1", "localhost")]
    monkeypatch.setattr("ray_prep.storage._MOST_GREETED", 1)
    Stores(HTTP).greet(f"{name}/a.jpg" for name in names)
    assert len(asked) == 1
    monkeypatch.setattr("ray_prep.storage._GREETING_S", 0.0)
    Stores(HTTP).greet([f"{site}/b.jpg"])
    assert len(asked) == 1
