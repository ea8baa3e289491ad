"""From the bytes of a file to upright 8-bit pixels: JPEG by OpenCV, everything else by Pillow, values by `policy`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from ray_prep.errors import DecodeError
from ray_prep.image import jpeg
from ray_prep.image.complaints import with_complaints
from ray_prep.image.header import check_limits
from ray_prep.image.modes import read_pixels
from ray_prep.image.netpbm import read_netpbm, read_samples
from ray_prep.image.policy import as_channels, bands, fitted, oriented, scaled

if TYPE_CHECKING:
    from ray_prep.image.header import Header
    from ray_prep.image.policy import Pixels

# libjpeg's own fuzzers stop at 500; encoders write about ten. Each scan walks over the whole picture, at some 4 ns a pixel.
_MOST_SCANS = 256
_MOST_SCANNED_PIXELS = 5_000_000_000
_ORDINARY_SCANS = 16
_PADDING = 64
_PROGRESSIVE = frozenset({jpeg.PROGRESSIVE, jpeg.PROGRESSIVE_ARITHMETIC})

# IMREAD_REDUCED_COLOR_n | IMREAD_COLOR_RGB raises in OpenCV 5.0 (it holds the BGR bit); the grey flags hold only the reduction.
_REDUCED = {2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 8: cv2.IMREAD_REDUCED_GRAYSCALE_8}


@dataclass(frozen=True)
class Decode:
    """How files become pixels.

    Args:
        color: `rgb` makes three channels, `gray` one.
        background: What lies below transparent pixels: red, green, blue, 0..255.
        max_pixels: Largest height x width that is decoded. Whatever it says, TIFF, GIF and WebP end at Pillow's 178,956,970.
        jpeg_scaling: `auto` decodes a JPEG at 1/2, 1/4 or 1/8 where the chain only shrinks it further; `exact` never.
    """

    color: Literal["rgb", "gray"] = "rgb"
    background: tuple[int, int, int] = (255, 255, 255)
    max_pixels: int = 100_000_000
    jpeg_scaling: Literal["auto", "exact"] = "auto"

    def __post_init__(self) -> None:
        if any(not 0 <= value <= 255 for value in self.background):
            msg = f"background: three numbers from 0 to 255 would be right, not {list(self.background)}"
            raise ValueError(msg)
        if self.max_pixels < 1:
            msg = f"max_pixels: at least 1 would be right, not {self.max_pixels}"
            raise ValueError(msg)


# Whether an orientation takes the (bottom, right) edge, as stored, to the top or to the left.
_ENDS_BECOME_STARTS = {2: (False, True), 3: (True, True), 4: (True, False), 6: (True, False), 7: (True, True), 8: (False, True)}


def decode(data: bytes | memoryview, header: Header, config: Decode, at_least: tuple[int, int] | None = None) -> Pixels:
    """Decode the first frame, upright.

    Shape: bytes -> (H, W, 3), or (H, W, 1) where `color` is `gray`; C-contiguous.   Dtype: uint8.   Range: [0, 255].
    Random: no.   Targets: image.

    Args:
        data: The whole file.
        header: What `read_header` found in it.
        config: The recipe's `decode`.
        at_least: Smallest (height, width) of the upright picture that a scaled JPEG decode may have, pixels; None decodes in full.

    Raises:
        DecodeError: The bytes make no picture.
        LimitError: `too_large`: the header states more than `max_pixels`.
    """
    check_limits(header, max_pixels=config.max_pixels)
    is_gray = config.color == "gray"
    if header.components:
        if header.process in _PROGRESSIVE:
            _check_scans(data, header)
        denominator = 1 if at_least is None or config.jpeg_scaling == "exact" else _denominator(header, at_least)
        pixels = _decode_jpeg(data, header, denominator, gray=is_gray)
        if pixels is not None:
            return oriented(pixels, header.orientation)
    if not isinstance(data, bytes):
        data = bytes(data)
    if header.format == "ppm" and (raw := _decode_netpbm(data, gray=is_gray)) is not None:
        return raw
    pixels, is_upright = read_pixels(header.format, data, (header.height, header.width), config.background, gray=is_gray)
    pixels = pixels if is_upright else oriented(pixels, header.orientation)
    if pixels.shape[:2] != header.oriented_size:  # whoever resizes further would take it for a JPEG that was decoded smaller
        what = "{}x{} by its header, {}x{} as decoded (height x width)".format(*header.oriented_size, *pixels.shape[:2])
        raise DecodeError("corrupt", f"{header.format}: {what}")
    return pixels


def _check_scans(data: bytes | memoryview, header: Header) -> None:
    count = jpeg.scans(data if isinstance(data, bytes) else bytes(data), header.body)
    most = min(_MOST_SCANS, max(_ORDINARY_SCANS, _MOST_SCANNED_PIXELS // (header.height * header.width)))
    if count > most:
        size = f"{header.height}x{header.width} (height x width)"
        raise DecodeError("too_large", f"a progressive JPEG of {count} scans, {size}; {most} are decoded at the most")


def _denominator(header: Header, at_least: tuple[int, int]) -> int:
    """Return 8, 4, 2 or 1: the strongest reduction (to ceil(side / n)) that leaves at least this height and width.

    The last line of a side that is no multiple of n is filled in part only. Where turning the picture upright would take it to the
    top or to the left, that reduction is left out: whoever resizes further takes the picture to begin at its first pixel.
    """
    height, width = header.oriented_size
    at_starts = _ENDS_BECOME_STARTS.get(header.orientation, (False, False))
    for denominator in (8, 4, 2):
        if any(side % denominator for side, is_start in zip((header.height, header.width), at_starts, strict=True) if is_start):
            continue
        if -(-height // denominator) >= at_least[0] and -(-width // denominator) >= at_least[1]:
            return denominator
    return 1


def _decode_jpeg(data: bytes | memoryview, header: Header, denominator: int, *, gray: bool) -> Pixels | None:
    """Decode with OpenCV, as stored; None leaves the judgement to Pillow.

    Left to Pillow are CMYK (OpenCV rounds downwards), what has no end (OpenCV before 5 filled a cut JPEG with grey and said
    nothing) and what libjpeg warns of: most such files are whole but for stray bytes, and of those whose scan breaks off OpenCV
    takes some that libjpeg gives up on at the end. Where OpenCV finds no picture, Pillow's word on it becomes the message, or its
    pixels are taken: it reads lossless JPEGs. On everything else the two agree bit for bit.

    Raises:
        DecodeError: `truncated`: the file was reserved but not written to its end.
    """
    if data[-2:] != jpeg.END_OF_IMAGE and not jpeg.has_end(bytes(data), header.body):
        if bytes(data[-_PADDING:]) == bytes(_PADDING):  # zeros are valid codes: decoders would see grey or stripes in them
            raise DecodeError("truncated", "the JPEG has no end, and its last bytes are zeros: a file that was never filled")
        return None
    if header.components == 4:
        return None
    flags = (0 if gray else cv2.IMREAD_COLOR_RGB) | cv2.IMREAD_IGNORE_ORIENTATION | _REDUCED.get(denominator, 0)
    try:
        pixels: Pixels | None
        pixels, warnings = with_complaints(lambda: cv2.imdecode(np.frombuffer(data, np.uint8), flags))
    except cv2.error:
        return None
    if warnings:
        return None
    expected = (-(-header.height // denominator), -(-header.width // denominator))
    if pixels is None or pixels.shape[:2] != expected:
        return None
    return pixels[..., None] if gray else pixels


def _decode_netpbm(data: bytes, *, gray: bool) -> Pixels | None:
    """Decode a raw PGM, PPM or PFM; None leaves it to Pillow."""
    header = read_netpbm(data)
    samples = read_samples(data, header)
    if samples is None:
        return None
    if samples.dtype.kind == "f":
        return np.ascontiguousarray(as_channels(fitted(samples), gray=gray))
    out = np.empty((header.height, header.width, 1 if gray else 3), np.uint8)
    for top, bottom in bands(header.height, header.width):
        out[top:bottom] = as_channels(scaled(samples[top:bottom], int(header.scale)), gray=gray)
    return out
