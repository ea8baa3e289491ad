"""Object stores: S3, Google Cloud Storage, Azure (the only importer of obstore)."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store, from_url

from ray_prep.errors import RecipeError, StorageError
from ray_prep.storage.aws import S3Requests, resolve
from ray_prep.storage.failure import PassingFault, Place, insist
from ray_prep.storage.options import PROMPT, Patience, StorageOptions
from ray_prep.storage.store import Entry, RangeReader
from ray_prep.storage.uri import scheme_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from ray_prep.storage.aws import Access

T = TypeVar("T")

S3_SCHEMES = frozenset({"s3", "s3a"})
OBJECT_SCHEMES = S3_SCHEMES | {"gs", "az", "azure", "abfs", "abfss"}

# A part of an upload: with four at once, a link of half a megabyte a second still delivers each within the stall limit.
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 4
# obstore's own retries hold the interpreter's signals back, so they stay short; `insist` goes on in Python.
_INNER_RETRY_S = 10.0


@dataclass(frozen=True)
class ObjectStore:
    """The objects below `scheme://bucket/prefix`.

    Keys are taken as they are: nothing in them is decoded, normalized or trimmed. A process that has used one must not fork and go on
    using it in the child: obstore's threads do not live there, and a request would never end, so that it is refused.

    Args:
        uri: The root, without a slash at the end.
        options: How the store is reached.
        patience: How long it may take.
    """

    uri: str
    options: StorageOptions
    patience: Patience

    def __reduce__(self) -> tuple[type[ObjectStore], tuple[str, StorageOptions, Patience]]:
        """Pickle what it takes to open the store again; connections and credentials stay here."""
        return type(self), (self.uri, self.options, self.patience)

    def uri_of(self, path: str) -> str:
        return f"{self.uri}/{path}"

    def check(self, *, writing: bool = False) -> None:  # noqa: ARG002  only writing shows whether one may
        prompt = ObjectStore(self.uri, self.options, PROMPT)
        if prompt._requests is not None:
            prompt._requests.probe(prompt._prefix)
            return
        prompt._call("", lambda: next(iter(prompt._client.list(prompt._prefix or None, chunk_size=1)), None))

    def greet(self, path: str) -> None:
        ObjectStore(self.uri, self.options, PROMPT).stat(path)

    def list(self, prefix: str = "", on_unreadable: Callable[[str], None] | None = None) -> Iterator[Entry]:  # noqa: ARG002  local folders only
        """Stream the objects below a folder in the order of their keys (UTF-8), a page a request."""
        root = self._prefix
        below = f"{root}{prefix}/" if prefix else root
        if self._requests is not None:
            for entry in self._requests.list(below):
                yield Entry(entry.path[len(root) :], entry.size_bytes, entry.version)
            return
        pages = iter(self._client.list(below or None, chunk_size=1000))
        while page := self._call(prefix, lambda: next(pages, None)):
            for meta in page:
                yield _entry(meta, meta["path"][len(root) :])

    def stat(self, path: str) -> Entry | None:
        if self._is_odd(path):
            entry = self._odd(path).head(self._prefix + path)
            return None if entry is None else entry._replace(path=path)
        try:
            meta = self._call(path, lambda: self._client.head(self._prefix + path))
        except FileNotFoundError:
            return None
        return _entry(meta, path)

    def size(self, path: str) -> int | None:
        entry = self.stat(path)
        return None if entry is None else entry.size_bytes

    def get(self, path: str, *, stop: threading.Event | None = None) -> bytes:
        if self._is_odd(path):
            return self._odd(path).send("GET", self._prefix + path, self._prefix + path, stop=stop)[1]
        return self._call(path, lambda: bytes(self._client.get(self._prefix + path).bytes()), stop)

    def open_input(self, path: str, *, buffer_bytes: int = 1 << 20) -> IO[bytes]:
        if self._is_odd(path):
            return io.BytesIO(self.get(path))
        entry = self.stat(path)
        if entry is None:
            msg = f"{self.uri_of(path)}: not there"
            raise FileNotFoundError(msg)

        def read_range(start: int, length: int) -> bytes:
            return self._call(path, lambda: bytes(self._client.get_range(self._prefix + path, start=start, length=length)))

        return io.BufferedReader(RangeReader(entry.size_bytes, read_range), buffer_bytes)

    def put(self, path: str, data: bytes, *, is_lasting: bool = True) -> None:  # noqa: ARG002  what is put there lasts
        """Write one object with one PUT."""
        if self._is_odd(path):
            self._odd(path).send("PUT", self._prefix + path, self._prefix + path, body=data)
            return
        self._call_writing(path, lambda: self._client.put(self._prefix + path, data, use_multipart=False))

    def put_file(self, path: str, local_path: str) -> None:
        """Write one object from a file: one PUT up to 8 MiB, a multipart upload above."""
        if self._is_odd(path):
            self.put(path, Path(local_path).read_bytes())
            return
        self._call_writing(
            path,
            lambda: self._client.put(
                self._prefix + path, Path(local_path), chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE, mode="overwrite"
            ),
        )

    def create(self, path: str, data: bytes) -> bool:
        """Write one object with a conditional PUT (If-None-Match: *).

        Where the reply to a PUT is lost, the next attempt meets our own object: then the bytes decide, so that they should hold
        something of the writer's own (a token) where two writers must not both believe they won.
        """
        if self._is_odd(path):
            msg = f"{self.uri_of(path)}: a key with empty parts cannot be created"
            raise StorageError(msg)
        is_in_doubt = False

        def attempt() -> bool:
            nonlocal is_in_doubt
            _refuse_after_fork(self.uri)
            try:
                self._client_without_retries.put(self._prefix + path, data, mode="create", use_multipart=False)
            except AlreadyExistsError as error:
                if "ConditionalRequestConflict" in str(error):  # S3: another PUT is under way; ask again
                    raise PassingFault(f"{self.uri_of(path)}: is being written by another") from error
                return is_in_doubt and self.get(path) == data
            except (BaseError, FileNotFoundError, ValueError) as error:
                is_in_doubt = True
                raise self._writing_fault(path, error) from error
            return True

        return insist(attempt, self.patience.retry_s)

    def delete(self, path: str) -> None:
        if self._is_odd(path):
            self._odd(path).send("DELETE", self._prefix + path, self._prefix + path)
            return
        try:
            self._call(path, lambda: self._client.delete(self._prefix + path))
        except FileNotFoundError:  # S3 says nothing, Google and Azure do
            return

    @cached_property
    def _bucket(self) -> str:
        return self.uri.partition("://")[2].partition("/")[0]

    @cached_property
    def _prefix(self) -> str:
        prefix = self.uri.partition("://")[2].partition("/")[2]
        return f"{prefix}/" if prefix else ""

    @cached_property
    def _access(self) -> Access | None:
        return resolve(self.options, self.uri) if scheme_of(self.uri) in S3_SCHEMES else None

    @cached_property
    def _requests(self) -> S3Requests | None:
        return S3Requests(self._access, self._bucket, self.patience) if self._access is not None else None

    @cached_property
    def _client(self) -> Any:
        return self._connect(retries=6)

    @cached_property
    def _client_without_retries(self) -> Any:
        return self._connect(retries=0)

    def _connect(self, retries: int) -> Any:
        client: dict[str, Any] = {
            "connect_timeout": timedelta(seconds=self.patience.connect_s),
            "read_timeout": timedelta(seconds=self.patience.stall_s),
            "timeout": timedelta(minutes=10),  # of a whole request: a large picture over a slow link is no failure
            "allow_http": self.options.allow_http or (self._access is not None and self._access.allow_http),
        }
        _refuse_after_fork(self.uri)
        retry: dict[str, Any] = {
            "max_retries": retries,
            "retry_timeout": timedelta(seconds=min(_INNER_RETRY_S, self.patience.retry_s)),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
        }
        if self._access is not None:
            signing: dict[str, Any] = {"skip_signature": True}
            if self._access.credentials is not None:
                signing = {"credential_provider": self._access.keys}
            return S3Store(
                self._bucket,
                endpoint=self._access.endpoint,
                region=self._access.region,
                client_options=client,  # type: ignore[arg-type]  # a TypedDict with the same keys
                retry_config=retry,  # type: ignore[arg-type]  # see above
                **signing,
            )
        config: dict[str, Any] = {}
        if self.options.anonymous:
            config["skip_signature"] = True
        if self.options.endpoint:
            config["base_url" if scheme_of(self.uri) == "gs" else "endpoint"] = self.options.endpoint
        root = f"{scheme_of(self.uri)}://{self._bucket}"
        try:
            return from_url(root, config=config, client_options=client, retry_config=retry)  # type: ignore[call-overload]  # see above
        except (BaseError, ValueError) as error:
            msg = f"{root}: cannot be opened: {str(error).partition(chr(10))[0]}"
            raise RecipeError(msg) from error

    def _place(self, path: str) -> Place:
        if self._access is not None:
            return Place(self.uri_of(path).rstrip("/"), self._access.endpoint, S3Requests.hint)
        who = self.options.endpoint or {"gs": "Google Cloud Storage"}.get(scheme_of(self.uri), "Azure")
        return Place(self.uri_of(path).rstrip("/"), who, "check the credentials this cloud's tools use here, and what they allow")

    def _call(self, path: str, request: Callable[[], T], stop: threading.Event | None = None) -> T:
        """Do one request of obstore's, its errors mapped, insisting."""

        def attempt() -> T:
            _refuse_after_fork(self.uri)
            try:
                return request()
            except (BaseError, FileNotFoundError, ValueError) as error:
                raise self._place(path).obstore_fault(error) from error

        return insist(attempt, self.patience.retry_s, stop)

    def _call_writing(self, path: str, request: Callable[[], object]) -> None:
        def attempt() -> None:
            _refuse_after_fork(self.uri)
            try:
                request()
            except (BaseError, FileNotFoundError, ValueError) as error:
                raise self._writing_fault(path, error) from error

        insist(attempt, self.patience.retry_s)

    def _writing_fault(self, path: str, error: Exception) -> Exception:
        """Return what an exception of a PUT stands for: nothing can be missing there but the bucket."""
        fault = self._place(path).obstore_fault(error)
        if isinstance(fault, FileNotFoundError):
            return self._place(path).fault(404, "NoSuchBucket", "")
        return fault

    def _is_odd(self, path: str) -> bool:
        """Return whether a key is one that obstore refuses or would trim."""
        key = self._prefix + path
        return "//" in key or key.startswith("/") or key.endswith("/") or not key.isprintable()

    def _odd(self, path: str) -> S3Requests:
        if self._requests is None:
            msg = f"{self.uri_of(path)}: a key with empty parts or control characters cannot be read from this store"
            raise FileNotFoundError(msg)
        return self._requests


# The process whose threads serve obstore, once there is one.
_served: list[int] = []


def _refuse_after_fork(uri: str) -> None:
    if not _served:
        _served.append(os.getpid())
    elif _served[0] != os.getpid():
        msg = f"{uri}: this process was forked from one that had used an object store; start processes with `spawn` or `forkserver`"
        raise StorageError(msg)


def _entry(meta: Any, path: str) -> Entry:
    etag = (meta["e_tag"] or "").strip('"')
    return Entry(path, meta["size"], etag or f"{meta['size']}-{int(meta['last_modified'].timestamp() * 1e9)}")
