"""Containers against what is published: a tar or Parquet file is planned by its version; its members are known once it was read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ray_prep.dataset.live import shard_rows
from ray_prep.errors import StorageError
from ray_prep.messages import EVERY
from ray_prep.sample import Item
from ray_prep.sources import NO_COLUMNS
from ray_prep.sources.container import holds_members
from ray_prep.spool import BUCKETS, Spool
from ray_prep.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from ray_prep.base import Base
    from ray_prep.recipe import Recipe
    from ray_prep.storage import Store
    from ray_prep.survey import KnownItem
    from ray_prep.tally import Tally


@dataclass
class _Known:
    """What the published version knows of one container."""

    versions: set[str] = field(default_factory=set)
    live: int = 0
    rejected: int = 0


def container_of(uri: str) -> str:
    """Return the container's uri from a member's: what stands before the last `#`."""
    return uri.rpartition("#")[0] or uri


def survey_containers(recipe: Recipe, known: Iterable[KnownItem], carried: pa.Schema, folder: Path) -> Survey:
    """List the containers and tell which the published version was made of.

    Args:
        recipe: Whose source it is.
        known: Every member of the published version, with its uri; none for a first build.
        carried: Types of the carried columns the table has.
        folder: An empty local folder for spools.

    Returns:
        A survey whose items are containers, all in the split `EVERY`. Counted as unchanged and removed are members; what is added and
        changed is known when containers have been read (`count_members`), until then they count as one each.

    Raises:
        StorageError: The source cannot be listed, or lists nothing.
    """
    source = recipe.source
    assert holds_members(source)
    ignored: Counter[str] = Counter()
    listed = {container.uri: container for container in source.items(ignored)}
    before: dict[str, _Known] = {}
    for member in known:
        # A container that could not be read stands there by its own uri, which may hold a `#` too.
        uri = member.uri if member.uri in listed else container_of(member.uri)
        state = before.setdefault(uri, _Known())
        state.versions.add(member.version)
        state.live += member.state == "live"
        state.rejected += member.state != "live"
    (folder / "items").mkdir()
    found = Survey(Spool(folder / "items", carried), ignored=ignored)
    with found.items:
        for container in listed.values():
            found.items.add(replace(container, split=EVERY))
            found.counts[EVERY] += 1
            if container.split is not None:
                found.told[container.split] += 1
            was = before.pop(container.uri, None)
            if was is None:
                found.added += 1
            elif was.versions == {container.version}:
                found.unchanged += was.live + was.rejected
            else:
                found.changed += 1
    if not found.counts[EVERY]:
        left_out = ", ".join(f"{count} {suffix}" for suffix, count in ignored.most_common(5))
        msg = f"{recipe.source.uri}: no container is listed there" + (f"; ignored were {left_out}" if left_out else "")
        raise StorageError(msg)
    found.removed = sum(state.live for state in before.values())
    found.forgotten = sum(state.rejected for state in before.values())
    found.class_names = source.class_names() or ()
    return found


def count_members(found: Survey, base: Base | None, tally: Tally, store: Store, folder: Path) -> None:
    """Count members now that all containers have been read: added, changed, unchanged and removed.

    Args:
        found: Of `survey_containers`; its counts are replaced.
        base: The published version; None for a first build.
        tally: What all units made.
        store: The table's folder.
        folder: A local folder for spools.
    """
    found.unchanged = found.added = found.changed = found.removed = found.forgotten = 0
    if base is None:
        found.added = tally.accepted + tally.rejected
        return
    for name in ("members", "known-members"):
        (folder / name).mkdir()
    # By uri, not by key: a rejected duplicate has the key of another.
    with Spool(folder / "members", NO_COLUMNS) as now, Spool(folder / "known-members", NO_COLUMNS) as before:
        for uri, version in _members(tally, store):
            now.add(Item(uri, "", version))
        for one in base.known_items(with_uri=True):
            before.add(Item(one.uri, "", one.version, split=one.state))
    for bucket in range(BUCKETS):
        known = {item.key: item for item in before.bucket(bucket)}
        for item in now.bucket(bucket):
            was = known.pop(item.key, None)
            if was is None:
                found.added += 1
            elif was.version == item.version:
                found.unchanged += 1
            else:
                found.changed += 1
        live = sum(item.split == "live" for item in known.values())
        found.removed += live
        found.forgotten += len(known) - live


def _members(tally: Tally, store: Store) -> Iterator[tuple[str, str]]:
    """Yield uri and version of every member that was read, accepted or not."""
    last = None  # copies of one member follow each other; a member of the same key may lie in another container
    for batch in shard_rows(store, [made.shard for made in tally.shards], ("key", "source_uri", "source_version")):
        for key, uri, version in zip(*(batch.column(place).to_pylist() for place in range(3)), strict=True):
            if (key, uri) != last:
                yield uri, version
            last = key, uri
    for rejection in tally.rejections():
        yield rejection.uri, rejection.version
