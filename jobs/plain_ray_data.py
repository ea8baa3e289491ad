"""What one writes with Ray Data alone: `read_images`, `map`, `write_parquet`."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import cv2
import ray

SHORT_SIDE_PX, CROP_PX = 256, 224


def main() -> None:
    """Run the pipeline over a folder of images and leave how long its running part took."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("target", type=Path)
    arguments.add_argument("--workers", type=int, required=True)
    arguments.add_argument("--json", type=Path, required=True)
    given = arguments.parse_args()
    ray.init(num_cpus=None if os.environ.get("RAY_ADDRESS") else given.workers)
    begin = time.monotonic()
    dataset = ray.data.read_images(str(given.folder), mode="RGB", include_paths=True)
    dataset.map(prepare).write_parquet(str(given.target))
    seconds = time.monotonic() - begin
    ray.shutdown()
    given.json.write_text(json.dumps({"run_seconds": seconds}), encoding="utf-8")


def prepare(row: dict[str, Any]) -> dict[str, Any]:
    """Shrink the image of a row to a short side of 256 by area and keep its centre, 224 x 224."""
    image = row["image"]
    height, width = image.shape[:2]
    scale = SHORT_SIDE_PX / min(height, width)
    size = max(SHORT_SIDE_PX, round(width * scale)), max(SHORT_SIDE_PX, round(height * scale))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    top, left = (image.shape[0] - CROP_PX) // 2, (image.shape[1] - CROP_PX) // 2
    return {"path": row["path"], "image": image[top : top + CROP_PX, left : left + CROP_PX]}


if __name__ == "__main__":
    main()
