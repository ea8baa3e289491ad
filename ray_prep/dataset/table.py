"""The table: a Delta log over the shards (the only module that imports deltalake). Its commits are the only pointer to a version."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from ray_prep.dataset.change import check_paths, check_sizes, other_schema
from ray_prep.dataset.log import LOG_FOLDER, RECORD, WAY_OUT, Snapshot, read_commit, record_at
from ray_prep.dataset.schema import PARTITION
from ray_prep.dataset.shard import Shard
from ray_prep.errors import Conflict, RecipeError, StorageError
from ray_prep.storage import clean_uri, delta_options, is_local, local_path, open_store, redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ray_prep.dataset.log import Commit
    from ray_prep.storage import StorageOptions, Store

__all__ = ["Snapshot", "commit", "history", "open_table", "reachable"]

_MESSAGE_CHARS = 400
_COMMIT_PAUSES_S = (1.0, 4.0)
_COMMIT_RETRY_S = 90.0
_TOKEN = "ray_prep.commit"
_UNFIT = re.compile(r"%[0-9A-Fa-f]{2}|[\\\x00-\x1f\x7f\ud800-\udfff]")
_APPLICATION = "ray_prep"
_ADORNMENT = re.compile(r"\x1b\[[0-9;]*m|↳|->|\s0: \S.*|: ParsedLogPath \{.*", re.DOTALL)
# What delta-rs 1.6 says where storage answers and the log's own files are at fault.
_LOG_DAMAGE = re.compile(r"Kernel error: (Json error|Generic delta kernel error|No table metadata|Parquet|Arrow)")
# The log is kept for good: with Delta's 30 days older versions become unreadable at the next checkpoint.
CONFIGURATION = {
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.deletedFileRetentionDuration": "interval 30 days",
    "delta.checkpointInterval": "50",
}


def open_table(uri: str, options: StorageOptions, version: int | None = None) -> Snapshot | None:
    """Return one version of the table; None where there is no table.

    Args:
        uri: The table's folder.
        options: How it is reached.
        version: None takes the newest.

    Raises:
        RecipeError: There is no such version.
        StorageError: Storage is unreachable or refuses; or the version's log is gone.
    """
    store = reachable(uri, options)
    table = _load(uri, options)
    if table is None:
        return None
    if version is not None and version != table.version():
        if not 0 <= version < table.version():
            msg = f"{uri}: there is no version {version}; there are 0 to {table.version()}"
            raise RecipeError(msg)
        table = _load(uri, options, version)
        if table is None:
            msg = f"{uri}: the log of version {version} is gone"
            raise StorageError(msg)
    now = read_commit(store, table.version())
    return Snapshot(uri, table.version(), _shards(table), _schema(table), record_at(store, table.version()), now.metadata if now else {})


def history(uri: str, options: StorageOptions, limit: int | None = None) -> list[Commit]:
    """Return the table's commits, newest first; empty where there is no table.

    Read from the log itself: `DeltaTable.history()` numbers the newest commits from the loaded version down (deltalake 1.6), which is
    wrong for every version but the newest.

    Args:
        uri: The table's folder.
        options: How it is reached.
        limit: How many; None takes all that are kept.

    Raises:
        StorageError: Storage is unreachable or refuses.
    """
    store = reachable(uri, options)
    table = _load(uri, options)
    if table is None:
        return []
    oldest = -1 if limit is None else max(-1, table.version() - limit)
    commits = []
    for version in range(table.version(), oldest, -1):
        known = read_commit(store, version)
        if known is None:
            break
        commits.append(known)
    return commits


def commit(
    uri: str,
    options: StorageOptions,
    schema: pa.Schema,
    base_version: int | None,
    add: Sequence[Shard],
    remove: Iterable[str],
    record: str,
    mode: Literal["append", "overwrite"] = "append",
) -> int:
    """Publish: one transaction that adds shards, removes others and names the record. It is in as a whole, or not at all.

    Nothing is tried again behind the caller's back. Commits since the base are passed over only where they change nothing (a vacuum's).

    Args:
        uri: The table's folder.
        options: How it is reached.
        schema: What `delta_schema` gave.
        base_version: The version the build was planned against; None: there was no table, and it is created.
        add: Shards that lie in the table's folder. With the record alone nothing else changes.
        remove: Paths of live shards.
        record: Path of `record.json` below the table.
        mode: `overwrite` replaces all files, and the schema with its metadata; `remove` is not looked at.

    Returns:
        The new version.

    Raises:
        Conflict: Somebody else published since the base.
        RecipeError: The schema is not the table's, and the mode is not `overwrite`.
        StorageError: Storage is unreachable or refuses, or a shard to add is not there in its full size.
        BuildError: The shards do not fit the live ones: a path twice, or one to remove that is not live.
    """
    store = open_store(uri, options)
    table = _load(uri, options)
    wanted = Schema.from_arrow(schema)
    _follow(store, uri, base_version, table)
    live = {shard.path: shard for shard in _shards(table)} if table is not None else {}
    gone = list(live) if mode == "overwrite" else list(remove)
    # What comes out as it was has the same name: it stays, for Delta allows no path to come and go in one commit.
    staying = {shard.path for shard in add} & set(gone)
    fresh = [shard for shard in add if shard.path not in staying]
    gone = [path for path in gone if path not in staying]
    check_paths(uri, fresh, gone, live)
    is_new_schema = table is not None and json.loads(wanted.to_json()) != json.loads(table.schema().to_json())
    if table is not None and is_new_schema and (mode == "append" or staying):
        raise other_schema(uri, schema, _schema(table))
    check_sizes(store, add)
    now_ms = int(time.time() * 1000)
    actions = [_added(shard, now_ms) for shard in fresh]
    after = -1 if table is None else table.version()
    token = str(uuid.uuid4())
    properties = CommitProperties(
        custom_metadata={RECORD: record, _TOKEN: token},
        max_commit_retries=0,
        app_transactions=[Transaction(_APPLICATION, after + 1)],
    )

    def write() -> None:
        if table is None:
            create_table_with_add_actions(
                _location(uri),
                wanted,
                actions,
                mode="error",
                partition_by=[PARTITION],
                configuration=CONFIGURATION,
                storage_options=dict(delta_options(uri, options)),
                commit_properties=properties,
            )
        else:
            # Only `overwrite` changes the schema, and it removes all that is live by itself; all else is `append`.
            how = "overwrite" if is_new_schema else "append"
            removals = [] if is_new_schema else [_removed(live[path], now_ms) for path in gone]
            table.create_write_transaction([*removals, *actions], how, wanted, partition_by=[PARTITION], commit_properties=properties)

    # delta-rs insists for minutes where a server says that it should, and gives up where a connection is reset or nobody answers.
    begin = time.monotonic()
    for pause_s in (None,) if is_local(uri) else (*_COMMIT_PAUSES_S, None):
        try:
            write()
            return after + 1
        except Exception as error:  # whatever was raised, the commit may be in: its own token tells
            version = _settle(store, uri, after, token, error)
            if version is not None:
                return version
            if pause_s is None or time.monotonic() - begin > _COMMIT_RETRY_S:
                raise _fault(uri, error) from error
            time.sleep(pause_s)
    raise AssertionError  # the last of the pauses is None


def _settle(store: Store, uri: str, after: int, token: str, error: Exception) -> int | None:
    """Find out what became of a commit that failed: in after all (its reply was lost), overtaken, or never written.

    Args:
        store: The table's folder.
        uri: The table, for messages.
        after: The version it was to follow.
        token: Its own.
        error: What was raised.

    Returns:
        Its version; None where it was never written, for a fault of storage.
    """
    version = after + 1
    while (found := read_commit(store, version)) is not None:
        if found.metadata.get(_TOKEN) == token:
            return version
        version += 1
    if version > after + 1:
        raise _lost(uri, f"version {after + 1} came from elsewhere") from error
    if isinstance(error, DeltaError | OSError):
        return None
    raise error


def reachable(uri: str, options: StorageOptions) -> Store:
    """Return the store, a remote one asked within seconds whether it is there: delta-rs would insist for minutes.

    A folder is not asked: it need not be there, and who reads it need not be allowed to write.

    Args:
        uri: The table's folder.
        options: How it is reached.

    Raises:
        StorageError: Storage is unreachable or refuses, or a file is where the folder should be.
    """
    store = open_store(uri, options)
    if not is_local(uri):
        store.check(writing=True)
    elif os.path.exists(folder := local_path(uri)) and not os.path.isdir(folder):
        msg = f"{clean_uri(uri)}: is a file; a dataset is a folder, the one with {LOG_FOLDER} in it"
        raise StorageError(msg)
    return store


def _load(uri: str, options: StorageOptions, version: int | None = None) -> DeltaTable | None:
    try:
        return DeltaTable(_location(uri), version=version, storage_options=dict(delta_options(uri, options)))
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        raise _fault(uri, error) from error


def _shards(table: DeltaTable) -> tuple[Shard, ...]:
    files = pa.table(table.get_add_actions(flatten=True))
    names = ("path", f"partition.{PARTITION}", "num_records", "size_bytes", "min.key", "max.key")
    missing = [name for name in names if name not in files.column_names]
    if missing:
        msg = f"{table.table_uri}: this Delta table was not made by ray_prep: its log has no {missing[0]}"
        raise RecipeError(msg)
    rows = sorted(zip(*(files.column(name).to_pylist() for name in names), strict=True))
    return tuple(Shard(path, split, count, size, "", low, high) for path, split, count, size, low, high in rows)


def _schema(table: DeltaTable) -> pa.Schema:
    return pa.schema(table.schema().to_arrow())


def _follow(store: Store, uri: str, base: int | None, table: DeltaTable | None) -> None:
    """Refuse unless the table is what the build was planned against: the base, or a version that differs from it in nothing."""
    if table is None:
        if base is not None:
            msg = f"{uri}: there is no table any more; version {base} was there when the build began"
            raise StorageError(msg)
        return
    if base is None:
        raise _lost(uri, "a table was created there")
    if table.version() < base:
        msg = f"{uri}: the table is at version {table.version()}, and the build began at version {base}; was it deleted and made anew?"
        raise StorageError(msg)
    for version in range(base + 1, table.version() + 1):
        known = read_commit(store, version)
        if known is None or not known.is_empty:
            raise _lost(uri, f"version {version} was published")


def _added(shard: Shard, now_ms: int) -> AddAction:
    facts = {"numRecords": shard.rows, "minValues": {"key": shard.min_key}, "maxValues": {"key": shard.max_key}, "nullCount": {"key": 0}}
    return AddAction(shard.path, shard.bytes, {PARTITION: shard.split}, now_ms, data_change=True, stats=json.dumps(facts))


def _removed(shard: Shard, now_ms: int) -> RemoveAction:
    values: dict[str, str | None] = {PARTITION: shard.split}
    return RemoveAction(shard.path, data_change=True, deletion_timestamp=now_ms, size=shard.bytes, partition_values=values)


def _lost(uri: str, what: str) -> Conflict:
    return Conflict(f"{uri}: {what} while this build ran; nothing was published, the same command again builds upon it")


def _fault(uri: str, error: Exception) -> StorageError:
    """Return what an error of delta-rs says, without its colours, tree and backtrace."""
    text = " ".join(_ADORNMENT.sub(" ", str(error)).split())[:_MESSAGE_CHARS]
    if _LOG_DAMAGE.search(text):
        msg = f"{clean_uri(uri)}: a file of {LOG_FOLDER} is missing or damaged (ray-prep verify TARGET names it): {text}; {WAY_OUT}"
    else:
        msg = f"{clean_uri(uri)}: the table cannot be reached, read or written: {text}"
    return StorageError(redact(msg))


def _location(uri: str) -> str:
    """Return the table's place as delta-rs wants it.

    Raises:
        RecipeError: delta-rs 1.6 would write there and not find it again: it decodes %XX and turns backslashes when it reads.
    """
    place = local_path(uri) if is_local(uri) else clean_uri(uri).rstrip("/")
    if _UNFIT.search(place):
        msg = f"{clean_uri(uri)!a}: a table cannot lie below a name with %XX, a backslash or a control character; choose another folder"
        raise RecipeError(msg)
    return place
