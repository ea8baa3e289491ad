"""What `ray-prep plan` says: the spec after each step, and what a build would do, without doing it."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_prep.advice import recipe_advice, source_advice
from ray_prep.base import read_base
from ray_prep.containers import survey_containers
from ray_prep.cut import item_bytes
from ray_prep.errors import StorageError
from ray_prep.messages import EVERY
from ray_prep.plan import Receipts, attempts_to_add, carried_columns, check_image, freeze, units
from ray_prep.platform import made_with
from ray_prep.show.report import bytes_text, seconds_text
from ray_prep.show.trial import MOST_ITEMS, Trial, trial
from ray_prep.storage import Stores, is_web, open_store
from ray_prep.survey import survey
from ray_prep.work import Work

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from ray_prep.base import Base
    from ray_prep.recipe import Recipe
    from ray_prep.spec import Spec
    from ray_prep.storage import Store
    from ray_prep.survey import Survey
    from ray_prep.transforms.chain import Chain
    from ray_prep.work import Frozen

# Child processes start, the source is listed, the version is committed.
_START_S = 3.0


@dataclass(frozen=True)
class Outlook:
    """What a build would do.

    Args:
        name: The recipe's name.
        source: Where items come from.
        target: Where the dataset is or will be.
        version: The published version; None where there is none.
        walk: (place, step, what an image is after it) of each step.
        notes: Sizes that will be rejected.
        listed: Items on offer.
        unchanged: Of them, known to the published version as they are.
        added: New.
        changed: Known otherwise.
        changes: By what these differ, most first.
        removed: Published, and no longer on offer.
        ignored: Files left out, by suffix.
        containers: Files that hold many images each, counted among `added` and `changed` as one; 0 where items are images.
        splits: Items by split; empty for containers.
        rows: Rows if every item is accepted.
        units: Pieces of work.
        units_to_run: Of them, those that are not done.
        items_to_run: Their items: all that is fetched and decoded.
        bytes: Stored bytes if every item is accepted: measured on a few where sizes vary or images are encoded.
        rewriting: Stored bytes to make for each stored byte of images that were added, changed or removed; None where nothing is published
            or nothing is to be made.
        trial: What a few of the items cost in this process; None where there is nothing to do.
        why: Why published rows would be made again, where they would.
        late_columns: Columns the source has gained and the table leaves out.
        gone_columns: Columns the source has lost, which are null from now on.
        warnings: What a build will warn of beside.
    """

    name: str
    source: str
    target: str
    version: int | None
    walk: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]
    listed: int
    unchanged: int
    added: int
    changed: int
    changes: Mapping[str, int]
    removed: int
    ignored: Mapping[str, int]
    containers: int
    splits: Mapping[str, int]
    rows: int
    units: int
    units_to_run: int
    items_to_run: int
    bytes: int
    rewriting: float | None
    trial: Trial | None
    why: tuple[str, ...]
    late_columns: tuple[str, ...]
    gone_columns: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `--json` writes it."""
        return asdict(self)


def outlook(recipe: Recipe) -> Outlook:
    """Look at source and target, and say what a build would do. Writes nothing but spools on local disk, which go again.

    Raises:
        RecipeError: The recipe contradicts what is published, or the source does not fit it.
        StorageError: Source or target cannot be reached, or the source lists nothing.
    """
    store = open_store(recipe.output.uri, recipe.source.storage_options)
    refusal = _refusal(store)
    base = read_base(recipe.output.uri, recipe.source.storage_options, store)
    if base:
        check_image(recipe, base.image_metadata)
    elif refusal:
        raise refusal
    carried, late, gone = carried_columns(recipe, base.frozen if base else None, base.schema if base else None)
    with tempfile.TemporaryDirectory(prefix="ray_prep-") as folder:
        if recipe.source.is_container:
            found = survey_containers(recipe, base.known_items(with_uri=True) if base else (), carried, Path(folder))
        else:
            found = survey(recipe, base.known_items() if base else (), carried, Path(folder), None)
        frozen = freeze(recipe, base.frozen if base else None, carried, found.labels, found.class_names)
        why = _why(recipe, base, found, frozen) if base else []
        work = Work(recipe.data, recipe.folder, frozen, carried.serialize().to_pybytes(), "plan", made_with())
        lists_files = recipe.source.lists_files
        is_done = base is not None and _is_up_to_date(base, found, frozen, why, lists_files=lists_files)
        cut = list(_units(work, found, base, store, is_done=is_done))
        to_run = [(split, count) for split, count, is_done in cut if not is_done]
        tried = (
            trial(recipe.freeze(frozen.mean, frozen.std) if frozen.mean else recipe, list(islice(found.items.items(), MOST_ITEMS)))
            if to_run and not recipe.source.is_container
            else None
        )
    # What containers hold is known when they are read.
    counts = {split: count for split, count in sorted(found.counts.items()) if split != EVERY}
    stored = sum(_stored_bytes(recipe, split, tried) * count for split, count in counts.items())
    made = sum(_stored_bytes(recipe, split, tried) * count for split, count in to_run if split != EVERY)
    differing = found.added + found.changed + found.removed
    return Outlook(
        name=recipe.name,
        source=recipe.source.uri,
        target=recipe.output.uri,
        version=base.version if base else None,
        walk=tuple(_walk(recipe)),
        notes=tuple(dict.fromkeys((*recipe.spec.notes, *(recipe.augmented_spec.notes if recipe.copies.copies else ())))),
        listed=found.listed,
        unchanged=found.unchanged,
        added=found.added,
        changed=found.changed,
        changes={name: count for name, count in found.changes.most_common() if count},
        removed=found.removed,
        ignored=dict(found.ignored.most_common()),
        containers=found.counts[EVERY],
        splits=counts,
        rows=sum(count * recipe.rows_per_item(split) for split, count in counts.items()),
        units=len(cut),
        units_to_run=len(to_run),
        items_to_run=sum(count for _, count in to_run),
        bytes=stored,
        rewriting=made / (stored / sum(counts.values()) * differing) if base and made and differing else None,
        trial=tried,
        why=tuple(why),
        late_columns=tuple(late),
        gone_columns=tuple(gone),
        warnings=(
            *recipe_advice(recipe),
            *source_advice(recipe, found, base.record.counts if base else {}),
            *([f"a build would fail: {refusal}"] if refusal else []),
        ),
    )


def _refusal(store: Store) -> StorageError | None:
    """Return why nothing could be built there: who may only read a dataset may still ask what would become of it."""
    try:
        store.check(writing=True)
    except StorageError as error:
        return error
    return None


def _why(recipe: Recipe, base: Base, found: Survey, frozen: Frozen) -> list[str]:
    """Return why published rows would be made again."""
    why = [
        f"the rows of {split} follow from another recipe"
        for split in sorted({*found.counts, *base.record.counts} - {EVERY})
        if base.record.fingerprints.get(split, recipe.fingerprint(split)) != recipe.fingerprint(split)
    ]
    if recipe.source.is_container and len(frozen.classes) > len(base.frozen.classes):
        why.append(f"new classes: {', '.join(frozen.classes[len(base.frozen.classes) :])}")
    return why


def _is_up_to_date(base: Base, found: Survey, frozen: Frozen, why: list[str], *, lists_files: bool) -> bool:
    is_as_published = found.is_as_published and frozen == base.frozen and base.record.limit is None
    return is_as_published and not why and not base.has_retries(lists_files=lists_files)


def _units(work: Work, found: Survey, base: Base | None, store: Store, *, is_done: bool) -> Iterator[tuple[str, int, bool]]:
    """Yield each unit's split and number of items, and whether it is done: what an earlier build has finished is found, not made again.

    Raises:
        StorageError: A web server that a build would fetch from does not answer.
    """
    stores = Stores(work.recipe.source.storage_options)
    receipts = None if is_done else Receipts(store, base.paths if base else set(), work.conditions)
    for unit in units(work.recipe, work.frozen, found, "make", sorted(found.counts)):
        receipt = receipts.find(unit.unit_id) if receipts else None
        lists_files = work.recipe.source.lists_files
        is_unit_done = is_done or (receipt is not None and attempts_to_add(receipt, lists_files=lists_files, retry_rejected=False) is None)
        if not is_unit_done:
            stores.greet(item.uri for item in unit.items if is_web(item.uri))
        yield unit.split, len(unit.items), is_unit_done


def _stored_bytes(recipe: Recipe, split: str, tried: Trial | None) -> int:
    """Return what an item's rows take: by what a few of them took where the recipe does not say it to the byte."""
    if tried is None or not tried.row_bytes or (recipe.output.image == "tensor" and recipe.output.shape == "fixed"):
        return item_bytes(recipe, split)
    return round(tried.row_bytes * recipe.rows_per_item(split))


def _walk(recipe: Recipe) -> Generator[tuple[str, str, str], None, None]:
    """Yield each step with the spec after it: originals' first, then what copies go through beside."""
    yield "decode", recipe.decode.color, str(recipe.start)
    shared = yield from _steps(recipe.preprocess, recipe.start)
    yield from _steps(recipe.finish, shared)
    if recipe.copies.copies:
        copy = yield from _steps(recipe.augment, shared)
        yield from _steps(recipe.finish, copy)


def _steps(chain: Chain, spec: Spec) -> Generator[tuple[str, str, str], None, Spec]:
    for step, after in zip(chain.steps, chain.specs(spec), strict=True):
        yield step.place, step.name, str(after)
        spec = after
    return spec


def outlook_text(found: Outlook) -> str:
    """Return an outlook for the terminal."""
    places = max(len(place) for place, _, _ in found.walk)
    names = max(len(name) for _, name, _ in found.walk)
    lines = [f"{found.name}: {found.source} -> {found.target}", ""]
    lines.append("after each step (height x width x channels, dtype, range; 256.. is 256 or more)")
    is_copies = False
    for place, name, spec in found.walk:
        if place.startswith("augment.") and not is_copies:
            is_copies = True
            lines.append("  and of each copy, after preprocess")
        lines.append(f"  {place:{places}}  {name:{names}}  {spec}")
    lines += [f"  note: {note}" for note in found.notes]
    lines += [f"  warning: {line}" for line in found.warnings]
    lines += ["", f"listed {found.listed}" + (f", {sum(found.ignored.values())} other files ignored" if found.ignored else "")]
    if found.version is None:
        lines.append("  nothing is published yet: all of them are added")
    else:
        reasons = ", ".join(f"{count} in {name}" for name, count in found.changes.items())
        changed = f"{found.changed} changed" + (f" ({reasons})" if reasons else "")
        counts = f"{found.unchanged} unchanged, {found.added} added, {changed}, {found.removed} removed"
        lines.append(f"  against version {found.version}: {counts}")
        lines += [f"  made again: {reason}" for reason in found.why]
        lines += [f"  left out: the source's new column {name}" for name in found.late_columns]
        lines += [f"  null from now on: column {name}, which the source no longer has" for name in found.gone_columns]
    if found.containers:
        lines.append(f"  {found.containers} containers, a unit each; a new or changed one counts as one here, its images when it is read")
        return "\n".join([*lines, *_cost_lines(found)])
    splits = ", ".join(f"{name} {count}" for name, count in found.splits.items())
    lines.append(f"  splits: {splits}")
    lines.append(f"  {found.rows} rows in {found.units} units, about {bytes_text(found.bytes)} if all are accepted")
    lines += _cost_lines(found)
    return "\n".join(lines)


def _cost_lines(found: Outlook) -> Iterator[str]:
    """Yield what a build would take here."""
    if not found.units_to_run:
        yield "nothing to make: a build would decode no image"
        return
    yield f"to make: {found.units_to_run} of {found.units} units" + ("" if found.containers else f", {found.items_to_run} images")
    if found.rewriting:
        yield f"  rewrites {found.rewriting:.1f} bytes for each byte of images that were added, changed or removed"
    if found.trial:
        workers = len(os.sched_getaffinity(0))
        seconds = found.items_to_run * found.trial.item_s / workers + _START_S
        rejected = f"; {found.trial.rejected} of them were rejected" if found.trial.rejected else ""
        yield (
            f"  about {seconds_text(seconds)} with {workers} workers here, if storage keeps up, "
            f"and {found.trial.worker_bytes / 1e9:.1f} GB of memory each"
        )
        yield f"  (a guess by {found.trial.items} of the images: {found.trial.item_s * 1000:.1f} ms each{rejected})"
