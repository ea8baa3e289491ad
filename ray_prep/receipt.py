"""What a finished unit leaves behind: its shards, its rejections, and the numbers that add up to a record."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from ray_prep.dataset.record import ShardFacts
from ray_prep.dataset.shard import Shard
from ray_prep.sample import Rejection

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1
WORK_FOLDER = "_ray_prep/work"


def receipt_path(unit_id: str) -> str:
    """Return where a unit's receipt lies below the table's root."""
    return f"{WORK_FOLDER}/{unit_id}.json"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a finished unit leaves.

    Args:
        unit_id: The unit.
        items: Items it was given.
        shards: What it put into the table's folder, in order.
        rejections: Items that did not make it.
        sums: Of a `measure` unit: n, Σ and Σ² of each channel over its items.
        ignored: What lies in its containers and is no image on offer, by suffix.
        source_bytes: Bytes fetched.
        conditions: What its bytes depend on that its id does not tell: library versions, CPU level, compression, shard size.
        seconds: Wall time of the attempt that finished.
    """

    unit_id: str
    items: int
    shards: tuple[ShardFacts, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    sums: tuple[int, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)
    source_bytes: int = 0
    conditions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """Rows in its shards."""
        return sum(made.shard.rows for made in self.shards)

    @property
    def stored_bytes(self) -> int:
        """Bytes of its shards."""
        return sum(made.shard.bytes for made in self.shards)

    def to_json(self) -> bytes:
        """Return the receipt as it is kept in storage."""
        return json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":"), sort_keys=True).encode("utf-8", "surrogatepass")

    @classmethod
    def from_json(cls, data: bytes) -> Self | None:
        """Read a receipt; None where it is of another format or was cut, so that its unit is made again."""
        try:
            known: dict[str, Any] = json.loads(data)
            if known.pop("format", None) != FORMAT:
                return None
            known["shards"] = tuple(
                ShardFacts(Shard(**made["shard"]), made["unit_id"], made["images"], made["labels"], tuple(made["sums"]))
                for made in known["shards"]
            )
            known["rejections"] = tuple(Rejection(**rejection) for rejection in known["rejections"])
            known["sums"] = tuple(known["sums"])
            return cls(**known)
        except (AttributeError, LookupError, TypeError, ValueError):
            return None
