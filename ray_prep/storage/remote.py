"""Web servers: https and http, through fsspec (its only importer)."""

from __future__ import annotations

import io
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, TypeVar

import fsspec
from aiohttp import ClientError, ClientResponseError, ClientSSLError, ClientTimeout, InvalidURL
from fsspec.exceptions import FSTimeoutError

from ray_prep.errors import RecipeError, StorageError
from ray_prep.storage.failure import Place, insist
from ray_prep.storage.options import PROMPT, Patience, StorageOptions
from ray_prep.storage.store import Entry, RangeReader
from ray_prep.storage.uri import scheme_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_HEADS_AT_ONCE = 16
_GONE = 410  # it was there once: to us as missing as what never was

_HINT = (
    "userinfo and signature parameters are cut from uris, so that presigned ones cannot be read; give access in another way, "
    "or copy the pictures to a store with credentials"
)


@dataclass(frozen=True)
class RemoteStore:
    """The files below one uri of a web server.

    Args:
        uri: The root, without a slash at the end.
        options: What the recipe says; `allow_http` is what concerns this store.
        patience: How long it may take.
    """

    uri: str
    options: StorageOptions
    patience: Patience

    def __post_init__(self) -> None:
        if scheme_of(self.uri) == "http" and not self.options.allow_http:
            msg = f"source.storage_options.allow_http: {self.uri} has no TLS; use https, or set it to true if that is meant"
            raise RecipeError(msg)

    def __reduce__(self) -> tuple[type[RemoteStore], tuple[str, StorageOptions, Patience]]:
        """Pickle what it takes to open the store again."""
        return type(self), (self.uri, self.options, self.patience)

    def uri_of(self, path: str) -> str:
        return f"{self.uri}/{path}"

    def check(self, *, writing: bool = False) -> None:  # noqa: ARG002  only writing shows whether one may
        self.greet("")

    def greet(self, path: str) -> None:
        prompt = RemoteStore(self.uri, self.options, PROMPT)

        def hear(fs: Any) -> None:
            try:
                fs.info(self.uri_of(path))
            except FileNotFoundError as error:
                cause = error.__cause__
                # A server need not answer for a folder, and a signed address may allow GET alone: that it answered at all was asked.
                if not isinstance(cause, ClientResponseError) or cause.status >= 500:
                    raise

        prompt._call(path, hear)

    def list(self, prefix: str = "", on_unreadable: Callable[[str], None] | None = None) -> Iterator[Entry]:  # noqa: ARG002  local folders only
        """Yield the files below a folder, sorted; fsspec walks the whole of it first, and would leave out what it cannot list.

        An index page tells names alone, so that each file is asked for its size and version.
        """
        top = f"{self.uri}/{prefix}" if prefix else self.uri
        found = self._call(prefix, lambda fs: fs.find(top + "/", detail=True, on_error="raise"))
        root = len(self._bare(self.uri)) + 1
        with ThreadPoolExecutor(_HEADS_AT_ONCE, thread_name_prefix="ray_prep-head") as heads:
            names = sorted(self._bare(name)[root:] for name in found)
            for path, entry in zip(names, heads.map(self.stat, names), strict=True):
                yield entry or Entry(path, 0, "")  # the page names what is not there

    def stat(self, path: str) -> Entry | None:
        try:
            info = self._call(path, lambda fs: fs.info(self.uri_of(path)))
        except FileNotFoundError:
            return None
        return _entry(info, path) if info.get("type", "file") == "file" else None

    def size(self, path: str) -> int | None:
        entry = self.stat(path)
        return None if entry is None else entry.size_bytes

    def get(self, path: str, *, stop: threading.Event | None = None) -> bytes:
        return bytes(self._call(path, lambda fs: fs.cat_file(self.uri_of(path)), stop))

    def open_input(self, path: str, *, buffer_bytes: int = 1 << 20) -> IO[bytes]:
        entry = self.stat(path)
        if entry is None:
            msg = f"{self.uri_of(path)}: not there"
            raise FileNotFoundError(msg)

        def read_range(start: int, length: int) -> bytes:
            return bytes(self._call(path, lambda fs: fs.cat_file(self.uri_of(path), start=start, end=start + length)))

        # A web server may ignore the range and send the whole, or not tell the size beforehand.
        begin = read_range(0, 1)
        if len(begin) != min(1, entry.size_bytes):
            return io.BytesIO(begin if len(begin) > 1 else self.get(path))
        return io.BufferedReader(RangeReader(entry.size_bytes, read_range), buffer_bytes)

    def put(self, path: str, data: bytes, *, is_lasting: bool = True) -> None:  # noqa: ARG002  what is put there lasts
        self._call(path, lambda fs: fs.pipe_file(self.uri_of(path), data))

    def put_file(self, path: str, local_path: str) -> None:
        self._call(path, lambda fs: fs.put_file(local_path, self.uri_of(path)))

    def create(self, path: str, data: bytes) -> bool:
        def write(fs: Any) -> bool:
            try:
                fs.pipe_file(self.uri_of(path), data, mode="create")
            except FileExistsError:
                return False
            return True

        return self._call(path, write)

    def delete(self, path: str) -> None:
        try:
            self._call(path, lambda fs: fs.rm_file(self.uri_of(path)))
        except FileNotFoundError:
            return

    @cached_property
    def _fs(self) -> Any:
        # `connect` is over all addresses of a host and over finding them, for which a resolver may take half a minute.
        connect_s, stall_s = self.patience.connect_s, self.patience.stall_s
        limits = ClientTimeout(total=None, connect=3 * connect_s, sock_connect=connect_s, sock_read=stall_s)
        return fsspec.filesystem(scheme_of(self.uri), client_kwargs={"timeout": limits, "trust_env": True})

    def _bare(self, uri: str) -> str:
        return str(self._fs._strip_protocol(uri)).rstrip("/")

    def _call(self, path: str, request: Callable[[Any], T], stop: threading.Event | None = None) -> T:
        place = Place(self.uri_of(path).rstrip("/"), scheme_of(self.uri) + "://" + self.uri.partition("://")[2].partition("/")[0], _HINT)

        def attempt() -> T:
            try:
                return request(self._fs)
            except (ClientError, FSTimeoutError, NotImplementedError, OSError, ValueError) as error:
                # fsspec's `info` says of every failure that nothing is there, and has what happened for a cause.
                cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
                raise _fault(place, cause or error) from error

        return insist(attempt, self.patience.retry_s, stop)


def _fault(place: Place, error: BaseException) -> StorageError | FileNotFoundError:
    """Return the error that an exception of fsspec's or aiohttp's stands for."""
    if isinstance(error, ClientResponseError):
        return place.fault(404 if error.status == _GONE else error.status, "", "")
    if isinstance(error, InvalidURL):
        return StorageError(f"{place.uri}: is no address; write https://host/path")
    if isinstance(error, ClientSSLError):
        return StorageError(f"{place.uri}: {place.endpoint} is no server that TLS trusts: {error}")
    cause = getattr(error, "os_error", error)
    if isinstance(cause, socket.gaierror):
        return place.fault(None, "", "nobody knows this name")
    if isinstance(cause, ConnectionRefusedError):
        return place.fault(None, "", "connection refused")
    if isinstance(error, ClientError | TimeoutError | FSTimeoutError | ConnectionError):
        return place.fault(None, "", type(error).__name__)
    if isinstance(error, FileNotFoundError):
        return place.fault(404, "", "")
    return StorageError(f"{place.uri}: {str(error) or 'a web server cannot do that'}")


def _entry(info: dict[str, Any], path: str) -> Entry:
    """Return an entry of what fsspec tells of a file; where the server names neither ETag nor time, its version is its size alone."""
    size_bytes = int(info.get("size") or 0)
    etag = str(info.get("ETag") or "").removeprefix("W/").strip('"')
    changed = str(info.get("Last-Modified") or "")
    with suppress(ValueError):  # no date of HTTP's: whatever it is, it changes when the file does
        changed = str(int(parsedate_to_datetime(changed).timestamp()))
    return Entry(path, size_bytes, etag or f"{size_bytes}-{changed}")
