"""Units as rows of a Ray Dataset (the only module that imports ray).

A row goes out as a reference and comes back as a receipt; no pixel crosses the object store. In the Ray task the unit runs in a child
process, as it does without Ray: a picture that kills its process is then seen by the task, and never starts Ray's own, endless retries.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import pickle
import secrets
import signal
import socket
import sys
import threading
from contextlib import suppress
from itertools import islice
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import ray
from ray.exceptions import RayError
from ray.util.client import ray as client

from ray_prep.engines import THROUGH_CLIENT
from ray_prep.engines.child import Attempt, Child
from ray_prep.errors import RecipeError, StorageError, UnitsFailed
from ray_prep.messages import Failure, Tick
from ray_prep.platform import made_with
from ray_prep.receipt import WORK_FOLDER, Receipt
from ray_prep.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ray_prep.messages import Order, UnitRef
    from ray_prep.storage import Store
    from ray_prep.work import Work

# The driver pays 0.9 ms a block and keeps a window's rows; a window is enough for a thousand cores.
_WINDOW_UNITS = 4096
# What a node takes along when it is lost: a task's units run again, though those that were done are put under the same names.
_MAX_UNITS_A_TASK = 16
# What a worker was measured to need at most, so that Ray does not put more of them on a node than it has memory for.
_TASK_MEMORY_BYTES = 768 << 20
_CONNECT_S = 10.0
# The program is in one of two folders there.
_MONITOR = b"/ray/autoscaler/"
# A marker a running unit: few at a time, so that listing them is cheap.
ATTEMPTS_FOLDER = f"{WORK_FOLDER}/attempts"

# The child of this Ray worker, kept for the next unit: starting one costs a second.
_child: Child | None = None


class RayData:
    """A Ray cluster: the one at an address, the surrounding one, or a local one of its own.

    It connects in the background, so that a local Ray comes up while the source is listed.

    Args:
        address: A cluster's address; None joins a surrounding one or starts a local Ray.
        workers: Most tasks at a time; None for as many as the cluster has CPUs.
    """

    name: ClassVar[str] = "ray"

    def __init__(self, address: str | None, workers: int | None) -> None:
        self._workers = workers
        self._is_ours = not ray.is_initialized()
        self._error: Exception | None = None
        self._is_connected = threading.Event()
        self._is_closing = threading.Event()
        self._connection = threading.Thread(target=self._connect, args=(address,), daemon=True)
        self._connection.start()
        # Ray Data takes as long to import as Ray's first processes take to start.
        importlib.import_module("ray.data")
        _hush(logging.getLogger("ray.data"))

    def _connect(self, address: str | None) -> None:
        try:
            connect(address, self._workers)
        except Exception as error:  # noqa: BLE001  raised again in the thread that waits for the connection
            self._error = error
        self._is_connected.set()
        # Linux ends a local Ray's processes with the *thread* that started them (Ray 2.60 asks for that with PR_SET_PDEATHSIG).
        self._is_closing.wait()

    def caution(self) -> str | None:
        """Return that the cluster has no CPU yet: its first node may be on its way, and a build waits for one without end."""
        self._is_connected.wait()
        if self._error is None and ray.cluster_resources().get("CPU", 0) < 1:
            return "the Ray cluster has no CPU; the build waits until a node with one joins it"
        return None

    def run(self, work: Work, refs: Iterable[UnitRef], notify: Callable[[Tick], None]) -> Iterator[Receipt | Failure]:
        self._is_connected.wait()
        if self._error is not None:
            raise self._error
        _take_back_termination()
        yield from run_on_ray(work.order(), refs, notify, self._workers)
        _clear_attempts(work)

    def close(self) -> None:
        """Leave the cluster; a Ray that was there before stays."""
        self._is_connected.wait()
        if self._is_ours:
            _end_monitor()
            ray.shutdown()
        self._is_closing.set()


def connect(address: str | None, workers: int | None) -> None:
    """Join the cluster that is there, or start a local Ray; with Ray's own noise off.

    Args:
        address: A cluster's address; None joins a surrounding one (RAY_ADDRESS, a Ray job) or starts a local Ray.
        workers: CPUs of a local Ray; None for all.

    Raises:
        UnitsFailed: No cluster answers at the address.
        RecipeError: This process has joined one through Ray Client.
    """
    if client.is_connected():
        raise RecipeError(f"this process is a Ray client (ray://…): {THROUGH_CLIENT}")
    if not ray.is_initialized():
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        place = address or os.environ.get("RAY_ADDRESS") or ("auto" if os.environ.get("RAY_JOB_ID") else None)
        # Without an address Ray would join whatever was last started on this machine, alive or not, and refuse `num_cpus`.
        options |= {"address": place} if place else {"address": "local", "num_cpus": workers, "include_dashboard": False}
        if place:
            _check_answers(place)
        try:
            ray.init(**options)
        except Exception as error:  # noqa: BLE001  a bare one where its first processes do not come up in time
            hint = "; is it a Ray of this version, and does RAY_AUTH_TOKEN or ~/.ray/auth_token hold its token?" if place else ""
            what = f"no Ray cluster answers at {place}" if place else "no local Ray came up"
            msg = f"{what}: {str(error).splitlines()[0] if str(error) else type(error).__name__}{hint}"
            raise UnitsFailed(msg) from None
        if not place:
            # Each worker's child process starts now, beside Ray Data's own actors and the listing.
            warm = ray.remote(num_cpus=1)(warm_up)
            for _ in range(workers or os.cpu_count() or 1):
                warm.remote()


def _end_monitor() -> None:
    """End the autoscaler's monitor of a local Ray, which has no nodes to add: `ray.shutdown` waits a second for it in vain (Ray 2.60)."""
    with suppress(OSError):  # not Linux, or it has just ended
        for listed in Path("/proc/self/task").glob("*/children"):
            for process in listed.read_text(encoding="ascii").split():
                if _MONITOR in Path(f"/proc/{process}/cmdline").read_bytes():
                    os.kill(int(process), signal.SIGKILL)


def _take_back_termination() -> None:
    """Have SIGTERM end a build as it does without Ray, whose handler (2.60) prints a dozen lines of its stack first."""
    handler = signal.getsignal(signal.SIGTERM)
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _hush(logger: logging.Logger) -> None:
    """Keep Ray Data's messages out of the terminal; its own log file stays.

    `import ray.data` installs this handler; set before the import it would be undone (Ray 2.60).
    """
    for handler in logger.handlers:
        if type(handler).__name__ == "PlainRayHandler":
            handler.setLevel(logging.CRITICAL)


def _check_answers(place: str) -> None:
    """Ask within seconds whether anybody listens at an address: `ray.init` insists for more than eight minutes (Ray 2.60).

    Raises:
        UnitsFailed: Nobody does.
    """
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal():  # `auto`, `local`
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise UnitsFailed(f"no Ray cluster answers at {place}: {error}") from None


def run_on_ray(order: Order, refs: Iterable[UnitRef], notify: Callable[[Tick], None], workers: int | None) -> Iterator[Receipt | Failure]:
    """Run units as Ray tasks; receipts come in the order in which units finish.

    Args:
        order: What the units share.
        refs: The units.
        notify: Is told of each unit as it finishes; Ray passes on nothing from within one.
        workers: Most tasks at a time; None for as many as the cluster has CPUs.
    """
    from ray.data import DataContext, TaskPoolStrategy, from_items  # noqa: PLC0415  see RayData; and a worker's child starts sooner without

    context = DataContext.get_current()
    before = (context.enable_progress_bars, context.print_on_execution_start, context.execution_no_progress_timeout_s)
    block_bytes = context.target_max_block_size
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # the default ends a build that waits for capacity for 30 minutes
    context.target_max_block_size = 1  # a receipt leaves its task as soon as it is there
    slots = max(1, min(int(ray.cluster_resources().get("CPU", 1)), workers or sys.maxsize))
    waiting = iter(refs)
    try:
        while window := list(islice(waiting, _WINDOW_UNITS)):
            tasks = [{"refs": pickle.dumps(part)} for part in deal(window, slots)]
            # Blocks of one row, described here; `from_arrow` has a worker look at each first, and waits for it (Ray Data 2.60).
            dataset = from_items(tasks, override_num_blocks=len(tasks)).map_batches(
                run_units,
                fn_kwargs={"order": order},
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=1,
                memory=_TASK_MEMORY_BYTES,
                # More than there are tasks and Ray warns the user.
                compute=TaskPoolStrategy(size=min(workers, len(tasks))) if workers else TaskPoolStrategy(),
            )
            for row in dataset.iter_rows():
                outcome: Receipt | Failure = pickle.loads(row["outcome"])
                if isinstance(outcome, Receipt):
                    notify(Tick(outcome.items, len(outcome.rejections), outcome.source_bytes))
                yield outcome
    except RayError as error:  # its messages are pages long, and the first line says it
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnitsFailed(f"Ray failed: {first}; the same command goes on from there") from error
    finally:
        context.enable_progress_bars, context.print_on_execution_start, context.execution_no_progress_timeout_s = before
        context.target_max_block_size = block_bytes


def deal(refs: Sequence[UnitRef], slots: int) -> Iterator[Sequence[UnitRef]]:
    """Yield the units of each task, in order: many at first, then fewer and fewer, so that all slots end at about the same time.

    A slot waits a fifth of a second for its next task (Ray Data 2.60), so tasks should be long; the last should be short.
    (Guided self-scheduling: Polychronopoulos and Kuck, IEEE Transactions on Computers 36, 1987.)

    Args:
        refs: The units, the largest first.
        slots: Tasks at a time.
    """
    start = 0
    while start < len(refs):
        end = start + min(_MAX_UNITS_A_TASK, ceil((len(refs) - start) / (2 * slots)))
        yield refs[start:end]
        start = end


def run_units(batch: Any, order: Order) -> Iterator[dict[str, list[bytes]]]:
    """Run the units of one task; a failed one is a result too, as an exception would end the whole dataset."""
    for outcome in _run(order, [ref for part in batch.column("refs") for ref in pickle.loads(part.as_py())]):
        yield {"outcome": [pickle.dumps(outcome)]}


def _run(order: Order, refs: list[UnitRef]) -> Iterator[Receipt | Failure]:
    node = ray.get_runtime_context().get_node_id()
    if differences := _differences(made_with(), order.made_with):
        msg = f"node {node} would make other bytes than the build's driver: {differences}; run on nodes of one CPU level and one image"
        yield from (Failure(ref.unit_id, UnitsFailed(msg)) for ref in refs)
        return

    def attempts(store: Store) -> Iterator[Attempt]:
        for ref in refs:
            prefix = f"{ATTEMPTS_FOLDER}/{order.build_id}-{ref.unit_id}"
            deaths = _deaths(store, prefix)
            marker = f"{prefix}-{secrets.token_hex(4)}-{node}"
            store.put(marker, b"", is_lasting=False)
            yield Attempt(ref, deaths)
            # Asked for the next: this one is made, or failed, and no death from now on is its fault.
            store.delete(marker)

    try:
        yield from child().run(order, attempts(open_store(order.uri, order.storage_options)), lambda _tick: None)
    except StorageError as error:  # it stops the build, whatever else this task was to do
        yield Failure(refs[0].unit_id, error)


def _differences(here: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    names = sorted(name for name in here.keys() | wanted.keys() if here.get(name) != wanted.get(name))
    return ", ".join(f"{name} {here.get(name)} instead of {wanted.get(name)}" for name in names)


def _deaths(store: Store, prefix: str) -> int:
    """Count the attempts of this build that died although their node lived: Ray ran the task again for each.

    A node that is gone took its attempts with it by no fault of theirs. The count stands in storage, as nothing else outlives the task.
    """
    markers = [entry.path for entry in store.list(ATTEMPTS_FOLDER) if entry.path.startswith(prefix)]
    if not markers:
        return 0
    alive = {known["NodeID"] for known in ray.nodes() if known["Alive"]}
    return sum(marker.rpartition("-")[2] in alive for marker in markers)


def _clear_attempts(work: Work) -> None:
    """Remove the markers that nodes left when they went: all units have ended, and none is looked for again."""
    with suppress(StorageError):
        for entry in list(work.store.list(ATTEMPTS_FOLDER)):
            if entry.path.startswith(f"{ATTEMPTS_FOLDER}/{work.build_id}-"):
                work.store.delete(entry.path)


def warm_up() -> None:
    """Start this Ray worker's child process ahead of its first unit."""
    child().start()


def child() -> Child:
    """Return this Ray worker's child process."""
    global _child
    if _child is None:
        _child = Child()
        atexit.register(_child.kill)
    return _child
