"""A worker process: takes units from its parent over a pipe, one at a time, and answers with ticks and a receipt.

It is started by `engines.child`, never by `multiprocessing`, so a user's script needs no `__main__` guard.
"""

from __future__ import annotations

import os
import pickle
import traceback
from typing import TYPE_CHECKING

from ray_prep.errors import RayPrepError
from ray_prep.messages import Fault
from ray_prep.pipe import reserve_pipes, send
from ray_prep.process import settle_process, spare_pandas
from ray_prep.spawn import go_with_parent
from ray_prep.unit import run_unit

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray_prep.messages import Tick, UnitRef
    from ray_prep.receipt import Receipt
    from ray_prep.work import Work


def main() -> None:
    """Serve one parent until it closes the pipe."""
    go_with_parent()
    requests, replies = reserve_pipes()
    try:
        work: Work = pickle.loads(requests.receive())
    except EOFError:  # started ahead, and not needed after all
        return
    settle_process()
    spare_pandas()
    while True:
        try:
            ref, is_isolated = requests.receive()
        except EOFError:
            return
        try:
            outcome = answer(work, ref, lambda tick: send(replies, tick), is_isolated=is_isolated)
        except MemoryError:  # the parent sees a death, and its next attempt limits each picture
            os._exit(1)
        send(replies, outcome)


def answer(work: Work, ref: UnitRef, notify: Callable[[Tick], None], *, is_isolated: bool) -> Receipt | Fault:
    """Run one unit and return its receipt, or what stopped it.

    Raises:
        MemoryError: There was not enough.
    """
    try:
        return run_unit(work, ref, notify, is_isolated=is_isolated)
    except MemoryError:
        raise
    except RayPrepError as error:
        return Fault(error, traceback.format_exc())
    except Exception:  # noqa: BLE001  the process boundary: a bug becomes a failed unit with its traceback
        return Fault(None, traceback.format_exc())
