"""A worker process: takes units from its parent over a pipe, one at a time, and answers with ticks and a receipt.

It is started by `engines.child`, never by `multiprocessing`, so a user's script needs no `__main__` guard.
"""

from __future__ import annotations

import os
import signal
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray_prep.errors import RayPrepError
from ray_prep.pipe import Receiver, send
from ray_prep.process import die_with_parent, settle_process
from ray_prep.unit import run_unit

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray_prep.receipt import Receipt
    from ray_prep.unit import Tick
    from ray_prep.work import UnitRef, Work


@dataclass(frozen=True, slots=True)
class Fault:
    """A unit that did not finish although its process lives.

    Args:
        error: One of ours, which ends the build with its exit code; None for a bug.
        trace: The traceback, for `--debug` and bug reports.
    """

    error: RayPrepError | None
    trace: str


def main() -> None:
    """Serve one parent until it closes the pipe."""
    die_with_parent()
    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library prints must not stand among the messages.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = Receiver(0)
    work: Work = requests.receive()
    settle_process()
    while True:
        try:
            ref, is_isolated = requests.receive()
        except EOFError:
            return
        send(replies, answer(work, ref, lambda tick: send(replies, tick), is_isolated=is_isolated))


def answer(work: Work, ref: UnitRef, notify: Callable[[Tick], None], *, is_isolated: bool) -> Receipt | Fault:
    """Run one unit and return its receipt, or what stopped it."""
    try:
        return run_unit(work, ref, notify, is_isolated=is_isolated)
    except RayPrepError as error:
        return Fault(error, traceback.format_exc())
    except Exception:  # noqa: BLE001  the process boundary: a bug becomes a failed unit with its traceback
        return Fault(None, traceback.format_exc())
