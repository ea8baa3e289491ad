"""The local engine: any number of workers makes the same bytes, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ray_prep.build import Silence, build
from ray_prep.engines import local, open_engine
from ray_prep.engines.child import Child
from ray_prep.engines.local import Local, run_here, run_in_children
from ray_prep.errors import RecipeError, UnitsFailed
from ray_prep.messages import Failure, Tick
from ray_prep.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Iterator

COPIES = {"copies": 2, "transforms": [{"RandomCrop": {"height": 24, "width": 24}}, {"HorizontalFlip": {"p": 0.5}}]}


def children() -> set[int]:
    """Return the processes this one has started and that still run."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            pids = (task / "children").read_text().split()
        except FileNotFoundError:  # the thread has ended
            continue
        for pid in pids:
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            except FileNotFoundError:
                continue
            if state != "Z":
                found.add(int(pid))
    return found


@pytest.mark.slow
def test_the_number_of_workers_changes_no_byte(collection: Any) -> None:
    """In this process, in one worker and in three: equal lists of (shard, sha256), and equal rejections."""
    found = {}
    for workers in (0, 1, 3):
        target = collection.home / f"by{workers}"
        report = build(collection.recipe(target, augment=COPIES), engine="local", workers=workers)
        found[workers] = (collection.shards(target), collection.reasons(target), report.rows, report.decoded)
    assert found[0] == found[1] == found[3]
    assert len(found[0][0]) > 2
    assert children() == set()


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_no_byte(collection: Any) -> None:
    """SIGKILL to a worker in the middle of a unit: it is tried again, and all is as it would have been."""
    build(collection.recipe(augment=COPIES), workers=0)

    class Killing(Silence):
        killed = 0

        def tick(self, tick: Tick) -> None:
            if tick.items and not self.killed:
                self.killed = min(children())
                os.kill(self.killed, signal.SIGKILL)

    killing = Killing()
    report = build(collection.recipe(collection.home / "killed", augment=COPIES), workers=2, progress=killing)
    assert killing.killed
    assert report.accepted == 40
    assert collection.shards() == collection.shards(collection.home / "killed")


@pytest.mark.slow
def test_leaving_the_loop_ends_the_workers(collection: Any) -> None:
    """A caller that takes one receipt and leaves has no worker left."""
    work, refs = collection.planned()
    outcomes = run_in_children(work, refs, lambda _tick: None, [Child(), Child()])
    assert isinstance(next(iter(outcomes)), Receipt)
    assert children()
    outcomes.close()
    assert children() == set()


@pytest.mark.timeout(30)
def test_leaving_the_loop_waits_for_no_unit(collection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may take the last unit in the moment in which the loop is left: nobody waits for another."""

    class Raced(local.SimpleQueue[Any]):
        def empty(self) -> bool:
            was_empty = super().empty()
            while not super().empty():
                self.get()
            return was_empty

    class Busy(Child):
        def run(self, *_: Any) -> Iterator[Any]:
            yield Failure("first", UnitsFailed("first"))
            left.wait(20)

    left = threading.Event()
    monkeypatch.setattr(local, "SimpleQueue", Raced)
    work, refs = collection.planned()
    outcomes = run_in_children(work, refs, lambda _tick: None, [Busy()])
    assert next(iter(outcomes)).unit_id == "first"
    closing = threading.Thread(target=outcomes.close, daemon=True)
    closing.start()
    left.set()
    closing.join(10)
    assert not closing.is_alive()


@pytest.mark.slow
def test_a_failed_build_leaves_no_worker(collection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When `build` raises, its workers are gone already, though the error is still held."""
    (collection.home / "fatal_step.py").write_text(
        "import os, time\nif os.environ.get('FATAL'):\n    raise SystemError('no driver')\n\ndef fn(image, rng):\n    return image\n"
    )
    recipe = collection.recipe(preprocess=[{"python": {"call": "fatal_step:fn"}}, {"resize": {"short_side": 32}}])
    monkeypatch.setenv("FATAL", "1")
    with pytest.raises(RecipeError, match="SystemError: no driver") as caught:
        build(recipe, workers=2)
    assert children() == set()
    assert caught.value

    class Stopping(Silence):
        def tick(self, tick: Tick) -> None:  # noqa: ARG002  the protocol's
            raise RuntimeError("the caller's own fault")

    monkeypatch.delenv("FATAL")
    with pytest.raises(RuntimeError, match="the caller's own fault") as other:
        build(recipe, workers=2, progress=Stopping())
    assert children() == set()
    assert other.value


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_worker_that_cannot_be_started_fails_the_build(collection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk below TMPDIR, no process to be had: the build ends with it, and waits for nobody."""

    def refuse(_self: Child) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Child, "start", refuse)
    with pytest.raises(UnitsFailed, match=r"a worker process cannot be run: .*No space left on device"):
        build(collection.recipe(), workers=2)


@pytest.mark.slow
def test_crashes_are_tried_three_times_in_all(collection: Any) -> None:
    """`crashed` is counted in attempts and tried again in the next two builds, then no more; --retry-rejected does."""
    (collection.home / "crashing_step.py").write_text(
        "import os\n\ndef fn(image, rng):\n    if image.shape[0] == 48 and image.shape[1] == 94:\n        os.abort()\n    return image\n"
    )
    from PIL import Image

    Image.new("RGB", (94, 48)).save(collection.folder / "cat" / "bad.png")
    sections: dict[str, Any] = {
        "source": {"uri": str(collection.folder), "include": ["cat/*.png"]},
        "preprocess": [{"python": {"call": "crashing_step:fn"}}, {"resize": {"short_side": 32}}],
        "split": None,
        "checks": {"max_rejected": 0.5},
    }
    seen = []
    for _ in range(4):
        report = build(collection.recipe(**sections), workers=1)
        rejections = {row["key"]: row for row in collection.rejections()}
        seen.append((report.version, report.decoded > 0, rejections["cat/bad.png"]["reason"], rejections["cat/bad.png"]["attempts"]))
    assert seen == [(0, True, "crashed", 1), (1, True, "crashed", 2), (2, True, "crashed", 3), (2, False, "crashed", 3)]
    assert len(collection.rows()) == report.accepted > 0
    assert build(collection.recipe(**sections), workers=1, retry_rejected=True).decoded > 0


def test_units_in_this_process(collection: Any) -> None:
    """`workers: 0` yields a receipt a unit; a bug is a Failure with its traceback, too little memory one that says what to do."""
    work, refs = collection.planned()
    outcomes = list(Local(0).run(work, refs, lambda _tick: None))
    assert {outcome.unit_id for outcome in outcomes} == {ref.unit_id for ref in refs}
    assert all(isinstance(outcome, Receipt) for outcome in outcomes)


@pytest.mark.parametrize(
    ("error", "what"), [(ZeroDivisionError("x"), "ZeroDivisionError: x"), (MemoryError(), "out of memory; with --workers 1")]
)
def test_what_stops_a_unit_in_this_process(collection: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, what: str) -> None:
    """A bug fails its unit and names it; so does memory that does not suffice."""
    work, refs = collection.planned()

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ray_prep.engines.local.run_unit", fail)
    (outcome,) = run_here(work, refs[:1], lambda _tick: None)
    assert isinstance(outcome, Failure)
    assert what in str(outcome.error)
    assert refs[0].unit_id in str(outcome.error)
    assert outcome.error.exit_code == 4


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("spark", None, None), "--engine spark: there is no such engine; there are auto, local, ray"),
        (("locla", None, None), "did you mean 'local'"),
        (("local", None, -1), "--workers -1: should be 0"),
        (("local", "x:1", None), "--address x:1: is a Ray cluster's"),
        (("ray", None, 0), "--workers 0: runs in this process"),
    ],
)
def test_engines_that_cannot_be_had(arguments: tuple[str, str | None, int | None], what: str) -> None:
    """A wrong engine, or arguments that contradict it, is exit 2 before any work."""
    with pytest.raises(RecipeError, match=what.replace("(", r"\(")):
        open_engine(*arguments)


def test_auto_is_local_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that names a cluster: this machine, one worker a core it may use."""
    for name in ("RAY_ADDRESS", "RAY_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    engine = open_engine("auto")
    try:
        assert isinstance(engine, Local)
        assert engine.workers == len(os.sched_getaffinity(0))
        assert len(children()) == min(engine.workers, 8)  # started ahead
    finally:
        engine.close()
    assert children() == set()
