"""What is on offer against what is published: listed once, joined bucket by bucket on disk, each item with a split or a rejection."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING

import pyarrow as pa

from ray_prep.errors import StorageError
from ray_prep.sample import Item, Rejection
from ray_prep.seed import order
from ray_prep.spool import BUCKETS, Spool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ray_prep.recipe import Recipe

_KNOWN = pa.schema([pa.field("state", pa.string())])
_LIVE, _REJECTED, _DUPLICATE = "live", "rejected", "duplicate"


@dataclass(frozen=True, slots=True)
class KnownItem:
    """An item as the published version knows it.

    Args:
        key: Its key.
        uri: Where it was; only a duplicate's matters.
        version: The version that was judged.
        facts: Its facts; None for a rejection.
        split: Its split; None for a rejection.
        state: `live`, `rejected`, or `duplicate` (rejected as the second holder of a key).
    """

    key: str
    uri: str
    version: str
    facts: str | None
    split: str | None
    state: str


@dataclass
class Survey:
    """What a source offers, joined with what is published.

    Args:
        items: The items to have in the dataset, in order, `split` being the one they are assigned to.
        duplicates: Items whose key another holds.
        counts: Items by split.
        told: Items by the split that the source itself tells, whatever the recipe makes of it.
        labels: Every label that occurs.
        unlabelled: Items without one.
        columns: Names of the carried columns.
        class_names: Classes in the order the source itself has them; empty where it has none.
        unchanged: Items the published version knows as they are.
        added: Items it does not know.
        changed: Items it knows otherwise.
        changes: By what these differ: their version, label or columns (where the version is the same), or split.
        removed: Published images that are no longer on offer.
        forgotten: Rejections that are no longer on offer.
        ignored: Files left out by suffix.
        retried: Items to try again, with their attempts so far.
    """

    items: Spool
    duplicates: list[Rejection] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    labels: set[str] = field(default_factory=set)
    unlabelled: int = 0
    columns: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    unchanged: int = 0
    added: int = 0
    changed: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    removed: int = 0
    forgotten: int = 0
    ignored: Counter[str] = field(default_factory=Counter)

    @property
    def listed(self) -> int:
        """Items on offer, duplicates of a key included."""
        return self.unchanged + self.added + self.changed

    @property
    def is_as_published(self) -> bool:
        """Whether the source offers just what the published version was made of."""
        return not (self.added or self.changed or self.removed or self.forgotten)


def survey(recipe: Recipe, known: Iterable[KnownItem], carried: pa.Schema, folder: Path, limit: int | None) -> Survey:
    """List the source and join it with the published version.

    Args:
        recipe: Whose source it is, and whose split rule.
        known: Every item of the published version, in any order; none for a first build.
        carried: Types of the carried columns the table has.
        folder: An empty local folder for spools.
        limit: Take only so many items, the first in order; None for all.

    Raises:
        StorageError: The source cannot be listed, or lists nothing.
        RecipeError: An item has no split, or a value that does not fit.
    """
    for name in ("listed", "known", "items"):
        (folder / name).mkdir()
    ignored: Counter[str] = Counter()
    names = set(carried.names)
    with Spool(folder / "listed", carried) as listed:
        for item in recipe.source.items(ignored):
            listed.add(item if item.columns.keys() <= names else _without_new_columns(item, names))
    with Spool(folder / "known", _KNOWN) as before:
        for one in known:
            before.add(Item(one.key, one.uri, one.version, one.facts, one.split, {"state": one.state}))
    found = Survey(Spool(folder / "items", carried), columns=tuple(carried.names), ignored=ignored)
    with found.items:
        for bucket in range(BUCKETS):
            _join(found, _in_order(listed.bucket(bucket)), before.bucket(bucket), recipe, limit)
    if found.listed == 0:
        left_out = ", ".join(f"{count} {suffix}" for suffix, count in ignored.most_common(5))
        msg = f"{recipe.source.uri}: no image is listed there" + (f"; ignored were {left_out}" if left_out else "")
        raise StorageError(msg)
    return found


def _without_new_columns(item: Item, names: set[str]) -> Item:
    return replace(item, columns={name: value for name, value in item.columns.items() if name in names})


def precedence(item: Item) -> tuple[str, str, str, str]:
    """Return what holders of one key are compared by: the smallest stays.

    Two rows of a manifest may name one key and one uri and say different things of it. Then what they say decides, version, facts and
    split, never which of them comes first: a shuffled manifest makes the same dataset.
    """
    return item.uri, item.version, item.facts, item.split or ""


def _in_order(items: list[Item]) -> Iterator[list[Item]]:
    """Yield the holders of each key, keys in order, the one that stays first."""
    items.sort(key=lambda item: (order(item.key), item.key))
    for _, group in groupby(items, key=lambda item: item.key):
        holders = list(group)
        if len(holders) > 1:  # facts are a hash that most items need not be asked for
            holders.sort(key=precedence)
        yield holders


def _join(found: Survey, listed: Iterable[list[Item]], before: list[Item], recipe: Recipe, limit: int | None) -> None:
    """Join one bucket of the listing with the same bucket of the published version."""
    live = {one.key: one for one in before if one.columns["state"] == _LIVE}
    rejected = {one.key: one for one in before if one.columns["state"] == _REJECTED}
    duplicates: dict[tuple[str, str], list[str]] = {}  # versions: a manifest may have one row several times
    for one in before:
        if one.columns["state"] == _DUPLICATE:
            duplicates.setdefault((one.key, one.uri), []).append(one.version)
    for holders in listed:
        if limit is not None and sum(found.counts.values()) >= limit:
            break
        item = holders[0]
        split = recipe.split.of(item)
        found.counts[split] += 1
        if item.split is not None:
            found.told[item.split] += 1
        if item.label is None:
            found.unlabelled += 1
        else:
            found.labels.add(item.label)
        found.items.add(replace(item, split=split))
        was = live.pop(item.key, None)
        if was is not None:
            # Where the source does not tell the split, another one is the rule's doing (--rebuild), and none of the source's.
            is_moved = recipe.split.by == "source" and was.split != split
            is_same = (was.version, was.label) == (item.version, item.facts) and not is_moved
            if not is_same:
                found.changes["version" if was.version != item.version else "split" if is_moved else "label or columns"] += 1
        else:
            was = rejected.pop(item.key, None)
            is_same = was is not None and was.version == item.version
            found.changes["version"] += was is not None and not is_same
        _count(found, is_known=was is not None, is_same=is_same)
        for other in holders[1:]:
            found.duplicates.append(
                Rejection(other.key, other.uri, other.version, "plan", "duplicate_key", f"{item.uri} has the same key and stays")
            )
            versions = duplicates.get((other.key, other.uri), [])
            is_known, is_same = bool(versions), other.version in versions
            if is_known:
                versions.remove(other.version if is_same else versions[-1])
                found.changes["version"] += not is_same
            _count(found, is_known=is_known, is_same=is_same)
    found.removed += len(live)
    found.forgotten += len(rejected) + sum(map(len, duplicates.values()))


def _count(found: Survey, *, is_known: bool, is_same: bool) -> None:
    if is_same:
        found.unchanged += 1
    elif is_known:
        found.changed += 1
    else:
        found.added += 1
