"""What `ray-prep plan` says: the spec after each step, and what a build would do, without doing it."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_prep.base import read_base
from ray_prep.cut import item_bytes
from ray_prep.plan import carried_columns, check_image, freeze, units
from ray_prep.show.report import bytes_text
from ray_prep.storage import open_store
from ray_prep.survey import survey

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from ray_prep.recipe import Recipe
    from ray_prep.spec import Spec
    from ray_prep.transforms.chain import Chain


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
        removed: Published, and no longer on offer.
        ignored: Files left out, by suffix.
        splits: Items by split.
        rows: Rows if every item is accepted.
        units: Pieces of work.
        bytes: Stored bytes if every item is accepted; an upper bound where sizes vary, a guess for encoded images.
        why: Why published rows would be made again, where they would.
        late_columns: Columns the source has gained and the table leaves out.
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
    removed: int
    ignored: Mapping[str, int]
    splits: Mapping[str, int]
    rows: int
    units: int
    bytes: int
    why: tuple[str, ...]
    late_columns: tuple[str, ...]

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
    store.check(writing=True)
    base = read_base(recipe.output.uri, recipe.source.storage_options, store)
    if base:
        check_image(recipe, base.image_metadata)
    carried, late = carried_columns(recipe, base.frozen if base else None, base.schema if base else None)
    with tempfile.TemporaryDirectory(prefix="ray_prep-") as folder:
        found = survey(recipe, base.known_items() if base else (), carried, Path(folder), None)
        frozen = freeze(recipe, base.frozen if base else None, carried, found.labels)
        count = sum(1 for _ in units(recipe, frozen, found, "make", sorted(found.counts)))
    why = []
    if base:
        why = [
            f"the rows of {split} follow from another recipe"
            for split in sorted(found.counts)
            if base.record.fingerprints.get(split, recipe.fingerprint(split)) != recipe.fingerprint(split)
        ]
        if len(frozen.classes) > len(base.frozen.classes):
            why.append(f"new classes: {', '.join(frozen.classes[len(base.frozen.classes) :])}")
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
        removed=found.removed,
        ignored=dict(found.ignored.most_common()),
        splits=dict(sorted(found.counts.items())),
        rows=sum(count * recipe.rows_per_item(split) for split, count in found.counts.items()),
        units=count,
        bytes=sum(count * item_bytes(recipe, split) for split, count in found.counts.items()),
        why=tuple(why),
        late_columns=tuple(late),
    )


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
    lines = [f"{found.name}: {found.source} -> {found.target}", "", "after each step (height x width x channels, dtype, range)"]
    lines += [f"  {place:{places}}  {name:{names}}  {spec}" for place, name, spec in found.walk]
    lines += [f"  note: {note}" for note in found.notes]
    lines += ["", f"listed {found.listed}" + (f", {sum(found.ignored.values())} other files ignored" if found.ignored else "")]
    if found.version is None:
        lines.append("  nothing is published yet: all of them are added")
    else:
        counts = f"{found.unchanged} unchanged, {found.added} added, {found.changed} changed, {found.removed} removed"
        lines.append(f"  against version {found.version}: {counts}")
        lines += [f"  made again: {reason}" for reason in found.why]
        lines += [f"  left out: the source's new column {name}" for name in found.late_columns]
    splits = ", ".join(f"{name} {count}" for name, count in found.splits.items())
    lines.append(f"  splits: {splits}")
    lines.append(f"  {found.rows} rows in {found.units} units, about {bytes_text(found.bytes)} if all are accepted")
    return "\n".join(lines)
