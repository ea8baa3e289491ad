"""What a person should hear of a recipe and its source, though nothing of it is wrong: said by `plan` and `build` alike, a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ray_prep.recipe import Recipe
    from ray_prep.survey import Survey

_NAMES_SHOWN = 5


def recipe_advice(recipe: Recipe) -> Iterator[str]:
    """Yield where `augment` makes nothing, or the same again and again."""
    copies, steps = recipe.copies.copies, recipe.augment.steps
    is_random = recipe.augment.is_random or recipe.finish.is_random
    if steps and not copies:
        yield "augment.transforms: none of them is applied, for augment.copies is 0; set it to 1 or more, or leave them out"
    elif copies and not steps and not is_random:
        yield f"augment.copies: {copies} without transforms: every copy is an exact duplicate of its original; write augment.transforms"
    elif copies > 1 and not is_random:
        yield f"augment.transforms: nothing in them is random: the {copies} copies of an image are exact duplicates of each other"


def source_advice(recipe: Recipe, found: Survey, counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield where a recipe leaves something of its source unused, or asks for what the source has not.

    Args:
        recipe: What is asked for.
        found: What the source offers.
        counts: Published images by split and class; the class of those without a label is "".
    """
    if not recipe.data.get("split"):
        yield from _untaken_splits(recipe, found)
    yield from _missed_labels(recipe, found)
    if not recipe.source.is_container:  # what containers hold is known when they are read
        if not found.labels and any(label for known in counts.values() for label in known):
            yield "source: no image has a label any more, and the dataset has labels: they are null from now on; is the column there?"
        for split in recipe.copies.splits:
            if recipe.copies.copies and not found.counts[split]:
                yield f"augment.splits: no image is in the split {split!r}; there are {', '.join(sorted(found.counts))}"


def _missed_labels(recipe: Recipe, found: Survey) -> Iterator[str]:
    """Yield that images have no class where folders tell them, or where a column is named almost as the one that would."""
    if recipe.source.layout == "class_folders" and found.unlabelled:
        yield (
            f"source: {found.unlabelled} images have no class: they lie at the root, or directly in a first folder named for a split "
            "(train, val, valid, validation, test); move them into a folder named for their class, or leave them out with `exclude`"
        )
    if not found.labels and (column := next((name for name in found.columns if name.strip().lower() == "label"), None)):
        what = f"no image has a class, and the column {column!r} is carried"
        yield f"source.columns: {what}; `columns: {{label: {column!r}}}` makes it the label"


def _untaken_splits(recipe: Recipe, found: Survey) -> Iterator[str]:
    """Yield that the source tells splits and the recipe says nothing of any: a test set would be trained on."""
    column = recipe.source.split_column()
    if not found.told.keys() - recipe.split.ratios.keys() and not (column and recipe.source.is_container):
        return
    who = f"the source's column {column!r} tells" if column else "the source's folders and names tell"
    told = [name if recipe.source.is_container else f"{name} {count}" for name, count in sorted(found.told.items())]
    shown = f" ({', '.join(told[:_NAMES_SHOWN])}{', …' if len(told) > _NAMES_SHOWN else ''})" if told else ""
    without = found.counts.total() - found.told.total()
    lacking = f", once the other {without} have one, too" if without and not recipe.source.is_container else ""
    yield f"split: {who} splits{shown}, and all images go to train; `split: {{by: source}}` takes them as told{lacking}"
