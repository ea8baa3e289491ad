"""A few items on their whole walk in this process: what a build of all of them will cost."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ray_prep.errors import SampleError
from ray_prep.image.fetch import fetch
from ray_prep.process import settle_process
from ray_prep.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ray_prep.recipe import Recipe
    from ray_prep.sample import Item

# Enough for a guess within a factor of two, in a second or so.
MOST_ITEMS = 16
_MOST_S = 5.0
# Of each item so many copies are made; what more of them cost follows from these and one.
_MOST_COPIES = 16
# Measured: the peak of a worker on pictures of half a megapixel, with what it reads ahead and the row group it fills.
_WORKER_BYTES = 500_000_000
# As stored, upright, and what a resize or a conversion of colours holds beside it.
_ARRAYS_A_PICTURE = 4


@dataclass(frozen=True)
class Trial:
    """What a few items cost.

    Args:
        items: How many were tried.
        rejected: How many of them were rejected.
        item_s: Seconds of CPU an item takes, its copies included; fetching its bytes is not part of it.
        row_bytes: Mean stored bytes of a row's image; 0 where all were rejected.
        worker_bytes: What a worker may need at most, by the largest of the pictures.
    """

    items: int
    rejected: int
    item_s: float
    row_bytes: float
    worker_bytes: int


def trial(recipe: Recipe, items: Sequence[Item]) -> Trial | None:
    """Take items through the recipe as a worker does, and store nothing.

    This process is set up like a worker's (one thread) and stays so.

    Args:
        recipe: The constants of `normalize: dataset` may be missing: others take as long.
        items: With the splits they are assigned to; at most 16, of which fewer are tried where they are slow.

    Returns:
        None where there are no items.

    Raises:
        StorageError: An image cannot be fetched, by no fault of its own.
        RecipeError: A `python` step is not to be found.
    """
    settle_process()
    whole = recipe.freeze([0.5], [0.25]) if recipe.needs_constants else recipe
    count = min(recipe.copies.copies, _MOST_COPIES)
    walk = Walk(_with_copies(whole, count), {})
    short_walk = Walk(_with_copies(whole, 1), {})
    with fetch(items, recipe.source.storage_options, greet=True) as pairs:
        fetched = list(pairs)
    for item, data in fetched:  # libraries are loaded and tables made when the first picture comes
        if _walked(walk, item, data):
            break
    tried = rejected = stored_bytes = rows = largest = most_rows = 0
    seconds = 0.0
    started = time.process_time()
    for item, data in fetched:
        made, item_s = _timed(walk, item, data)
        if recipe.copies.copies > count and len(made) >= count:
            _, short_s = _timed(short_walk, item, data)
            item_s += (recipe.copies.copies - count) * max(0.0, item_s - short_s) / (count - 1)
        seconds += item_s
        most_rows = max(most_rows, recipe.rows_per_item(item.split or ""))
        tried += 1
        rejected += not made
        rows += len(made)
        stored_bytes += sum(memoryview(row["image"]).nbytes for row in made)
        largest = max([largest, *(row["source_height"] * row["source_width"] for row in made)])
        if time.process_time() - started > _MOST_S:
            break
    if not tried:
        return None
    row_bytes = stored_bytes / rows if rows else 0.0
    needed = _WORKER_BYTES + _ARRAYS_A_PICTURE * walk.recipe.start.channels * largest + round(row_bytes * most_rows)
    return Trial(tried, rejected, seconds / tried, row_bytes, needed)


def _with_copies(recipe: Recipe, count: int) -> Recipe:
    return replace(recipe, copies=replace(recipe.copies, copies=count)) if recipe.copies.copies > count else recipe


def _timed(walk: Walk, item: Item, data: bytes | SampleError) -> tuple[list[dict[str, Any]], float]:
    """Return an item's rows and the seconds of CPU they took."""
    started = time.process_time()
    return _walked(walk, item, data), time.process_time() - started


def _walked(walk: Walk, item: Item, data: bytes | SampleError) -> list[dict[str, Any]]:
    """Return an item's rows; none where it is rejected."""
    if isinstance(data, SampleError):
        return []
    try:
        return walk.rows(item.split or "", item, data)
    except SampleError:
        return []
