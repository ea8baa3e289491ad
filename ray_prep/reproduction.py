"""Rows made again from their sources by the record's recipe, and held against what is stored, byte for byte."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_prep.containers import container_of
from ray_prep.dataset.finding import UNREADABLE, Finding, unreadable
from ray_prep.dataset.schema import carried_names
from ray_prep.dataset.verify import sampled_rows
from ray_prep.errors import LimitError, RecipeError, SampleError
from ray_prep.image.fetch import fetch
from ray_prep.isolation import Isolation
from ray_prep.platform import made_with
from ray_prep.recipe import Recipe
from ray_prep.sources.container import holds_members
from ray_prep.storage import open_store
from ray_prep.survey import precedence
from ray_prep.unit import labelled
from ray_prep.work import Frozen, Work, batch_to_items, items_to_batch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set

    from ray_prep.dataset.log import Snapshot
    from ray_prep.dataset.record import Record
    from ray_prep.dataset.shard import Shard
    from ray_prep.sample import Item
    from ray_prep.sources.container import ContainerSource
    from ray_prep.storage import StorageOptions, Store

_SHOWN_CHARS = 60


@dataclass
class Reproduction:
    """What came of making rows again.

    Args:
        rows: Rows that were made again and compared, with all copies of their items.
        items: The items they are of.
        findings: Rows that are not what is made now.
        notes: What a person should know: sources that have changed, other library versions.
    """

    rows: int = 0
    items: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Stored:
    """The rows of one item as they are stored, by copy."""

    shard: Shard
    rows: dict[int, dict[str, Any]]

    @property
    def any(self) -> dict[str, Any]:
        return next(iter(self.rows.values()))


def reproduce(snapshot: Snapshot, record: Record, options: StorageOptions, count: int, damaged: Collection[str] = ()) -> Reproduction:
    """Make the items of some rows again and compare all their rows: image and columns, `source_version` only while the source is as it was.

    The rows are made in a process set up as every worker's, by the code that a build runs for an item after its worker died, so that the
    settings of this process (threads, numpy's AVX-512 loops) play no part and no picture can take it along.

    Args:
        snapshot: The version.
        record: What is true of it.
        options: How the table is reached; an endpoint holds for the source too.
        count: How many rows are chosen, spread evenly; the same ones each time.
        damaged: Paths of files that are known to be damaged: none of theirs.

    Raises:
        RecipeError: The record's recipe cannot be read here, such as for a `python` step that is not to be found.
        StorageError: Table or source is unreachable or refuses.
    """
    made = Reproduction()
    work = _work(snapshot, record, options)
    sound = replace(snapshot, shards=tuple(shard for shard in snapshot.shards if shard.path not in damaged))
    stored = {one.any["key"]: one for one in _stored(open_store(snapshot.uri, options), sound, count, made)}
    if not stored:
        return made
    missing = set(stored)
    with ExitStack() as stack:
        isolation = stack.enter_context(Isolation(work))
        for item, data in _pictures(work, stored, stack):
            missing.discard(item.key)
            if isinstance(data, SampleError):
                made.notes.append(f"{item.key}: the source has changed since: {data.message}")
            else:
                _compare(stored[item.key], item, data, work, isolation, made)
    made.notes += [f"{key}: the source has changed since: it lists it no longer" for key in sorted(missing)]
    return made


def _work(snapshot: Snapshot, record: Record, options: StorageOptions) -> Work:
    """Return what the workers of the record's build were given."""
    data = dict(record.recipe)
    if options.endpoint:
        given = {"endpoint": options.endpoint, "allow_http": options.allow_http}
        data["source"] = {**data["source"], "storage_options": {**data["source"].get("storage_options", {}), **given}}
    frozen = Frozen.from_dict(record.frozen)
    names = list(frozen.columns)
    carried = pa.schema([(name, snapshot.schema.field(stored).type) for name, stored in zip(names, carried_names(names), strict=True)])
    return Work(data, Recipe.parse(data).folder, frozen, carried.serialize().to_pybytes(), record.build_id, made_with())


def _stored(store: Store, snapshot: Snapshot, count: int, made: Reproduction) -> Iterator[_Stored]:
    """Yield the items of some rows, each once, with all rows they have; and note under which other conditions they were made."""
    chosen = sampled_rows(snapshot, count)
    here = made_with()
    others: dict[str, None] = {}
    for shard in snapshot.shards:
        if shard.path not in chosen:
            continue
        try:
            with store.open_input(shard.path) as file:
                parquet = pq.ParquetFile(file)
                footer = parquet.metadata.metadata or {}
                yield from _items_of(parquet, shard, chosen[shard.path])
        except UNREADABLE as error:
            made.findings.append(Finding(shard.path, unreadable(error)))
            continue
        for name, version in here.items():
            was = footer.get(name.encode(), b"").decode()
            if was != version:
                others[f"made with {name} {was or '(unknown)'}, and here it is {version}: bytes may differ for that alone"] = None
    made.notes += others


def _items_of(parquet: pq.ParquetFile, shard: Shard, chosen: Sequence[int]) -> Iterator[_Stored]:
    """Yield the items that the chosen rows are of; rows of one item stand together."""
    keys = parquet.read(["key"], use_threads=False).column("key").to_pylist()
    done = -1
    for row in chosen:
        if row <= done:
            continue
        first = last = row
        while first > 0 and keys[first - 1] == keys[row]:
            first -= 1
        while last + 1 < len(keys) and keys[last + 1] == keys[row]:
            last += 1
        done = last
        table = _rows(parquet, first, last)
        yield _Stored(shard, {known["copy"]: known for known in table.to_pylist()})


def _rows(parquet: pq.ParquetFile, first: int, last: int) -> pa.Table:
    """Return some rows, reading no more row groups than hold them."""
    parts = []
    start = 0
    for group in range(parquet.metadata.num_row_groups):
        end = start + parquet.metadata.row_group(group).num_rows
        if start <= last and first < end:
            begin = max(first, start)
            parts.append(parquet.read_row_group(group, use_threads=False).slice(begin - start, min(last + 1, end) - begin))
        start = end
    return pa.concat_tables(parts)


def _pictures(work: Work, stored: Mapping[str, _Stored], stack: ExitStack) -> Iterator[tuple[Item, bytes | SampleError]]:
    """Yield the items of stored rows as their source offers them now, with their bytes."""
    source = work.recipe.source
    if holds_members(source):
        for item, data in members(source, {known.any["source_uri"] for known in stored.values()}):
            if item.key in stored:
                yield _resolved(item, data, work)
    else:
        listed = _listed(work, stored)
        items = [listed[key] for key in stored if key in listed]
        yield from stack.enter_context(fetch(items, source.storage_options, greet=True))


def _resolved(item: Item, data: bytes | SampleError, work: Work) -> tuple[Item, bytes | SampleError]:
    """Return a container's member as a unit takes it: with the columns that the table has, and the class that its number stands for."""
    try:
        return labelled(work.known(item), work), data
    except RecipeError as error:
        return item, LimitError("annotation_invalid", str(error))


def members(source: ContainerSource, uris: Iterable[str]) -> Iterator[tuple[Item, bytes | SampleError]]:
    """Yield some members of containers with their bytes; only their containers are read, and none further than to the last of them.

    Args:
        source: Whose containers.
        uris: Of the members.
    """
    wanted: dict[str, set[str]] = {}
    for uri in uris:
        wanted.setdefault(container_of(uri), set()).add(uri)
    for container in source.items(Counter()):
        missing = wanted.pop(container.uri, None)
        if missing is None:
            continue
        for item, data in source.members(container):
            if item.uri in missing:
                missing.discard(item.uri)
                yield item, data
            if not missing:
                break
        if not wanted:
            return


def _listed(work: Work, stored: Mapping[str, _Stored]) -> dict[str, Item]:
    """Ask the source for items by key; of several holders of a key, the one that was taken, or else the one that would be now."""
    found: dict[str, Item] = {}
    missing = set(stored)
    for offered in work.recipe.source.items(Counter()):
        if offered.key not in missing:
            continue
        item, was = _typed(offered, work), stored[offered.key].any
        if (item.uri, item.facts) == (was["source_uri"], was["source_facts"]):
            found[item.key] = item
            missing.discard(item.key)
            if not missing:
                break
        elif item.key not in found or precedence(item) < precedence(found[item.key]):
            found[item.key] = item
    return found


def _typed(item: Item, work: Work) -> Item:
    """Return an item as a worker reads it from the plan: with the columns and types that the table has."""
    known = {name: value for name, value in item.columns.items() if name in work.carried_schema.names}
    return batch_to_items(items_to_batch([replace(item, columns=known)], work.carried_schema), work.carried_schema)[0]


def _compare(stored: _Stored, item: Item, data: bytes, work: Work, isolation: Isolation, made: Reproduction) -> None:
    """Make one item's rows and hold them against those that are stored."""
    was, place = stored.any, stored.shard.path
    if sha256(data).hexdigest() != was["source_sha256"]:
        same = ", though its version is the same, so that builds take it for unchanged" if item.version == was["source_version"] else ""
        made.notes.append(f"{item.key}: the source has changed since: it has other bytes{same}")
        return
    changed = {name for name, now in (("source_version", item.version), ("source_uri", item.uri)) if now != was[name]}
    if item.facts != was["source_facts"]:
        changed |= {"label", "label_id", "source_facts", *carried_names(work.carried_schema.names)}
    elif work.recipe.split.by != "source" and (split := work.recipe.split.of(item)) != stored.shard.split:
        made.findings.append(Finding(place, f"{item.key!r} is stored in the split {stored.shard.split}, and belongs to {split}"))
    if changed:
        made.notes.append(f"{item.key}: the source has changed since: another {', '.join(sorted(changed))}; its bytes are the same")
    try:
        rows = {row["copy"]: row for row in isolation.run("rows", stored.shard.split, item, data)}
    except SampleError as error:
        made.findings.append(
            Finding(place, f"{item.key!r} is stored, and is rejected when it is made again: {error.reason}: {error.message}")
        )
        return
    made.items += 1
    made.rows += len(rows)
    if rows.keys() != stored.rows.keys():
        copies = (", ".join(map(str, sorted(some))) for some in (stored.rows, rows))
        made.findings.append(Finding(place, "{!r} has the copies {}, and made again {}".format(item.key, *copies)))
    for copy in sorted(rows.keys() & stored.rows.keys()):
        made.findings += [
            Finding(place, f"{item.key!r}, copy {copy}, is otherwise when it is made again: {difference}")
            for difference in _differences(stored.rows[copy], rows[copy], work, changed)
        ]


def _differences(stored: Mapping[str, Any], made: Mapping[str, Any], work: Work, changed: Set[str]) -> Iterator[str]:
    """Yield how a row that was made again differs from the stored one, but for columns whose source has changed."""
    names = work.carried_schema.names
    columns = {stored_name: made["columns"].get(name) for name, stored_name in zip(names, carried_names(names), strict=True)}
    image = made["image"] if isinstance(made["image"], bytes) else made["image"].tobytes()
    if image != stored["image"]:
        yield f"image: {_first_difference(stored['image'], image)}"
    for known in work.schema:
        if known.name == "image" or known.name in changed:
            continue
        value = pa.array([columns[known.name] if known.name in columns else made.get(known.name)], known.type).to_pylist()[0]
        # By their text, for NaN equals nothing, and 0 equals -0.
        if repr(value) != repr(stored[known.name]):
            yield f"{known.name}: {repr(stored[known.name])[:_SHOWN_CHARS]}, and made again {repr(value)[:_SHOWN_CHARS]}"


def _first_difference(stored: bytes, made: bytes) -> str:
    if len(stored) != len(made):
        return f"{len(stored)} bytes, and made again {len(made)}"
    differing = np.flatnonzero(np.frombuffer(stored, np.uint8) != np.frombuffer(made, np.uint8))
    return f"{len(differing)} of {len(stored)} bytes differ, the first is number {differing[0]}"
