"""Make one unit and publish it: fetch, walk, shard; then storage, receipt. The heart of a build; it knows no engine."""

from __future__ import annotations

import errno
import tempfile
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ray_prep.dataset.record import TRAINING
from ray_prep.dataset.shard import Shard
from ray_prep.dataset.shard_reader import ShardReader
from ray_prep.dataset.sums import add_sums
from ray_prep.errors import MAX_ATTEMPTS, RecipeError, SampleError, StorageError
from ray_prep.image.fetch import fetch
from ray_prep.isolation import Isolation
from ray_prep.messages import Tick
from ray_prep.receipt import Receipt, receipt_path
from ray_prep.redaction import without_credentials
from ray_prep.sample import Rejection
from ray_prep.shelf import Shelf
from ray_prep.sources.container import holds_members
from ray_prep.walk import Walk
from ray_prep.work import read_items

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ray_prep.dataset.record import ShardFacts
    from ray_prep.messages import UnitRef
    from ray_prep.sample import Item
    from ray_prep.shelf import Spooled
    from ray_prep.work import Work

TICK_S = 0.25
# What the system says of a disk, and not of a process that could not be started or a connection.
_DISK_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG})
# A sign of life this often while storage takes a shard.
_WAIT_S = 2.0
# So many pictures that are not there, and none that is: that is no fault of theirs, the source's place is wrong or was emptied.
_ALL_MISSING = 20
# With every item in a process of its own the bytes fetched ahead are few: a unit that died once may have died of memory.
_ISOLATED_WINDOW = 64


@dataclass
class _Signs:
    """Adds up what happened since the last tick and sends it on, some four times a second."""

    notify: Callable[[Tick], None]
    items: int = 0
    rejected: int = 0
    source_bytes: int = 0
    sent_at: float = field(default_factory=time.monotonic)

    def finished(self, source_bytes: int, *, is_rejected: bool) -> None:
        self.items += 1
        self.rejected += is_rejected
        self.source_bytes += source_bytes
        if time.monotonic() - self.sent_at > TICK_S:
            self.send()

    def send(self, *, is_waiting: bool = False) -> None:
        self.notify(Tick(self.items, self.rejected, self.source_bytes, is_waiting))
        self.items = self.rejected = self.source_bytes = 0
        self.sent_at = time.monotonic()


@dataclass(frozen=True)
class MadeUnit:
    """A unit whose shards are spooled on local disk.

    Args:
        work: What all units of the build share.
        receipt: What it is going to leave.
        spooled: Its shards that are not yet in storage.
        started: When its making began, monotonic seconds.
        folder: Removes its local files when closed.
    """

    work: Work
    receipt: Receipt
    spooled: tuple[Spooled, ...]
    started: float
    folder: ExitStack

    def publish(self) -> Receipt:
        """Put its shards where they belong, and then its receipt.

        Everything is whole under its final name or not there, so this may happen again at any time, also twice at once.

        Raises:
            StorageError: Storage is unreachable or refuses.
        """
        with self.folder:
            for shard in self.spooled:
                shard.publish(self.work.store)
        receipt = replace(self.receipt, seconds=round(time.monotonic() - self.started, 3))
        # A receipt that a power cut takes along, or halves, costs its unit being made again.
        self.work.store.put(receipt_path(receipt.unit_id), receipt.to_json(), is_lasting=False)
        return receipt


def run_unit(work: Work, ref: UnitRef, notify: Callable[[Tick], None], *, is_isolated: bool = False) -> Receipt:
    """Make one unit and publish it; see `make_unit`."""
    return make_unit(work, ref, notify, is_isolated=is_isolated).publish()


def make_unit(work: Work, ref: UnitRef, notify: Callable[[Tick], None], *, is_isolated: bool = False) -> MadeUnit:
    """Make the shards of one unit on local disk. Where a unit fills several, the earlier ones go to storage at once.

    Args:
        work: What all units of the build share.
        ref: The unit.
        notify: Is told a few times a second that the unit lives.
        is_isolated: Whether every picture gets a process of its own: the second attempt, after the unit's process died.

    Raises:
        StorageError: Storage is unreachable or refuses, or the source's pictures are not there.
    """
    started = time.monotonic()
    items = read_items(work, ref)
    signs = _Signs(notify)
    with ExitStack() as folder, ExitStack() as stack:
        stack.enter_context(_spooling())
        bench = _Bench(work, ref, Path(folder.enter_context(tempfile.TemporaryDirectory(prefix="ray_prep-"))), signs)
        stack.callback(bench.abort)
        if ref.kind == "copy":
            _copy(bench, items, signs)
        else:
            isolation = stack.enter_context(Isolation(work)) if is_isolated else None
            _judge(bench, _pictures(work, items, signs, bench.ignored, stack, is_isolated=is_isolated), signs, isolation)
        spooled = bench.close()
        signs.send()
        receipt = Receipt(
            unit_id=ref.unit_id,
            items=bench.items,
            shards=tuple(bench.made),
            rejections=tuple(bench.rejections),
            sums=bench.sums,
            ignored=dict(sorted(bench.ignored.items())),
            source_bytes=bench.source_bytes,
            conditions=work.conditions,
        )
        return MadeUnit(work, receipt, spooled, started, folder.pop_all())


@contextmanager
def _spooling() -> Iterator[None]:
    """Name the place where a local disk fails: stores and sources name theirs."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FAULTS:
            raise
        msg = f"{tempfile.gettempdir()}: {error.strerror or error}; shards are made there first, and TMPDIR names another folder"
        raise StorageError(msg) from error


class _Bench:
    """What has become of a unit so far.

    Args:
        work: What all units of the build share.
        ref: The unit.
        folder: Where shards are spooled.
        signs: Told that the unit lives while storage keeps it waiting.
    """

    def __init__(self, work: Work, ref: UnitRef, folder: Path, signs: _Signs) -> None:
        self.work = work
        self.ref = ref
        self.items = 0
        self.accepted = 0
        self.source_bytes = 0
        self.made: list[ShardFacts] = []
        self.rejections: list[Rejection] = []
        self.ignored: Counter[str] = Counter()
        self.attempts = _attempts(work, ref)
        self.sums: tuple[int, ...] = ()
        self._folder = folder
        self._signs = signs
        self._shelves: dict[str, Shelf] = {}

    def put(self, split: str, rows: list[dict[str, Any]], footer: dict[str, str] | None = None) -> None:
        """Store all rows of one item."""
        shelf = self._shelves.get(split)
        if shelf is None:
            shelf = self._shelves[split] = Shelf(self.work, self.ref.unit_id, split, self._folder, footer)
        if full := shelf.put(rows):
            self.made.append(full.facts)
            with ThreadPoolExecutor(1, "ray_prep-publish") as publisher:
                publishing = publisher.submit(full.publish, self.work.store)
                while not wait((publishing,), _WAIT_S).done:
                    self._signs.send(is_waiting=True)
                publishing.result()

    def close(self) -> tuple[Spooled, ...]:
        """Finish what is open, and return it; splits in the order of their names."""
        spooled = tuple(last for _, shelf in sorted(self._shelves.items()) if (last := shelf.close()))
        self.made += [last.facts for last in spooled]
        return spooled

    def abort(self) -> None:
        """Let go of what is half written."""
        for shelf in self._shelves.values():
            shelf.abort()


def _attempts(work: Work, ref: UnitRef) -> dict[tuple[str, str], int]:
    """Return how often each rejected item was tried, by key and uri, as the receipt tells that the unit left in an earlier build."""
    if not ref.attempts:
        return Counter()
    receipt = None
    with suppress(FileNotFoundError):
        receipt = Receipt.from_json(work.store.get(receipt_path(ref.unit_id)))
    if receipt is None:
        return defaultdict(lambda: ref.attempts)
    return Counter({(rejection.key, rejection.uri): rejection.attempts for rejection in receipt.rejections})


def _pictures(
    work: Work, items: list[Item], signs: _Signs, ignored: Counter[str], stack: ExitStack, *, is_isolated: bool
) -> Iterator[tuple[Item, bytes | SampleError]]:
    """Yield the unit's pictures: its items' bytes fetched ahead, or what is in its containers, front to back."""

    def waiting() -> None:
        signs.send(is_waiting=True)

    source = work.recipe.source
    if holds_members(source):
        for container in items:
            yield from source.members(container, waiting, ignored=ignored)
    else:
        window = _ISOLATED_WINDOW if is_isolated else None
        yield from stack.enter_context(fetch(items, source.storage_options, window=window, on_wait=waiting))


def _judge(bench: _Bench, pictures: Iterator[tuple[Item, bytes | SampleError]], signs: _Signs, isolation: Isolation | None) -> None:
    """Take every picture to its rows, or to its rejection."""
    recipe, ref = bench.work.recipe, bench.ref
    walk = Walk(recipe, bench.work.class_ids)
    method: Literal["rows", "measured"] = "rows" if ref.kind == "make" else "measured"
    for item, data in pictures:
        split = ref.split
        outcome: Any = None
        size_bytes = 0
        try:
            if isinstance(data, SampleError):
                raise data
            size_bytes = len(data)
            if recipe.source.is_container:
                item = labelled(bench.work.known(item), bench.work)
                split = recipe.split.of(item)
                if ref.kind == "measure" and split != TRAINING:
                    continue
            outcome = isolation.run(method, split, item, data) if isolation else getattr(walk, method)(split, item, data)
        except SampleError as error:
            rejection = Rejection(item.key, item.uri, item.version, error.stage, error.reason, without_credentials(error.message))
            if rejection.is_passing(lists_files=recipe.source.lists_files):
                rejection = replace(rejection, attempts=min(bench.attempts[item.key, item.uri] + 1, MAX_ATTEMPTS))
            bench.rejections.append(rejection)
            _refuse_an_empty_source(bench)
        else:
            bench.accepted += 1
            if ref.kind == "make":
                bench.put(split, outcome)
            else:
                bench.sums = add_sums((bench.sums, outcome))
        bench.items += 1
        bench.source_bytes += size_bytes
        signs.finished(size_bytes, is_rejected=outcome is None)


def labelled(item: Item, work: Work) -> Item:
    """Return a container's member with the class that its number stands for.

    Raises:
        RecipeError: Its label is not in the class list, which must be known before containers are read; or a tar's number is the name
            of a class at another place.
    """
    if item.label is None:
        return item
    if item.label in work.class_ids:
        place = work.class_ids[item.label]
        if item.label_id not in (None, place) and work.recipe.source.layout == "webdataset":
            msg = (
                f"classes: {item.uri} has the number {item.label}, which is a place in the list, counted from 0, and the class that is "
                f"called {item.label!r} stands at place {place}; call classes by words, or put numbers at their own places"
            )
            raise RecipeError(msg)
        return item
    classes = work.frozen.classes
    if item.label_id is not None and (not classes or item.label_id < len(classes)):
        return replace(item, label=classes[item.label_id]) if classes else item
    known = f"the class list has {len(classes)} names" if classes else "a container's labels are known only when it is read"
    msg = f"classes: {item.uri} has the label {item.label!r}, and {known}; list every class in the recipe's `classes`"
    raise RecipeError(msg)


def _copy(bench: _Bench, losers: list[Item], signs: _Signs) -> None:
    """Copy a shard without the rows of some items: survivors in their order, the old footer kept.

    Args:
        bench: The unit.
        losers: Their keys; the uri of each is the shard's path.
        signs: Told of each image.
    """
    keys = {item.key for item in losers}
    is_encoded, dtype = bench.work.recipe.output.image != "tensor", bench.work.recipe.image_column.dtype
    shard = Shard(losers[0].uri, bench.ref.split, 0, 0, "", "", "")
    with ShardReader(bench.work.store, shard) as reader:

        def rows() -> Iterator[dict[str, Any]]:
            for group in range(len(reader.group_rows)):
                table = reader.table(group, bench.work.schema.names)
                place = table.schema.get_field_index("image")
                images = table.column(place).combine_chunks()
                for number, row in enumerate(table.remove_column(place).to_pylist()):
                    value = images[number]
                    row["image"] = value.as_py() if is_encoded else np.frombuffer(value.as_buffer(), dtype).reshape(_shape(row))
                    yield row

        # Over all row groups: one may end between the copies of an item.
        for key, copies in groupby(rows(), lambda row: row["key"]):
            if key not in keys:
                bench.put(shard.split, list(copies), reader.footer)
            signs.finished(0, is_rejected=key in keys)


def _shape(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["height"], row["width"], row["channels"]


def _refuse_an_empty_source(bench: _Bench) -> None:
    rejections = bench.rejections
    if bench.accepted == 0 and len(rejections) == _ALL_MISSING and all(rejection.reason == "missing" for rejection in rejections):
        msg = (
            f"{bench.work.recipe.source.uri}: the first {_ALL_MISSING} pictures that it lists are not there (such as {rejections[0].uri}); "
            "is the path right, and is the storage mounted?"
        )
        raise StorageError(msg)
