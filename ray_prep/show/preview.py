"""`ray-prep preview`: a few images of the source on their whole walk, drawn on one sheet; no cluster, no table, in seconds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ray_prep.dataset.sums import add_sums, pooled
from ray_prep.errors import RecipeError, SampleError, StorageError
from ray_prep.image.fetch import fetch
from ray_prep.seed import order
from ray_prep.show.caption import applied_text
from ray_prep.show.sheet import SheetCell, SheetRejection, SheetRow, picture_format, render_sheet, write_picture
from ray_prep.sources.container import holds_members
from ray_prep.transforms.values import Normalize
from ray_prep.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from ray_prep.recipe import Recipe
    from ray_prep.sample import Item, Sample
    from ray_prep.sources.container import ContainerSource

# So many names are looked at to choose from: enough for variety, and a bucket of millions answers as fast as a folder.
_NAMES_LOOKED_AT = 2000


@dataclass
class Pictures:
    """What one item looks like on its walk.

    Args:
        item: The item.
        split: Its split; empty where the source gives none.
        source_bytes: Size of the file.
        stages: (heading, sample) from left to right.
        scores: Those that the recipe stores or limits, by name.
        error: Why it went no further; None where it came through.
    """

    item: Item
    split: str
    source_bytes: int = 0
    stages: list[tuple[str, Sample]] = field(default_factory=list)
    scores: Mapping[str, float] = field(default_factory=dict)
    error: SampleError | None = None


def preview(recipe: Recipe, path: Path, count: int) -> None:
    """Draw a contact sheet of a few images of the recipe's source.

    Shown are, of the first 2,000 names that the source lists, those which a build takes first: so the same ones each time. Where there
    are copies, two images of three are ones that get them, and these come first. Of containers it is the first members of the first.

    Args:
        recipe: What to show.
        path: The picture to write: .png, .jpg, .jpeg or .webp.
        count: How many images.

    Raises:
        StorageError: The source cannot be reached or lists nothing.
        RecipeError: An image has no split, a `python` step is not to be found, or the path ends otherwise.
    """
    picture_format(path)
    ignored: Counter[str] = Counter()
    items = list(islice(recipe.source.items(ignored), _NAMES_LOOKED_AT))
    if not items:
        msg = f"{recipe.source.uri}: no image is listed there"
        raise StorageError(msg)
    if holds_members(recipe.source):
        pairs = list(islice(members(recipe.source, items), count))
    else:
        items.sort(key=lambda item: (order(item.key), item.uri))
        pairs = fetched(_chosen(items, recipe, count), recipe)
    legend = []
    if recipe.needs_constants:
        recipe = _with_constants(recipe, pairs)
        legend.append(f"the constants of normalize: dataset are those of these {len(pairs)} images here")
    rows = [walked(recipe, item, data) for item, data in pairs]
    draw(recipe, rows, path, legend)


def members(source: ContainerSource, containers: Iterable[Item]) -> Iterator[tuple[Item, bytes | SampleError]]:
    """Yield the members of containers, front to back."""
    for container in containers:
        yield from source.members(container)


def _chosen(items: list[Item], recipe: Recipe, count: int) -> list[Item]:
    if not recipe.copies.copies:
        return items[:count]
    copied = [item for item in items if recipe.is_augmented(recipe.split.of(item))]
    chosen = {item.key: item for item in (*copied[: -(-2 * count // 3)], *items)}
    return sorted(list(chosen.values())[:count], key=lambda item: not recipe.is_augmented(recipe.split.of(item)))


def fetched(items: list[Item], recipe: Recipe) -> list[tuple[Item, bytes | SampleError]]:
    """Return items with their bytes, or with why there are none."""
    with fetch(items, recipe.source.storage_options, greet=True) as pairs:
        return list(pairs)


def _with_constants(recipe: Recipe, pairs: list[tuple[Item, bytes | SampleError]]) -> Recipe:
    walk = Walk(recipe, {})
    total: tuple[int, ...] = ()
    for item, data in pairs:
        try:
            if isinstance(data, bytes):
                total = add_sums((total, walk.measured("", item, data)))
        except SampleError:
            continue
    mean, std = pooled(total)
    if not total or not all(std):
        msg = "normalize: dataset: none of these images can be measured; show more with --count"
        raise RecipeError(msg)
    return recipe.freeze(mean, std)


def walked(recipe: Recipe, item: Item, data: bytes | SampleError) -> Pictures:
    """Take one item through the recipe and keep what it looks like on the way; the very steps of a build.

    Args:
        recipe: With constants filled in.
        item: The item.
        data: Its bytes, or why there are none.
    """
    pictures = Pictures(item, recipe.split.of(item))
    walk = Walk(recipe, {})
    try:
        if isinstance(data, SampleError):
            raise data
        pictures.source_bytes = len(data)
        for stage in walk.stages(pictures.split, item.key, data, walk.header(data)):
            sample = stage.sample
            if stage.name == "decoded":
                pictures.stages.append(("original", sample))
                pictures.scores = stage.scores
            elif stage.name == "preprocessed" and recipe.preprocess.steps:
                pictures.stages.append(("after preprocess", sample))
            elif stage.name == "stored":
                pictures.stages.append((f"copy {sample.copy}" if sample.copy else "after finish", sample))
    except SampleError as error:
        pictures.error = error
    return pictures


def draw(recipe: Recipe, rows: list[Pictures], path: Path, legend: list[str]) -> None:
    """Draw items on a sheet.

    Args:
        recipe: The recipe they went through.
        rows: The items.
        path: The picture to write.
        legend: What a reader should know.
    """
    headings = max(([heading for heading, _ in row.stages] for row in rows), key=len, default=[])
    splits = Counter(row.split for row in rows)
    facts = [
        f"recipe {recipe.whole_fingerprint}",
        f"seed {recipe.seed}",
        f"{len(rows)} image{'' if len(rows) == 1 else 's'} of {recipe.source.uri}",
        ", ".join(f"{name} {number}" for name, number in sorted(splits.items())),
    ]
    sheet = render_sheet(recipe.name, [_row(recipe, row) for row in rows], columns=headings, facts=facts, legend=legend)
    write_picture(path, sheet)


def _row(recipe: Recipe, row: Pictures) -> SheetRow:
    lines = [f"split {row.split}"]
    if row.item.label is not None:
        lines.insert(0, f"label {row.item.label}")
    if row.source_bytes:
        lines.append(f"{row.source_bytes / 1000:.0f} kB")
    lines += [f"{name} {value:.3f}" for name, value in row.scores.items()]
    cells: list[SheetCell | SheetRejection] = list(_cells(recipe, row))
    if row.error is not None:
        cells = [SheetRejection(row.error.reason, row.error.message, row.stages[0][1].image if row.stages else None)]
    return SheetRow(row.item.key, lines, cells)


def _cells(recipe: Recipe, row: Pictures) -> Iterator[SheetCell]:
    mean, std = _moments(recipe)
    for heading, sample in row.stages:
        is_normalized = heading not in {"original", "after preprocess"} and bool(mean)
        caption = f"{sample.height} x {sample.width} {sample.image.dtype}"
        if sample.full_size:
            caption += f", decoded at {sample.image.shape[0]} x {sample.image.shape[1]}"
        is_float = sample.image.dtype != np.uint8
        value_range = recipe.spec.value_range if is_float and not is_normalized else None
        yield SheetCell(
            sample.image,
            caption,
            applied_text(sample.applied) if sample.copy else "",
            value_range,
            mean if is_normalized else (),
            std if is_normalized else (),
        )


def _moments(recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return what a final `normalize` subtracts and divides by; empty where there is none."""
    return next((step.transform.moments for step in recipe.finish.steps if isinstance(step.transform, Normalize)), ((), ()))
