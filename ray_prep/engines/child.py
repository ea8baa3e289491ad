"""A worker process as its parent sees it, and the rule for units whose process dies."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from ray_prep.errors import UnitsFailed
from ray_prep.messages import Failure, Fault, Tick
from ray_prep.pipe import Receiver, send
from ray_prep.spawn import spawn

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from ray_prep.messages import Order, UnitRef
    from ray_prep.receipt import Receipt

# The first attempt may go wrong by no fault of a picture; three more, each with every picture on its own, settle it.
MAX_DEATHS = 4
# A unit that says nothing for so much longer than one picture may take is stuck.
_PATIENCE_S = 30.0


class Child:
    """One worker process, started again after it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._replies: Receiver | None = None
        self._folder = ""
        self._work = b""
        self._is_closed = False

    def start(self) -> None:
        """Start the process if there is none: ahead of the first unit, as it takes a second."""
        if self._process is None and not self._is_closed:
            self._folder = tempfile.mkdtemp(prefix="ray_prep-")
            self._process = spawn("ray_prep.worker", self._folder)
            assert self._process.stdout is not None
            self._replies = Receiver(self._process.stdout.fileno())
            self._work = b""

    def run(self, order: Order, ref: UnitRef, notify: Callable[[Tick], None], deaths: int = 0) -> Receipt | Failure:
        """Run one unit to its end, through as many attempts as the rule allows.

        The first attempt is the ordinary one; when the process dies or stalls in it, the next puts every picture into a process of its
        own, where what kills is found and rejected. A fourth death fails the unit.

        Args:
            order: What the units of its build share.
            ref: The unit.
            notify: Is given the unit's ticks.
            deaths: How often it killed its process elsewhere.
        """
        while deaths < MAX_DEATHS and not self._is_closed:
            outcome = self._attempt(order, ref, notify, is_isolated=deaths > 0)
            if outcome is None:
                deaths += 1
                continue
            if isinstance(outcome, Fault):
                error = outcome.error or UnitsFailed(f"unit {ref.unit_id}: {outcome.trace.strip().splitlines()[-1]}")
                return Failure(ref.unit_id, error, outcome.trace)
            return outcome
        msg = f"unit {ref.unit_id} ({ref.split}, {ref.rows} items) ended its process {deaths} times; is there enough memory for a worker?"
        return Failure(ref.unit_id, UnitsFailed(msg))

    def _attempt(self, order: Order, ref: UnitRef, notify: Callable[[Tick], None], *, is_isolated: bool) -> Receipt | Fault | None:
        """Run one unit once; None if the process died or had to be ended."""
        try:
            stdin, replies = self._ready(order)
            send(stdin, (ref, is_isolated))
            while True:
                message: Any = replies.receive(order.item_deadline_s + _PATIENCE_S)
                if not isinstance(message, Tick):
                    return message  # type: ignore[no-any-return]
                notify(message)
        except (EOFError, BrokenPipeError, TimeoutError):
            self.kill()
            return None

    def _ready(self, order: Order) -> tuple[IO[bytes], Receiver]:
        """Return the pipes of a process that has the order."""
        # Not the build's id: `normalize: dataset` runs twice in a build, the second time with the constants of the first.
        if self._work not in {b"", order.work}:
            self.kill()
        self.start()
        if self._process is None or self._replies is None or self._process.stdin is None:  # closed meanwhile
            raise BrokenPipeError
        if self._work != order.work:
            send(self._process.stdin, order.work)
            self._work = order.work
        return self._process.stdin, self._replies

    def close(self) -> None:
        """End the process, whatever it is doing, for good; a `run` in another thread returns at once."""
        self._is_closed = True
        process = self._process
        if process is not None:
            process.kill()

    def kill(self) -> None:
        """End the process, whatever it is doing; what it was writing is nowhere visible, and the next unit starts another."""
        process, self._process, self._replies = self._process, None, None
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
