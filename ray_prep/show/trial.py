"""A few items on their whole walk in this process: what a build of all of them will cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
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
    walk = Walk(recipe.freeze([0.5], [0.25]) if recipe.needs_constants else recipe, {})
    with fetch(items, recipe.source.storage_options) as pairs:
        fetched = list(pairs)
    for item, data in fetched:  # libraries are loaded and tables made when the first picture comes
        if _walked(walk, item, data):
            break
    tried = rejected = stored_bytes = rows = largest = 0
    started = time.process_time()
    for item, data in fetched:
        made = _walked(walk, item, data)
        tried += 1
        rejected += not made
        rows += len(made)
        stored_bytes += sum(memoryview(row["image"]).nbytes for row in made)
        largest = max([largest, *(row["source_height"] * row["source_width"] for row in made)])
        if time.process_time() - started > _MOST_S:
            break
    if not tried:
        return None
    item_s = (time.process_time() - started) / tried
    needed = _WORKER_BYTES + _ARRAYS_A_PICTURE * walk.recipe.start.channels * largest
    return Trial(tried, rejected, item_s, stored_bytes / rows if rows else 0.0, needed)


def _walked(walk: Walk, item: Item, data: bytes | SampleError) -> list[dict[str, Any]]:
    """Return an item's rows; none where it is rejected."""
    if isinstance(data, SampleError):
        return []
    try:
        return walk.rows(item.split or "", item, data)
    except SampleError:
        return []
