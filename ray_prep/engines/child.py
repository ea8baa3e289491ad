"""A worker process as its parent sees it, and the rule for units whose process dies."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from ray_prep.errors import UnitsFailed
from ray_prep.messages import Failure, Fault, Made, Tick, UnitRef
from ray_prep.pipe import Receiver, send
from ray_prep.spawn import spawn

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from ray_prep.messages import Order
    from ray_prep.receipt import Receipt

# The first attempt may go wrong by no fault of a picture; three more, each with every picture on its own, settle it.
MAX_DEATHS = 4
# A unit that says nothing for so much longer than one picture may take is stuck.
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """A unit that is to be run.

    Args:
        ref: The unit.
        deaths: How often it killed its process so far.
    """

    ref: UnitRef
    deaths: int = 0


class Child:
    """One worker process, started again after it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._replies: Receiver | None = None
        self._folder = ""
        self._work = b""
        self._is_closed = False
        self._is_broken = False

    def start(self) -> None:
        """Start the process if there is none: ahead of the first unit, as it takes a second."""
        if self._process is None and not self._is_closed:
            self._folder = tempfile.mkdtemp(prefix="ray_prep-")
            self._process = spawn("ray_prep.worker", self._folder)
            assert self._process.stdout is not None
            self._replies = Receiver(self._process.stdout.fileno())
            self._work = b""

    def run(self, order: Order, attempts: Iterator[Attempt], notify: Callable[[Tick], None]) -> Iterator[Receipt | Failure]:
        """Run units to their ends, through as many attempts as the rule allows, and yield what became of each.

        The next one is taken when the process has made the one before, which may still be on its way into storage. The first attempt is
        the ordinary one; when the process dies or stalls in it, the next puts every picture into a process of its own, where what kills is
        found and rejected. A fourth death fails the unit. However the caller leaves the loop, nothing runs on.

        Args:
            order: What the units of its build share.
            attempts: The units.
            notify: Is given the units' ticks.
        """
        making: Attempt | None = None
        publishing: Attempt | None = None
        again: list[Attempt] = []
        if self._process is not None and self._process.poll() is not None:
            self.kill()  # it went with the thread that had started it, without work
        try:
            while True:
                if making is None and (making := again.pop() if again else next(attempts, None)):
                    if making.deaths >= MAX_DEATHS or self._is_closed:
                        yield _given_up(making)
                        making = None
                        continue
                    self._send(order, making)
                if making is None and publishing is None:
                    return
                try:
                    message = self._receive(order)
                except (EOFError, TimeoutError):
                    self.kill()
                    # What was made already is as innocent as before, unless nothing else was going on.
                    if making is None and publishing is not None:
                        making, publishing = publishing, None
                    again += [Attempt(making.ref, making.deaths + 1)] if making else []
                    again += [publishing] if publishing else []
                    making = publishing = None
                    continue
                if isinstance(message, Tick):
                    notify(message)
                elif isinstance(message, Made):
                    making, publishing = None, making
                else:
                    if publishing and publishing.ref.unit_id == message.unit_id:
                        publishing = None
                    else:
                        making = None
                    yield failed(message) if isinstance(message, Fault) else message
        finally:
            if making or publishing:
                self.kill()

    def _send(self, order: Order, attempt: Attempt) -> None:
        """Give the process a unit; if it is gone, `_receive` will tell."""
        try:
            send(self._ready(order), (attempt.ref, attempt.deaths > 0))
        except BrokenPipeError:
            self._is_broken = True

    def _receive(self, order: Order) -> Any:
        """Wait for the process's next message.

        Raises:
            EOFError: It is gone.
            TimeoutError: It said nothing for longer than any picture may take.
        """
        if self._replies is None or self._is_broken:
            raise EOFError
        return self._replies.receive(order.item_deadline_s + _PATIENCE_S)

    def _ready(self, order: Order) -> IO[bytes]:
        """Return the pipe to a process that has the order.

        Raises:
            BrokenPipeError: It is gone.
        """
        # Not the build's id: `normalize: dataset` runs twice in a build, the second time with the constants of the first.
        if self._work not in {b"", order.work}:
            self.kill()
        self.start()
        if self._process is None or self._process.stdin is None:  # closed meanwhile
            raise BrokenPipeError
        if self._work != order.work:
            send(self._process.stdin, order.work)
            self._work = order.work
        return self._process.stdin

    def close(self) -> None:
        """End the process, whatever it is doing, for good; a `run` in another thread returns at once."""
        self._is_closed = True
        process = self._process
        if process is not None:
            process.kill()

    def kill(self) -> None:
        """End the process, whatever it is doing; what it was writing is nowhere visible, and the next unit starts another."""
        process, self._process, self._replies, self._is_broken = self._process, None, None, False
        if process is None:
            return
        process.kill()
        process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        for pipe in (process.stdin, process.stdout):
            # A message that was being flushed when the process died cannot be flushed now.
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()


def _given_up(attempt: Attempt) -> Failure:
    ref, deaths = attempt.ref, attempt.deaths
    msg = f"unit {ref.unit_id} ({ref.split}, {ref.rows} items) ended its process {deaths} times; is there enough memory for a worker?"
    return Failure(ref.unit_id, UnitsFailed(msg))


def failed(fault: Fault) -> Failure:
    """Return what a unit's fault is for its build."""
    error = fault.error or UnitsFailed(f"unit {fault.unit_id}: {fault.trace.strip().splitlines()[-1]}")
    return Failure(fault.unit_id, error, fault.trace)
