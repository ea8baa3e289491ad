"""Adds receipts up to what a version is: shards, counts, sums; rejections go to local disk, for there may be millions."""

from __future__ import annotations

import pickle
from collections import Counter
from os import SEEK_END
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
        self.rejected_by_reason: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.ignored: Counter[str] = Counter()
        self.decoded = 0
        self.copied_rows = 0
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
        self.shards += receipt.shards
        self.reject(receipt.rejections)
        self.ignored.update(receipt.ignored)
        if is_new:
            self.decoded += receipt.items
            self.source_bytes += receipt.source_bytes

    def reject(self, rejections: Iterable[Rejection]) -> None:
        """Add rejections."""
        self._spool.seek(0, SEEK_END)
        for rejection in rejections:
            pickle.dump(rejection, self._spool)
            self.rejected_by_reason[rejection.reason] += 1
            self.examples.setdefault(rejection.reason, f"{rejection.key}: {rejection.message}"[:_MESSAGE_LENGTH])

    def rejections(self) -> Iterator[Rejection]:
        """Yield all rejections, as they came."""
        self._spool.seek(0)
        for _ in range(self.rejected):
            yield pickle.load(self._spool)

    def replace(self, path: str, shards: Iterable[ShardFacts]) -> None:
        """Take other shards in place of one."""
        self.shards = [made for made in self.shards if made.shard.path != path] + list(shards)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Accepted items by split and class; the class of items without a label is ""."""
        counts: dict[str, Counter[str]] = {}
        for made in self.shards:
            split = counts.setdefault(made.shard.split, Counter())
            split.update(made.labels)
            if unlabelled := made.images - sum(made.labels.values()):
                split[""] += unlabelled
        return {split: dict(sorted(labels.items())) for split, labels in sorted(counts.items())}

    @property
    def sums(self) -> dict[str, tuple[int, ...]]:
        """n, Σ and Σ² of each channel of the originals, by split."""
        splits = sorted({made.shard.split for made in self.shards})
        sums = {split: add_sums(made.sums for made in self.shards if made.shard.split == split) for split in splits}
        return {split: known for split, known in sums.items() if known}

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
