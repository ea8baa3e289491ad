"""Adds receipts up to what a version is: shards, counts, sums; rejections go to local disk, for there may be millions."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import TYPE_CHECKING, Self

from ray_prep.dataset.record import ShardFacts
from ray_prep.dataset.sums import add_sums

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ray_prep.receipt import Receipt
    from ray_prep.sample import Rejection

_MESSAGE_LENGTH = 200


class Tally:
    """What all units together made.

    Args:
        folder: A local folder for the rejections.
    """

    def __init__(self, folder: Path) -> None:
        self._spool = (folder / "rejections.pickle").open("w+b")
        self.shards: list[ShardFacts] = []
        self.counts: dict[str, Counter[str]] = {}
        self.sums: dict[str, tuple[int, ...]] = {}
        self.rejected_by_reason: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.decoded = 0
        self.rejected_new = 0
        self.source_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._spool.close()

    def add(self, receipt: Receipt, *, is_new: bool) -> None:
        """Add one unit.

        Args:
            receipt: What it left.
            is_new: Whether it ran in this build.
        """
        for made in receipt.shards:
            self.shards.append(made)
            counts = self.counts.setdefault(receipt.split, Counter())
            counts.update(made.labels)
            if unlabelled := made.images - sum(made.labels.values()):
                counts[""] += unlabelled
            self.sums[receipt.split] = add_sums((self.sums.get(receipt.split, ()), made.sums))
        self.reject(receipt.rejections)
        if is_new:
            self.decoded += receipt.items
            self.rejected_new += len(receipt.rejections)
            self.source_bytes += receipt.source_bytes

    def reject(self, rejections: Iterable[Rejection]) -> None:
        """Add rejections."""
        for rejection in rejections:
            pickle.dump(rejection, self._spool)
            self.rejected_by_reason[rejection.reason] += 1
            self.examples.setdefault(rejection.reason, f"{rejection.key}: {rejection.message}"[:_MESSAGE_LENGTH])

    def rejections(self) -> Iterator[Rejection]:
        """Yield all rejections, as they came."""
        self._spool.seek(0)
        for _ in range(self.rejected):
            yield pickle.load(self._spool)

    @property
    def accepted(self) -> int:
        """Images in the dataset."""
        return sum(made.images for made in self.shards)

    @property
    def rejected(self) -> int:
        """Items that did not make it."""
        return sum(self.rejected_by_reason.values())

    @property
    def rows(self) -> int:
        """Rows of all shards."""
        return sum(made.shard.rows for made in self.shards)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(made.shard.bytes for made in self.shards)
