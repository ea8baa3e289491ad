"""As much of a damaged or unwanted picture as can be shown; for a person's eye, never for a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import ImageFile

from ray_prep.errors import DecodeError, SampleError
from ray_prep.image.decode import Decode, decode
from ray_prep.image.header import read_header
from ray_prep.image.modes import read_pixels
from ray_prep.image.pillow import open_image, pillow_errors
from ray_prep.image.policy import oriented

if TYPE_CHECKING:
    from ray_prep.image.header import Header
    from ray_prep.image.policy import Pixels

_SIDE_PX = 256


def salvage(data: bytes, max_pixels: int) -> Pixels:
    """Decode whatever there is, and shrink it; what a cut file lacks is grey or black.

    Only for a process that works on this one picture and ends: it is the damaged ones that crash decoders, and Pillow's tolerance of
    cut files is a switch of the whole process.

    Shape: bytes -> (H, W, 3), at most 256 x 256.   Dtype: uint8.   Range: [0, 255].   Random: no.   Targets: image.

    Args:
        data: The whole file.
        max_pixels: Larger pictures are decoded at an eighth where they are JPEGs, and else not.

    Raises:
        DecodeError: Nothing can be shown.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    header = read_header(data)
    config = Decode(max_pixels=max_pixels)
    if header.height * header.width > max_pixels:
        return _shrunk(_drafted(data, header, max_pixels))
    try:
        return _shrunk(decode(data, header, config))
    except SampleError:
        pixels, is_upright = read_pixels(header.format, data, (header.height, header.width), config.background, gray=False)
        return _shrunk(pixels if is_upright else oriented(pixels, header.orientation))


def _drafted(data: bytes, header: Header, max_pixels: int) -> Pixels:
    """Decode a JPEG at an eighth of its sides."""
    if not header.components or header.height * header.width // 64 > max_pixels:
        msg = f"{header.height}x{header.width} (height x width): too large to be shown"
        raise DecodeError("too_large", msg)
    with pillow_errors("jpeg", data):
        image = open_image("jpeg", data)
        image.draft("RGB", (1, 1))
        pixels = np.asarray(image.convert("RGB"))
    return oriented(pixels, header.orientation)


def _shrunk(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = min(1.0, _SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.ascontiguousarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels)
