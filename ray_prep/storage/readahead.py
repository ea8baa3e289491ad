"""Telling the system which local files are wanted soon."""

from __future__ import annotations

import os
from contextlib import suppress


def read_ahead(path: str, length_bytes: int) -> None:
    """Have the system begin to read the start of a file, and do not wait for it.

    What is wrong with the file is for the one who reads it to say; where a system has no such call (macOS), nothing happens.

    Args:
        path: Absolute path.
        length_bytes: How much of it; whoever reads on is read ahead of as ever.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    with suppress(OSError, ValueError):
        # O_NONBLOCK because opening a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.posix_fadvise(descriptor, 0, length_bytes, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)
