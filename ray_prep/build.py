"""plan → run → check → publish: from a recipe to a new version of its dataset, or to a reason why there is none."""

from __future__ import annotations

import secrets
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ray_prep.base import Base, read_base
from ray_prep.checks import Outcome, check
from ray_prep.dataset.record import Record, write_record
from ray_prep.dataset.schema import delta_schema, table_schema
from ray_prep.dataset.sums import add_sums, pooled
from ray_prep.dataset.table import commit
from ray_prep.engines import open_engine
from ray_prep.errors import Interrupted, RecipeError, StorageError, UnitsFailed
from ray_prep.messages import Failure, Tick, UnitRef
from ray_prep.plan import PlanFiles, Receipts, attempts_to_add, carried_columns, check_image, freeze, units
from ray_prep.platform import library_versions, made_with
from ray_prep.storage import open_store
from ray_prep.survey import Survey, survey
from ray_prep.tally import Tally
from ray_prep.work import Frozen, Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ray_prep.engines import Engine
    from ray_prep.receipt import Receipt
    from ray_prep.recipe import Recipe
    from ray_prep.storage import Store

_FAILURES_SHOWN = 3


class Progress(Protocol):
    """Who watches a build."""

    def stage(self, name: str) -> None:
        """A stage begins: `listing`, `measuring`, `building`, `publishing`."""

    def expect(self, items: int, units: int) -> None:
        """So many items in so many units are going to be run in this stage."""

    def tick(self, tick: Tick) -> None:
        """Some of them are done."""

    def warn(self, message: str) -> None:
        """Something a person should know, and no reason to stop."""


class Silence:
    """Nobody watches."""

    def stage(self, name: str) -> None:
        pass

    def expect(self, items: int, units: int) -> None:
        pass

    def tick(self, tick: Tick) -> None:
        pass

    def warn(self, message: str) -> None:
        pass


@dataclass(frozen=True)
class BuildReport:
    """What a build did: the keys of `--json`, counts in images, rows, files, bytes and seconds.

    `listed = unchanged + added + changed = accepted + rejected`. `version` is that of the dataset now, whether this build made it or
    found nothing to do; `is_published` tells which. `run_seconds` go from the first unit begun to the last one finished, without what it
    takes to start an engine; `images_per_second` is meant of these.
    """

    build_id: str
    version: int
    engine: str
    listed: int
    unchanged: int
    added: int
    changed: int
    removed: int
    accepted: int
    rejected: int
    rejected_new: int
    rejected_by_reason: Mapping[str, int]
    ignored: Mapping[str, int]
    rows: int
    shards: int
    bytes: int
    decoded: int
    copied_rows: int
    seconds: float
    run_seconds: float
    images_per_second: float
    recipe_fingerprint: str
    versions: Mapping[str, str]
    is_published: bool = True
    uri: str = ""
    splits: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `--json` writes it."""
        return asdict(self)


@dataclass
class _Run:
    """One build on its way: what it was asked for, and what it has found so far."""

    recipe: Recipe
    engine_name: str
    address: str | None
    workers: int | None
    limit: int | None
    retry_rejected: bool
    rebuild: bool
    progress: Progress
    stack: ExitStack
    started: float = field(default_factory=time.monotonic)
    build_id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}")
    run_seconds: float = 0.0
    units_done: int = 0
    engine: Engine | None = None
    warnings: list[str] = field(default_factory=list)

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        self.progress.warn(message)


def build(
    recipe: Recipe,
    *,
    engine: str = "auto",
    address: str | None = None,
    workers: int | None = None,
    limit: int | None = None,
    retry_rejected: bool = False,
    rebuild: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """Bring a recipe's dataset up to date with its source.

    Finished units of an earlier, interrupted build are found and not made again. Until the one commit at the end every reader sees
    the version before.

    Args:
        recipe: From `Recipe.load`.
        engine: Who runs the units: local, ray, or auto.
        address: A Ray cluster's address.
        workers: Units at a time; None for one a core, 0 for this process alone (local engine).
        limit: Take the first so many items in the order of their keys' hash: a small dataset to look at.
        retry_rejected: Try every rejected item again.
        rebuild: Start over: frozen values are taken anew, nothing found is used, and the commit replaces all there is.
        progress: Who watches; nobody by default.

    Raises:
        RecipeError: The recipe contradicts what is published, or the source does not fit the recipe.
        StorageError: The source or the target cannot be reached, refuses, or holds nothing.
        RejectBudgetExceeded: Too many images were rejected.
        CheckFailed: Another check refused.
        Conflict: Another build published first.
        UnitsFailed: Some units did not finish.
        Interrupted: Ctrl-C; what is finished is found by the next build.
    """
    if limit is not None and limit < 1:
        raise RecipeError(f"--limit {limit}: should be 1 or more")
    with ExitStack() as stack:
        run = _Run(recipe, engine, address, workers, limit, retry_rejected, rebuild, progress or Silence(), stack)
        try:
            return _build(run)
        except KeyboardInterrupt:
            kept = f"; the {run.units_done} units that are done are kept, the same command goes on from there" if run.units_done else ""
            raise Interrupted(f"interrupted: nothing was published{kept}") from None


def _build(run: _Run) -> BuildReport:
    recipe = run.recipe
    run.progress.stage("listing")
    for note in dict.fromkeys((*recipe.spec.notes, *(recipe.augmented_spec.notes if recipe.copies.copies else ()))):
        run.warn(note)
    store = open_store(recipe.output.uri, recipe.source.storage_options)
    store.check(writing=True)
    base = read_base(recipe.output.uri, recipe.source.storage_options, store)
    if base is None:
        _open_engine(run)  # there will be work: a local Ray comes up while the source is listed
    if base and run.limit is not None and base.record.limit is None:
        raise RecipeError(
            f"--limit {run.limit}: {recipe.output.uri} was built without a limit; write to another place with --set output.uri=…"
        )
    kept = None if run.rebuild else base
    if kept:
        check_image(recipe, kept.image_metadata)
    folder = Path(run.stack.enter_context(tempfile.TemporaryDirectory(prefix="ray_prep-")))
    carried, late = carried_columns(recipe, kept.frozen if kept else None, kept.schema if kept else None)
    if late:
        run.warn(f"new columns of the source are left out ({', '.join(late)}): the table's columns are fixed; --rebuild takes them in")
    found = survey(recipe, base.known_items() if base else (), carried, folder, run.limit)
    for split in recipe.copies.splits:
        if recipe.copies.copies and not found.counts[split]:
            run.warn(f"augment.splits: no image is in the split {split!r}; there are {', '.join(sorted(found.counts))}")
    frozen = freeze(recipe, kept.frozen if kept else None, carried, found.labels)
    if kept and _is_nothing_to_do(run, kept, found, frozen):
        return _unchanged_report(run, kept, found)

    work = Work(recipe.data, recipe.folder, frozen, carried.serialize().to_pybytes(), run.build_id, made_with())
    if recipe.needs_constants and not frozen.mean:
        frozen = _measure(run, work, found, store, folder)
        work = replace(work, frozen=frozen)
    tally = run.stack.enter_context(Tally(folder))
    plan = _make(run, work, found, store, base, tally)
    if tally.rejected + tally.accepted + len(found.duplicates) != found.listed:  # a bug of ours, never published
        raise UnitsFailed(f"{found.listed} items are listed, and {tally.accepted} accepted + {tally.rejected} rejected come to less")
    if not tally.accepted and tally.rejected_by_reason.keys() == {"missing"}:
        msg = f"{recipe.source.uri}: none of the pictures that it lists is there, such as {tally.examples['missing']}"
        raise StorageError(f"{msg}; is the path right, and is the storage mounted?")
    tally.reject(found.duplicates)
    tally.rejected_new += found.new_duplicates
    check(
        recipe.checks,
        Outcome(
            found.listed,
            tally.accepted,
            tally.rejected_by_reason,
            tally.examples,
            base.record.accepted if base else 0,
            found.removed if base else 0,
        ),
    )
    run.progress.stage("publishing")
    report = _publish(run, work, found, tally, store, base)
    plan.remove()
    return report


def _is_nothing_to_do(run: _Run, base: Base, found: Survey, frozen: Frozen) -> bool:
    """Return whether the published version is what this build would make."""
    record = base.record
    return (
        found.is_as_published
        and frozen == base.frozen
        and record.limit == run.limit
        and all(record.fingerprints.get(split) == run.recipe.fingerprint(split) for split in found.counts)
        and not (run.retry_rejected and record.rejected)
        and not base.has_retries
    )


def _measure(run: _Run, work: Work, found: Survey, store: Store, folder: Path) -> Frozen:
    """Measure the constants of `normalize: dataset`: one pass over the training originals."""
    if not found.counts["train"]:
        raise RecipeError("normalize: dataset takes its constants from the split `train`, and no image is in it")
    run.progress.stage("measuring")
    (folder / "measure").mkdir()
    tally = run.stack.enter_context(Tally(folder / "measure"))
    total: tuple[int, ...] = ()
    plan = PlanFiles(store, f"{run.build_id}-measure", work.carried_schema)
    receipts = Receipts(store, set(), work.conditions)
    done, refs = _find(run, work, found, "measure", ("train",), plan, receipts)
    for receipt in (*done, *_run_units(run, work, refs)):
        tally.add(receipt, is_new=True)
        total = add_sums((total, receipt.sums))
    plan.remove()
    if not total:
        raise RecipeError("normalize: dataset: not one training image could be measured; ray_prep build without it names the reasons")
    mean, std = pooled(total)
    if not all(std):
        raise RecipeError("normalize: dataset: a channel is the same everywhere (std 0); it cannot be normalised")
    return replace(work.frozen, mean=tuple(mean), std=tuple(std))


def _make(run: _Run, work: Work, found: Survey, store: Store, base: Base | None, tally: Tally) -> PlanFiles:
    """Run all units that are not done and tally all."""
    run.progress.stage("building")
    plan = PlanFiles(store, run.build_id, work.carried_schema)
    receipts = Receipts(store, base.paths if base else set(), work.conditions)
    done, refs = _find(run, work, found, "make", sorted(found.counts), plan, receipts)
    for receipt in done:
        tally.add(receipt, is_new=False)
    for receipt in _run_units(run, work, refs):
        tally.add(receipt, is_new=True)
    return plan


def _find(
    run: _Run,
    work: Work,
    found: Survey,
    kind: Literal["make", "measure"],
    splits: Iterable[str],
    plan: PlanFiles,
    receipts: Receipts,
) -> tuple[list[Receipt], list[UnitRef]]:
    """Cut units, and tell those that left a receipt from those to run, the largest first."""
    done: list[Receipt] = []
    refs: list[UnitRef] = []
    for unit in units(work.recipe, work.frozen, found, kind, tuple(splits)):
        receipt = None if run.rebuild else receipts.find(unit.unit_id)
        attempts = attempts_to_add(receipt, retry_rejected=run.retry_rejected) if receipt else 0
        if receipt and attempts is None:
            done.append(receipt)
        else:
            refs += plan.add(kind, unit, attempts or 0)
    refs += plan.flush()
    refs.sort(key=lambda ref: (-ref.rows * work.recipe.rows_per_item(ref.split), ref.unit_id))
    return done, refs


def _open_engine(run: _Run) -> Engine:
    if run.engine is None:
        run.engine = open_engine(run.engine_name, run.address, run.workers)
        run.stack.callback(run.engine.close)
    return run.engine


def _run_units(run: _Run, work: Work, refs: list[UnitRef]) -> Iterable[Receipt]:
    """Run units and yield their receipts; all of them, or an error after the last."""
    if not refs:
        return
    engine = _open_engine(run)
    run.progress.expect(sum(ref.rows for ref in refs), len(refs))
    first_s = last_s = time.monotonic()
    is_running = False
    missing = {ref.unit_id for ref in refs}
    failures: list[Failure] = []
    for outcome in engine.run(work, refs, run.progress.tick):
        if isinstance(outcome, Failure):
            if outcome.error.exit_code != UnitsFailed.exit_code:
                raise outcome.error  # storage or recipe: the other units would meet the same
            failures.append(outcome)
            if len(failures) >= _FAILURES_SHOWN:
                break
        elif outcome.unit_id in missing:
            missing.discard(outcome.unit_id)
            run.units_done += 1
            last_s = time.monotonic()
            first_s = min(first_s, last_s - outcome.seconds) if is_running else last_s - outcome.seconds
            is_running = True
            yield outcome
    run.run_seconds += last_s - first_s
    if failures:
        traces = "\n".join(failure.trace for failure in failures if failure.trace)
        raise UnitsFailed("\n".join(str(failure.error) for failure in failures)) from (RuntimeError(traces) if traces else None)
    if missing:  # the engine's stream is never the proof
        raise UnitsFailed(f"{len(missing)} of {len(refs)} units did not come back; the same command goes on from there")


def _publish(run: _Run, work: Work, found: Survey, tally: Tally, store: Store, base: Base | None) -> BuildReport:
    """Write the record and commit, if there is anything that is not published."""
    recipe = run.recipe
    uri, options = recipe.output.uri, recipe.source.storage_options
    shards = sorted(tally.shards, key=lambda made: made.shard.path)
    paths = {made.shard.path for made in shards}
    live = base.paths if base else set()
    report = _report(run, found, tally, version=-1 if base is None else base.version)
    kept = None if run.rebuild else base
    if kept and paths == live and kept.frozen == work.frozen and kept.has_rejections(tally.rejections()):
        return replace(report, is_published=False)
    record = Record(
        **{name: getattr(report, name) for name in _RECORDED},
        version=0 if base is None else base.version + 1,
        cpu_level=work.made_with["cpu_level"],
        classes=work.frozen.classes,
        counts={split: dict(sorted(counts.items())) for split, counts in sorted(tally.counts.items())},
        sums=dict(sorted(tally.sums.items())),
        fingerprints={split: recipe.fingerprint(split) for split in sorted(found.counts)},
        frozen=work.frozen.to_dict(),
        recipe=recipe.data,
        limit=run.limit,
    )
    version = commit(
        uri,
        options,
        delta_schema(table_schema(recipe.image_column, work.carried_schema)),
        None if base is None else base.version,
        [made.shard for made in shards if run.rebuild or made.shard.path not in live],
        sorted(live - paths),
        write_record(store, run.build_id, record, tally.rejections(), shards),
        mode="overwrite" if run.rebuild and base else "append",
    )
    return replace(report, version=version, seconds=_elapsed_s(run))


_RECORDED = (
    "build_id",
    "engine",
    "listed",
    "unchanged",
    "added",
    "changed",
    "removed",
    "accepted",
    "rejected",
    "rejected_new",
    "rejected_by_reason",
    "ignored",
    "rows",
    "shards",
    "bytes",
    "decoded",
    "copied_rows",
    "seconds",
    "images_per_second",
    "recipe_fingerprint",
    "versions",
)


def _elapsed_s(run: _Run) -> float:
    return round(time.monotonic() - run.started, 3)


def _report(run: _Run, found: Survey, tally: Tally, version: int) -> BuildReport:
    return BuildReport(
        build_id=run.build_id,
        version=version,
        engine=run.engine.name if run.engine else "local",
        listed=found.listed,
        unchanged=found.unchanged,
        added=found.added,
        changed=found.changed,
        removed=found.removed,
        accepted=tally.accepted,
        rejected=tally.rejected,
        rejected_new=tally.rejected_new,
        rejected_by_reason=dict(sorted(tally.rejected_by_reason.items())),
        ignored=dict(sorted(found.ignored.items())),
        rows=tally.rows,
        shards=len(tally.shards),
        bytes=tally.stored_bytes,
        decoded=tally.decoded,
        copied_rows=0,
        seconds=_elapsed_s(run),
        run_seconds=round(run.run_seconds, 3),
        images_per_second=round(tally.decoded / run.run_seconds, 1) if run.run_seconds else 0.0,
        recipe_fingerprint=run.recipe.whole_fingerprint,
        versions=library_versions(),
        uri=run.recipe.output.uri,
        splits={split: sum(counts.values()) for split, counts in sorted(tally.counts.items())},
        warnings=tuple(run.warnings),
    )


def _unchanged_report(run: _Run, base: Base, found: Survey) -> BuildReport:
    """Report a build that found nothing to do: what is true of the published version, and no work."""
    record = base.record
    return BuildReport(
        **{name: getattr(record, name) for name in _RECORDED if name not in {"build_id", "images_per_second", "seconds"}}
        | {
            "build_id": run.build_id,
            "listed": found.listed,
            "unchanged": found.unchanged,
            "added": 0,
            "changed": 0,
            "removed": 0,
            "rejected_new": 0,
            "decoded": 0,
            "ignored": dict(sorted(found.ignored.items())),
        },
        version=base.version,
        seconds=_elapsed_s(run),
        run_seconds=0.0,
        images_per_second=0.0,
        is_published=False,
        uri=run.recipe.output.uri,
        splits={split: sum(counts.values()) for split, counts in record.counts.items()},
        warnings=tuple(run.warnings),
    )
