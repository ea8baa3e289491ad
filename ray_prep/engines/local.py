"""Units in child processes of this one, or in this process itself."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, ClassVar

from ray_prep.engines.child import Child
from ray_prep.errors import UnitsFailed
from ray_prep.messages import Failure, Fault, Tick, UnitRef
from ray_prep.process import settle_process
from ray_prep.receipt import Receipt
from ray_prep.worker import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ray_prep.work import Work


@dataclass(frozen=True)
class Local:
    """This machine alone.

    Args:
        workers: Child processes; 0 runs units in this process.
    """

    workers: int
    name: ClassVar[str] = "local"

    def run(self, work: Work, refs: Iterable[UnitRef], notify: Callable[[Tick], None]) -> Iterator[Receipt | Failure]:
        refs = list(refs)
        if self.workers == 0:
            return run_here(work, refs, notify)
        return run_in_children(work, refs, notify, min(self.workers, max(1, len(refs))))

    def close(self) -> None:
        """Nothing outlives a run."""


def run_here(work: Work, refs: Iterable[UnitRef], notify: Callable[[Tick], None]) -> Iterator[Receipt | Failure]:
    """Run units one after the other in this process: for debuggers, and where no process may be started.

    A picture that kills its process kills this one.
    """
    settle_process()
    for ref in refs:
        try:
            outcome = answer(work, ref, notify, is_isolated=False)
        except MemoryError:
            error = UnitsFailed(f"unit {ref.unit_id}: out of memory; with --workers 1 the picture that needs so much is found and rejected")
            yield Failure(ref.unit_id, error)
            continue
        if isinstance(outcome, Fault):
            fault = outcome.error or UnitsFailed(f"unit {ref.unit_id}: {outcome.trace.strip().splitlines()[-1]}")
            yield Failure(ref.unit_id, fault, outcome.trace)
        else:
            yield outcome


def run_in_children(work: Work, refs: Iterable[UnitRef], notify: Callable[[Tick], None], workers: int) -> Iterator[Receipt | Failure]:
    """Run units in `workers` child processes; receipts come in the order in which units finish.

    However the caller leaves the loop, the children are ended; what they had not finished is nowhere visible.
    """
    waiting = SimpleQueue[UnitRef | None]()
    for ref in refs:
        waiting.put(ref)
    outcomes = SimpleQueue[Receipt | Failure | Tick | None]()
    order = work.order()
    children = [Child() for _ in range(workers)]

    def serve(child: Child) -> None:
        while (ref := waiting.get()) is not None:
            outcomes.put(child.run(order, ref, outcomes.put))
        child.kill()
        outcomes.put(None)

    threads = [threading.Thread(target=serve, args=(child,), daemon=True) for child in children]
    for thread in threads:
        waiting.put(None)
        thread.start()
    running = len(threads)
    try:
        while running:
            match outcomes.get():
                case None:
                    running -= 1
                case Tick() as tick:
                    notify(tick)
                case outcome:
                    yield outcome
    finally:
        while not waiting.empty():
            waiting.get()
        for child in children:
            waiting.put(None)
            child.close()
        for thread in threads:
            thread.join(timeout=10)
