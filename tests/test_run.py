"""One build on its way: what is asked before units are run."""

from __future__ import annotations

import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from ray_prep import build
from ray_prep.cli import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

# Nobody asks for these images' versions: one stands in the manifest, the others are said never to change.
COLUMNS = "uri,id,version"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Web servers of a test are asked directly."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


class _Site(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _serving(folder: Path) -> tuple[ThreadingHTTPServer, Thread]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: _Site(*given, directory=str(folder)))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    return server, thread


@pytest.fixture
def site(collection: Any) -> Iterator[str]:
    """A web server over the pictures."""
    server, thread = _serving(collection.folder)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def source(collection: Any, lines: list[str]) -> dict[str, Any]:
    """Return the `source` section for a manifest whose images' versions nobody has to be asked for."""
    return {**collection.manifest([COLUMNS, *lines]), "versions": "never_changes", "storage_options": {"allow_http": True}}


@pytest.mark.parametrize(
    "command",
    [
        ["build", "--engine", "local", "--workers", "1"],
        pytest.param(["build", "--engine", "ray"], marks=[pytest.mark.ray, pytest.mark.timeout(300)]),
        ["plan"],
        ["preview", "-o", "HOME/sheet.png"],
    ],
)
def test_a_web_server_that_does_not_answer(
    collection: Any, site: str, closed: str, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """One of two hosts is dead, and nobody is asked for a version: exit 3 within 30 s, with a line that names the host and no secret."""
    lines = [f"{site}/{name},{name}," for name in ("cat/00.png", "owl/02.jpg")]
    lines += [f"{closed.replace('//', '//me:hunter22@')}/a.jpg?sig=hunter22,a,v1", f"{closed}/b.jpg,b,"]
    path = collection.file(source=source(collection, lines))
    begin = time.monotonic()
    assert run([command[0], str(path), *(argument.replace("HOME", str(collection.home)) for argument in command[1:])]) == 3
    assert time.monotonic() - begin < 30
    error = capsys.readouterr().err
    said = [line for line in error.splitlines() if line.startswith("ray-prep: ")]
    assert len(said) == 1
    assert f"{closed} does not answer" in said[0]
    assert "hunter22" not in error
    assert not (collection.target / "_delta_log").exists()


def test_what_is_published_needs_no_server(collection: Any) -> None:
    """A host that is gone since its images were published stops no build that has nothing to fetch from it."""
    server, thread = _serving(collection.folder)
    old = [f"http://127.0.0.1:{server.server_port}/{name},{name}," for name in ("cat/00.png", "owl/02.jpg")]
    build(collection.recipe(source=source(collection, old), split=None), workers=0)
    server.shutdown()
    thread.join()
    server.server_close()
    report = build(collection.recipe(source=source(collection, old), split=None), workers=0)
    assert (report.decoded, report.is_published) == (0, False)
    assert run(["plan", str(collection.file(source=source(collection, old), split=None))]) == 0
