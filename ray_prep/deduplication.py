"""Images that are there twice, taken out of a build before it is published."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ray_prep.duplicates import Holder, holders_of_the_same
from ray_prep.plan import PlanFiles, Receipts, copy_units
from ray_prep.sample import Rejection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ray_prep.base import Base
    from ray_prep.run import Run
    from ray_prep.storage import Store
    from ray_prep.tally import Tally
    from ray_prep.work import Work


def drop_duplicates(run: Run, work: Work, tally: Tally, store: Store, base: Base | None, plan: PlanFiles, folder: Path) -> int | None:
    """Take out images that are there twice, where the recipe or their keys ask for it.

    Returns:
        How many images have a twin in another split; None where nobody asked.
    """
    checks = run.recipe.checks
    if run.recipe.source.is_container:
        # Single files' keys are unique since the survey; those in containers are known only now.
        _drop(run, work, tally, store, base, plan, _losers(tally, store, "key", folder), "duplicate_key")
    if run.recipe.filter.duplicates == "drop":
        _drop(run, work, tally, store, base, plan, _losers(tally, store, "source_sha256", folder), "duplicate")
    if checks.cross_split_duplicates is None:
        return None
    groups = _same(tally, store, "source_sha256", folder)
    return sum(len(group) for group in groups if len({holder.split for holder in group}) > 1)


def _same(tally: Tally, store: Store, column: str, folder: Path) -> Iterable[list[Holder]]:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        yield from holders_of_the_same(store, [made.shard for made in tally.shards], column, Path(place))


def _losers(tally: Tally, store: Store, column: str, folder: Path) -> dict[str, list[tuple[Holder, Holder]]]:
    """Return (loser, winner) by shard: the smallest key stays, of one key the smallest uri."""
    found: dict[str, list[tuple[Holder, Holder]]] = {}
    for group in _same(tally, store, column, folder):
        for loser in group[1:]:
            found.setdefault(loser.shard, []).append((loser, group[0]))
    return found


def _drop(
    run: Run,
    work: Work,
    tally: Tally,
    store: Store,
    base: Base | None,
    plan: PlanFiles,
    losers: dict[str, list[tuple[Holder, Holder]]],
    reason: Literal["duplicate", "duplicate_key"],
) -> None:
    """Replace each shard that holds losers by a copy without them, and reject them."""
    if not losers:
        return
    old = {made.shard.path: made.shard for made in tally.shards if made.shard.path in losers}
    cut = list(copy_units(work.recipe, work.frozen, old, {path: [loser for loser, _ in pairs] for path, pairs in losers.items()}))
    shard_of = {unit.unit_id: unit.items[0].uri for unit in cut}
    receipts = Receipts(store, base.paths if base else set(), work.conditions)
    done, refs = run.find(work, cut, "copy", plan, receipts)
    for receipt in (*done, *run.run_units(work, refs)):
        tally.replace(shard_of[receipt.unit_id], receipt.shards)
        tally.copied_rows += sum(made.shard.rows for made in receipt.shards)
    for pairs in losers.values():
        for loser, winner in pairs:
            same = "has the same key" if reason == "duplicate_key" else "has the same bytes"
            name = winner.uri if reason == "duplicate_key" else winner.key
            tally.reject([Rejection(loser.key, loser.uri, loser.version, "duplicates", reason, f"{name} {same} and stays")])
