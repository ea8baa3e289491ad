"""How a process starts one of our modules as its child, and how the child goes when its parent does."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

from ray_prep.platform import worker_environment

_PR_SET_PDEATHSIG = 1


def spawn(module: str, folder: str | None = None) -> subprocess.Popen[bytes]:
    """Start `main()` of one of our modules in a new interpreter, with pipes to its standard input and output.

    It finds modules where this process does (so a checkout that is not installed works, as do a user's own folders), and its classes
    pickle under their own module's name, which `python -m` would replace by `__main__`.

    Args:
        module: Its full name.
        folder: Where its temporary files go, for the caller to remove: a process that is killed leaves them. None for the usual place.
    """
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; main()"]
    environment = os.environ | worker_environment() | ({"TMPDIR": folder} if folder else {})
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def go_with_parent() -> None:
    """Ask the kernel to end this process when the thread that started it ends, however that ends; and ignore Ctrl-C.

    Ctrl-C reaches a whole process group; what it means is the parent's to decide.
    """
    parent = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended between the two calls
            os._exit(1)
