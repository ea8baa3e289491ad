"""The images on offer: one module a layout. To add one, write it and give it a line in `SOURCES`."""

from __future__ import annotations

from typing import Any

from ray_prep.sources.class_folders import ClassFolders
from ray_prep.sources.files import Files
from ray_prep.sources.listing import NO_COLUMNS, Source
from ray_prep.sources.manifest import Manifest
from ray_prep.sources.parquet import ParquetImages
from ray_prep.sources.webdataset import WebDataset

__all__ = ["LATER_LAYOUTS", "NO_COLUMNS", "SOURCES", "Source"]

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
