"""The floor of a benchmark: one process a core that reads, decodes, shrinks, crops and writes Parquet, and nothing else.

No listing of versions, no hashes, no checks, no resume, no rejections: what a framework is compared with.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 200
SHORT_SIDE_PX, CROP_PX = 256, 224
_SCHEMA = pa.schema([("key", pa.string()), ("image", pa.binary())])


def main() -> None:
    """Run the loop over a folder of images and leave how long its running part took."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("target", type=Path)
    arguments.add_argument("--workers", type=int, required=True)
    arguments.add_argument("--json", type=Path, required=True)
    arguments.add_argument("--fsync", action="store_true", help="end with the files on disk")
    given = arguments.parse_args()
    given.target.mkdir(parents=True)
    paths = sorted(entry.path for entry in os.scandir(given.folder))
    shares = [paths[worker :: given.workers] for worker in range(given.workers)]
    targets = [str(given.target / f"{worker}.parquet") for worker in range(given.workers)]
    with ProcessPoolExecutor(given.workers, mp_context=multiprocessing.get_context("fork")) as pool:
        spans = list(pool.map(run, shares, targets, [given.fsync] * given.workers))
    # The monotonic clock is one for all processes of a machine.
    seconds = max(end for _, end in spans) - min(begin for begin, _ in spans)
    given.json.write_text(json.dumps({"accepted": len(paths), "run_seconds": seconds}), encoding="utf-8")


def run(paths: list[str], target: str, is_lasting: bool) -> tuple[float, float]:  # noqa: FBT001  called by a pool
    """Process the files into one Parquet file; return when the first image began and when the file was closed, seconds.

    Args:
        paths: The files.
        target: The Parquet file.
        is_lasting: Whether it is on disk by then, and not only in the page cache.
    """
    cv2.setNumThreads(0)
    begin = time.monotonic()
    writer = pq.ParquetWriter(target, _SCHEMA, compression="none", use_dictionary=False, write_statistics=False)
    for start in range(0, len(paths), ROW_GROUP_ROWS):
        group = paths[start : start + ROW_GROUP_ROWS]
        images = [prepared(path) for path in group]
        writer.write_batch(pa.record_batch([pa.array(group), pa.array(images, pa.binary())], schema=_SCHEMA))
    writer.close()
    if is_lasting:
        with open(target, "rb") as file:
            os.fsync(file.fileno())
    return begin, time.monotonic()


def prepared(path: str) -> bytes:
    """Return the pixels of one image: short side 256 by area, centre 224 x 224, RGB, C order."""
    with open(path, "rb") as file:
        encoded = np.frombuffer(file.read(), np.uint8)
    image: Any = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    height, width = image.shape[:2]
    scale = SHORT_SIDE_PX / min(height, width)
    size = max(SHORT_SIDE_PX, round(width * scale)), max(SHORT_SIDE_PX, round(height * scale))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    top, left = (image.shape[0] - CROP_PX) // 2, (image.shape[1] - CROP_PX) // 2
    return bytes(image[top : top + CROP_PX, left : left + CROP_PX].tobytes())


if __name__ == "__main__":
    main()
