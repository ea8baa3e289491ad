"""S3 servers for tests: moto in a process of its own, a proxy that fails on demand, and a real one (Ceph RGW)."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from botocore.session import Session as BotoSession

from ray_prep.storage import StorageOptions, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ray_prep.storage import Store

FIXTURE_SCRIPT = Path(__file__).parents[3] / "shared" / "s3" / "rgw_fixture.sh"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class S3Server:
    """A running S3 server, whose bucket names are the tests' own."""

    endpoint: str
    access_key: str = "test"
    secret_key: str = "testsecret"
    buckets: Iterator[int] = field(default_factory=lambda: iter(range(1, 10_000)))

    @property
    def env(self) -> dict[str, str]:
        """What a process needs in its environment to use the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    @property
    def options(self) -> StorageOptions:
        """The same for a recipe; the keys must be in the environment."""
        return StorageOptions(endpoint=self.endpoint, region="us-east-1", allow_http=True)

    def new_bucket(self) -> str:
        """Make an empty bucket and return its name; not done by our own store, which never makes one."""
        name = f"bucket-{os.getpid()}-{next(self.buckets)}"
        session = BotoSession()
        session.set_credentials(self.access_key, self.secret_key)
        session.create_client("s3", endpoint_url=self.endpoint, region_name="us-east-1").create_bucket(Bucket=name)
        return name

    def upload(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        """Put objects into a bucket with our own store; the keys of the server must be in the environment."""
        store = open_store(f"s3://{bucket}", self.options)
        for path, data in objects.items():
            store.put(path, data)

    def upload_folder(self, bucket: str, folder: Path, prefix: str) -> None:
        """Put the files below a folder under a prefix; the keys of the server must be in the environment."""
        store: Store = open_store(f"s3://{bucket}/{prefix}", self.options)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                store.put_file(path.relative_to(folder).as_posix(), str(path))


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if process.poll() is not None:
            pytest.fail(f"the server ended at once with {process.returncode}")
        try:
            with _DIRECT.open(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"{url} does not answer")


@pytest.fixture(scope="session")
def moto_process() -> Iterator[S3Server]:
    """A moto server in a process of its own, for the whole run."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        server = S3Server(f"http://127.0.0.1:{port}")
        _wait_until_it_answers(f"{server.endpoint}/moto-api/", process)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _set_environment(monkeypatch: pytest.MonkeyPatch, env: Mapping[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


@pytest.fixture
def moto_server(moto_process: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The moto server, with the environment set for it (child processes inherit it)."""
    _set_environment(monkeypatch, moto_process.env)
    return moto_process


@dataclass
class Faults:
    """What a proxy does wrong, and what passed through it.

    Rules are tried in order; each is used up after its number of times.
    """

    endpoint: str = ""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    largest_crowd: int = 0
    _rules: list[list[object]] = field(default_factory=list)
    _crowd: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, status: int, *, times: int, method: str = "", key: str = "", code: str = "SlowDown") -> None:
        """Answer that often with a status instead of passing on, where method and key (a regular expression) fit."""
        self._rules.append([times, method, re.compile(key), status, code])

    def drop(self, *, times: int, method: str = "", key: str = "", after_bytes: int = 0) -> None:
        """Close the connection that often, after so many bytes of the answer's body."""
        self._rules.append([times, method, re.compile(key), "drop", after_bytes])

    def reset(self, *, times: int, method: str = "", key: str = "") -> None:
        """Reset the connection that often, instead of closing it."""
        self._rules.append([times, method, re.compile(key), "reset", 0])

    def lose_reply(self, *, times: int, method: str = "", key: str = "") -> None:
        """Pass the request on and close the connection without the answer."""
        self._rules.append([times, method, re.compile(key), "lose", 0])

    def stall(self, seconds: float, *, times: int, method: str = "", key: str = "") -> None:
        """Hold the request back that long, then pass it on."""
        self._rules.append([times, method, re.compile(key), "stall", seconds])

    def gets(self, key: str) -> int:
        """Return how many GETs of a key (`bucket/path`) came."""
        return self.counts["GET", key]

    def of_method(self, method: str) -> int:
        """Return how many requests of a method came."""
        return sum(count for (one, _), count in self.counts.items() if one == method)

    def take(self, method: str, key: str) -> tuple[object, object] | None:
        """Count a request, and return what shall go wrong with it."""
        with self._lock:
            self.counts[method, key] += 1
            self._crowd += 1
            self.largest_crowd = max(self.largest_crowd, self._crowd)
            for rule in self._rules:
                times, wanted, pattern, action, detail = rule
                if times and wanted in {"", method} and pattern.search(key):  # type: ignore[attr-defined]
                    rule[0] = times - 1  # type: ignore[operator]
                    return action, detail
        return None

    def leave(self) -> None:
        """Note that a request is answered."""
        with self._lock:
            self._crowd -= 1


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body go out as two packets otherwise held back for each other.
    disable_nagle_algorithm = True
    faults: Faults
    upstream: tuple[str, int]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        key = unquote(self.path.partition("?")[0]).removeprefix("/")
        fault = self.faults.take(self.command, key)
        try:
            self._answer(body, fault)
        finally:
            self.faults.leave()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass

    def _answer(self, body: bytes, fault: tuple[object, object] | None) -> None:
        action, detail = fault or ("pass", 0)
        if isinstance(action, int):
            content = f"<Error><Code>{detail}</Code></Error>".encode() if self.command != "HEAD" else b""
            self.send_response(action)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        if action == "drop" and not detail:
            self.close_connection = True
            return
        if action == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
            self.close_connection = True
            return
        if action == "stall":
            time.sleep(float(str(detail)))
        upstream = http.client.HTTPConnection(*self.upstream, timeout=30)
        try:
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        if action == "lose":
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(content)))
        self.end_headers()
        if action == "drop":
            self.wfile.write(content[: int(str(detail))])
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(content)


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


def _proxy(endpoint: str) -> Iterator[Faults]:
    host, _, port = endpoint.partition("://")[2].partition(":")
    faults = Faults()
    handler = type("Proxy", (_Proxy,), {"faults": faults, "upstream": (host, int(port))})
    server = _QuietServer(("127.0.0.1", 0), handler)
    faults.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield faults
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def faulty_proxy(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """A proxy before the moto server, with the environment set for it; it passes everything on until told otherwise."""
    for faults in _proxy(moto_server.endpoint):
        monkeypatch.setenv("AWS_ENDPOINT_URL", faults.endpoint)
        yield faults


@pytest.fixture(scope="session")
def ceph_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A Ceph gateway for the whole run; skipped where Ceph is neither unpacked (CEPH_ROOT) nor installed."""
    if not FIXTURE_SCRIPT.exists() or not (os.environ.get("CEPH_ROOT") or shutil.which("radosgw")):
        pytest.skip("needs Ceph: set CEPH_ROOT, or install radosgw, ceph-mon and ceph-osd")
    folder = tmp_path_factory.mktemp("ceph")
    port = free_port()
    command = ["bash", str(FIXTURE_SCRIPT), "start", str(folder), str(port), str(free_port())]
    # Its daemons must not hold pytest's own pipes open.
    with (folder / "start.out").open("wb") as output:
        subprocess.run(command, check=True, stdout=output, stderr=output, stdin=subprocess.DEVNULL, timeout=110)
    try:
        yield S3Server(f"http://127.0.0.1:{port}")
    finally:
        subprocess.run(["bash", str(FIXTURE_SCRIPT), "stop", str(folder)], check=False, timeout=30)


@pytest.fixture
def ceph_server(ceph_process: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The Ceph gateway, with the environment set for it."""
    _set_environment(monkeypatch, ceph_process.env)
    return ceph_process
