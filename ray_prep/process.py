"""How a process that works on pictures is set up: one thread, the same arithmetic everywhere, gone when its parent is."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

import cv2
import pyarrow as pa

from ray_prep.image.allocation import keep_large_buffers

_PR_SET_PDEATHSIG = 1


def python_command(module: str) -> list[str]:
    """Return the command that runs `main()` of one of our modules in a new interpreter.

    It finds modules where this process does (so a checkout that is not installed works, as do a user's own folders), and its classes
    pickle under their own module's name, which `python -m` would replace by `__main__`.
    """
    return [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; main()"]


def settle_process() -> None:
    """Make this process compute like every other worker.

    One thread in OpenCV and Arrow, as a worker owns one core; no IPP in OpenCV, which chooses its arithmetic by CPU (4.x and 5.0:
    INTER_CUBIC differs between machines); large buffers kept instead of mapped anew for each picture.
    """
    cv2.setNumThreads(0)
    with suppress(AttributeError):  # builds without IPP have no such module
        cv2.ipp.setUseIPP(False)
    pa.set_cpu_count(1)
    keep_large_buffers()


def die_with_parent() -> None:
    """Ask the kernel to end this process when the one that started it ends, however that ends."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended between the two calls
            os._exit(1)
