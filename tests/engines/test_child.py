"""A worker process that dies, stalls or runs out of memory: what its unit leaves, and what it takes along."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from ray_prep.engines import child as child_module
from ray_prep.engines.child import Attempt, Child
from ray_prep.errors import StorageError, UnitsFailed
from ray_prep.messages import Failure, Tick
from ray_prep.receipt import Receipt
from ray_prep.work import read_items

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

STEP = """
import os, time
import numpy as np

if os.environ.get("DIES_AT_IMPORT"):
    os._exit(3)

def fn(image, rng):
    match image.shape[:2]:
        case (50, 51):
            os.abort()
        case (50, 52):
            time.sleep(60)
        case (50, 53):
            np.empty(3 << 30, np.uint8)
        case (50, 54):
            np.empty(1 << 60, np.uint8)
        case (50, 55):
            os._exit(7)
        case (50, 56):
            raise ValueError("not this one")
        case _:
            time.sleep(float(os.environ.get("SLEEPS", "0")))
    return image
"""

# Within the worker alone: the step's module is imported by who plans the unit, too.
SLOW_STORAGE = """
import os, time
from ray_prep.storage.local import LocalStore

put_file = LocalStore.put_file

def slowly(self, path, local_path):
    time.sleep({seconds})
    put_file(self, path, local_path)

def fn(image, rng):
    LocalStore.put_file = slowly
    if image.shape[:2] == (50, 51):
        os.abort()
    return image
"""


@pytest.fixture
def bad(collection: Any, request: pytest.FixtureRequest) -> Any:
    """The collection, with pictures (by width) that a step of the user's dies of."""
    for width in getattr(request, "param", ()):
        path = collection.folder / "cat" / f"bad{width}.png"
        Image.fromarray(np.zeros((50, width, 3), np.uint8)).save(path)
    (collection.home / "deadly_step.py").write_text(STEP)
    return collection


@pytest.fixture
def child() -> Iterator[Child]:
    """A worker process that is gone after the test."""
    made = Child()
    yield made
    made.kill()


def sections(**more: Any) -> dict[str, Any]:
    """Return a recipe with the deadly step first, and everything in one unit."""
    return {
        "preprocess": [{"python": {"call": "deadly_step:fn"}}, {"resize": {"short_side": 32}}],
        "output": {"shard_mb": 1},
        "split": None,
        **more,
    }


def run(child: Child, work: Any, ref: Any, notify: Any = lambda _tick: None) -> Receipt | Failure:
    """Run one unit, with nobody watching unless told."""
    (outcome,) = child.run(work.order(), iter([Attempt(ref)]), notify)
    return outcome


@pytest.mark.parametrize("bad", [(51, 52, 53, 54, 55, 56)], indirect=True)
def test_what_kills_is_rejected_and_its_neighbours_live(bad: Any, child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash, a hang, too much memory and an exit are found one by one; what was made is what it would be without them."""
    monkeypatch.setattr(child_module, "_PATIENCE_S", 8.0)  # the warm process takes a second to start, more on a busy machine
    work, (ref,) = bad.planned(**sections())
    receipt = run(child, replace(work, item_deadline_s=2.0), replace(ref, attempts=1))
    assert isinstance(receipt, Receipt)
    found = {rejection.key: rejection for rejection in receipt.rejections}
    assert {key: rejection.reason for key, rejection in found.items()} == {
        "cat/bad51.png": "crashed",
        "cat/bad52.png": "timed_out",
        "cat/bad53.png": "crashed",
        "cat/bad54.png": "crashed",
        "cat/bad55.png": "crashed",
        "cat/bad56.png": "transform_failed",
        "cat/cut_short.jpg": "truncated",
        "dog/web_page.jpg": "not_an_image",
    }
    assert "SIGABRT" in found["cat/bad51.png"].message
    assert found["cat/bad52.png"].message == "not done after 2 s"
    assert "more memory than" in found["cat/bad53.png"].message
    assert "exit code 7" in found["cat/bad55.png"].message
    passing = {"crashed", "timed_out"}
    assert {(rejection.reason in passing, rejection.attempts) for rejection in receipt.rejections} == {(True, 2), (False, 1)}
    assert sum(made.images for made in receipt.shards) == 40
    for path in (bad.folder / "cat").glob("bad*.png"):
        path.unlink()
    other, (same,) = bad.planned(bad.home / "without", **sections())
    alone = run(child, other, same)
    assert isinstance(alone, Receipt)
    assert [made.shard for made in alone.shards] == [made.shard for made in receipt.shards]


def test_a_process_that_always_dies_fails_the_unit(bad: Any, child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """After four deaths the unit is named and given up: no fault of a picture, no endless retries."""
    work, (ref,) = bad.planned(**sections())
    monkeypatch.setenv("DIES_AT_IMPORT", "1")
    outcome = run(child, work, ref)
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, UnitsFailed)
    assert f"unit {ref.unit_id} (train, 42 items) ended its process 4 times" in str(outcome.error)


def test_an_error_of_ours_comes_back_as_itself(bad: Any, child: Child) -> None:
    """A plan that is gone is a storage error with its exit code, and the process goes on to the next unit."""
    work, (ref,) = bad.planned(**sections())
    outcome = run(child, work, replace(ref, plan_file="_ray_prep/work/gone.parquet"))
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, StorageError)
    assert "the build's plan is gone" in str(outcome.error)
    assert "Traceback" in outcome.trace
    assert isinstance(run(child, work, ref), Receipt)


def test_other_work_of_the_same_build_is_other_work(bad: Any, child: Child) -> None:
    """One process serves two passes of a build, each with the work it was given: constants that the first measured reach the second."""
    finish = [{"center_crop": {"height": 24, "width": 24}}, {"normalize": {"mean": "dataset", "std": "dataset"}}]
    work, (ref,) = bad.planned(**sections(finish=finish))
    measured = run(child, work, replace(ref, kind="measure", unit_id="1" * 40))
    assert isinstance(measured, Receipt)
    frozen = replace(work, frozen=replace(work.frozen, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)))
    assert frozen.build_id == work.build_id
    assert isinstance(run(child, frozen, ref), Receipt)


def test_closing_ends_it_at_once_and_leaves_nothing(bad: Any, child: Child, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Close from another thread ends a unit in the middle, within a second: no process, no file in the temporary folder."""
    monkeypatch.setenv("SLEEPS", "0.05")
    work, (ref,) = bad.planned(**sections())
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    ticks: list[Tick] = []
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(run(child, work, ref, ticks.append)))
    thread.start()
    end = time.monotonic() + 60
    while not ticks and time.monotonic() < end:
        time.sleep(0.02)
    assert any(temporary.rglob("*.parquet"))
    began = time.monotonic()
    child.close()
    thread.join()
    assert time.monotonic() - began < 5
    assert isinstance(outcomes[0], Failure)
    assert list(temporary.iterdir()) == []
    assert not (bad.target / "_ray_prep" / "work" / f"{ref.unit_id}.json").exists()


def test_a_worker_goes_with_its_parent(bad: Any) -> None:
    """A parent that is killed takes its workers along: nobody works on for nobody."""
    work, (ref,) = bad.planned(**sections())
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:  # only system calls and our own code from here on
        made = Child()
        made.start()
        run(made, work, ref)
        assert made._process is not None
        os.write(writing, str(made._process.pid).encode())
        time.sleep(60)
        os._exit(0)
    worker = int(os.read(reading, 20))
    os.kill(worker, 0)
    os.kill(parent, 9)
    os.waitpid(parent, 0)
    end = time.monotonic() + 10
    while time.monotonic() < end and os.path.exists(f"/proc/{worker}") and b"Z" not in _state(worker):
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{worker}") or b"Z" in _state(worker)
    os.close(reading)
    os.close(writing)


def _state(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0]
    except FileNotFoundError:
        return b"Z"


def test_the_next_unit_is_made_while_one_is_published(bad: Any, child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage that takes its time keeps nobody from the next picture; receipts come in order, and ticks say that somebody waits."""
    (bad.home / "slow_storage.py").write_text(SLOW_STORAGE.format(seconds=3))
    monkeypatch.setattr(child_module, "_PATIENCE_S", 1.5)
    work, refs = bad.planned(preprocess=[{"python": {"call": "slow_storage:fn"}}, {"resize": {"short_side": 32}}])
    work = replace(work, item_deadline_s=1.0)
    assert len(refs) >= 3
    seen: list[str] = []

    def attempts() -> Iterator[Attempt]:
        for ref in refs[:3]:
            seen.append(f"taken {ref.unit_id}")
            yield Attempt(ref)

    waits: list[Tick] = []
    for outcome in child.run(work.order(), attempts(), lambda tick: waits.append(tick) if tick.is_waiting else None):
        assert isinstance(outcome, Receipt)
        seen.append(f"done {outcome.unit_id}")
    first, second, third = (ref.unit_id for ref in refs[:3])
    assert seen == [f"taken {first}", f"taken {second}", f"done {first}", f"taken {third}", f"done {second}", f"done {third}"]
    assert waits


@pytest.mark.parametrize("bad", [(51,)], indirect=True)
def test_what_is_being_published_when_its_process_dies_is_made_again(bad: Any, child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit on its way into storage goes the ordinary way again, the one that killed goes picture by picture; both end well."""
    (bad.home / "slow_storage.py").write_text(SLOW_STORAGE.format(seconds=1))
    work, refs = bad.planned(preprocess=[{"python": {"call": "slow_storage:fn"}}, {"resize": {"short_side": 32}}])
    deadly = next(ref for ref in refs if "cat/bad51.png" in {item.key for item in read_items(work, ref)})
    harmless = next(ref for ref in refs if ref != deadly)
    modes: dict[str, list[bool]] = {}
    sent = child_module.send

    def watching(pipe: Any, message: Any) -> None:
        if isinstance(message, tuple):
            modes.setdefault(message[0].unit_id, []).append(message[1])
        sent(pipe, message)

    monkeypatch.setattr(child_module, "send", watching)
    outcomes = {outcome.unit_id: outcome for outcome in child.run(work.order(), map(Attempt, [harmless, deadly]), lambda _tick: None)}
    assert modes == {harmless.unit_id: [False, False], deadly.unit_id: [False, True]}
    rejected = outcomes[deadly.unit_id]
    assert isinstance(rejected, Receipt)
    assert "crashed" in {rejection.reason for rejection in rejected.rejections}
    assert isinstance(outcomes[harmless.unit_id], Receipt)
