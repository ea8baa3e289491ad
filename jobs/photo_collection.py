"""Photographs to measure with: as many 500 x 375 JPEG files as wanted, near 110 kB each, as ImageNet has them."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from ray_prep.seed import digest
from ray_prep.show.drawing import LABELS, draw_picture

HEIGHT_PX, WIDTH_PX = 375, 500
_MEDIAN_BYTES = 120_000  # the mean gets 110 kB: smooth pictures do not reach their size at the best quality
_CORPORA = Path(__file__).resolve().parents[2] / "shared" / "corpora"
_FOLDERS = ("photos", "photos-png", "large")

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def photo_collection(folder: Path, count: int, workers: int) -> Path:
    """Return a folder of `count` photographs below `folder`, made on the first call and kept.

    They are random crops of the photographs of the shared corpora, shrunk and some mirrored; where the corpora are missing, drawn
    pictures with grain. The same count gives the same files.

    Args:
        folder: Where collections are kept.
        count: Files.
        workers: Processes that make them.
    """
    photos = sorted(path for name in _FOLDERS for path in (_CORPORA / name).rglob("*") if _is_large_enough(path))
    target = folder / f"{'photos' if photos else 'drawn'}-{count}"
    if target.is_dir():
        return target
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    # A source is decoded once: all its crops are made in one go.
    shares: list[tuple[Path | None, list[int]]]
    if photos:
        shares = [(photo, list(range(place, count, len(photos)))) for place, photo in enumerate(photos)]
    else:
        shares = [(None, list(range(start, min(start + 64, count)))) for start in range(0, count, 64)]
    with ProcessPoolExecutor(workers) as pool:
        for _ in pool.map(_make, [partial] * len(shares), *zip(*shares, strict=True)):
            pass
    partial.rename(target)
    return target


def mean_bytes(folder: Path) -> float:
    """Return the mean size of the files of a folder, bytes."""
    return float(np.mean([entry.stat().st_size for entry in os.scandir(folder)]))


def _is_large_enough(path: Path) -> bool:
    """Return whether the file is a colour photograph that a 500 x 375 crop can be cut from."""
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        return False
    with Image.open(path) as image:
        return image.mode == "RGB" and min(image.size) >= HEIGHT_PX and max(image.size) >= WIDTH_PX


def _make(folder: Path, source: Path | None, numbers: list[int]) -> None:
    cv2.setNumThreads(0)
    photo = None
    if source is not None and numbers:
        with Image.open(source) as image:
            photo = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    for number in numbers:
        rng = np.random.Generator(np.random.PCG64(digest("benchmark", number)))
        picture = draw_picture(LABELS[number % len(LABELS)], HEIGHT_PX, WIDTH_PX, rng) if photo is None else _crop(photo, rng)
        (folder / f"{number:06d}.jpg").write_bytes(_encode(picture, _MEDIAN_BYTES * float(np.exp(rng.normal(0, 0.3)))))


def _crop(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a random part of a photograph, 4:3, shrunk to 500 x 375, mirrored by half a chance, with the grain that shrinking took."""
    height, width = photo.shape[:2]
    largest = min(height / HEIGHT_PX, width / WIDTH_PX)
    scale = float(rng.uniform(min(1.0, largest), largest))
    rows, columns = min(height, round(HEIGHT_PX * scale)), min(width, round(WIDTH_PX * scale))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    part = cv2.resize(photo[top : top + rows, left : left + columns], (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA)
    grain = rng.standard_normal(part.shape, np.float32) * float(rng.uniform(2, 6))
    return np.asarray(np.clip(np.rint(part[:, :: int(rng.choice((-1, 1)))] + grain), 0, 255), np.uint8)


def _encode(picture: Pixels, wanted_bytes: float) -> bytes:
    """Return the JPEG whose quality brings it nearest to the wanted size from below, by bisection; quality 40 … 98."""
    bgr = np.ascontiguousarray(picture[:, :, ::-1])
    low, high = 40, 98
    while low < high:
        quality = (low + high + 1) // 2
        size = len(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
        low, high = (quality, high) if size <= wanted_bytes else (low, quality - 1)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, low])[1])
