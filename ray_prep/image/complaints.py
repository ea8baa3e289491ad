"""What libjpeg says on the standard error stream while it decodes: the only way in which OpenCV lets its warnings out."""

from __future__ import annotations

import os
import tempfile
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Made = TypeVar("Made")

# How the warnings of libjpeg-turbo 2 and 3 begin (JWRN_… in its jerror.h).
_WARNINGS = (
    b"Corrupt JPEG data:",
    b"Premature end of JPEG file",
    b"Inconsistent progression sequence",
    b"Invalid SOS parameters",
    b"Unknown Adobe color transform code",
    b"Warning: unknown JFIF revision number",
)
_STDERR = 2
# The stream belongs to the whole process: of two threads that redirect it, the second would restore what the first has put there.
_lock = Lock()
_heard: dict[int, int] = {}  # process id -> a file of its own: a forked process would share its parent's place in it


def with_complaints(decode: Callable[[], Made]) -> tuple[Made, bytes]:
    """Return what a decoder made, and the warnings of libjpeg meanwhile, b"" where it had none.

    libjpeg prints the first warning on a picture and keeps the others to itself. It costs 2 µs. Whatever else is written to the
    standard error stream meanwhile, by another thread, is passed on.
    """
    with _lock:
        stderr = _stderr()
        try:
            file = _file()
            os.dup2(file, _STDERR)
            try:
                made = decode()
            finally:
                os.dup2(stderr, _STDERR)
            size = os.fstat(file).st_size
            if not size:
                return made, b""
            text = os.pread(file, size, 0)
            os.ftruncate(file, 0)
            os.lseek(file, 0, os.SEEK_SET)
            lines = text.splitlines(keepends=True)
            if others := b"".join(line for line in lines if not line.startswith(_WARNINGS)):
                os.write(stderr, others)
            return made, b"".join(line for line in lines if line.startswith(_WARNINGS)).strip()
        finally:
            os.close(stderr)


def _stderr() -> int:
    """Return another descriptor of the standard error stream; a process without one gets one that leads nowhere.

    What becomes of a picture must not hang on how its process was started.
    """
    try:
        return os.dup(_STDERR)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != _STDERR:  # the lowest number that is free
            os.dup2(nowhere, _STDERR)
            os.close(nowhere)
        return os.dup(_STDERR)


def _file() -> int:
    """Return the descriptor of this process's file, which is empty between two pictures."""
    process = os.getpid()
    if process not in _heard:
        with tempfile.TemporaryFile(buffering=0) as file:
            _heard[process] = os.dup(file.fileno())  # open as long as the process
    return _heard[process]
