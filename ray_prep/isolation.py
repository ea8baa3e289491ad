"""The second attempt: every picture in a process of its own, so that one which kills or stalls its decoder takes nobody along.

`Isolation` starts a *warm* process (everything imported, no second thread), which forks once a picture: 2 ms instead of the 1.3 s of
a fresh interpreter. The fork works under a deadline and a memory limit; whatever becomes of it, the warm process tells.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Literal, Self

from ray_prep.errors import ProcessDied, SampleError
from ray_prep.image.header import read_header
from ray_prep.pipe import Receiver, reserve_pipes, send
from ray_prep.process import settle_process, spare_pandas
from ray_prep.spawn import go_with_parent, spawn
from ray_prep.walk import Walk

if TYPE_CHECKING:
    from ray_prep.sample import Item
    from ray_prep.work import Work

# What decoders and filters were seen to need beside the pixels, with room; and per pixel: float32 intermediates of three channels, thrice.
_BASE_MEMORY_BYTES = 768 << 20
_MEMORY_BYTES_PER_PIXEL = 40


class Isolation:
    """Makes rows of one item at a time in a process that may die.

    Args:
        work: What the units share.
    """

    def __init__(self, work: Work) -> None:
        self._deadline_s = work.item_deadline_s
        self._process = spawn("ray_prep.isolation")
        assert self._process.stdout is not None
        self._replies = Receiver(self._process.stdout.fileno())
        send(self._stdin, work)

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(self, method: Literal["rows", "measured", "salvaged"], split: str, item: Item, data: bytes) -> Any:
        """Call a method of `Walk` on one item.

        Raises:
            SampleError: The item is rejected: by the walk, or as `crashed` or `timed_out`.
        """
        send(self._stdin, (method, split, item, data, self._deadline_s))
        outcome = self._replies.receive()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def main() -> None:
    """Serve one worker until it closes the pipe."""
    go_with_parent()
    requests, replies = reserve_pipes()
    work: Work = requests.receive()
    settle_process()
    spare_pandas()
    walk = Walk(work.recipe, work.class_ids)
    while True:
        try:
            method, split, item, data, deadline_s = requests.receive()
        except EOFError:
            return
        send(replies, _fork(walk, method, split, item, data, deadline_s))


def _fork(walk: Walk, method: str, split: str, item: Item, data: bytes, deadline_s: float) -> Any:
    """Work on one item in a fork, and return what it returned or the rejection that its end means."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(readable)
        _work_and_exit(walk, method, split, item, data, writable)
    os.close(writable)
    try:
        outcome = Receiver(readable).receive(deadline_s)
    except TimeoutError:
        outcome = ProcessDied("timed_out", f"not done after {deadline_s:g} s")
        os.kill(child, signal.SIGKILL)
    except EOFError:
        outcome = None
    os.close(readable)
    _, status = os.waitpid(child, 0)
    if outcome is not None:
        return outcome
    if os.WIFSIGNALED(status):
        return ProcessDied("crashed", f"killed its process with signal {signal.Signals(os.WTERMSIG(status)).name}")
    return ProcessDied("crashed", f"ended its process with exit code {os.waitstatus_to_exitcode(status)}")


def _work_and_exit(walk: Walk, method: str, split: str, item: Item, data: bytes, writable: int) -> None:
    """Do the work and leave without running anything the parent has registered for its own exit."""
    with os.fdopen(writable, "wb") as pipe:
        limit_bytes = _BASE_MEMORY_BYTES
        try:
            _limit_memory(limit_bytes)
            limit_bytes += _pixels(walk, data) * _MEMORY_BYTES_PER_PIXEL
            _limit_memory(limit_bytes)
            outcome: Any = getattr(walk, method)(split, item, data)
        except SampleError as error:
            outcome = error
        except MemoryError:
            outcome = ProcessDied("crashed", f"needed more memory than {limit_bytes >> 20} MiB")
        except Exception as error:  # noqa: BLE001  the process boundary: a bug travels to the worker, which fails the unit with it
            outcome = RuntimeError(f"{type(error).__name__}: {error}")
        with suppress(BrokenPipeError):
            send(pipe, outcome)
    os._exit(0)


def _pixels(walk: Walk, data: bytes) -> int:
    """Return how many pixels a picture states and may have; none where it is no picture, which whoever decodes it will say."""
    try:
        header = read_header(data)
    except SampleError:
        return 0
    return min(header.height * header.width, walk.recipe.decode.max_pixels)


def _limit_memory(more_bytes: int) -> None:
    """Let this process take `more_bytes` beside what it has mapped (on Linux; elsewhere the deadline alone holds)."""
    if sys.platform != "linux":
        return
    with open("/proc/self/statm", encoding="ascii") as statm:
        mapped_bytes = int(statm.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped_bytes + more_bytes, hard))
