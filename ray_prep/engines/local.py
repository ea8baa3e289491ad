"""Units in child processes of this one, or in this process itself."""

from __future__ import annotations

import threading
import traceback
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, ClassVar

from ray_prep.engines.child import Attempt, Child, failed
from ray_prep.errors import UnitsFailed
from ray_prep.messages import Failure, Fault, Tick, UnitRef
from ray_prep.process import settle_process
from ray_prep.receipt import Receipt
from ray_prep.unit import run_unit
from ray_prep.worker import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ray_prep.work import Work


# Starting one takes a core a second, which a source of few units would not pay back.
_STARTED_AHEAD = 8


class Local:
    """This machine alone.

    Its processes start at once, beside the listing of the source, and serve all passes of a build.

    Args:
        workers: Child processes; 0 runs units in this process.
    """

    name: ClassVar[str] = "local"

    def __init__(self, workers: int) -> None:
        self._children = [Child() for _ in range(workers)]
        for child in self._children[:_STARTED_AHEAD]:
            child.start()

    @property
    def workers(self) -> int:
        """Child processes at the most."""
        return len(self._children)

    def run(self, work: Work, refs: Iterable[UnitRef], notify: Callable[[Tick], None]) -> Iterator[Receipt | Failure]:
        refs = list(refs)
        if not self._children:
            return run_here(work, refs, notify)
        return run_in_children(work, refs, notify, self._children[: max(1, len(refs))])

    def caution(self) -> None:
        """Return None: this machine is here."""
        return

    def close(self) -> None:
        for child in self._children:
            child.kill()


def run_here(work: Work, refs: Iterable[UnitRef], notify: Callable[[Tick], None]) -> Iterator[Receipt | Failure]:
    """Run units one after the other in this process: for debuggers, and where no process may be started.

    A picture that kills its process kills this one.
    """
    settle_process()
    for ref in refs:
        try:
            outcome = answer(ref.unit_id, partial(run_unit, work, ref, notify))
        except MemoryError:
            error = UnitsFailed(f"unit {ref.unit_id}: out of memory; with --workers 1 the picture that needs so much is found and rejected")
            yield Failure(ref.unit_id, error)
            continue
        yield failed(outcome) if isinstance(outcome, Fault) else outcome


def run_in_children(
    work: Work, refs: Iterable[UnitRef], notify: Callable[[Tick], None], children: Sequence[Child]
) -> Iterator[Receipt | Failure]:
    """Run units in child processes; receipts come in the order in which units finish.

    A caller who leaves the loop before its end ends the children; what they had not finished is nowhere visible.
    """
    waiting = SimpleQueue[UnitRef | None]()
    for ref in refs:
        waiting.put(ref)
    outcomes = SimpleQueue[Receipt | Failure | Tick | None]()
    order = work.order()

    def serve(child: Child) -> None:
        try:
            for outcome in child.run(order, map(Attempt, iter(waiting.get, None)), outcomes.put):
                outcomes.put(outcome)
        except Exception as error:  # noqa: BLE001  a thread's end: no process can be started, no folder made
            outcomes.put(Failure("", UnitsFailed(f"a worker process cannot be run: {error}"), traceback.format_exc()))
        finally:
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
        if running:
            with suppress(Empty):  # a thread may take the last one at the same moment
                while True:
                    waiting.get_nowait()
            for child in children:
                waiting.put(None)
                child.close()
        for thread in threads:
            thread.join(timeout=10)
        if running:
            for child in children:
                child.kill()  # `close` only told them; a thread that had ended already waits for none
