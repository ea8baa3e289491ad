from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from ray_prep.storage import read_ahead

if TYPE_CHECKING:
    from pathlib import Path

_LENGTH_BYTES = 1 << 16


def _is_cached(descriptor: int) -> bool:
    try:
        return os.preadv(descriptor, [bytearray(_LENGTH_BYTES)], 0, os.RWF_NOWAIT) == _LENGTH_BYTES
    except BlockingIOError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is in its page cache")
def test_the_system_reads_what_is_announced(tmp_path: Path) -> None:
    """A file that is not in the page cache gets there though nobody reads it."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(os.urandom(_LENGTH_BYTES))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            if _is_cached(file.fileno()):
                pytest.skip("this file system is in memory")
        except OSError as error:
            pytest.skip(f"this file system does not tell: {error}")
        read_ahead(str(path), _LENGTH_BYTES)
        end = time.monotonic() + 5
        while not _is_cached(file.fileno()):
            assert time.monotonic() < end
            time.sleep(0.001)


def test_what_cannot_be_read_is_left_to_its_reader(tmp_path: Path) -> None:
    """Nothing there, a folder, a pipe that nobody writes to, a name that no file has: no error, and no wait."""
    os.mkfifo(tmp_path / "pipe")
    for path in (f"{tmp_path}/missing.jpg", str(tmp_path), f"{tmp_path}/pipe", "/a\0b"):
        read_ahead(path, _LENGTH_BYTES)
