"""The table's log as it stands in storage: what each commit did and said. Read as Delta's protocol writes it, one JSON action a line."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ray_prep.errors import StorageError
from ray_prep.storage import clean_uri

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from ray_prep.dataset.shard import Shard
    from ray_prep.storage import Store

LOG_FOLDER = "_delta_log"
RECORD = "ray_prep.record"
# A rebuild commits to the log and so needs one that can be read; without one the finished work is found by its receipts.
WAY_OUT = f"bring it back from a copy, or move {LOG_FOLDER} away and build again: finished work that is whole is found, versions begin at 0"


@dataclass(frozen=True)
class Snapshot:
    """One version of the table.

    Args:
        uri: The table.
        version: Delta's number.
        shards: Its files, by path.
        schema: Its columns as Delta keeps them, `split` and the image field's metadata included.
        record: Path of its `record.json` below the table: the newest a commit names, at or below the version; None where none does.
        metadata: What the version's own commit says besides.
    """

    uri: str
    version: int
    shards: tuple[Shard, ...]
    schema: pa.Schema
    record: str | None
    metadata: Mapping[str, str]

    @property
    def rows(self) -> int:
        """Rows of the version."""
        return sum(shard.rows for shard in self.shards)


@dataclass(frozen=True)
class Commit:
    """One entry of the log.

    Args:
        version: The version it made.
        time: When, in UTC, by the clock of the machine that committed.
        operation: Delta's name for it: `CREATE TABLE`, `WRITE`, `VACUUM START` …
        added: Files it added.
        removed: Files it removed.
        changes_table: Whether it touches columns or the protocol.
        metadata: What it says besides; strings.
    """

    version: int
    time: datetime
    operation: str
    added: int
    removed: int
    changes_table: bool
    metadata: Mapping[str, str]

    @property
    def record(self) -> str | None:
        """Path of the record it names."""
        return self.metadata.get(RECORD)

    @property
    def is_empty(self) -> bool:
        """Whether the version is the one before it in all but its number, as those of a vacuum are."""
        return not self.added and not self.removed and not self.changes_table and self.record is None


def no_dataset(uri: str) -> StorageError:
    """Return the error of whoever looks for a dataset where none is."""
    return StorageError(f"{clean_uri(uri)}: there is no dataset (no {LOG_FOLDER}); is the path right, and has a build been published?")


def read_commit(store: Store, version: int) -> Commit | None:
    """Return one commit of the log; None where it is not there (not yet, or not any more)."""
    try:
        lines = store.get(f"{LOG_FOLDER}/{version:020}.json").splitlines()
    except FileNotFoundError:
        return None
    counts = {name: sum(line.startswith(b'{"' + name) for line in lines) for name in (b"add", b"remove", b"metaData", b"protocol")}
    info: dict[str, Any] = next((json.loads(line)["commitInfo"] for line in lines if line.startswith(b'{"commitInfo"')), {})
    return Commit(
        version,
        datetime.fromtimestamp(info.get("timestamp", 0) / 1000, UTC),
        info.get("operation", ""),
        counts[b"add"],
        counts[b"remove"],
        bool(counts[b"metaData"] or counts[b"protocol"]),
        {name: value for name, value in info.items() if isinstance(value, str) and name != "operation"},
    )


def published_as(store: Store, record: str, base_version: int | None) -> int | None:
    """Return the version whose commit names a record; None where none after the base does, or storage does not tell.

    Args:
        store: The table's folder.
        record: Path of the record.
        base_version: The version that the commit was to follow; None: there was no table.
    """
    version = 0 if base_version is None else base_version + 1
    with suppress(StorageError):
        while (found := read_commit(store, version)) is not None:
            if found.record == record:
                return version
            version += 1
    return None


def record_at(store: Store, version: int) -> str | None:
    """Return the path of the record of a version: the newest that a commit names, at or below it; None where none does."""
    while version >= 0 and (known := read_commit(store, version)) is not None:
        if known.record is not None:
            return known.record
        version -= 1
    return None
