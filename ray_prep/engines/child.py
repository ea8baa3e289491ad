"""A worker process as its parent sees it, and the rule for units whose process dies."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from ray_prep.errors import RayPrepError, UnitsFailed
from ray_prep.pipe import Receiver, send
from ray_prep.platform import worker_environment
from ray_prep.process import python_command
from ray_prep.unit import Tick
from ray_prep.worker import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray_prep.receipt import Receipt
    from ray_prep.work import UnitRef, Work

# The first attempt may go wrong by no fault of a picture; three more, each with every picture on its own, settle it.
MAX_DEATHS = 4
# A unit that says nothing for so much longer than one picture may take is stuck.
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A unit that did not finish, as an engine reports it.

    Args:
        unit_id: The unit.
        error: Why, in one of our errors; it ends the build with its exit code.
        trace: A traceback where there is one.
    """

    unit_id: str
    error: RayPrepError
    trace: str = ""


class Child:
    """One worker process, started when first needed and again after it died.

    Args:
        work: What the units share.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._process: subprocess.Popen[bytes] | None = None
        self._replies: Receiver | None = None
        self._is_closed = False

    def run(self, ref: UnitRef, notify: Callable[[Tick], None], deaths: int = 0) -> Receipt | Failure:
        """Run one unit to its end, through as many attempts as the rule allows.

        The first attempt is the ordinary one; when the process dies or stalls in it, the next puts every picture into a process of its
        own, where what kills is found and rejected. A fourth death fails the unit.

        Args:
            ref: The unit.
            notify: Is given the unit's ticks.
            deaths: How often it killed its process elsewhere.
        """
        while deaths < MAX_DEATHS and not self._is_closed:
            outcome = self._attempt(ref, notify, is_isolated=deaths > 0)
            if outcome is None:
                deaths += 1
                continue
            if isinstance(outcome, Fault):
                error = outcome.error or UnitsFailed(f"unit {ref.unit_id}: {outcome.trace.strip().splitlines()[-1]}")
                return Failure(ref.unit_id, error, outcome.trace)
            return outcome
        msg = f"unit {ref.unit_id} ({ref.split}, {ref.rows} items) ended its process {deaths} times; is there enough memory for a worker?"
        return Failure(ref.unit_id, UnitsFailed(msg))

    def _attempt(self, ref: UnitRef, notify: Callable[[Tick], None], *, is_isolated: bool) -> Receipt | Fault | None:
        """Run one unit once; None if the process died or had to be ended."""
        try:
            stdin, replies = self._started()
            send(stdin, (ref, is_isolated))
            while True:
                message: Any = replies.receive(self._work.item_deadline_s + _PATIENCE_S)
                if not isinstance(message, Tick):
                    return message  # type: ignore[no-any-return]
                notify(message)
        except (EOFError, BrokenPipeError, TimeoutError):
            self.kill()
            return None

    def _started(self) -> tuple[IO[bytes], Receiver]:
        if self._process is None or self._replies is None:
            self._process = subprocess.Popen(
                python_command("ray_prep.worker"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | worker_environment(),
            )
            assert self._process.stdout is not None
            assert self._process.stdin is not None
            self._replies = Receiver(self._process.stdout.fileno())
            send(self._process.stdin, self._work)
        assert self._process.stdin is not None
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
        for pipe in (process.stdin, process.stdout):
            # A message that was being flushed when the process died cannot be flushed now.
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()
