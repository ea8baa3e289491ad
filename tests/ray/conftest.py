"""One Ray for the whole run: a head of its own, with the dashboard that takes jobs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Head:
    """A running head node.

    Args:
        address: What a driver joins.
        jobs: Where jobs are submitted.
    """

    address: str
    jobs: str


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _of_group(group: int) -> set[int]:
    """Return the processes of a session that still run."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == group and fields[0] != "Z":
                found.add(int(folder.name))
    return found


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A head node with two CPUs and the dashboard; all of its processes are gone after the run."""
    port, dashboard, client = _free_ports(3)
    # The path of Ray's sockets may have 107 bytes at most.
    folder = f"/tmp/rp{os.getpid()}"
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}", "--num-cpus=2"]
    command += [
        f"--dashboard-port={dashboard}",
        "--dashboard-host=127.0.0.1",
        "--include-dashboard=true",
        f"--ray-client-server-port={client}",
    ]
    command += ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}", "--disable-usage-stats", "--object-store-memory=200000000"]
    environment = {name: value for name, value in os.environ.items() if name not in {"RAY_ADDRESS", "RAY_JOB_ID"}}
    log = tmp_path_factory.mktemp("ray") / "start.out"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True, env=environment)
    made = Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}")
    try:
        for _ in range(600):
            if process.poll() is not None:
                pytest.fail(f"the head ended at once: {log.read_text()[-2000:]}")
            try:
                with _DIRECT.open(f"{made.jobs}/api/version", timeout=2):
                    break
            except urllib.error.HTTPError:  # it is there, and wants the token
                break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail(f"the head does not answer: {log.read_text()[-2000:]}")
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        end = time.monotonic() + 10
        while (left := _of_group(process.pid)) and time.monotonic() < end:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
        shutil.rmtree(folder, ignore_errors=True)
