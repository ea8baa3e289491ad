"""A worker process: takes units from its parent over a pipe, and answers with ticks, `Made`, and a receipt.

While one unit goes into storage the next is made, so that no core waits for a disk's or a store's word that all is safe.

It is started by `engines.child`, never by `multiprocessing`, so a user's script needs no `__main__` guard.
"""

from __future__ import annotations

import os
import pickle
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import IO, TYPE_CHECKING, TypeVar

from ray_prep.errors import RayPrepError
from ray_prep.messages import Fault, Made, Tick
from ray_prep.pipe import reserve_pipes, send
from ray_prep.process import settle_process, spare_pandas
from ray_prep.spawn import go_with_parent
from ray_prep.unit import make_unit

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from ray_prep.pipe import Receiver
    from ray_prep.unit import MadeUnit
    from ray_prep.work import Work

T = TypeVar("T")

# A sign of life this often while storage keeps a unit waiting.
_WAIT_S = 2.0


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
    with ThreadPoolExecutor(1, "ray_prep-publish") as publisher:
        _serve(work, requests, _Outbox(replies), publisher)


class _Outbox:
    """The pipe to the parent, for two threads."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def send(self, message: object) -> None:
        with self._lock:
            send(self._pipe, message)


def _serve(work: Work, requests: Receiver, outbox: _Outbox, publisher: ThreadPoolExecutor) -> None:
    """Make units in this thread and publish each in the other one, while the next is made; one is on its way at a time."""
    last: Future[None] | None = None
    while True:
        try:
            ref, is_isolated = requests.receive(_WAIT_S)
        except TimeoutError:
            if last and not last.done():
                outbox.send(Tick(is_waiting=True))
            continue
        except EOFError:
            return
        made = guarded(ref.unit_id, partial(make_unit, work, ref, outbox.send, is_isolated=is_isolated))
        while last and not wait((last,), _WAIT_S).done:
            outbox.send(Tick(is_waiting=True))
        if isinstance(made, Fault):
            outbox.send(made)
        else:
            outbox.send(Made(ref.unit_id))  # first: after a receipt the parent would take it for the next unit's
            last = publisher.submit(_publish, made, outbox)


def _publish(made: MadeUnit, outbox: _Outbox) -> None:
    outbox.send(guarded(made.receipt.unit_id, made.publish))


def guarded(unit_id: str, call: Callable[[], T]) -> T | Fault:
    """Return what a call returns, or what stopped it; a process that has too little memory for it ends.

    The parent sees a death then, and its next attempt limits each picture.
    """
    try:
        return answer(unit_id, call)
    except MemoryError:
        os._exit(1)


def answer(unit_id: str, call: Callable[[], T]) -> T | Fault:
    """Return what a call returns, or what stopped it.

    Args:
        unit_id: The unit that it works on.
        call: Does the work.

    Raises:
        MemoryError: There was not enough.
    """
    try:
        return call()
    except MemoryError:
        raise
    except RayPrepError as error:
        return Fault(unit_id, error, traceback.format_exc())
    except Exception:  # noqa: BLE001  the process boundary: a bug becomes a failed unit with its traceback
        return Fault(unit_id, None, traceback.format_exc())
