"""Units as rows of a Ray Dataset (the only module that imports ray).

A row goes out as a reference and comes back as a receipt; no pixel crosses the object store. In the Ray task the unit runs in a child
process, as it does without Ray: a picture that kills its process is then seen by the task, and never starts Ray's own, endless retries.
"""

from __future__ import annotations

import atexit
import logging
import os
import pickle
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar

import ray
import ray.data
from ray.data import DataContext, TaskPoolStrategy

from ray_prep.engines.child import Child, Failure
from ray_prep.errors import StorageError, UnitsFailed
from ray_prep.platform import cpu_level, library_versions
from ray_prep.receipt import WORK_FOLDER, Receipt
from ray_prep.unit import Tick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ray_prep.work import UnitRef, Work

# The driver pays 0.9 ms a block and keeps a window's rows; a window is enough for a thousand cores.
_WINDOW_UNITS = 4096
_MAX_UNITS_A_TASK = 8
# What a worker was measured to need at most, so that Ray does not put more of them on a node than it has memory for.
_TASK_MEMORY_BYTES = 768 << 20

# The child of this Ray worker, kept for the build's next unit: starting one costs a second.
_child: tuple[str, Child] | None = None


class RayData:
    """A Ray cluster: the one at an address, the surrounding one, or a local one of its own.

    Args:
        address: A cluster's address; None joins a surrounding one or starts a local Ray.
        workers: Most tasks at a time; None for as many as the cluster has CPUs.
    """

    name: ClassVar[str] = "ray"

    def __init__(self, address: str | None, workers: int | None) -> None:
        self._workers = workers
        self._is_ours = connect(address, workers)

    def run(self, work: Work, refs: Iterable[UnitRef], notify: Callable[[Tick], None]) -> Iterator[Receipt | Failure]:
        return run_on_ray(work, refs, notify, self._workers)

    def close(self) -> None:
        """Leave the cluster; a Ray that was there before stays."""
        if self._is_ours:
            ray.shutdown()


def connect(address: str | None, workers: int | None) -> bool:
    """Join the cluster that is there, or start a local Ray; with Ray's own noise off.

    Args:
        address: A cluster's address; None joins a surrounding one (RAY_ADDRESS, a Ray job) or starts a local Ray.
        workers: CPUs of a local Ray; None for all.

    Returns:
        Whether this call connected, so that the caller is to disconnect.

    Raises:
        UnitsFailed: No cluster answers at the address.
    """
    is_ours = not ray.is_initialized()
    if is_ours:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address or os.environ.get("RAY_ADDRESS"):
            options["address"] = address or os.environ["RAY_ADDRESS"]
        else:
            options |= {"num_cpus": workers, "include_dashboard": False}
        try:
            ray.init(**options)
        except (ConnectionError, RuntimeError) as error:
            msg = f"no Ray cluster answers at {options.get('address', 'this machine')}: {str(error).splitlines()[0]}"
            raise UnitsFailed(msg) from None
    # `import ray.data` installs this handler; set before the import it would be undone (Ray 2.60). Ray's own log file stays.
    for handler in logging.getLogger("ray.data").handlers:
        if type(handler).__name__ == "PlainRayHandler":
            handler.setLevel(logging.CRITICAL)
    return is_ours


def run_on_ray(work: Work, refs: Iterable[UnitRef], notify: Callable[[Tick], None], workers: int | None) -> Iterator[Receipt | Failure]:
    """Run units as Ray tasks; receipts come in the order in which units finish.

    Args:
        work: What the units share.
        refs: The units.
        notify: Is told of each unit as it finishes; Ray passes on nothing from within one.
        workers: Most tasks at a time; None for as many as the cluster has CPUs.
    """
    context = DataContext.get_current()
    before = (context.enable_progress_bars, context.print_on_execution_start, context.execution_no_progress_timeout_s)
    block_bytes = context.target_max_block_size
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # the default ends a build that waits for capacity for 30 minutes
    context.target_max_block_size = 1  # a receipt leaves its task as soon as it is there
    slots = max(1, int(ray.cluster_resources().get("CPU", 1)))
    try:
        waiting = iter(refs)
        while window := list(islice(waiting, _WINDOW_UNITS)):
            a_task = min(_MAX_UNITS_A_TASK, max(1, len(window) // (slots * 8)))
            rows = [{"ref": pickle.dumps(ref)} for ref in window]
            dataset = ray.data.from_items(rows, override_num_blocks=ceil(len(rows) / a_task)).map_batches(
                run_units,
                fn_kwargs={"work": work},
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=1,
                memory=_TASK_MEMORY_BYTES,
                compute=TaskPoolStrategy(size=workers) if workers else TaskPoolStrategy(),
            )
            for row in dataset.iter_rows():
                outcome: Receipt | Failure = pickle.loads(row["outcome"])
                if isinstance(outcome, Receipt):
                    notify(Tick(outcome.items, len(outcome.rejections), outcome.source_bytes))
                yield outcome
    finally:
        context.enable_progress_bars, context.print_on_execution_start, context.execution_no_progress_timeout_s = before
        context.target_max_block_size = block_bytes


def run_units(batch: Any, work: Work) -> Iterator[dict[str, list[bytes]]]:
    """Run the units of one task; a failed one is a result too, as an exception would end the whole dataset."""
    for value in batch.column("ref"):
        ref: UnitRef = pickle.loads(value.as_py())
        yield {"outcome": [pickle.dumps(_run(work, ref))]}


def _run(work: Work, ref: UnitRef) -> Receipt | Failure:
    node = ray.get_runtime_context().get_node_id()
    if cpu_level() != work.made_with["cpu_level"]:
        msg = (
            f"node {node} is of CPU level {cpu_level()} and this build makes its bytes on {work.made_with['cpu_level']}; "
            "run it on nodes of one level"
        )
        return Failure(ref.unit_id, UnitsFailed(msg))
    if library_versions().items() - work.made_with.items():
        msg = f"node {node} has other library versions than the build's driver: {_differences(library_versions(), work.made_with)}"
        return Failure(ref.unit_id, UnitsFailed(msg))
    folder = f"{WORK_FOLDER}/attempts/{work.build_id}/{ref.unit_id}"
    try:
        deaths = _deaths(work, folder)
        marker = f"{folder}/{deaths}-{node}"
        work.store.put(marker, b"")
        outcome = child_of(work).run(ref, lambda _tick: None, deaths)
        work.store.delete(marker)
    except StorageError as error:
        return Failure(ref.unit_id, error)
    return outcome


def _differences(here: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version} instead of {wanted.get(name)}" for name, version in here.items() if version != wanted.get(name))


def _deaths(work: Work, folder: str) -> int:
    """Count the attempts of this build that died although their node lived: Ray ran the task again for each.

    A node that is gone took its attempts with it by no fault of theirs. The count stands in storage, as nothing else outlives the task.
    """
    alive = {known["NodeID"] for known in ray.nodes() if known["Alive"]}
    return sum(entry.path.rpartition("-")[2] in alive for entry in work.store.list(folder))


def child_of(work: Work) -> Child:
    """Return this Ray worker's child process for a build."""
    global _child
    if _child is None or _child[0] != work.build_id:
        if _child is not None:
            _child[1].kill()
        _child = (work.build_id, Child(work))
        atexit.register(_child[1].kill)
    return _child[1]
