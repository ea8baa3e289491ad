"""The Ray engine against the local one: the same bytes, whatever dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_prep.build import Silence, build
from ray_prep.errors import RecipeError, UnitsFailed
from ray_prep.messages import UnitRef

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ray_prep.messages import Tick

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"),
]

COPIES = {
    "copies": 2,
    "transforms": [{"RandomCrop": {"height": 24, "width": 24}}, {"HorizontalFlip": {"p": 0.5}}, {"RandomBrightnessContrast": {"p": 0.5}}],
}
STEP = """
import os, time

def fn(image, rng):
    if image.shape[:2] == (50, 51):
        os.abort()
    if image.shape[:2] == (50, 52) and not os.path.exists({marker!r}):
        open({marker!r}, "w").close()
        os._exit(9)
    time.sleep({sleeps})
    return image
"""

COUNTING = """
import os, time
from ray_prep.storage.local import LocalStore

put_file = LocalStore.put_file

def slowly(self, path, local_path):
    time.sleep(0.5)
    put_file(self, path, local_path)

def fn(image, rng):
    if os.path.exists({attempts!r}):
        LocalStore.put_file = slowly
        with open({seen!r}, "a") as file:
            print(len(os.listdir({attempts!r})), file=file)
    return image
"""


@pytest.fixture(scope="module")
def cluster(head: Any) -> Iterator[str]:
    """The head, joined once for the tests of this module, as a notebook would be."""
    import ray

    ray.init(address=head.address, log_to_driver=False, logging_level="ERROR")
    yield head.address
    ray.shutdown()


def on_ray(collection: Any, name: str, progress: Any = None, **sections: Any) -> Any:
    """Build on two Ray workers."""
    return build(collection.recipe(collection.home / name, **sections), engine="ray", workers=2, progress=progress)


@pytest.mark.usefixtures("cluster")
def test_ray_and_local_make_the_same_bytes(collection: Any) -> None:
    """Equal shards by name and bytes, equal rejections, equal counts; a second build on Ray does nothing; the cluster stays."""
    import ray

    local = build(collection.recipe(augment=COPIES), workers=0)
    report = on_ray(collection, "ray", augment=COPIES)
    assert collection.shards() == collection.shards(collection.home / "ray")
    assert collection.reasons() == collection.reasons(collection.home / "ray")
    names = ("listed", "accepted", "rejected", "rejected_by_reason", "rows", "shards", "bytes", "decoded", "recipe_fingerprint")
    assert [getattr(report, name) for name in names] == [getattr(local, name) for name in names]
    assert (report.engine, local.engine) == ("ray", "local")
    again = build(collection.recipe(augment=COPIES), engine="ray", workers=2)
    assert (again.decoded, again.is_published) == (0, False)
    assert ray.is_initialized()
    assert not list((collection.home / "ray" / "_ray_prep" / "work").glob("attempts/*"))


@pytest.mark.usefixtures("cluster")
def test_progress_and_measured_constants(collection: Any) -> None:
    """Two passes over Ray give the constants of a local build; ticks add up to what was decoded."""

    class Counting(Silence):
        items = 0

        def tick(self, tick: Tick) -> None:
            self.items += tick.items

    finish = [{"center_crop": {"height": 24, "width": 24}}, {"normalize": {"mean": "dataset", "std": "dataset"}}]
    counting = Counting()
    report = on_ray(collection, "ray", counting, finish=finish)
    build(collection.recipe(finish=finish), workers=0)
    assert collection.shards() == collection.shards(collection.home / "ray")
    assert counting.items > report.decoded == 42


@pytest.mark.usefixtures("cluster")
def test_a_picture_that_kills_its_process(collection: Any) -> None:
    """It is rejected as `crashed`; one that killed only once is in; its neighbours are as they would be; Ray's worker lives on."""
    import numpy as np
    from PIL import Image

    for width in (51, 52):
        Image.fromarray(np.zeros((50, width, 3), np.uint8)).save(collection.folder / "cat" / f"bad{width}.png")
    marker = str(collection.home / "died")
    (collection.home / "ray_step.py").write_text(STEP.format(marker=marker, sleeps=0))
    preprocess = [{"python": {"call": "ray_step:fn"}}, {"resize": {"short_side": 32}}]
    report = on_ray(collection, "ray", preprocess=preprocess)
    assert collection.reasons(collection.home / "ray")["cat/bad51.png"] == "crashed"
    assert ("cat/bad52.png", 0) in collection.rows(collection.home / "ray")
    assert report.accepted == 41


def _workers_of(name: str) -> set[int]:
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if name.encode() in command and int(folder.name) != os.getpid():
                found.add(int(folder.name))
    return found


@pytest.mark.usefixtures("cluster")
def test_a_ray_worker_that_is_killed(collection: Any) -> None:
    """SIGKILL to a Ray worker in the middle of a unit: Ray runs the task again, and the bytes are the same."""
    (collection.home / "slow_ray_step.py").write_text(STEP.format(marker="/", sleeps=0.05))
    preprocess = [{"python": {"call": "slow_ray_step:fn"}}, {"resize": {"short_side": 32}}]
    build(collection.recipe(preprocess=preprocess), workers=0)
    killed: list[int] = []

    class Killing(Silence):
        def tick(self, tick: Tick) -> None:
            if tick.items and not killed:
                for pid in sorted(_workers_of("ray::")):
                    children = [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]
                    if children and b"run_units" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        killed.append(pid)
                        os.kill(pid, signal.SIGKILL)
                        return

    report = on_ray(collection, "ray", Killing(), preprocess=preprocess, output={"shard_mb": 0.01})
    build(collection.recipe(collection.home / "small", preprocess=preprocess, output={"shard_mb": 0.01}), workers=0)
    assert killed
    assert report.accepted == 40
    assert collection.shards(collection.home / "small") == collection.shards(collection.home / "ray")


@pytest.mark.usefixtures("cluster")
def test_a_unit_on_its_way_into_storage_is_no_suspect(collection: Any) -> None:
    """Only what is being made is marked as attempted: a Ray worker that dies takes the unit it was publishing along by no fault of its."""
    attempts, seen = collection.home / "ray" / "_ray_prep" / "work" / "attempts", collection.home / "seen"
    (collection.home / "counting_step.py").write_text(COUNTING.format(attempts=str(attempts), seen=str(seen)))
    preprocess = [{"python": {"call": "counting_step:fn"}}, {"resize": {"short_side": 32}}]
    report = build(collection.recipe(collection.home / "ray", preprocess=preprocess, output={"shard_mb": 0.01}), engine="ray", workers=1)
    assert report.shards > 4
    assert set(seen.read_text().split()) == {"1"}
    assert not list(attempts.iterdir())


def test_a_builds_markers_go_with_it(collection: Any) -> None:
    """A node that was lost could not remove its own; those of another build are that one's."""
    from ray_prep.engines import ray_data

    work, _ = collection.planned()
    own, others = f"{ray_data.ATTEMPTS_FOLDER}/{work.build_id}-unit-1-node", f"{ray_data.ATTEMPTS_FOLDER}/other-unit-1-node"
    for path in (own, others):
        work.store.put(path, b"")
    ray_data._clear_attempts(work)
    assert [entry.path for entry in work.store.list(ray_data.ATTEMPTS_FOLDER)] == [others]


@pytest.mark.usefixtures("cluster")
def test_a_wrong_recipe_is_told_on_ray_too(collection: Any) -> None:
    """What contradicts the published dataset is exit 2 on Ray as well."""
    on_ray(collection, "ray")
    with pytest.raises(RecipeError, match="--rebuild"):
        on_ray(collection, "ray", split={"train": 1})


@pytest.mark.usefixtures("cluster")
def test_an_error_of_rays_own_is_one_line(collection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 4: nothing is wrong with the recipe, and what is done is kept."""
    from ray.exceptions import RaySystemError

    def lose(_: Any) -> None:
        raise RaySystemError("the object store is full\nand pages of what to do about it")

    monkeypatch.setattr("ray.data.Dataset.iter_rows", lose)
    with pytest.raises(UnitsFailed, match=r"^Ray failed: .*the object store is full; the same command goes on from there$"):
        on_ray(collection, "ray")


def test_a_cluster_without_a_cpu_is_told_of(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build waits there without end, and does not do so in silence."""
    from ray_prep.engines.ray_data import RayData

    engine = RayData(cluster, None)
    assert engine.caution() is None
    monkeypatch.setattr("ray.cluster_resources", lambda: {"memory": 1.0})
    assert engine.caution() == "the Ray cluster has no CPU; the build waits until a node with one joins it"
    engine.close()


def test_no_child_is_left(collection: Any, cluster: str) -> None:
    """When the cluster is left, the workers' child processes go with them."""
    on_ray(collection, "ray")
    import ray

    ray.shutdown()
    try:
        end = time.monotonic() + 30
        while (left := _workers_of("from ray_prep.worker import main")) and time.monotonic() < end:
            time.sleep(0.2)
        assert left == set()
    finally:
        ray.init(address=cluster, log_to_driver=False, logging_level="ERROR")


def test_the_monitor_of_a_local_ray_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of our child processes the autoscaler's monitor is ended, and no other."""
    from ray_prep.engines import ray_data

    monkeypatch.setattr(ray_data, "_MONITOR", b"/here/monitor.py")
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    monitor, other = (subprocess.Popen([*sleep, name]) for name in ("/here/monitor.py", "/here/other.py"))
    try:
        while b"/here" not in Path(f"/proc/{monitor.pid}/cmdline").read_bytes():
            time.sleep(0.01)
        ray_data._end_monitor()
        assert monitor.wait(10) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process in (monitor, other):
            process.kill()
            process.wait()


def test_no_cluster_at_the_address(collection: Any, cluster: str) -> None:
    """An address where nobody answers is exit 4, within half a minute, in one line."""
    import ray

    ray.shutdown()
    try:
        began = time.monotonic()
        with pytest.raises(UnitsFailed, match=r"no Ray cluster answers at 127\.0\.0\.1:9") as caught:
            build(collection.recipe(), engine="ray", address="127.0.0.1:9")
        assert time.monotonic() - began < 40
        assert len(str(caught.value).splitlines()) == 1
    finally:
        ray.init(address=cluster, log_to_driver=False, logging_level="ERROR")


def test_a_client_of_a_cluster_is_told_what_runs(collection: Any, cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    """Ray Data does not run through Ray Client (2.60): a script that has joined so gets an error of ours, and no AttributeError."""
    from ray.util.client import ray as client

    monkeypatch.setattr(client, "is_connected", lambda: True)
    with pytest.raises(RecipeError, match=r"this process is a Ray client .* submit a job"):
        build(collection.recipe(), engine="ray")


def test_a_ray_that_was_started_here_before_is_left_alone(collection: Any, tmp_path: Path) -> None:
    """Without an address a Ray of its own does the work, whatever Ray remembers of this machine: here one that is gone."""
    remembered = Path(f"/tmp/rq{os.getpid()}")  # the path of Ray's sockets may have 107 bytes at most
    (remembered / "ray").mkdir(parents=True)
    (remembered / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")
    environment = {name: value for name, value in os.environ.items() if name not in {"RAY_ADDRESS", "RAY_JOB_ID"}}
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "ray_prep.cli", "build", str(collection.file(collection.home / "own")), "--engine", "ray"]
    try:
        subprocess.run([*command, "--workers", "1", "--json", str(report)], env={**environment, "RAY_TMPDIR": str(remembered)}, check=True)
    finally:
        shutil.rmtree(remembered, ignore_errors=True)
    build(collection.recipe(), workers=0)
    assert json.loads(report.read_text())["engine"] == "ray"
    assert collection.shards() == collection.shards(collection.home / "own")


@settings(max_examples=100, deadline=None)
@given(count=st.integers(0, 3000), slots=st.integers(1, 200))
def test_every_unit_is_dealt_once_in_tasks_that_become_smaller(count: int, slots: int) -> None:
    """No unit is lost or dealt twice; no task is longer than the one before; the last are single units."""
    from ray_prep.engines.ray_data import deal

    refs = [UnitRef(str(number), "make", "train", "plan", number, 1) for number in range(count)]
    tasks = list(deal(refs, slots))
    assert [ref for task in tasks for ref in task] == refs
    sizes = [len(task) for task in tasks]
    assert sizes == sorted(sizes, reverse=True)
    assert not sizes or sizes[-1] == 1
    assert max(sizes, default=0) <= 16
