"""The images on offer: one module a layout. To add one, write it and give it a line in `SOURCES`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ray_prep.errors import RecipeError, did_you_mean
from ray_prep.sources.class_folders import ClassFolders
from ray_prep.sources.files import Files
from ray_prep.sources.listing import NO_COLUMNS, Source
from ray_prep.sources.manifest import Manifest
from ray_prep.sources.parquet import ParquetImages
from ray_prep.sources.webdataset import WebDataset
from ray_prep.validation import validate

__all__ = ["LATER_LAYOUTS", "NO_COLUMNS", "SOURCES", "Source", "parse_source"]

# Layout in the recipe -> the class whose fields are the keys of `source:`.
SOURCES: dict[str, type[Any]] = {
    "files": Files,
    "class_folders": ClassFolders,
    "manifest": Manifest,
    "parquet": ParquetImages,
    "webdataset": WebDataset,
}
# Layouts the recipe knows by name and this version does not have.
LATER_LAYOUTS = ("coco", "voc", "yolo")


def parse_source(raw: object) -> Source:
    """Make a source of what a recipe says.

    Args:
        raw: A mapping: the layout, and the keys that it has.

    Raises:
        RecipeError: There is no such layout, or a key is wrong, or another layout's.
    """
    given = dict(raw) if isinstance(raw, dict) else {}
    layout = given.pop("layout", "files")
    if layout in LATER_LAYOUTS:
        raise RecipeError(f"source.layout: {layout!r} is not available in this version; there are {', '.join(SOURCES)}")
    if not isinstance(layout, str) or layout not in SOURCES:
        hint = did_you_mean(str(layout), SOURCES)
        raise RecipeError(f"source.layout: there is no layout {layout!r}{hint}; there are {', '.join(SOURCES)}")
    for key in given:
        if key == "annotations":
            raise RecipeError("source.annotations: this version of ray_prep cannot do it yet; leave it out")
        others = [name for name, kind in SOURCES.items() if key in _keys(kind)]
        if not others and (hint := did_you_mean(str(key), ["layout"])):
            raise RecipeError(f"source.{key}: unknown key{hint}")
        if others and layout not in others:
            raise RecipeError(f"source.{key}: the layout {layout} has no such key ({', '.join(others)}: yes); is source.layout right?")
    source: Source = validate(SOURCES[layout], given, "source")
    return source


def _keys(kind: type[Any]) -> set[str]:
    return {known.name for known in fields(kind)}
