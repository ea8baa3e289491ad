"""What tars and Parquet files have in common: files that hold many images, listed by name and read once, front to back."""

from __future__ import annotations

import io
import os
import re
import threading
from functools import partial
from queue import Empty, Full, Queue
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol, TypeGuard, TypeVar

from ray_prep.errors import RecipeError, StorageError
from ray_prep.sample import Item
from ray_prep.sources.listing import SPLIT_FOLDERS, Source, glob_pattern, is_hidden, key_of, listed, split_folder, suffix_of
from ray_prep.storage import PROMPT, Stores, is_local, local_path, open_store, split_uri

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Generator, Iterable, Iterator

    from ray_prep.errors import SampleError
    from ray_prep.storage import Entry, StorageOptions, Store

T = TypeVar("T")

# The image a container stands for cannot be larger: what a worker of 1.5 GB can hold, and decode.
MAX_IMAGE_BYTES = 512 << 20
# How often the one who waits for storage says that it is alive.
_WAIT_S = 2.0
# A reader that hangs in a request when nobody wants its answer any more is left to end by itself.
_JOIN_S = 5.0
_WORDS = re.compile(r"[-._ ]+")


class ContainerSource(Source, Protocol):
    """Items that are files with many images each; `is_container` is true.

    The key, uri and version of an item are those of the file, and so is the version of its members.
    """

    def members(
        self, container: Item, on_wait: Callable[[], None] | None = None, *, ignored: Counter[str] | None = None
    ) -> Iterator[tuple[Item, bytes | SampleError]]:
        """Open a container once and stream its images in their order, each with its bytes or with what is wrong with it.

        Keys are unique within a container. Where the container itself is at fault (missing, truncated, corrupt), the last pair is the
        container's own item and what is wrong: whatever it held beyond the images before is lost.

        Args:
            container: One of `items`.
            on_wait: Called every other second while the consumer waits for a remote store.
            ignored: Counts, by suffix, what lies in it and is no image on offer.

        Raises:
            StorageError: The store refuses access, or stays away beyond patience.
            RecipeError: The container does not fit the recipe.
        """
        ...

    def offers(self, path: str) -> bool:
        """Return whether a file would be on offer that lies there below the root."""
        ...

    def class_names(self) -> tuple[str, ...] | None:
        """Return the classes in their order, as far as they can be known without reading an image; None where they cannot."""
        ...


def holds_members(source: Source) -> TypeGuard[ContainerSource]:
    """Return whether a source's items are containers."""
    return source.is_container


class Offer(NamedTuple):
    """Which files are containers.

    Args:
        what: What they are called in messages.
        suffixes: How their names end.
    """

    what: str
    suffixes: tuple[str, ...]

    def is_named_by(self, path: str) -> bool:
        """Return whether a name is one of a container."""
        return path.lower().endswith(self.suffixes)

    def ignored_as(self, path: str) -> str | None:
        """Return the suffix a path is counted under where it is ignored: hidden, a folder marker, or no container."""
        if path.endswith("/"):
            return "/"
        return suffix_of(path) if is_hidden(path) or not self.is_named_by(path) else None

    def takes(self, path: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
        """Return whether a path below the root is on offer: as `listed` judges it."""
        wanted, unwanted = glob_pattern(include), glob_pattern(exclude)
        return self.ignored_as(path) is None and wanted.fullmatch(path) is not None and unwanted.fullmatch(path) is None


def check_target(source: Source, target: str) -> None:
    """Refuse a target whose own files the source would list: the next build would take them for containers of images.

    Args:
        source: Of the recipe.
        target: The recipe's `output.uri`.

    Raises:
        RecipeError: It is one.
    """
    if not holds_members(source):  # what a target holds is ignored by the others: sidecars, and names that begin with _
        return
    root, inside = (os.path.realpath(local_path(uri)) if is_local(uri) else uri for uri in (source.uri, target))
    if not f"{inside}/".startswith(f"{root}/"):
        return
    below = inside[len(root) + 1 :]
    if source.offers(f"{below}/split=train/0.parquet".lstrip("/")):
        msg = (
            f"output.uri: {target} lies in source.uri, {source.uri}, where the next build would take the dataset's own files for a source; "
            "write to a folder outside" + (f", or put {below}/** into source.exclude" if below else "")
        )
        raise RecipeError(msg)


def containers(
    uri: str,
    options: StorageOptions,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    ignored: Counter[str],
    offer: Offer,
) -> Iterator[Item]:
    """Stream the containers below a root, or the one that the uri itself names; as `listed`."""
    folder, name = split_uri(uri)
    if offer.is_named_by(name):
        entry = open_store(folder, options, patience=PROMPT).stat(name)
        if entry is not None:
            yield _container(open_store(folder, options), entry)
            return
    for store, entry in listed(uri, options, include, exclude, ignored, offer.ignored_as, offer.what):
        yield _container(store, entry)


def _container(store: Store, entry: Entry) -> Item:
    key = key_of(entry.path)
    return Item(key, store.uri_of(entry.path), entry.version, split=split_told_by(key))


def split_told_by(path: str) -> str | None:
    """Return the split a container's path names: by its first folder, else by the one word of its file's name that is one.

    `val/000.tar` and `imagenet-val-000.tar` are `val`; `train-00000-of-00004.parquet`, as Hugging Face writes it, is `train`.
    """
    by_folder = split_folder(path)
    if by_folder is not None:
        return by_folder
    told = {SPLIT_FOLDERS[word] for word in _WORDS.split(path[path.rfind("/") + 1 :].lower()) if word in SPLIT_FOLDERS}
    return told.pop() if len(told) == 1 else None


def member_uri(container: Item, place: str) -> str:
    """Return a member's uri: the container's, `#`, and its place there, in which no `#` is left."""
    return f"{container.uri}#{place.replace('#', '%23')}"


def open_container(container: Item, options: StorageOptions, *, buffer_bytes: int) -> IO[bytes]:
    """Open a container for reading; what goes wrong with the place it lies in is a StorageError, never an OSError.

    Raises:
        FileNotFoundError: It is not there.
        StorageError: It may not be, or cannot be, read.
    """
    store, path = Stores(options).of(container.uri)
    return _Careful(store.open_input(path, buffer_bytes=buffer_bytes), container.uri)  # type: ignore[return-value]  # all of IO that is used


def ahead(
    values: Callable[[], Iterable[T]], container: Item, on_wait: Callable[[], None] | None, *, window: int
) -> Generator[T, None, None]:
    """Stream what comes out of a container; out of a remote one, ahead of the consumer, in a thread of its own.

    Args:
        values: Opens the container and streams what is in it.
        container: The container.
        on_wait: Called every other second while the consumer waits.
        window: Values that wait at the most; the thread holds one more.
    """
    if is_local(container.uri):
        yield from values()
        return
    queue: Queue[tuple[str, Any]] = Queue(window)
    stop = threading.Event()

    def put(kind: str, value: Any) -> None:
        while not stop.is_set():
            try:
                return queue.put((kind, value), timeout=_WAIT_S)
            except Full:
                continue
        return None

    def read_on() -> None:
        try:
            for value in values():
                put("value", value)
                if stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001  raised again where it belongs, in the consumer's thread
            put("error", error)
        else:
            put("end", None)

    reader = threading.Thread(target=read_on, name="ray_prep-container", daemon=True)
    reader.start()
    try:
        while True:
            try:
                kind, value = queue.get(timeout=_WAIT_S)
            except Empty:
                if on_wait is not None:
                    on_wait()
                continue
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()
        reader.join(_JOIN_S)


class _Careful(io.RawIOBase):
    """A file whose reads raise StorageError where the place it lies in is at fault, so that no reader takes that for damage.

    Args:
        file: What is read.
        uri: What it is called in messages.
    """

    def __init__(self, file: IO[bytes], uri: str) -> None:
        super().__init__()
        self._file = file
        self._uri = uri

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._do(partial(self._file.seek, offset, whence))

    def read(self, size: int = -1, /) -> bytes:
        return self._do(partial(self._file.read, size))

    def close(self) -> None:
        self._file.close()
        super().close()

    def _do(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:
            msg = f"{self._uri}: cannot be read: {error.strerror or error}"
            raise StorageError(msg) from error
