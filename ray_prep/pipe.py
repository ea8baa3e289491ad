"""Whole messages over a pair of pipes between a process and the child it started."""

from __future__ import annotations

import os
import pickle
import select
import struct
import sys
import time
from typing import IO, Any

_LENGTH = struct.Struct(">Q")
_CHUNK_BYTES = 1 << 20


def send(file: IO[bytes], message: object) -> None:
    """Write one message and flush it.

    Raises:
        BrokenPipeError: The other side is gone.
    """
    data = pickle.dumps(message, protocol=5)
    file.write(_LENGTH.pack(len(data)))
    file.write(data)
    file.flush()


def open_streams() -> None:
    """Lead standard streams that are closed nowhere, or the next file that is opened would take their numbers and be written into."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, number)  # child processes have it, too
            if nowhere != number:
                os.close(nowhere)
            else:
                os.set_inheritable(number, True)  # noqa: FBT003
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115  as long as the process


def reserve_pipes() -> tuple[Receiver, IO[bytes]]:
    """Keep a child's standard input and output for messages alone; return their ends.

    What Python code prints goes to standard error. What C libraries write there goes nowhere: libjpeg has a line for each damaged
    picture (OpenCV 5.0), and what matters of that comes back as a rejection.
    """
    open_streams()
    requests, replies = Receiver(os.dup(0)), os.fdopen(os.dup(1), "wb")
    sys.stderr = sys.stdout = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    return requests, replies


class Receiver:
    """The reading end of a pipe.

    Args:
        descriptor: Its file descriptor; the caller closes it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()

    def receive(self, timeout_s: float | None = None) -> Any:
        """Wait for one message.

        Args:
            timeout_s: How long the message may take to arrive whole; None for ever.

        Raises:
            EOFError: The other side is gone, or went in the middle of a message.
            TimeoutError: It did not come in time.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        self._fill(_LENGTH.size, end)
        (length,) = _LENGTH.unpack_from(self._buffer)
        self._fill(_LENGTH.size + length, end)
        with memoryview(self._buffer) as view:
            message = pickle.loads(view[_LENGTH.size : _LENGTH.size + length])
        del self._buffer[: _LENGTH.size + length]
        return message

    def _fill(self, count: int, end: float | None) -> None:
        while len(self._buffer) < count:
            if end is not None and not select.select([self._descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
                msg = "no whole message came in time"
                raise TimeoutError(msg)
            data = os.read(self._descriptor, _CHUNK_BYTES)
            if not data:
                msg = "the other side of the pipe is gone"
                raise EOFError(msg)
            self._buffer += data
