"""A small collection of drawn pictures, to try everything on: shapes in scenery, in the formats and oddities of real ones."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ray_prep.seed import digest
from ray_prep.show.scenery import SCENES, Pixels, palette

LABELS = ("circle", "cross", "ring", "square", "star", "triangle")
MIN_SIDE_PX = 240
MAX_SIDE_PX = 900

_ASPECTS = (1.0, 5 / 4, 4 / 3, 3 / 2, 16 / 9)
_ORIENTATION_TAG = 0x0112
# What a camera did to the upright picture that the tag asks a viewer to undo (EXIF 2.32, tag 274).
_STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
# One of each, then by share; `jpeg` is the rest.
_KINDS = ("jpeg_cmyk", "jpeg_gray", "jpeg_progressive", "png", "png_alpha", "png_gray16", "png_palette", "webp", "webp_alpha")
_SHARES = {
    "jpeg_gray": 0.06,
    "jpeg_progressive": 0.06,
    "png": 0.05,
    "png_alpha": 0.02,
    "png_gray16": 0.015,
    "png_palette": 0.02,
    "webp": 0.08,
}
_HTML = "<!doctype html>\n<html><head><title>404</title></head><body><h1>Not found</h1></body></html>\n"


@dataclass(frozen=True, slots=True)
class _Drawing:
    """One file of the collection, before it is drawn."""

    number: int
    label: str
    kind: str
    orientation: int | None

    @property
    def name(self) -> str:
        suffix = {"j": "jpg", "p": "png", "w": "webp"}[self.kind[0]]
        return f"{self.label}/{self.label}_{self.number:04d}.{suffix}"


def draw_collection(folder: Path, count: int = 300, seed: int = 0) -> None:
    """Draw a collection of pictures in class folders, and three broken files among them.

    Most are JPEG, half of these stored turned or mirrored with the EXIF orientation that says so: shown upright, the
    arrow in every picture points up. Some are grey, progressive, PNG (with alpha, with a palette, 16 bit) or WebP; one is a
    CMYK JPEG. Broken are a JPEG that ends in the middle, a web page named .jpg and an empty file. The same count and
    seed give the same bytes (with the same versions of the libraries).

    Args:
        folder: Where; made if missing. Files of the same names are replaced, others stay.
        count: Pictures that are whole, at least 1; the three broken files come on top.
        seed: Another seed, another collection.
    """
    drawings = _drawings(count, seed)
    for label in LABELS:
        (folder / label).mkdir(parents=True, exist_ok=True)
    for drawing in drawings:
        rng = np.random.Generator(np.random.PCG64(digest("drawing", seed, drawing.number)))
        height, width = _size(rng)
        (folder / drawing.name).write_bytes(_encode(draw_picture(drawing.label, height, width, rng), drawing, rng))
    whole = io.BytesIO()
    rng = np.random.Generator(np.random.PCG64(digest("drawing", seed, "broken")))
    Image.fromarray(draw_picture("square", 375, 500, rng)).save(whole, "JPEG", quality=90)
    (folder / "square" / "cut_short.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (folder / "star" / "web_page.jpg").write_text(_HTML, encoding="utf-8")
    (folder / "ring" / "empty.jpg").write_bytes(b"")


def draw_picture(label: str, height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Return one picture: a shape with an upright arrow in some scenery, with grain as a camera has it.

    Shape: -> (height, width, 3).   Dtype: uint8.   Range: [0, 255].   Random: yes.   Targets: image.

    Args:
        label: One of `LABELS`.
        height: Pixels.
        width: Pixels.
        rng: Where colours, place and scenery come from.
    """
    scene = SCENES[int(rng.integers(len(SCENES)))]
    picture = scene(height, width, rng)
    _draw_shape(picture, label, rng)
    return _with_grain(picture, rng)


def _drawings(count: int, seed: int) -> list[_Drawing]:
    """Return what to draw: labels in turn, kinds and orientations spread over them by chance."""
    rng = np.random.Generator(np.random.PCG64(digest("drawing", seed)))
    kinds = list(_KINDS[:count])
    kinds += [kind for kind, share in _SHARES.items() for _ in range(round(share * count) - 1)][: count - len(kinds)]
    kinds += ["jpeg"] * (count - len(kinds))
    rng.shuffle(kinds)
    plain = [number for number, kind in enumerate(kinds) if kind == "jpeg"]
    tagged = plain[::2] if len(plain) > 16 else plain
    orientations = {number: 1 + place % 8 for place, number in enumerate(tagged)}
    return [_Drawing(number, LABELS[number % len(LABELS)], kind, orientations.get(number)) for number, kind in enumerate(kinds)]


def _size(rng: np.random.Generator) -> tuple[int, int]:
    short = int(rng.integers(MIN_SIDE_PX, 600))
    long = min(MAX_SIDE_PX, round(short * float(rng.choice(_ASPECTS))))
    return (short, long) if rng.random() < 0.6 else (long, short)


def _draw_shape(picture: Pixels, label: str, rng: np.random.Generator) -> None:
    """Draw the shape with its shadow, shading and arrow into the picture, near the middle."""
    height, width = picture.shape[:2]
    radius = min(height, width) * float(rng.uniform(0.30, 0.38))
    center = np.array([width, height]) / 2 + rng.uniform(-0.06, 0.06, 2) * min(height, width)
    # Only the square around the shape is touched: half the pixels of a picture, half the time.
    reach = radius * 1.16
    left, top = (max(0, int(place - reach)) for place in center)
    window = picture[top : int(center[1] + reach), left : int(center[0] + reach)]
    rows, columns = window.shape[:2]
    center = center - np.array([left, top])

    mask = _shape_mask(rows, columns, label, center, radius, float(rng.uniform(-0.35, 0.35)))
    soft = cv2.blur(cv2.resize(mask, (columns // 4, rows // 4), interpolation=cv2.INTER_AREA), (5, 5))
    shift = np.array([[columns / (columns // 4), 0, radius * 0.05], [0, rows / (rows // 4), radius * 0.06]], np.float32)
    shadow = cv2.warpAffine(soft, shift, (columns, rows), flags=cv2.INTER_LINEAR)
    cv2.subtract(window, cv2.merge([shadow >> 2] * 3), dst=window)

    light, dark = palette(rng, 2)
    ramp = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    fill = np.repeat((light * (1 - ramp) + dark * 0.75 * ramp).astype(np.uint8)[:, None], columns, axis=1)
    share = cv2.merge([mask] * 3)
    cv2.add(cv2.multiply(fill, share, scale=1 / 255), cv2.multiply(window, ~share, scale=1 / 255), dst=window)
    _draw_arrow(window, label, center, radius)


def _shape_mask(height: int, width: int, label: str, center: Any, radius: float, angle: float) -> Pixels:
    """Return how much of each pixel the shape covers, 0 … 255."""
    mask = np.zeros((height, width), np.uint8)
    middle = (round(center[0] * 16), round(center[1] * 16))
    if label in ("circle", "ring"):
        cv2.circle(mask, middle, round(radius * 16), 255, -1, cv2.LINE_AA, 4)
        if label == "ring":
            cv2.circle(mask, middle, round(radius * 0.62 * 16), 0, -1, cv2.LINE_AA, 4)
        return mask
    turn = angle if label in ("square", "star") else angle / 4
    corners = _corners(label) * radius @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + center
    cv2.fillPoly(mask, [np.rint(corners * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask


@lru_cache(maxsize=len(LABELS))
def _corners(label: str) -> Any:
    """Return the corners (x, y) of a shape in the unit circle, y downwards."""
    if label == "cross":
        arm = 0.34
        quarter = [(-arm, -1.0), (arm, -1.0), (arm, -arm)]
        return np.array([(x * c - y * s, x * s + y * c) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1)) for x, y in quarter])
    points, inner = {"square": (4, 1.0), "triangle": (3, 1.0), "star": (10, 0.5)}[label]
    angles = np.arange(points) * 2 * np.pi / points - np.pi / 2 + (np.pi / 4 if label == "square" else 0)
    radii = np.where(np.arange(points) % 2 == 0, 1.0, inner)
    return np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1)


def _draw_arrow(picture: Pixels, label: str, center: Any, radius: float) -> None:
    """Draw an arrow that points up and the label below it, white with a dark edge."""
    x, y = center[0], center[1] - radius * 0.06
    long, broad, thin = radius * 0.30, radius * 0.22, radius * 0.075
    outline = np.array([(0, -long), (broad, 0), (thin, 0), (thin, long * 0.8), (-thin, long * 0.8), (-thin, 0), (-broad, 0)])
    points = [np.rint((outline + np.array([x, y])) * 16).astype(np.int32)]
    cv2.polylines(picture, points, isClosed=True, color=(30, 30, 36), thickness=max(2, round(radius / 28)), lineType=cv2.LINE_AA, shift=4)
    cv2.fillPoly(picture, points, (250, 250, 246), cv2.LINE_AA, 4)
    size = max(10, round(radius * 0.17))
    page = Image.fromarray(picture)
    ImageDraw.Draw(page).text(
        (x, y + long), label, font=_font(size), fill=(250, 250, 246), anchor="mt", stroke_width=max(1, size // 10), stroke_fill=(30, 30, 36)
    )
    picture[:] = np.asarray(page)


@lru_cache(maxsize=256)
def _font(size_px: int) -> Any:
    return ImageFont.load_default(size=size_px)


@lru_cache(maxsize=1)
def _grain() -> Pixels:
    """Return one tile of noise around 128, cut anew for every picture."""
    rng = np.random.Generator(np.random.PCG64(digest("grain")))
    side = MAX_SIDE_PX + 124
    return np.clip(rng.standard_normal((side, side, 3), np.float32) * 40 + 128, 0, 255).astype(np.uint8)


def _with_grain(picture: Pixels, rng: np.random.Generator) -> Pixels:
    height, width = picture.shape[:2]
    tile = _grain()
    top, left = (int(rng.integers(tile.shape[0] - side + 1)) if side <= tile.shape[0] else 0 for side in (height, width))
    noise = tile[top : top + height, left : left + width]
    if noise.shape != picture.shape:  # larger than the tile
        noise = cv2.resize(noise, (width, height), interpolation=cv2.INTER_NEAREST)
    strength = float(rng.uniform(0.03, 0.16))
    return np.asarray(cv2.addWeighted(picture, 1.0, noise, strength, -128 * strength), np.uint8)


def _encode(picture: Pixels, drawing: _Drawing, rng: np.random.Generator) -> bytes:
    """Return the file of a drawing."""
    image = Image.fromarray(picture)
    out = io.BytesIO()
    match drawing.kind:
        case "jpeg" | "jpeg_gray" | "jpeg_progressive" | "jpeg_cmyk":
            mode = {"jpeg_gray": "L", "jpeg_cmyk": "CMYK"}.get(drawing.kind, "RGB")
            options: dict[str, Any] = {"quality": int(rng.integers(82, 94)), "progressive": drawing.kind == "jpeg_progressive"}
            if drawing.orientation is not None:
                exif = Image.Exif()
                exif[_ORIENTATION_TAG] = drawing.orientation
                options["exif"] = exif.tobytes()
                if drawing.orientation in _STORED_AS:
                    image = image.transpose(_STORED_AS[drawing.orientation])
            image.convert(mode).save(out, "JPEG", **options)
        case "png_gray16":
            gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.uint16) * 257
            Image.fromarray(gray).save(out, "PNG", compress_level=1)
        case "png_palette":
            image.quantize(64, Image.Quantize.FASTOCTREE).save(out, "PNG", compress_level=1)
        case "png" | "png_alpha":
            _with_alpha(image, drawing.kind).save(out, "PNG", compress_level=1)
        case _:
            _with_alpha(image, drawing.kind).save(out, "WEBP", quality=82, method=0)
    return out.getvalue()


def _with_alpha(image: Image.Image, kind: str) -> Image.Image:
    """Return the picture with soft transparent corners where its kind asks for alpha."""
    if not kind.endswith("_alpha"):
        return image
    alpha = Image.new("L", image.size, 0)
    ImageDraw.Draw(alpha).ellipse((-image.width * 0.1, -image.height * 0.1, image.width * 1.1, image.height * 1.1), fill=255)
    image.putalpha(alpha)
    return image
