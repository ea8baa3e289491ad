"""What goes between a build and its workers; light, for a Ray worker passes it on without loading what works on pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ray_prep.errors import RayPrepError
    from ray_prep.storage import StorageOptions


UnitKind = Literal["make", "measure", "copy"]
# The split of a unit whose items are containers.
EVERY = "*"


@dataclass(frozen=True, slots=True)
class Order:
    """What all units of a build share, as those need it who only pass it on.

    Args:
        build_id: The build.
        uri: The table's folder.
        storage_options: How it is reached.
        made_with: Library versions and CPU level, which every worker must share.
        item_deadline_s: Seconds one picture may take.
        work: The `Work`, pickled: only who works on pictures unpacks it.
    """

    build_id: str
    uri: str
    storage_options: StorageOptions
    made_with: Mapping[str, str]
    item_deadline_s: float
    work: bytes


@dataclass(frozen=True, slots=True)
class UnitRef:
    """One unit, as an engine passes it on: where its items stand in the plan.

    Args:
        unit_id: The hash of everything its bytes follow from.
        kind: `make` shards of its items, `measure` their pixels for `normalize: dataset`, or `copy` a shard without them.
        split: The one split all its items are in; `EVERY` for containers, whose members are in any.
        plan_file: Path of the plan below the table's root.
        row_group: The row group of the plan that holds its items.
        rows: How many items.
        attempts: How often its crashed or timed-out items were tried in earlier builds.
    """

    unit_id: str
    kind: UnitKind
    split: str
    plan_file: str
    row_group: int
    rows: int
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Tick:
    """A sign of life of a running unit.

    Args:
        items: Items finished since the last tick.
        rejected: How many of them were rejected.
        source_bytes: Bytes they had.
        is_waiting: Whether the unit waits for storage, which is no fault of any picture.
    """

    items: int = 0
    rejected: int = 0
    source_bytes: int = 0
    is_waiting: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """A unit is made and on its way into storage: its worker can make the next one meanwhile.

    Args:
        unit_id: The unit.
    """

    unit_id: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A unit that did not finish although its process lives.

    Args:
        unit_id: The unit.
        error: One of ours, which ends the build with its exit code; None for a bug.
        trace: The traceback, for `--debug` and bug reports.
    """

    unit_id: str
    error: RayPrepError | None
    trace: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A unit that did not finish, as an engine reports it.

    Args:
        unit_id: The unit.
        error: Why, in one of our errors; it ends the build with its exit code.
        trace: A traceback where there is one.
    """

    unit_id: str
    error: RayPrepError
    trace: str = ""
