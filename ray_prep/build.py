"""plan → run → check → publish: from a recipe to a new version of its dataset, or to a reason why there is none."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ray_prep.advice import recipe_advice, source_advice
from ray_prep.arguments import whole_number
from ray_prep.base import Base, read_base
from ray_prep.build_report import RECORDED, BuildReport, made_report, unchanged_report
from ray_prep.checks import Outcome, check
from ray_prep.containers import count_members, survey_containers
from ray_prep.dataset.log import published_as
from ray_prep.dataset.record import BUILDS_FOLDER, TRAINING, Record, remove_refusal, write_record, write_refusal
from ray_prep.dataset.schema import PARTITION, delta_schema, table_schema
from ray_prep.dataset.sums import add_sums, pooled
from ray_prep.dataset.table import commit
from ray_prep.deduplication import drop_duplicates
from ray_prep.engines import choose_engine
from ray_prep.errors import CheckFailed, Damaged, Interrupted, RecipeError, RejectBudgetExceeded, StorageError, UnitsFailed
from ray_prep.messages import EVERY
from ray_prep.plan import PlanFiles, Receipts, carried_columns, check_image, freeze, units
from ray_prep.platform import made_with
from ray_prep.progress import Progress, Silence
from ray_prep.receipt import WORK_FOLDER
from ray_prep.recipe import Recipe
from ray_prep.run import Run
from ray_prep.storage import clear_unfinished, open_store
from ray_prep.survey import Survey, survey
from ray_prep.tally import Tally
from ray_prep.work import Frozen, Work

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ray_prep.storage import Store


def build(
    recipe: Recipe | str | os.PathLike[str],
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
        recipe: From `Recipe.load`; a path stands for the file that it loads.
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
    if isinstance(recipe, str | os.PathLike):
        recipe = Recipe.load(recipe)
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"recipe: should be a recipe's path or what Recipe.load and Recipe.parse give, got {type(recipe).__name__}")
    if limit is not None:
        limit = whole_number("--limit", limit, 1)
    if workers is not None:
        workers = whole_number("--workers", workers)
    choose_engine(engine, address, workers)  # a wrong one is wrong on a night without work, too
    stack = ExitStack()
    run = Run(recipe, engine, address, workers, limit, retry_rejected, rebuild, progress or Silence(), stack)
    try:
        with stack:
            return _build(run)
    except KeyboardInterrupt:
        if run.published is not None:
            raise Interrupted(f"interrupted, but version {run.published} was published before; ray-prep log shows it") from None
        raise Interrupted(f"interrupted: nothing was published{run.kept}") from None


def _build(run: Run) -> BuildReport:
    recipe = run.recipe
    run.progress.stage("listing")
    for note in dict.fromkeys((*recipe.spec.notes, *(recipe.augmented_spec.notes if recipe.copies.copies else ()), *recipe_advice(recipe))):
        run.warn(note)
    store = open_store(recipe.output.uri, recipe.source.storage_options)
    store.check(writing=True)
    damage: dict[str, Damaged] = {}
    base = read_base(recipe.output.uri, recipe.source.storage_options, store, damage if run.rebuild else None)
    if base is None:
        run.open_engine()  # there will be work: a local Ray comes up while the source is listed
    _check_limit(run, base)
    kept = None if run.rebuild else base
    if kept:
        check_image(recipe, kept.image_metadata)
    folder = Path(run.stack.enter_context(tempfile.TemporaryDirectory(prefix="ray_prep-")))
    carried, late, gone = carried_columns(recipe, kept.frozen if kept else None, kept.schema if kept else None)
    if gone:
        run.warn(f"columns of the dataset are no longer in the source ({', '.join(gone)}): they are null in all that is made from now on")
    if late:
        run.warn(f"new columns of the source are left out ({', '.join(late)}): the table's columns are fixed; --rebuild takes them in")
    if recipe.source.is_container:
        found = survey_containers(recipe, base.known_items(with_uri=True) if base else (), carried, folder)
    else:
        found = survey(recipe, base.known_items() if base else (), carried, folder, run.limit)
    for line in source_advice(recipe, found, kept.record.counts if kept else {}):
        run.warn(line)
    if base and damage:
        what = next(iter(damage.values()))
        run.warn(
            f"version {base.version} is damaged (files: {len(damage)}, such as {what.place}, which {what.what}); images that only such "
            "files tell of count as added, and checks against that version may not see them"
        )
    frozen = freeze(recipe, kept.frozen if kept else None, carried, found.labels, found.class_names)
    if kept and _is_nothing_to_do(run, kept, found, frozen):
        return unchanged_report(run, kept, found)

    work = Work(recipe.data, recipe.folder, frozen, carried.serialize().to_pybytes(), run.build_id, made_with())
    plan = PlanFiles(store, run.build_id, carried)
    if recipe.needs_constants and not frozen.mean:
        frozen = _measure(run, work, found, store, plan)
        work = replace(work, frozen=frozen)
    tally = run.stack.enter_context(Tally(folder))
    _make(run, work, found, store, base, tally, plan)
    if recipe.source.is_container:
        count_members(found, base, tally, store, folder)
    crossing = drop_duplicates(run, work, tally, store, base, plan, folder)
    _prove_complete(recipe, found, tally)
    outcome = Outcome(
        listed=found.listed,
        accepted=tally.accepted,
        rejected_by_reason=tally.rejected_by_reason,
        examples=tally.examples,
        published=base.record.accepted if base else 0,
        dropped=_dropped(recipe, found, tally, base) if base else 0,
        cross_split_duplicates=crossing,
        classes=_by_class(tally.counts),
        published_classes=_by_class(kept.record.counts) if kept else {},
        mean=pooled(tally.sums.get(TRAINING, ()))[0],
        usual_mean=(kept.frozen.mean or kept.record.mean) if kept else (),
    )
    try:
        check(recipe.checks, outcome)
    except (RejectBudgetExceeded, CheckFailed) as refusal:
        if not tally.rejected:
            raise
        raise type(refusal)(f"{refusal}\n{_left_list(run, store, tally)}") from None
    run.progress.stage("publishing")
    report = _publish(run, work, found, tally, store, base)
    clear_unfinished(recipe.output.uri, (f"{PARTITION}=*", WORK_FOLDER, f"{BUILDS_FOLDER}/*"))
    try:
        plan.remove()
        remove_refusal(store)
    except StorageError as error:
        run.warn(f"the plan's files could not be removed, which harms nothing: {error}")
        report = replace(report, warnings=tuple(run.warnings))
    return report


def _dropped(recipe: Recipe, found: Survey, tally: Tally, base: Base) -> int:
    """Return how many published images go: they are no longer on offer, or rejected now.

    Which of the rejected ones were published is asked of all its keys, and only where it matters.
    """
    if found.removed + tally.rejected <= recipe.checks.max_drop * base.record.accepted:
        return found.removed
    return found.removed + base.published_among(tally.rejections())


def _by_class(counts: Mapping[str, Mapping[str, int]]) -> Counter[str]:
    """Add up images by class over all splits."""
    return sum((Counter(known) for known in counts.values()), Counter())


def _check_limit(run: Run, base: Base | None) -> None:
    if run.limit is None:
        return
    if run.recipe.source.is_container:
        raise RecipeError(f"--limit {run.limit}: containers are read whole; name fewer of them with source.include")
    if base and base.record.limit is None:
        place = run.recipe.output.uri
        raise RecipeError(f"--limit {run.limit}: {place} was built without a limit; write to another place with --set output.uri=…")


def _is_nothing_to_do(run: Run, base: Base, found: Survey, frozen: Frozen) -> bool:
    """Return whether the published version is what this build would make."""
    record = base.record
    splits = record.counts if run.recipe.source.is_container else found.counts
    return (
        found.is_as_published
        and frozen == base.frozen
        and record.limit == run.limit
        and all(record.fingerprints.get(split) == run.recipe.fingerprint(split) for split in splits)
        and not (run.retry_rejected and record.rejected)
        and not base.has_retries(lists_files=run.recipe.source.lists_files)
    )


def _measure(run: Run, work: Work, found: Survey, store: Store, plan: PlanFiles) -> Frozen:
    """Measure the constants of `normalize: dataset`: one pass over the training originals."""
    split = EVERY if run.recipe.source.is_container else TRAINING
    if not found.counts[split]:
        raise RecipeError("normalize: dataset takes its constants from the split `train`, and no image is in it")
    run.progress.stage("measuring")
    receipts = Receipts(store, set(), work.conditions)
    cut = units(work.recipe, work.frozen, found, "measure", (split,))
    done, refs = run.find(work, cut, "measure", plan, receipts)
    total: tuple[int, ...] = ()
    for receipt in (*done, *run.run_units(work, refs)):
        total = add_sums((total, receipt.sums))
    if not total:
        raise RecipeError("normalize: dataset: not one training image could be measured; ray_prep build without it names the reasons")
    mean, std = pooled(total)
    if not all(std):
        raise RecipeError("normalize: dataset: a channel is the same everywhere (std 0); it cannot be normalised")
    return replace(work.frozen, mean=tuple(mean), std=tuple(std))


def _make(run: Run, work: Work, found: Survey, store: Store, base: Base | None, tally: Tally, plan: PlanFiles) -> None:
    """Run all units that are not done and tally all."""
    run.progress.stage("building")
    receipts = Receipts(store, base.paths if base else set(), work.conditions)
    cut = units(work.recipe, work.frozen, found, "make", tuple(sorted(found.counts)))
    done, refs = run.find(work, cut, "make", plan, receipts)
    for receipt in done:
        tally.add(receipt, is_new=False)
    for receipt in run.run_units(work, refs):
        tally.add(receipt, is_new=True)
    tally.reject(found.duplicates)


def _prove_complete(recipe: Recipe, found: Survey, tally: Tally) -> None:
    if tally.rejected + tally.accepted != found.listed:  # a bug of ours, never published
        raise UnitsFailed(
            f"{found.listed} items are listed, and {tally.accepted} accepted + {tally.rejected} rejected come to another number"
        )
    if not tally.accepted and tally.rejected_by_reason.keys() == {"missing"}:
        msg = f"{recipe.source.uri}: none of the pictures that it lists is there, such as {tally.examples['missing']}"
        raise StorageError(f"{msg}; is the path right, and is the storage mounted?")


def _left_list(run: Run, store: Store, tally: Tally) -> str:
    """Leave the list of rejections of a refused build, and return where: what it refuses over is to be looked at."""
    try:
        write_refusal(store, run.build_id, tally.rejections())
    except StorageError as error:
        return f"The list of all {tally.rejected} rejections could not be written: {error}"
    return f"All {tally.rejected} rejections: ray-prep rejects {run.recipe.output.uri} --refused"


def _publish(run: Run, work: Work, found: Survey, tally: Tally, store: Store, base: Base | None) -> BuildReport:
    """Write the record and commit, if there is anything that is not published."""
    recipe = run.recipe
    uri, options = recipe.output.uri, recipe.source.storage_options
    shards = sorted(tally.shards, key=lambda made: made.shard.path)
    paths = {made.shard.path for made in shards}
    live = base.paths if base else set()
    rejected_new = base.new_among(tally.rejections()) if base else tally.rejected
    report = made_report(run, found, tally, rejected_new, version=-1 if base is None else base.version)
    kept = None if run.rebuild else base
    # Whether a version is all there is or some of it is told by its record alone.
    is_as_limited = kept is not None and (kept.record.limit is None) == (run.limit is None)
    if kept and is_as_limited and paths == live and kept.frozen == work.frozen and kept.has_rejections(tally.rejections()):
        return replace(report, is_published=False)
    record = Record(
        **{name: getattr(report, name) for name in RECORDED},
        version=0 if base is None else base.version + 1,
        cpu_level=work.made_with["cpu_level"],
        classes=work.frozen.classes,
        counts=tally.counts,
        sums=tally.sums,
        fingerprints={split: recipe.fingerprint(split) for split in sorted({*found.counts, *tally.counts} - {EVERY})},
        frozen=work.frozen.to_dict(),
        recipe=recipe.data,
        limit=run.limit,
        ignored_members=dict(sorted(tally.ignored.items())),
    )
    base_version = None if base is None else base.version
    path = write_record(store, run.build_id, record, tally.rejections(), shards)
    try:
        run.published = commit(
            uri,
            options,
            delta_schema(table_schema(recipe.image_column, work.carried_schema)),
            base_version,
            [made.shard for made in shards if run.rebuild or made.shard.path not in live],
            sorted(live - paths),
            path,
            mode="overwrite" if run.rebuild and base else "append",
        )
    except KeyboardInterrupt:  # the commit may be in
        run.published = published_as(store, path, base_version)
        raise
    return replace(report, version=run.published, seconds=run.elapsed_s)
