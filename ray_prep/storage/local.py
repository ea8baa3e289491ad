"""A folder of this machine as a store."""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import IO, TYPE_CHECKING, Any

from ray_prep.errors import StorageError
from ray_prep.storage.options import StorageOptions
from ray_prep.storage.store import Entry
from ray_prep.storage.uri import is_local, local_path, local_uri

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeAlias

    # Open folders of a walk: path, prefix of what is below it, names still to see, (device, inode).
    Levels: TypeAlias = list[tuple[str, str, Iterator[str], tuple[int, int]]]

# Such a path names nothing: no such file, a file where a folder should be, a name the system cannot have, links in a circle.
_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})


# Readers skip names that begin so.
_TEMPORARY = ".tmp-"
_UNFINISHED_S = 7 * 24 * 3600


@dataclass(frozen=True)
class LocalStore:
    """The files below one folder.

    Args:
        root: Absolute path, without a slash at the end.
        options: What the recipe says; nothing of it concerns a folder.
    """

    root: str
    options: StorageOptions = field(default_factory=StorageOptions)

    @property
    def uri(self) -> str:
        return local_uri(self.root)

    def uri_of(self, path: str) -> str:
        return local_uri(self._full(path))

    def greet(self, path: str) -> None:
        """Do nothing: nobody is behind a local disk."""

    def check(self, *, writing: bool = False) -> None:
        if writing:
            nearest = self.root
            while not os.path.lexists(nearest):
                nearest = os.path.dirname(nearest)
            if not os.path.isdir(nearest):
                msg = f"{self.uri}: cannot be made, {local_uri(nearest)} is not a folder"
                raise StorageError(msg)
            if not os.access(nearest, os.W_OK | os.X_OK):
                msg = f"{self.uri}: cannot be written, the folder {local_uri(nearest)} does not allow it"
                raise StorageError(msg)
            return
        if not os.path.isdir(self.root):
            what = "is a file, not a folder" if os.path.exists(self.root) else "there is no such folder"
            msg = f"{self.uri}: {what}"
            raise StorageError(msg)
        if not os.access(self.root, os.R_OK | os.X_OK):
            msg = f"{self.uri}: the folder may not be read by this user"
            raise StorageError(msg)

    def list(self, prefix: str = "", on_unreadable: Callable[[str], None] | None = None) -> Iterator[Entry]:
        """Stream the regular files below a folder, each folder's names sorted.

        Links are followed; a folder that is its own ancestor is not entered again; a link to nowhere is listed with an empty
        version; pipes, sockets and devices are not listed. A folder's names are held at once, nothing else is.
        """
        refuse = on_unreadable or self._unreadable
        top = self._full(prefix) if prefix else self.root
        if not os.path.isdir(top):
            return
        status = os.stat(top)
        identity = (status.st_dev, status.st_ino)
        # A stack instead of recursion: folders may be nested deeper than Python's calls.
        levels: Levels = [(top, f"{prefix}/" if prefix else "", iter(self._names(top, prefix, refuse)), identity)]
        ancestors = {identity}
        while levels:
            folder, below, names, identity = levels[-1]
            for name in names:
                path = f"{folder}/{name}"
                try:
                    status = os.stat(path)
                except OSError as error:
                    if error.errno == errno.ENAMETOOLONG:  # it is there: the folder has just named it
                        raise _fault(path, error) from error
                    if error.errno not in _NOTHING_THERE:
                        refuse(below + name)
                    elif os.path.islink(path):
                        yield Entry(below + name, 0, "")
                    continue
                if S_ISREG(status.st_mode):
                    yield Entry(below + name, status.st_size, f"{status.st_size}-{status.st_mtime_ns}")
                elif S_ISDIR(status.st_mode):
                    identity = (status.st_dev, status.st_ino)
                    if identity not in ancestors:
                        levels.append((path, f"{below}{name}/", iter(self._names(path, below + name, refuse)), identity))
                        ancestors.add(identity)
                        break
            else:
                levels.pop()
                ancestors.discard(identity)

    def stat(self, path: str) -> Entry | None:
        full = self._full(path)
        try:
            status = os.stat(full)
        except (OSError, ValueError) as error:
            if _is_nothing(error):
                return None
            raise _fault(full, error) from error
        return Entry(path, status.st_size, f"{status.st_size}-{status.st_mtime_ns}") if S_ISREG(status.st_mode) else None

    def size(self, path: str) -> int | None:
        entry = self.stat(path)
        return None if entry is None else entry.size_bytes

    def get(self, path: str, *, stop: threading.Event | None = None) -> bytes:  # noqa: ARG002  a local read does not wait
        return read_local(self._full(path))

    def open_input(self, path: str, *, buffer_bytes: int = 1 << 20) -> IO[bytes]:
        with _faults(self._full(path)):
            return open(self._full(path), "rb", buffering=buffer_bytes)

    def put(self, path: str, data: bytes, *, is_lasting: bool = True) -> None:
        self._write(path, lambda file: file.write(data), os.replace, is_lasting=is_lasting)

    def put_file(self, path: str, local_path: str) -> None:
        """Write one object from a local file: a second name for it on the same file system, else a copy.

        The file must not be written to afterwards.
        """

        def publish(temporary: str, full: str) -> None:
            # Its own mode is that of a temporary file, private to its writer; the empty file beside the target has the user's usual one.
            mode = os.stat(temporary).st_mode
            os.unlink(temporary)
            _name_or_copy(local_path, temporary)
            os.chmod(temporary, mode)
            os.replace(temporary, full)

        self._write(path, lambda _file: None, publish)

    def create(self, path: str, data: bytes) -> bool:
        try:
            self._write(path, lambda file: file.write(data), _link)
        except FileExistsError:
            return False
        return True

    def delete(self, path: str) -> None:
        full = self._full(path)
        try:
            os.unlink(full)
        except (OSError, ValueError) as error:
            if not _is_nothing(error):
                raise _fault(full, error) from error

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}" if self.root != "/" else f"/{path}"

    def _names(self, folder: str, path: str, refuse: Callable[[str], None]) -> Sequence[str]:
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:  # removed since its parent was read
            return []
        except OSError:
            refuse(path)
            return []

    def _unreadable(self, path: str) -> None:
        msg = f"{self.uri_of(path) if path else self.uri}: may not be read by this user"
        raise StorageError(msg)

    def _write(self, path: str, fill: Callable[[IO[bytes]], Any], publish: Callable[[str, str], None], *, is_lasting: bool = True) -> None:
        """Write beside the target under a name readers skip, make it durable, then publish it under its name at once."""
        full = self._full(path)
        folder = os.path.dirname(full)
        temporary = f"{folder}/{_TEMPORARY}{uuid.uuid4().hex}"
        with _faults(full):
            try:
                os.makedirs(folder, exist_ok=True)
            except FileNotFoundError as error:  # `/proc/x`: no folder can be made there
                raise _fault(folder, error) from error
            try:
                with open(temporary, "xb") as file:
                    fill(file)
                    file.flush()
                    if is_lasting and file.tell():  # what is empty has nothing to lose
                        os.fsync(file.fileno())
                publish(temporary, full)
            finally:
                if os.path.lexists(temporary):
                    os.unlink(temporary)
            if is_lasting:
                _sync_folder(folder)


def clear_unfinished(uri: str, folders: Sequence[str]) -> None:
    """Remove what writers that were killed left half-written, in folders of this machine, more than a week ago.

    Nobody writes one file for so long: what is younger may be somebody's who is still at it, on this machine or another.

    Args:
        uri: A root; nothing happens where it is not local.
        folders: Globs of folders below it.
    """
    if not is_local(uri):
        return
    oldest_s = time.time() - _UNFINISHED_S
    for folder in folders:
        for path in Path(local_path(uri)).glob(f"{folder}/{_TEMPORARY}*"):
            with suppress(OSError):  # what is somebody else's stays, and harms nothing
                if path.stat().st_mtime < oldest_s:
                    path.unlink()


def read_local(path: str) -> bytes:
    """Return the bytes of a regular file.

    Args:
        path: Absolute path, or a `file://` uri's path as `local_path` gives it.

    Raises:
        FileNotFoundError: There is no regular file.
        StorageError: It may not be, or cannot be, read.
    """
    # Three system calls instead of the eight of open().read(); O_NONBLOCK because opening a pipe would wait for a writer.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            size_bytes = os.fstat(descriptor).st_size
            data = os.read(descriptor, size_bytes + 1)
            if len(data) != size_bytes or not data:
                data = _read_on(descriptor, data)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        if _is_nothing(error) or getattr(error, "errno", None) in {errno.EISDIR, errno.ENXIO}:
            msg = f"{_shown(path)}: no such file"
            raise FileNotFoundError(msg) from error
        raise _fault(path, error) from error
    return data


def _read_on(descriptor: int, start: bytes) -> bytes:
    """Return the whole of a file that one read did not give: empty, growing, or above the 2 GiB of one read."""
    if not S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.ENXIO, "not a regular file")
    parts = [start]
    while part := os.read(descriptor, 1 << 24):
        parts.append(part)
    return b"".join(parts)


def _link(temporary: str, full: str) -> None:
    """Give a finished file a name that nobody has; FileExistsError where somebody has it."""
    try:
        os.link(temporary, full)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # No hard links here (exFAT, some network mounts). Exclusive too, though a reader may meet the file half written.
        with open(temporary, "rb") as source, open(full, "xb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())


def _name_or_copy(local_path: str, full: str) -> None:
    """Give a file a second name, or copy it where it lies on another file system; durable either way."""
    try:
        os.link(local_path, full)
        descriptor = os.open(full, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in {*_NO_HARD_LINKS, errno.EXDEV}:
            raise
        with open(local_path, "rb") as source, open(full, "xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())


def _sync_folder(folder: str) -> None:
    """Make the new name durable, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)


def _is_nothing(error: Exception) -> bool:
    """Return whether a path names nothing; ValueError is a name with a zero byte or with characters no file name has."""
    return isinstance(error, ValueError) or getattr(error, "errno", None) in _NOTHING_THERE


def _fault(path: str, error: Exception) -> StorageError:
    return StorageError(f"{_shown(path)}: {getattr(error, 'strerror', None) or error}")


def _shown(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()


@contextmanager
def _faults(path: str) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, StorageError):
        raise
    except (OSError, ValueError) as error:
        if _is_nothing(error):
            msg = f"{_shown(path)}: no such file"
            raise FileNotFoundError(msg) from error
        raise _fault(path, error) from error
