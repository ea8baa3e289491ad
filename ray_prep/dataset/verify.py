"""Whether a version of a table is whole: every file, row and count against the log and the record. Damage is found, never raised."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from ray_prep.dataset.finding import UNREADABLE, Finding, Verification
from ray_prep.dataset.log import LOG_FOLDER, no_dataset
from ray_prep.dataset.record_check import check_record
from ray_prep.dataset.repeats import Repeats
from ray_prep.dataset.schema import image_column
from ray_prep.dataset.shard import NAME_DIGITS
from ray_prep.dataset.shard_check import Expected, ShardCheck, check_shard
from ray_prep.dataset.shard_reader import ahead
from ray_prep.dataset.table import open_table, reachable
from ray_prep.errors import RecipeError, StorageError
from ray_prep.storage import clean_uri, is_local

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ray_prep.dataset.log import Snapshot
    from ray_prep.dataset.record import Record, ShardFacts
    from ray_prep.dataset.repeats import Place
    from ray_prep.dataset.shard import Shard
    from ray_prep.storage import StorageOptions, Store

# A hash keeps one core busy and lets Python's other threads run; an object store wants several requests under way.
_REMOTE_SHARDS = 8
# Each name costs a look into a file.
_REPEATS_NAMED = 20


def verify(
    uri: str,
    options: StorageOptions,
    version: int | None = None,
    *,
    sample: int = 0,
    has_stored_sums: Callable[[Record], bool] = lambda _record: False,
    expect: Callable[[int, int], None] = lambda _rows, _files: None,
    notify: Callable[[ShardCheck], None] = lambda _check: None,
) -> Verification:
    """Check one version of a table, reading every one of its files once.

    Several files are read at a time; of each, a few megabytes and its small columns are in memory. Keys go to local disk.

    Args:
        uri: The table's folder.
        options: How it is reached.
        version: None takes the newest.
        sample: So many images, spread over all rows, are decoded; the same ones each time.
        has_stored_sums: Tells of a record whether `sums` add up the very pixels that are stored, so that they can be added up again.
        expect: Is told, before the first file is read, how many rows in how many files there are.
        notify: Is told each file that was checked.

    Raises:
        RecipeError: There is no such version, or the table was not made by ray_prep.
        StorageError: There is no table, or storage is unreachable or refuses.
    """
    uri = clean_uri(uri)
    store = reachable(uri, options)
    found = Verification(uri)
    try:
        snapshot = open_table(uri, options, version)
    except (StorageError, ValueError) as error:
        _check_log(store, str(error), found)
        return found
    if snapshot is None:
        raise no_dataset(uri)
    image = image_column(snapshot.schema)
    if image is None:
        if snapshot.record is None:
            msg = f"{uri}: this table was not made by ray_prep: its image column says nothing of shape and dtype"
            raise RecipeError(msg)
        found.version = snapshot.version
        found.say(LOG_FOLDER, "the image column says nothing of its shape and dtype any more: the schema is damaged")
        return found
    snapshot = replace(snapshot, shards=tuple(_filled(shard) for shard in snapshot.shards))
    found.snapshot, found.version = snapshot, snapshot.version
    facts = check_record(store, snapshot, found)
    record = found.record
    expected = Expected(
        snapshot.schema,
        image,
        None if record is None else record.fingerprints,
        None if record is None else {None: None, **{name: place for place, name in enumerate(record.classes)}},
        {PurePosixPath(shard.path).stem[:NAME_DIGITS]: shard.path for shard in snapshot.shards},
        record is not None and image.encoding in {"tensor", "png"} and image.dtype == "uint8" and has_stored_sums(record),
    )
    expect(snapshot.rows, len(snapshot.shards))
    _check_shards(store, snapshot, facts, expected, sampled_rows(snapshot, sample), found, notify)
    return found


def _filled(shard: Shard) -> Shard:
    """Return a shard without the nulls that a damaged log gives: what is wrong with their stand-ins is found as with any number."""
    return replace(shard, rows=shard.rows or 0, bytes=shard.bytes or 0, min_key=shard.min_key or "", max_key=shard.max_key or "")


def sampled_rows(snapshot: Snapshot, count: int) -> dict[str, list[int]]:
    """Return numbers of some rows by the path of their shard, spread evenly over the version by chance; the same ones each time.

    Args:
        snapshot: The version.
        count: How many; all where there are fewer.
    """
    ends = np.cumsum([shard.rows for shard in snapshot.shards], dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    chosen = np.sort(np.random.default_rng(snapshot.version).choice(total, min(count, total), replace=False))
    found: dict[str, list[int]] = {}
    for row, place in zip(chosen.tolist(), np.searchsorted(ends, chosen, side="right").tolist(), strict=True):
        shard = snapshot.shards[place]
        found.setdefault(shard.path, []).append(row - int(ends[place]) + shard.rows)
    return found


def _check_log(store: Store, error: str, found: Verification) -> None:
    """Name the commits that are damaged; storage answers, for it was asked a moment ago."""
    versions = set()
    for entry in store.list(LOG_FOLDER):
        path = PurePosixPath(entry.path)
        try:
            if path.suffix == ".json":
                versions.add(int(path.stem))
                for line in store.get(entry.path).splitlines():
                    json.loads(line)
            elif path.suffix == ".parquet":
                with store.open_input(entry.path) as file:
                    pq.ParquetFile(file).read()
        except UNREADABLE as damage:
            found.say(entry.path, f"this part of the log is damaged: {' '.join(str(damage).split())[:200]}")
    gaps = sorted(set(range(min(versions, default=0), max(versions, default=0))) - versions)
    found.findings += [Finding(f"{LOG_FOLDER}/{version:020}.json", "is not there, though later commits are") for version in gaps]
    if not found.findings:
        found.say(LOG_FOLDER, f"the log cannot be read: {error}")


def _check_shards(
    store: Store,
    snapshot: Snapshot,
    facts: Mapping[str, ShardFacts] | None,
    expected: Expected,
    sample: Mapping[str, list[int]],
    found: Verification,
    notify: Callable[[ShardCheck], None],
) -> None:
    facts = facts or {}
    calls = (partial(check_shard, store, shard, facts.get(shard.path), expected, sample.get(shard.path, ())) for shard in snapshot.shards)
    with tempfile.TemporaryDirectory(prefix="ray_prep-") as folder:
        repeats = Repeats(Path(folder))
        for number, check in enumerate(ahead(calls, (os.cpu_count() or 1) if is_local(snapshot.uri) else _REMOTE_SHARDS)):
            found.findings += check.findings
            found.shards += check.size_bytes > 0
            found.bytes += check.size_bytes
            found.rows += check.rows
            found.decoded += check.decoded
            repeats.add(number, check.rows_digests)
            notify(check)
        _check_repeats(store, snapshot, repeats, found)


def _check_repeats(store: Store, snapshot: Snapshot, repeats: Repeats, found: Verification) -> None:
    """Say which rows come twice: a line a pair of files."""
    firsts: dict[tuple[int, int], tuple[Place, Place]] = {}
    counts: Counter[tuple[int, int]] = Counter()
    for one, other in repeats.found():
        pair = (one.shard, other.shard)
        counts[pair] += 1
        firsts[pair] = min(firsts.get(pair, (one, other)), (one, other))
    for number, (pair, (one, other)) in enumerate(sorted(firsts.items())):
        first, second = (snapshot.shards[place].path for place in pair)
        name = f" ({_name(store, second, other.row)})" if number < _REPEATS_NAMED else ""
        where = "in it" if first == second else f"in {first}"
        rows = f"{counts[pair]} rows are" if counts[pair] > 1 else "1 row is"
        found.say(second, f"{rows} there twice, by key and copy: row {other.row}{name} is row {one.row} {where} too")


def _name(store: Store, path: str, row: int) -> str:
    """Return the key and copy of one row of a shard that was read a moment ago."""
    with store.open_input(path) as file:
        names = pq.ParquetFile(file).read(["key", "copy"], use_threads=False).slice(row, 1).to_pylist()
    return f"key {names[0]['key']!r}, copy {names[0]['copy']}"
