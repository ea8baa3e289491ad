"""The build as a Ray job: it joins the cluster that runs it and ends with its exit code."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from shlex import quote
from typing import Any

import pytest

from ray_prep.build import build

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"),
]

ENTRY = Path(__file__).parents[2] / "jobs" / "build.py"


def submitted(client: Any, command: str) -> str:
    """Submit a job; a head that answers may still wait for the agent that starts jobs."""
    for _ in range(60):
        try:
            return str(client.submit_job(entrypoint=command, entrypoint_num_cpus=0))
        except RuntimeError as error:
            if "No available agent" not in str(error):
                raise
            time.sleep(0.5)
    pytest.fail("the head's agent did not come up")


def run_job(head: Any, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int | None, str]:
    """Submit `jobs/build.py` with arguments, wait for it, and return its exit code and its log."""
    from ray.job_submission import JobSubmissionClient

    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    client = JobSubmissionClient(head.jobs)
    command = " ".join(map(quote, [sys.executable, str(ENTRY), *arguments]))
    job = submitted(client, command)
    end = time.monotonic() + 200
    while not client.get_job_status(job).is_terminal():
        assert time.monotonic() < end, client.get_job_logs(job)
        time.sleep(0.3)
    return client.get_job_info(job).driver_exit_code, client.get_job_logs(job)


def test_a_job_builds_on_the_cluster_it_runs_on(collection: Any, head: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 0, the report in the job's log and in `--json`, the same bytes as a local build; again: nothing to do."""
    build(collection.recipe(), workers=0)
    target, report = collection.home / "job", collection.home / "report.json"
    file = collection.file(target)
    code, log = run_job(head, str(file), "--json", str(report), monkeypatch=monkeypatch)
    assert code == 0, log
    assert f"{target}: version 0 is published" in log
    assert json.loads(report.read_text())["engine"] == "ray"
    assert collection.shards() == collection.shards(target)
    code, log = run_job(head, str(file), monkeypatch=monkeypatch)
    assert code == 0, log
    assert "nothing to do, version 0 is up to date" in log


@pytest.mark.parametrize(
    ("sections", "code", "what"),
    [
        ({"preprocess": [{"resise": {"short_side": 32}}]}, 2, "unknown transform 'resise'; did you mean 'resize'?"),
        ({"source": {"uri": "/no/such/folder"}}, 3, "/no/such/folder"),
        ({"checks": {"max_rejected": 0}}, 1, "2 of 42 images were rejected"),
    ],
)
def test_a_job_ends_with_the_builds_exit_code(
    collection: Any, head: Any, monkeypatch: pytest.MonkeyPatch, sections: dict[str, Any], code: int, what: str
) -> None:
    """A wrong recipe is 2, a missing source 3, a refused build 1, each with its line in the log and no traceback of ours."""
    found, log = run_job(head, str(collection.file(**sections)), monkeypatch=monkeypatch)
    assert found == code, log
    assert what in log
    assert "Traceback" not in log
