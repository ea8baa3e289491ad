"""`ray-prep init`: looks at a source and writes the recipe a person would start from."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from ray_prep.errors import RecipeError, SampleError, StorageError
from ray_prep.image.fetch import fetch
from ray_prep.image.header import read_header
from ray_prep.override import is_filled
from ray_prep.printable import printable
from ray_prep.sections import SPLIT_NAME
from ray_prep.sources import SOURCES
from ray_prep.sources.listing import SPLIT_FOLDERS
from ray_prep.storage import absolute_uri

if TYPE_CHECKING:
    from ray_prep.sample import Item
    from ray_prep.storage import StorageOptions

_CONTAINERS = {".tar": "webdataset", ".parquet": "parquet"}
_MANIFEST_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".parquet")
# Enough to see the layout; a source of millions answers as fast as a small one.
_NAMES_LOOKED_AT = 5000
_HEADERS_READ = 32
_COMMON_SIDES = (224, 256, 384, 512)


def starter_recipe(uri: str, target: str, options: StorageOptions) -> str:
    """Return a recipe for a source, as YAML with comments.

    The layout is told from the names (a manifest's suffix; one class a folder; split folders first), sizes and colours from the headers
    of a few images.

    Args:
        uri: The source.
        target: Where the dataset shall go.
        options: How the source is reached.

    Raises:
        StorageError: The source cannot be reached, or lists nothing.
        RecipeError: A place holds what a recipe would fill in.
    """
    uri = absolute_uri(uri)
    output = absolute_uri(target)
    # In a target they may be meant.
    for place in (uri, *(() if is_filled(target) else (output,))):
        if is_filled(place):
            raise RecipeError(f"{place}: recipes fill in {{date}} and ${{NAME}}; it should be called otherwise")
    layout = "manifest" if uri.lower().endswith(_MANIFEST_SUFFIXES) else "class_folders"
    ignored: Counter[str] = Counter()
    try:
        items = list(islice(SOURCES[layout](uri=uri, storage_options=options).items(ignored), _NAMES_LOOKED_AT))
    except StorageError as error:
        kinds = [f"{suffix} files of images are `layout: {kind}`" for suffix, kind in _CONTAINERS.items() if ignored[suffix]]
        raise StorageError("; ".join([str(error), *kinds])) from None
    if not items:
        msg = f"{uri}: no image is listed there"
        raise StorageError(msg)
    labels = {item.label for item in items if item.label is not None} - SPLIT_FOLDERS.keys()
    if layout == "class_folders" and (len(labels) < 2 or len(labels) > len(items) / 2):
        layout = "files"
    told = [item.split for item in items if item.split is not None]
    sizes, formats, broken = _headers(items[:: max(1, len(items) // _HEADERS_READ)][:_HEADERS_READ], options)
    return _text(uri, output, options, layout, len(items), sorted(labels), told, sizes, formats, broken)


def _headers(items: list[Item], options: StorageOptions) -> tuple[list[tuple[int, int]], Counter[str], int]:
    sizes: list[tuple[int, int]] = []
    formats: Counter[str] = Counter()
    broken = 0
    with fetch(items, options, greet=True) as pairs:
        for _, data in pairs:
            try:
                if isinstance(data, SampleError):
                    raise data
                header = read_header(data)
            except SampleError:
                broken += 1
                continue
            sizes.append(header.oriented_size)
            formats[header.format] += 1
    return sizes, formats, broken


def _text(
    uri: str,
    output: str,
    options: StorageOptions,
    layout: str,
    count: int,
    labels: list[str],
    told: list[str],
    sizes: list[tuple[int, int]],
    formats: Counter[str],
    broken: int,
) -> str:
    number = f"{count}" if count < _NAMES_LOOKED_AT else f"more than {_NAMES_LOOKED_AT - 1}"
    seen = [f"# {number} images listed"]
    if sizes:
        sides = sorted(min(size) for size in sizes)
        kinds = ", ".join(f"{kinds} {kind}" for kind, kinds in formats.most_common())
        seen.append(
            f"# of {len(sizes) + broken} looked at: {kinds}; short side {sides[0]} to {sides[-1]} px"
            + (f"; {broken} broken" if broken else "")
        )
    if labels and layout != "files":
        seen.append(f"# {len(labels)} classes, such as {printable(', '.join(labels[:5]))}")
    splits = printable(", ".join(sorted(set(told))))
    are_names = all(SPLIT_NAME.fullmatch(name) for name in set(told))
    if told and not are_names:
        seen.append(f"# the source's splits ({splits}) do not do as names: letters, digits, _ and - only")
    if 0 < len(told) < count and are_names:
        without = f"{count - len(told)} are not: give these one, then split: {{by: source}}"
        seen.append(f"# {len(told)} of them are told to be in a split ({splits}), {without}")
    short = min((min(size) for size in sizes), default=256)
    side = max((side for side in _COMMON_SIDES[1:] if side <= short), default=256)
    crop = 224 if side == 256 else side // 8 * 7
    storage = {
        name: value
        for name, value in (("endpoint", options.endpoint), ("region", options.region), ("allow_http", options.allow_http))
        if value
    }
    split = (
        f"split: {{by: source}}               # the source's own: {splits}"
        if len(told) == count and are_names
        else "split: {train: 0.8, val: 0.1, test: 0.1, by: key}"
    )
    lines = [
        *seen,
        f"name: {json.dumps(uri.rstrip('/').rsplit('/', 1)[-1].split('.')[0] or 'dataset')}",
        "seed: 0",
        "source:",
        f"  uri: {json.dumps(uri)}",
        f"  layout: {layout}",
        *([f"  storage_options: {json.dumps(storage)}"] if storage else []),
        "preprocess:                       # every image, once",
        f"  - resize: {{short_side: {side}}}",
        "#augment:                         # more copies of training images: take the # away",
        "#  copies: 1",
        "#  transforms:",
        f"#    - RandomCrop: {{height: {crop}, width: {crop}}}",
        "#    - HorizontalFlip: {p: 0.5}",
        "#    - RandomBrightnessContrast: {p: 0.5}",
        "finish:                           # originals and copies",
        f"  - center_crop: {{height: {crop}, width: {crop}}}",
        split,
        "output:",
        f"  uri: {json.dumps(output)}",
        "  image: tensor                   # or jpeg, png, webp",
        "checks: {max_rejected: 0.01}",
    ]
    return "\n".join(lines) + "\n"
