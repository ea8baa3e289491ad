"""`ray-prep preview --rejected`: rejected pictures with their reasons, and as much of each as can be shown."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack, suppress
from itertools import islice, zip_longest
from typing import TYPE_CHECKING

from ray_prep.base import read_base
from ray_prep.dataset.record import read_refusal
from ray_prep.errors import REASONS, SampleError
from ray_prep.image.fetch import fetch
from ray_prep.isolation import Isolation
from ray_prep.platform import made_with
from ray_prep.reproduction import members
from ray_prep.sample import Item, Rejection
from ray_prep.seed import order
from ray_prep.show.sheet import SheetRejection, SheetRow, picture_format, render_sheet, write_picture
from ray_prep.sources import NO_COLUMNS
from ray_prep.sources.container import holds_members
from ray_prep.storage import open_store
from ray_prep.work import Frozen, Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ray_prep.recipe import Recipe
    from ray_prep.show.thumbnail import Rgb

# A picture that takes longer to decode is not worth waiting for here.
_DEADLINE_S = 10.0
# Where nothing is published, so many names are looked at, and pictures tried for so long.
_NAMES_LOOKED_AT = 2000
_TRIED_S = 20.0


def preview_rejected(recipe: Recipe, path: Path, count: int) -> int:
    """Draw rejected pictures, some of each reason.

    They are those of the last build that a check refused; else of the published version; where there is neither, those that are tried here.

    Every picture is decoded in a process of its own, which it may take along.

    Args:
        recipe: Whose rejections.
        path: The picture to write (.png, .jpg, .jpeg or .webp); it is not, where no picture was rejected.
        count: How many at the most.

    Returns:
        How many are drawn.

    Raises:
        StorageError: Source or dataset cannot be reached, or the source lists nothing.
        RecipeError: A `python` step is not to be found, or the path ends otherwise.
    """
    picture_format(path)
    options = recipe.source.storage_options
    store = open_store(recipe.output.uri, options)
    base = read_base(recipe.output.uri, options, store)
    refusal = read_refusal(store)
    constants = ((0.5,), (0.25,)) if recipe.needs_constants else ((), ())
    frozen = base.frozen if base else Frozen({}, (), {}, *constants)
    work = Work(recipe.data, recipe.folder, frozen, NO_COLUMNS.serialize().to_pybytes(), "", made_with(), _DEADLINE_S)
    with Isolation(work) as isolation:
        if refusal:
            build_id, table = refusal
            facts = [f"build {build_id} was refused", _counted(Counter(table.column("reason").to_pylist()))]
            rejections = _some_of_each((Rejection(**row) for row in table.to_pylist()), count)
        elif base:
            facts = [f"version {base.version}", _counted(base.record.rejected_by_reason)]
            rejections = _some_of_each(base.rejections(), count)
        else:
            rejections, tried = _tried(work, isolation, count)
            facts = ["nothing is published", f"{tried} images were tried, {len(rejections)} of them were rejected"]
        if not rejections:
            return 0
        thumbnails = dict(_thumbnails(work, isolation, rejections))
    rows = [SheetRow(one.key, [one.stage], [SheetRejection(one.reason, one.message, thumbnails.get(one.uri))]) for one in rejections]
    write_picture(path, render_sheet(recipe.name, rows, facts=[*facts, f"{len(rows)} are shown"]))
    return len(rows)


def _counted(reasons: Mapping[str, int]) -> str:
    said = ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items(), key=lambda pair: REASONS.index(pair[0])))
    return f"{sum(reasons.values())} rejected: {said}"


def _some_of_each(rejections: Iterable[Rejection], count: int) -> list[Rejection]:
    """Return the first of each reason, then the second of each, and so on."""
    reasons: dict[str, list[Rejection]] = {reason: [] for reason in REASONS}
    for rejection in rejections:
        if len(reasons[rejection.reason]) < count:
            reasons[rejection.reason].append(rejection)
    rounds = zip_longest(*reasons.values())
    chosen = list(islice((one for some in rounds for one in some if one is not None), count))
    return sorted(chosen, key=lambda one: REASONS.index(one.reason))


def _tried(work: Work, isolation: Isolation, count: int) -> tuple[list[Rejection], int]:
    """Take images of the source through the recipe until enough are rejected, or it has been long enough."""
    rejections: list[Rejection] = []
    tried = 0
    end = time.monotonic() + _TRIED_S
    with ExitStack() as stack:
        for item, data in _offered(work, stack):
            try:
                if isinstance(data, SampleError):
                    raise data
                isolation.run("rows", work.recipe.split.of(item), item, data)
            except SampleError as error:
                rejections.append(Rejection(item.key, item.uri, item.version, error.stage, error.reason, error.message))
            tried += 1
            if len(rejections) == count or time.monotonic() > end:
                break
    return sorted(rejections, key=lambda one: REASONS.index(one.reason)), tried


def _offered(work: Work, stack: ExitStack) -> Iterator[tuple[Item, bytes | SampleError]]:
    """Yield what the source offers: those images first that a build takes first, or containers front to back."""
    source = work.recipe.source
    found = islice(source.items(Counter()), _NAMES_LOOKED_AT)
    if holds_members(source):
        for container in found:
            yield from source.members(container)
    else:
        items = sorted(found, key=lambda item: (order(item.key), item.uri))
        yield from stack.enter_context(fetch(items, source.storage_options, greet=True))


def _thumbnails(work: Work, isolation: Isolation, rejections: Sequence[Rejection]) -> Iterator[tuple[str, Rgb]]:
    """Yield uris with pictures, of those that can be shown."""
    source = work.recipe.source
    with ExitStack() as stack:
        if holds_members(source):
            pairs = members(source, [one.uri for one in rejections])
        else:
            items = [Item(one.key, one.uri, one.version) for one in rejections if one.reason != "missing"]
            pairs = iter(stack.enter_context(fetch(items, source.storage_options, greet=True)))
        for item, data in pairs:
            with suppress(SampleError):
                if isinstance(data, bytes):
                    yield item.uri, isolation.run("salvaged", "", item, data)
