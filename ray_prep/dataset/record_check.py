"""Whether a version's record is what its log and its own lists say: every count, each shard's line, the rejections."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ray_prep.dataset.finding import UNREADABLE, Finding
from ray_prep.dataset.log import LOG_FOLDER
from ray_prep.dataset.record import Record, read_shards, rejection_batches
from ray_prep.dataset.sums import add_sums
from ray_prep.errors import REASONS, Damaged, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ray_prep.dataset.finding import Verification
    from ray_prep.dataset.log import Snapshot
    from ray_prep.dataset.record import ShardFacts
    from ray_prep.storage import Store

# JSON that is whole, and not what a record is.
_UNREADABLE_RECORD: tuple[type[Exception], ...] = (StorageError, AttributeError, *UNREADABLE)


def check_record(store: Store, snapshot: Snapshot, found: Verification) -> dict[str, ShardFacts] | None:
    """Hold the record and its lists against the log and each other.

    Args:
        store: The table's folder.
        snapshot: What the log says.
        found: Takes the record and what is wrong with it.

    Returns:
        What the record says of each shard; None where it says nothing.

    Raises:
        StorageError: Storage is unreachable or refuses.
    """
    path = snapshot.record
    if path is None:
        found.say(LOG_FOLDER, f"no commit up to version {snapshot.version} names a record")
        return None
    try:
        data = store.get(path)
    except FileNotFoundError:
        found.say(path, "is not there, though a commit names it")
    else:
        try:
            found.record = Record.from_json(data)
            _check_counts(path, found.record, snapshot, found)
        except Damaged as error:
            found.say(path, error.what)
        except _UNREADABLE_RECORD as error:
            found.say(path, f"cannot be read: {error}")
    reasons = _check_rejections(store, path, found)
    if found.record is not None and reasons is not None:
        found.compare(path, "rejected", found.record.rejected, sum(reasons.values()))
        found.compare(path, "rejected_by_reason", dict(found.record.rejected_by_reason), dict(sorted(reasons.items())))
    return _check_facts(store, path, snapshot, found)


def _check_counts(path: str, record: Record, snapshot: Snapshot, found: Verification) -> None:
    found.compare(path, "shards", record.shards, len(snapshot.shards))
    found.compare(path, "rows", record.rows, snapshot.rows)
    found.compare(path, "bytes", record.bytes, sum(shard.bytes for shard in snapshot.shards))
    found.compare(path, "listed", record.listed, record.accepted + record.rejected)
    found.compare(path, "unchanged + added + changed", record.unchanged + record.added + record.changed, record.listed)


def _check_rejections(store: Store, path: str, found: Verification) -> Counter[str] | None:
    """Return the rejections by reason; None where their list cannot be read."""
    place = str(PurePosixPath(path).with_name("rejections.parquet"))
    reasons: Counter[str] = Counter()
    if not _is_there(store, place):
        found.say(place, "is not there, though it belongs to the record")
        return None
    try:
        for batch in rejection_batches(store, path):
            reasons.update(batch.column("reason").to_pylist())
    except Damaged as error:
        found.say(place, error.what)
        return None
    found.rejections = sum(reasons.values())
    for reason in sorted(reasons.keys() - set(REASONS), key=repr):
        found.say(place, f"{reasons[reason]} rejections have the reason {reason!r}, which there is not")
    return reasons


def _check_facts(store: Store, path: str, snapshot: Snapshot, found: Verification) -> dict[str, ShardFacts] | None:
    place = str(PurePosixPath(path).with_name("shards.parquet"))
    if not _is_there(store, place):
        found.say(place, "is not there, though it belongs to the record")
        return None
    try:
        listed = list(read_shards(store, path))
    except Damaged as error:
        found.say(place, error.what)
        return None
    facts = {known.shard.path: known for known in listed}
    live = {shard.path for shard in snapshot.shards}
    if len(facts) < len(listed):
        found.say(place, f"{len(listed) - len(facts)} files stand there twice")
    found.findings += [Finding(place, f"{one} is not live in version {snapshot.version}") for one in sorted(facts.keys() - live)]
    found.findings += [Finding(place, f"{one} is live and does not stand there") for one in sorted(live - facts.keys())]
    if found.record is not None:
        try:
            _check_totals(path, found.record, listed, found)
        except ValueError as error:
            found.say(place, f"its sums do not fit together: {error}")
    return facts


def _check_totals(path: str, record: Record, listed: Sequence[ShardFacts], found: Verification) -> None:
    """Hold what the record says of all against what it says of each shard."""
    counts: dict[str, Counter[str]] = {}
    sums: dict[str, tuple[int, ...]] = {}
    for known in listed:
        split = known.shard.split
        own = counts.setdefault(split, Counter())
        own.update(known.labels)
        own[""] += known.images - sum(known.labels.values())
        sums[split] = add_sums((sums.get(split, ()), known.sums))
    found.compare(path, "accepted", record.accepted, sum(known.images for known in listed))
    for split in sorted(counts.keys() | record.counts.keys()):
        found.compare(path, f"counts of {split}", _plain(record.counts.get(split, {})), _plain(counts.get(split, {})))
        found.compare(path, f"sums of {split}", tuple(record.sums.get(split, ())), sums.get(split, ()))


def _plain(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in sorted(counts.items()) if count}


def _is_there(store: Store, path: str) -> bool:
    """Return whether an object is there.

    Raises:
        StorageError: Storage is unreachable or refuses.
    """
    return store.size(path) is not None
