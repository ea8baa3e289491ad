"""The worker's side of the pipe: what it says, and in which order."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ray_prep.messages import Made, Tick
from ray_prep.receipt import Receipt
from ray_prep.worker import _serve

if TYPE_CHECKING:
    from collections.abc import Callable


class Immediate(ThreadPoolExecutor):
    """Does at once what it is given: the quickest storage there can be."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Parent:
    """Asks for units and listens."""

    def __init__(self, refs: list[Any]) -> None:
        self._refs = iter(refs)
        self.heard: list[Any] = []

    def receive(self, _timeout_s: float) -> tuple[Any, bool]:
        """Return the next unit, until there is none."""
        for ref in self._refs:
            return ref, False
        raise EOFError

    def send(self, message: Any) -> None:
        """Take a message."""
        self.heard.append(message)


def test_a_unit_is_made_before_it_is_done(collection: Any) -> None:
    """`Made` comes before the receipt, however quick storage is: the parent would take it for the next unit's."""
    work, refs = collection.planned()
    parent = Parent(refs[:3])
    _serve(work, parent, parent, Immediate(1))  # type: ignore[arg-type]
    said = [message for message in parent.heard if not isinstance(message, Tick)]
    assert [(type(message), message.unit_id) for message in said] == [(kind, ref.unit_id) for ref in refs[:3] for kind in (Made, Receipt)]
