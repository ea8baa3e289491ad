"""Bytes of images, fetched ahead of whoever decodes them."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Self

from ray_prep.errors import FetchError, RayPrepError, RecipeError
from ray_prep.storage import STEADY, Patience, StorageOptions, Stores, is_local, is_web, local_path, read_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from ray_prep.sample import Item

# Sixteen readers hide 20-30 ms of latency behind a decoder of 1.5 ms an image; four times as many in flight keep them busy.
READERS = 16
WINDOW = 64
WINDOW_BYTES = 64 << 20
# Of a local file that waits for its turn the disk is asked for so much ahead: a whole window keeps within its bytes.
_AHEAD_BYTES = WINDOW_BYTES // WINDOW

_WAIT_S = 2.0
# Before the first image has come, one is taken to be as large as a photo.
_FIRST_GUESS_BYTES = 256 << 10
# A local read this much slower than memory comes from a cold disk or a network mount, where readers in threads pay.
_SLOW_S = 0.0005
# A single read that took longer counts as this: what shares the core with us makes one wait 5 ms now and then, a slow disk makes all.
_LONGEST_S = 4 * _SLOW_S
# What the latest read counts in the mean: six in a row that long, and readers take over.
_LATEST_SHARE = 0.05
_MEMORY_BYTES_PER_S = 1e9


class _Slot:
    """An item under way, and what came of it."""

    __slots__ = ("done", "item", "outcome")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.outcome: bytes | Exception = RuntimeError(f"{item.uri}: its reader died")
        self.done: threading.Lock | None = None


class Fetch:
    """Items with their bytes, in order; see `fetch`. Leaving it as a context manager, or exhausting it, ends its threads."""

    def __init__(
        self, items: Iterable[Item], stores: Stores, *, window: int, window_bytes: int, on_wait: Callable[[], None] | None
    ) -> None:
        self._items = iter(items)
        self._stores = stores
        self._window = window
        self._window_bytes = window_bytes
        self._on_wait = on_wait
        self._requests: SimpleQueue[_Slot | None] = SimpleQueue()
        self._readers: list[threading.Thread] = []
        self._stop = threading.Event()
        self._mean_bytes = float(_FIRST_GUESS_BYTES)
        self._local_delay_s = 0.0
        self._stream = self._run()

    def __iter__(self) -> Iterator[tuple[Item, bytes | FetchError]]:
        return self._stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads; what was fetched and not taken is dropped."""
        self._stream.close()
        self._end_readers()

    def _run(self) -> Generator[tuple[Item, bytes | FetchError], None, None]:
        ahead: deque[_Slot] = deque()
        is_more = True
        try:
            while True:
                while is_more and len(ahead) < self._window and self._has_room(ahead):
                    item = next(self._items, None)
                    if item is None:
                        is_more = False
                        break
                    ahead.append(self._begin(item))
                if not ahead:
                    return
                slot = ahead.popleft()
                yield slot.item, self._finish(slot)
        finally:
            self._end_readers()

    def _has_room(self, ahead: deque[_Slot]) -> bool:
        """Return whether the bytes that came, and those under way as far as they can be guessed, leave room for more."""
        if not self._readers or not ahead:
            return True
        expected = 0.0
        for slot in ahead:
            if slot.done is not None:
                expected += len(slot.outcome) if isinstance(slot.outcome, bytes) else self._mean_bytes
        return expected + self._mean_bytes <= self._window_bytes

    def _begin(self, item: Item) -> _Slot:
        """Give an item to the readers, or leave it to be read in its turn where that is as fast: a local disk.

        That disk is told of it now, and reads while pictures are decoded: of 12,000 photos on a cold one, two workers made 1.03, 1.2
        and 1.3 times as many a second (three pairs of builds).
        """
        slot = _Slot(item)
        if self._local_delay_s > _SLOW_S or not is_local(item.uri):
            slot.done = threading.Lock()
            slot.done.acquire()
            if len(self._readers) < min(READERS, self._window):
                reader = threading.Thread(target=self._read_on, name=f"ray_prep-fetch-{len(self._readers)}", daemon=True)
                self._readers.append(reader)
                reader.start()
            self._requests.put(slot)
        else:
            with suppress(RecipeError):  # such a uri comes to light when its turn comes
                read_ahead(local_path(item.uri), _AHEAD_BYTES)
        return slot

    def _finish(self, slot: _Slot) -> bytes | FetchError:
        if slot.done is None:
            begin = time.perf_counter()
            slot.outcome = self._read(slot.item)
            delay_s = time.perf_counter() - begin
            if isinstance(slot.outcome, bytes):
                delay_s -= len(slot.outcome) / _MEMORY_BYTES_PER_S
            self._local_delay_s += _LATEST_SHARE * (min(delay_s, _LONGEST_S) - self._local_delay_s)
        else:
            while not slot.done.acquire(timeout=_WAIT_S):
                if self._on_wait is not None:
                    self._on_wait()
            if isinstance(slot.outcome, bytes):
                self._mean_bytes += 0.1 * (len(slot.outcome) - self._mean_bytes)
        if isinstance(slot.outcome, Exception) and not isinstance(slot.outcome, FetchError):
            raise slot.outcome
        return slot.outcome

    def _read(self, item: Item) -> bytes | Exception:
        try:
            store, path = self._stores.of(item.uri)
            return store.get(path, stop=self._stop)
        except FileNotFoundError as error:
            return FetchError("missing", str(error))
        except RayPrepError as error:
            return error

    def _read_on(self) -> None:
        while (slot := self._requests.get()) is not None:
            try:
                slot.outcome = self._read(slot.item)
            finally:
                if slot.done is not None:
                    slot.done.release()

    def _end_readers(self) -> None:
        self._stop.set()
        try:
            while True:
                self._requests.get_nowait()
        except Empty:
            pass
        for _ in self._readers:
            self._requests.put(None)
        for reader in self._readers:
            reader.join()
        self._readers.clear()


def fetch(
    items: Iterable[Item],
    options: StorageOptions | None = None,
    *,
    window: int | None = None,
    window_bytes: int = WINDOW_BYTES,
    on_wait: Callable[[], None] | None = None,
    patience: Patience = STEADY,
    greet: bool = False,
) -> Fetch:
    """Fetch the bytes of items, in their order, ahead of the consumer; one request an image.

    An image that is not there comes as FetchError `missing` in its place. Use it in a `with` block, or exhaust it: its threads end
    then. Local files are read in their turn, as that is faster than handing them over, until reads turn out to be slow.

    Args:
        items: What to fetch; taken as far as the window reaches.
        options: How stores are reached.
        window: Images fetched ahead at the most; None is a good number.
        window_bytes: Bytes held ahead, about: sizes are known only when an image has come.
        on_wait: Called every other second while the consumer waits for storage.
        patience: How long a store may keep us waiting.
        greet: Hear within seconds whether the web servers answer, before the first request: for a person who waits. All items are taken
            at once then.

    Raises:
        StorageError: A web server that was greeted does not answer; while iterating: a store refuses access, or stays away beyond
            patience.
    """
    stores = Stores(options or StorageOptions(), patience)
    if greet:
        items = list(items)
        stores.greet(item.uri for item in items if is_web(item.uri))
    return Fetch(items, stores, window=window or WINDOW, window_bytes=window_bytes, on_wait=on_wait)
