"""Run one unit: fetch, walk, shard, receipt. The heart of a build; it knows no engine and returns no pixels."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ray_prep.dataset.record import ShardFacts
from ray_prep.dataset.schema import carried_names
from ray_prep.dataset.shard import ShardWriter
from ray_prep.dataset.sums import add_sums
from ray_prep.errors import FetchError, SampleError, StorageError
from ray_prep.image.fetch import fetch
from ray_prep.isolation import Isolation
from ray_prep.messages import Tick
from ray_prep.receipt import Receipt, receipt_path
from ray_prep.sample import Item, Rejection
from ray_prep.walk import Walk
from ray_prep.work import read_items

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray_prep.messages import UnitRef
    from ray_prep.work import Work

TICK_S = 0.25
# So many pictures that are not there, and none that is: that is no fault of theirs, the source's place is wrong or was emptied.
_ALL_MISSING = 20
# A shard is closed early where a unit's items turned out larger than the plan thought.
_SHARD_OVERRUN = 1.5
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


def run_unit(work: Work, ref: UnitRef, notify: Callable[[Tick], None], *, is_isolated: bool = False) -> Receipt:
    """Make the shards of one unit and leave its receipt.

    Everything it writes is whole under its final name or not there, so it may run again at any time, also twice at once.

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
    rejections: list[Rejection] = []
    made: list[ShardFacts] = []
    sums: tuple[int, ...] = ()
    source_bytes = 0
    signs = _Signs(notify)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray_prep-")))
        isolation = stack.enter_context(Isolation(work)) if is_isolated else None
        walk = Walk(work.recipe, work.class_ids)
        shelf = _Shelf(work, ref, folder)
        stack.callback(shelf.abort)
        method: Literal["rows", "measured"] = "rows" if ref.kind == "make" else "measured"
        fetched = fetch(
            items,
            work.recipe.source.storage_options,
            window=_ISOLATED_WINDOW if is_isolated else None,
            on_wait=lambda: signs.send(is_waiting=True),
        )
        stack.enter_context(fetched)
        for item, data in fetched:
            outcome: Any = None
            try:
                if isinstance(data, SampleError):
                    raise data
                source_bytes += len(data)
                outcome = isolation.run(method, ref.split, item, data) if isolation else getattr(walk, method)(ref.split, item, data)
            except SampleError as error:
                rejections.append(_rejection(item, error, ref.attempts))
                _refuse_an_empty_source(rejections, work, has_any=bool(shelf.images or sums))
            else:
                if ref.kind == "make":
                    made.extend(shelf.put(item, outcome))
                else:
                    sums = add_sums((sums, outcome))
            signs.finished(0 if isinstance(data, FetchError) else len(data), is_rejected=outcome is None)
        made.extend(shelf.close())
    signs.send()
    receipt = Receipt(
        unit_id=ref.unit_id,
        split=ref.split,
        items=len(items),
        shards=tuple(made),
        rejections=tuple(rejections),
        sums=sums,
        source_bytes=source_bytes,
        conditions=work.conditions,
        seconds=round(time.monotonic() - started, 3),
    )
    work.store.put(receipt_path(ref.unit_id), receipt.to_json())
    return receipt


def _rejection(item: Item, error: SampleError, attempts: int) -> Rejection:
    return Rejection(item.key, item.uri, item.version, error.stage, error.reason, error.message, attempts + 1)


def _refuse_an_empty_source(rejections: list[Rejection], work: Work, *, has_any: bool) -> None:
    if not has_any and len(rejections) == _ALL_MISSING and all(rejection.reason == "missing" for rejection in rejections):
        msg = (
            f"{work.recipe.source.uri}: the first {_ALL_MISSING} pictures that it lists are not there (such as {rejections[0].uri}); "
            "is the path right, and is the storage mounted?"
        )
        raise StorageError(msg)


class _Shelf:
    """Rows go in, shards come out: spooled to local disk, put into the table's folder once, whole.

    Args:
        work: What all units of the build share.
        ref: The unit.
        folder: Where files are spooled.
    """

    def __init__(self, work: Work, ref: UnitRef, folder: Path) -> None:
        self._work = work
        self._ref = ref
        self._folder = folder
        names = work.carried_schema.names
        self._columns = dict(zip(names, carried_names(names), strict=True))
        self._limit_bytes = int(work.recipe.output.shard_mb * 1e6 * _SHARD_OVERRUN)
        self._writer: ShardWriter | None = None
        self._labels: Counter[str] = Counter()
        self._shard_images = 0
        self._sums: tuple[int, ...] = ()
        self.images = 0

    def put(self, item: Item, rows: list[dict[str, Any]]) -> list[ShardFacts]:
        """Take all rows of one item; return the shard they filled, if they did."""
        if self._writer is None:
            self._writer = ShardWriter(
                self._folder,
                self._work.schema,
                self._ref.split,
                compression=self._work.recipe.output.compression,
                footer={"fingerprint": self._work.recipe.fingerprint(self._ref.split), **self._work.made_with},
            )
        for row in rows:
            for name, value in row.pop("columns").items():
                row[self._columns[name]] = value
            self._writer.append(row)
            if row["sums"] is not None:
                self._sums = add_sums((self._sums, row["sums"]))
        if item.label is not None:
            self._labels[item.label] += 1
        self.images += 1
        self._shard_images += 1
        return self.close() if self._writer.bytes_written >= self._limit_bytes else []

    def close(self) -> list[ShardFacts]:
        """Finish the open shard, if there is one, and put it where it belongs."""
        if self._writer is None:
            return []
        file = self._writer.close()
        self._work.store.put_file(file.shard.path, str(file.local_path))
        file.local_path.unlink()
        made = ShardFacts(file.shard, self._ref.unit_id, self._shard_images, dict(sorted(self._labels.items())), self._sums)
        self._writer = None
        self._labels = Counter()
        self._shard_images = 0
        self._sums = ()
        return [made]

    def abort(self) -> None:
        """Let go of a half-written shard."""
        if self._writer is not None:
            self._writer.abort()
