"""Backgrounds that look like something: sky over hills, clouds, lights out of focus, cloth, tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def palette(rng: np.random.Generator, count: int) -> list[Any]:
    """Return colours that go together, float32 in [0, 255], from light to dark."""
    hue = float(rng.uniform(0, 180))
    hues = (hue + rng.uniform(-22, 22, count)) % 180
    steps = np.linspace(0, 1, count) if count > 1 else np.zeros(1)
    hsv = np.stack([hues, 70 + 110 * steps, 245 - 105 * steps], axis=1)
    return list(cv2.cvtColor(hsv.astype(np.uint8)[None], cv2.COLOR_HSV2RGB)[0].astype(np.float32))


def hills(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Return a sky with a sun, and three ranges of hills.

    Shape: -> (height, width, 3).   Dtype: uint8.   Range: [0, 255].   Random: yes.   Targets: image.
    """
    picture = _ramp(height, width, palette(rng, 2)[::-1])
    spot = (int(rng.uniform(0.1, 0.9) * width), int(rng.uniform(0.1, 0.35) * height))
    cv2.circle(picture, spot, max(4, min(height, width) // 12), (255, 244, 214), -1, cv2.LINE_AA)
    x = np.arange(0, width + 8, 8)
    for place, color in enumerate(palette(rng, 3)):
        level = height * (0.48 + 0.17 * place)
        waves = sum(
            np.sin(x / width * float(rng.uniform(3, 9)) * (octave + 1) + float(rng.uniform(0, 6.3))) / (octave + 1) for octave in range(3)
        )
        ridge = np.stack([x, level + waves * height * 0.07], axis=1)
        outline = np.concatenate([ridge, [[width + 8, height], [0, height]]])
        cv2.fillPoly(picture, [np.rint(outline * 16).astype(np.int32)], (color * 0.85).tolist(), cv2.LINE_AA, 4)
    return picture


def clouds(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Return noise of four scales between two colours.

    Shape: -> (height, width, 3).   Dtype: uint8.   Range: [0, 255].   Random: yes.   Targets: image.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(4):
        side = 3 * 2**octave
        grid = rng.random((side, side), np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    return _between(total / 1.9, palette(rng, 2))


def lights(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Return lights out of focus before a dark ground.

    Shape: -> (height, width, 3).   Dtype: uint8.   Range: [0, 255].   Random: yes.   Targets: image.
    """
    picture = _ramp(height, width, [color * 0.45 for color in palette(rng, 2)])
    discs = np.zeros_like(picture)
    for _ in range(28):
        hsv = np.array([[[rng.integers(180), 130, rng.integers(60, 150)]]], np.uint8)
        disc = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]
        spot = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(discs, spot, int(min(height, width) * rng.uniform(0.02, 0.10)), disc.tolist(), -1, cv2.LINE_AA)
    return np.asarray(cv2.add(picture, cv2.blur(discs, (5, 5))), np.uint8)


def cloth(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Return woven stripes at some angle: fine detail that shows what resizing does to it.

    Shape: -> (height, width, 3).   Dtype: uint8.   Range: [0, 255].   Random: yes.   Targets: image.
    """
    angle, pitch = float(rng.uniform(0, np.pi)), float(rng.uniform(6, 26))
    x, y = np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]
    # sin(a + b) from four vectors: a sine for each pixel would cost more than all else here.
    u, v = x * (np.cos(angle) * 6.283 / pitch), y * (np.sin(angle) * 6.283 / pitch)
    stripes = np.sin(u) * np.cos(v) + np.cos(u) * np.sin(v)
    threads = np.cos(x * (6.283 / 5)) * np.cos(y * (6.283 / 5))
    return _between(0.5 + 0.3 * stripes + 0.15 * threads, palette(rng, 2))


def tiles(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Return a wall of tiles, each with its own shade, and joints between them.

    Shape: -> (height, width, 3).   Dtype: uint8.   Range: [0, 255].   Random: yes.   Targets: image.
    """
    side = max(12, int(min(height, width) / rng.uniform(5, 11)))
    rows, columns = height // side + 1, width // side + 1
    shades = _between(rng.random((rows, columns), np.float32), palette(rng, 2))
    wall = cv2.resize(shades, (columns * side, rows * side), interpolation=cv2.INTER_NEAREST)[:height, :width].copy()
    joint = max(1, side // 22)
    for edge in range(joint):
        wall[edge::side] //= 2
        wall[:, edge::side] //= 2
    return np.asarray(wall, np.uint8)


SCENES: tuple[Callable[[int, int, np.random.Generator], Pixels], ...] = (hills, clouds, lights, cloth, tiles)


def _ramp(height: int, width: int, colors: list[Any]) -> Pixels:
    """Return a picture that goes from the first colour above to the second below."""
    place = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    column = colors[0] * (1 - place) + colors[1] * place
    return np.asarray(np.repeat(column.astype(np.uint8)[:, None], width, axis=1), np.uint8)


def _between(share: Any, colors: list[Any]) -> Pixels:
    """Return a picture between two colours, a share of 0 … 1 a pixel."""
    index = (np.clip(share, 0, 1) * 255).astype(np.uint8)
    place = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    table = (colors[0] * (1 - place) + colors[1] * place).astype(np.uint8)
    return np.asarray(np.take(table, index, axis=0), np.uint8)
