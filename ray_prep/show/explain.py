"""`ray-prep explain`: one item's walk in words, from the listing to its shard, or to the place where it left."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ray_prep.base import read_base
from ray_prep.dataset.live import live_rows
from ray_prep.dataset.log import no_dataset
from ray_prep.errors import RecipeError, SampleError, did_you_mean
from ray_prep.printable import printable
from ray_prep.recipe import Recipe
from ray_prep.show.caption import applied_text
from ray_prep.show.preview import Pictures, draw, fetched, members, walked
from ray_prep.show.sheet import picture_format
from ray_prep.sources.class_folders import ClassFolders
from ray_prep.sources.container import holds_members
from ray_prep.sources.files import Files
from ray_prep.sources.listing import why_left_out
from ray_prep.storage import clean_uri, is_local, open_store
from ray_prep.survey import precedence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ray_prep.base import Base
    from ray_prep.sample import Item
    from ray_prep.storage import StorageOptions

# Among so many keys a likely one is looked for when the one asked for is not there.
_KEYS_COMPARED = 5000


def explain(place: str, key: str, overrides: Sequence[str], sheet: Path | None, options: StorageOptions) -> str:
    """Tell one item's walk.

    Args:
        place: A recipe file, or a dataset (whose record holds the recipe).
        key: The item's key.
        overrides: Of the recipe, as for `build`.
        sheet: A picture to draw its stages into (.png, .jpg, .jpeg or .webp); None for none.
        options: How a dataset is reached.

    Raises:
        RecipeError: The recipe cannot be read or is wrong, no item has the key, or the sheet's name ends otherwise.
        StorageError: There is no dataset at the place, or source or dataset cannot be reached.
    """
    if sheet is not None:
        picture_format(sheet)
    key = clean_uri(key)  # as keys are
    recipe, base = _recipe_and_base(place, overrides, options)
    item, data, keys = _find(recipe, key)
    published = list(_published(base, key, recipe, item))
    why = _why_left_out(recipe, key) if item is None else None
    if item is None and not published:
        hint = f"; it is there, but {why}" if why else did_you_mean(key, keys)
        hint = hint or (f"; a key there is, for example, {keys[0]}" if keys else "")
        raise RecipeError(f"{key}: {recipe.source.uri} lists no such key{hint}")
    lines = [printable(key)]
    pictures: Pictures | None = None
    if item is None:
        lines.append(f"  listed            no: {why or f'{recipe.source.uri} does not offer it'}")
    else:
        if base and base.frozen.mean:
            recipe = recipe.freeze(base.frozen.mean, base.frozen.std)
        lines.append(f"  listed            {printable(item.uri)}, version {item.version or 'unknown'}")
        if item.label is not None:
            lines.append(f"  label             {printable(item.label)}")
        if recipe.needs_constants:
            lines.append("  walk              normalize: dataset has no constants before the first build")
        else:
            pictures = walked(recipe, item, fetched([item], recipe)[0][1] if data is None else data)
            lines += _walk(recipe, pictures)
    unknown = "there is no dataset yet" if base is None else f"version {base.version} does not know it"
    lines += published or [f"  published         no: {unknown}"]
    if sheet is not None and pictures is not None:
        draw(recipe, [pictures], sheet, [])
        lines.append(f"  drawn             {sheet}")
    return "\n".join(lines)


def _recipe_and_base(place: str, overrides: Sequence[str], options: StorageOptions) -> tuple[Recipe, Base | None]:
    # By its name a recipe is one, there or not.
    if is_local(place) and (Path(place).is_file() or Path(place).suffix in {".yaml", ".yml"}):
        recipe = Recipe.load(place, overrides)
        options = recipe.source.storage_options
        return recipe, read_base(recipe.output.uri, options, open_store(recipe.output.uri, options))
    base = read_base(place, options, open_store(place, options))
    if base is None:
        raise no_dataset(place)
    return Recipe.parse(dict(base.record.recipe), overrides=overrides), base


def _find(recipe: Recipe, key: str) -> tuple[Item | None, bytes | SampleError | None, list[str]]:
    """Return the item that holds a key (of several, the one that stays), its bytes if they were met, and some keys."""
    found: Item | None = None
    keys: list[str] = []
    if holds_members(recipe.source):
        containers = list(recipe.source.items(Counter()))
        # Keys begin with their container's, but for rows of Parquet files with an id column.
        named = [container for container in containers if key.startswith(container.key)]
        for item, data in members(recipe.source, named or containers):
            if item.key == key:
                return item, data, keys
            if len(keys) < _KEYS_COMPARED:
                keys.append(item.key)
        return None, None, keys
    for item in recipe.source.items(Counter()):
        if item.key == key and (found is None or precedence(item) < precedence(found)):
            found = item
        if len(keys) < _KEYS_COMPARED:
            keys.append(item.key)
    return found, None, keys


def _why_left_out(recipe: Recipe, key: str) -> str | None:
    """Return why a file that lies below the root is not listed; None where there is none, or the source has no such rules."""
    source = recipe.source
    if not isinstance(source, Files | ClassFolders) or {"", ".", ".."} & set(key.split("/")):  # such a key is none of this root
        return None
    why = why_left_out(key, source.include, source.exclude)
    return why if why and open_store(source.uri, source.storage_options).stat(key) is not None else None


def _walk(recipe: Recipe, pictures: Pictures) -> Iterator[str]:
    yield f"  split             {pictures.split}, by {recipe.split.by}"
    for heading, sample in pictures.stages:
        height, width, channels = sample.image.shape
        size = f"{height} x {width} x {channels} {sample.image.dtype}"
        if sample.full_size:
            size += f" (of {sample.height} x {sample.width}: decoded smaller, as the first step shrinks it)"
        if heading == "original":
            yield f"  decoded           {size}, upright"
            if pictures.scores:
                yield f"  scores            {', '.join(f'{name} {value:.4g}' for name, value in pictures.scores.items())}"
            spec = recipe.start
            for step, after in zip(recipe.preprocess.steps, recipe.preprocess.specs(spec), strict=True):
                yield f"                    {step.place} {step.name}: {after}"
        else:
            yield f"  {heading:17} {size}" + (f"; {applied_text(sample.applied)}" if sample.copy else "")
    if pictures.error is not None:
        yield f"  rejected          {pictures.error.stage}: {pictures.error.reason}: {pictures.error.message}"


def _published(base: Base | None, key: str, recipe: Recipe, item: Item | None) -> Iterator[str]:
    """Yield where the published version has a key, and whether it is what the walk shows; nothing where it does not know it."""
    if base is None:
        return
    for shard in base.snapshot.shards:
        if shard.min_key <= key <= shard.max_key:
            names = ("key", "copy", "source_version")
            rows = [
                (copy, version)
                for batch in live_rows(replace(base.snapshot, shards=(shard,)), base.options, names)
                for one, copy, version in zip(*(batch.column(name).to_pylist() for name in names), strict=True)
                if one == key
            ]
            if rows:
                yield f"  published         version {base.version}, {shard.path}: copies {', '.join(str(copy) for copy, _ in rows)}"
                if item is not None and rows[0][1] != item.version:
                    yield f"                    of version {rows[0][1] or 'unknown'}, which the source has no more: not the picture above"
                if base.record.fingerprints.get(shard.split) != recipe.fingerprint(shard.split):
                    yield "                    by another recipe than the walk above; the next build makes it anew"
    for rejection in base.rejections():
        if rejection.key == key:
            yield (
                f"  published         version {base.version} has it among the rejections: "
                f"{rejection.stage}: {rejection.reason}: {rejection.message} (tried {rejection.attempts}x)"
            )
