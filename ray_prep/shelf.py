"""Rows go in, shards come out, on local disk."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray_prep.dataset.record import ShardFacts
from ray_prep.dataset.schema import carried_names
from ray_prep.dataset.shard import ShardWriter
from ray_prep.dataset.sums import add_sums

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ray_prep.storage import Store
    from ray_prep.work import Work

# A shard is closed early where a unit's items turned out larger than the plan thought.
_OVERRUN = 1.5


@dataclass(frozen=True, slots=True)
class Spooled:
    """A finished shard, not yet in the table's folder.

    Args:
        facts: What the table will know of it.
        local_path: Where its bytes are.
    """

    facts: ShardFacts
    local_path: Path

    def publish(self, store: Store) -> None:
        """Put it where it belongs, whole, and remove the local file."""
        store.put_file(self.facts.shard.path, str(self.local_path))
        self.local_path.unlink()


class Shelf:
    """One split's rows of one unit.

    Args:
        work: What all units of the build share.
        unit_id: The unit.
        split: The split.
        folder: Where files are spooled.
        footer: What the files say of their making; None for what this build says.
    """

    def __init__(self, work: Work, unit_id: str, split: str, folder: Path, footer: Mapping[str, str] | None = None) -> None:
        self._work = work
        self._unit_id = unit_id
        self._split = split
        self._folder = folder
        self._footer = footer or {"fingerprint": work.written_recipe.fingerprint(split), **work.made_with}
        names = work.carried_schema.names
        self._columns = dict(zip(names, carried_names(names), strict=True))
        self._limit_bytes = int(work.recipe.output.shard_mb * 1e6 * _OVERRUN)
        self._writer: ShardWriter | None = None
        self._labels: Counter[str] = Counter()
        self._images = 0
        self._sums: tuple[int, ...] = ()

    def put(self, rows: list[dict[str, Any]]) -> Spooled | None:
        """Take all rows of one item; return the shard they filled, if they did.

        Args:
            rows: By column name; `columns` holds the carried ones by the source's names.
        """
        if self._writer is None:
            compression = self._work.recipe.output.compression
            self._writer = ShardWriter(self._folder, self._work.schema, self._split, compression=compression, footer=self._footer)
        for row in rows:
            for name, value in row.pop("columns", {}).items():
                row[self._columns[name]] = value
            self._writer.append(row)
            if row["sums"] is not None:
                self._sums = add_sums((self._sums, row["sums"]))
        if rows[0]["label"] is not None:
            self._labels[rows[0]["label"]] += 1
        self._images += 1
        return self.close() if self._writer.bytes_written >= self._limit_bytes else None

    def close(self) -> Spooled | None:
        """Finish the open shard, if there is one."""
        if self._writer is None:
            return None
        file = self._writer.close()
        self._writer = None
        facts = ShardFacts(file.shard, self._unit_id, self._images, dict(sorted(self._labels.items())), self._sums)
        self._labels = Counter()
        self._images = 0
        self._sums = ()
        return Spooled(facts, file.local_path)

    def abort(self) -> None:
        """Let go of a half-written shard."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None
