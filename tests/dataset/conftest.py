"""Small tables made with the real writer and the real commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from ray_prep.dataset.record import Record, ShardFacts, write_record
from ray_prep.dataset.schema import ImageColumn, delta_schema, table_schema
from ray_prep.dataset.shard import Shard, ShardWriter
from ray_prep.dataset.table import commit
from ray_prep.sample import Rejection
from ray_prep.storage import StorageOptions, open_store

TENSOR = ImageColumn("tensor", (6, 5, 3), "uint8", "rgb", (0.0, 255.0))
CARRIED = pa.schema([pa.field("sku", pa.string()), pa.field("Label", pa.uint8())])
BOX = {
    "x_min": 0.5,
    "y_min": 1.0,
    "x_max": 2.0,
    "y_max": 3.0,
    "area": 3.0,
    "label": "cat",
    "label_id": 0,
    "is_crowd": False,
    "source_id": "17",
    "rle": None,
}


@dataclass
class Made:
    """A table and what it is known to hold: each row as it was given, and its pixels, by key."""

    uri: str
    schema: pa.Schema
    version: int
    shards: list[Shard]
    rows: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    pixels: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)


def row(key: str, image: object, size: Sequence[int], number: int = 0) -> dict[str, Any]:
    """Return a row with something in most columns."""
    return {
        "key": key,
        "copy": 0,
        "image": image,
        "height": size[0],
        "width": size[1],
        "channels": size[2],
        "label": None if number % 3 == 2 else f"class {number % 3}",
        "label_id": None if number % 3 == 2 else number % 3,
        "boxes": [BOX] if number % 2 else None,
        "keypoints": [{"x": 1.0, "y": 2.0, "visibility": 2, "name": "nose", "box": 0}],
        "source_uri": f"/data/{key}",
        "source_version": f"{number}-1",
        "source_facts": "0" * 16,
        "source_bytes": number,
        "source_format": "jpeg",
        "source_orientation": 1,
        "sums": [30, 1, 2, 3, 4, 5, 6],
        "scores": {"sharpness": 0.5, "brightness": 1.0, "contrast": None},
        "params": "[]",
        "sku": f"sku-{number}",
        "src_Label": number % 256,
    }


def write_shard(
    uri: str, spool: Path, image: ImageColumn, split: str, keys: Sequence[str], made: Made | None = None, **writer: Any
) -> Shard:
    """Write one shard of random images into a table's folder."""
    schema = table_schema(image, CARRIED)
    file = ShardWriter(spool, schema, split, footer={"fingerprint": "f"}, **writer)
    for number, key in enumerate(keys):
        rng = np.random.default_rng(sum(map(ord, key)) * 1000 + len(key))
        size = image.shape or (int(rng.integers(2, 9)), int(rng.integers(2, 9)), image.channels)
        pixels = rng.integers(0, 256, size).astype(image.dtype)
        stored: object = pixels
        if image.encoding != "tensor":
            stored = cv2.imencode(f".{image.encoding}", pixels[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
        given = row(key, stored, size, number)
        file.append(given)
        if made is not None:
            made.rows[key], made.pixels[key], made.splits[key] = given, pixels, split
    finished = file.close()
    open_store(uri).put_file(finished.shard.path, str(finished.local_path))
    finished.local_path.unlink()
    return finished.shard


def make(folder: Path, image: ImageColumn, shards: Mapping[str, Sequence[int]], name: str, **writer: Any) -> Made:
    """Make a table below a folder: shards of so many rows by split."""
    uri, spool = str(folder / name), folder / "spool"
    spool.mkdir(exist_ok=True)
    made = Made(uri, delta_schema(table_schema(image, CARRIED)), 0, [])
    # Small row groups, so that each shard has several.
    writer = {"row_group_bytes": 3 * (image.nbytes or 100)} | writer
    for split, counts in shards.items():
        for number, count in enumerate(counts):
            keys = [f"{split}/{number}/{place:03d}.jpg" for place in range(count)]
            made.shards.append(write_shard(uri, spool, image, split, keys, made, **writer))
    record = Record(
        "b1",
        0,
        classes=("class 0", "class 1"),
        sums={"train": (10, 1000, 1500, 0, 120000, 300000, 0), "val": (5, 500, 0, 0, 60000, 0, 0)},
        counts={"train": {"class 0": 9, "": 5}, "val": {"class 1": 4}},
    )
    rejections = [Rejection("bad.jpg", "/data/bad.jpg", "1", "decode", "truncated", "ends after 7 bytes")]
    facts = [ShardFacts(shard, "u1", shard.rows, {"class 0": shard.rows}, (30, 1, 2, 3, 4, 5, 6)) for shard in made.shards]
    path = write_record(open_store(uri), "b1", record, rejections, facts)
    made.version = commit(uri, StorageOptions(), made.schema, None, made.shards, [], path)
    return made


SHARDS: Mapping[str, Sequence[int]] = {"train": (7, 7), "val": (4,)}


@pytest.fixture
def make_table(tmp_path: Path) -> Callable[..., Made]:
    """Make a table of one's own: `make_table(image, {"train": [7, 7], "val": [4]})`."""

    def fresh(image: ImageColumn = TENSOR, shards: Mapping[str, Sequence[int]] = SHARDS, name: str = "table", **writer: Any) -> Made:
        return make(tmp_path, image, shards, name, **writer)

    return fresh


@pytest.fixture(scope="session")
def a_table(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Make a table that tests share, and only read."""
    kept: dict[str, Made] = {}

    def shared(image: ImageColumn = TENSOR, shards: Mapping[str, Sequence[int]] = SHARDS, name: str = "shared", **writer: Any) -> Made:
        known = repr((image, shards, name, writer))
        if known not in kept:
            kept[known] = make(tmp_path_factory.mktemp("tables"), image, shards, name, **writer)
        return kept[known]

    return shared
