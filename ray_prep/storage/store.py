"""What every store can do, whatever is behind it."""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from ray_prep.storage.options import StorageOptions


class Entry(NamedTuple):
    """One object of a store.

    Args:
        path: Below the store's root; a local name that is not UTF-8 holds surrogates (`os.fsdecode`).
        size_bytes: Its size; 0 where there is nothing to measure (a link to nowhere).
        version: The etag without quotes, else `<size>-<mtime_ns>`; empty where there is nothing (a link to nowhere).
    """

    path: str
    size_bytes: int
    version: str


class Store(Protocol):
    """The objects below one uri. Cheap to make, picklable; connects at the first request.

    Every method raises StorageError where the store cannot be reached (after its patience), refuses, or lacks the bucket,
    and FileNotFoundError where one object is missing.
    """

    @property
    def uri(self) -> str:
        """The root, without secrets and without a slash at the end."""
        ...

    @property
    def options(self) -> StorageOptions:
        """How the store is reached."""
        ...

    def uri_of(self, path: str) -> str:
        """Return the uri of an object, for an item or a message."""
        ...

    def check(self, *, writing: bool = False) -> None:
        """Ask within seconds whether the store is there and lets us in.

        Args:
            writing: Whether the root is to be written to: it need not exist then.
        """
        ...

    def greet(self, path: str) -> None:
        """Ask within seconds whether anybody answers at all, in the way that costs the least rights.

        Args:
            path: Of an object to ask for; whether it is there plays no part.
        """
        ...

    def list(self, prefix: str = "", on_unreadable: Callable[[str], None] | None = None) -> Iterator[Entry]:
        """Stream the objects below a folder, in a stable order.

        Args:
            prefix: The folder below the root, without a slash at the end; empty for all.
            on_unreadable: Told the path of a local folder that may not be read, instead of StorageError.
        """
        ...

    def stat(self, path: str) -> Entry | None:
        """Return what the listing would say of one object; None where there is none."""
        ...

    def size(self, path: str) -> int | None:
        """Return the bytes of one object; None where there is none."""
        ...

    def get(self, path: str, *, stop: threading.Event | None = None) -> bytes:
        """Return the bytes of one object, with one request where nothing fails.

        Args:
            path: Below the root.
            stop: Ends the waiting between attempts with StorageError; for a thread whose result nobody wants any more.
        """
        ...

    def open_input(self, path: str, *, buffer_bytes: int = 1 << 20) -> IO[bytes]:
        """Open one object for reading and seeking; `pyarrow.parquet` reads ranges of it."""
        ...

    def put(self, path: str, data: bytes, *, is_lasting: bool = True) -> None:
        """Write one object, whole or not at all, replacing what was there.

        Args:
            path: Below the root.
            data: Its bytes.
            is_lasting: Whether it must survive a power cut in the next seconds; False spares a local disk two syncs.
        """
        ...

    def put_file(self, path: str, local_path: str) -> None:
        """Write one object from a local file, whole or not at all, replacing what was there."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Write one object if there is none; return whether it was written. Of many at once, one wins."""
        ...

    def delete(self, path: str) -> None:
        """Remove one object; nothing happens where there is none."""
        ...


class RangeReader(io.RawIOBase):
    """A file whose every read is one range request; wrap it in a BufferedReader.

    Args:
        size_bytes: Size of the object.
        read_range: (first byte, number of bytes) -> the bytes.
    """

    def __init__(self, size_bytes: int, read_range: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size_bytes = size_bytes
        self._read_range = read_range
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # typeshed's Buffer is not sliceable
        wanted = min(len(buffer), self._size_bytes - self._position)
        if wanted <= 0:
            return 0
        data = self._read_range(self._position, wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
