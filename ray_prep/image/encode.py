"""From 8-bit pixels to the bytes of a file. Every encoding gives the same bytes for the same pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ray_prep.errors import LimitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

JPEG_QUALITY = 95
WEBP_QUALITY = 90
# Pixels, by encoding.
LONGEST_SIDES = {"jpeg": 65535, "png": (1 << 31) - 1, "webp": 16383}


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    """Encode as baseline JPEG of quality 95, chroma at half size (4:2:0): lossy, about 1 bit a pixel and channel.

    Shape: (H, W, 1 or 3) -> bytes.   Dtype: uint8.   Range: [0, 255].   Random: no.   Targets: image.

    Raises:
        ValueError: Another dtype or shape, or a side above 65,535.
    """
    return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY], longest=LONGEST_SIDES["jpeg"])


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Encode as PNG: lossless.

    Shape: (H, W, 1 or 3) -> bytes.   Dtype: uint8.   Range: [0, 255].   Random: no.   Targets: image.

    Raises:
        ValueError: Another dtype or shape.
    """
    return _encode(".png", image, [], longest=LONGEST_SIDES["png"])


def encode_webp(image: NDArray[np.uint8]) -> bytes:
    """Encode as lossy WebP of quality 90; grey is stored as colour, which is all that WebP has.

    Shape: (H, W, 1 or 3) -> bytes.   Dtype: uint8.   Range: [0, 255].   Random: no.   Targets: image.

    Raises:
        ValueError: Another dtype or shape.
        LimitError: `too_large`: a side above 16,383.
    """
    return _encode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY], longest=LONGEST_SIDES["webp"])


def _encode(suffix: str, image: NDArray[Any], parameters: Sequence[int], *, longest: int) -> bytes:
    """Encode with OpenCV, which takes blue first."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        msg = f"{suffix[1:]}: uint8 of (H, W, 1 or 3) would be right, not {image.dtype} of {image.shape}"
        raise ValueError(msg)
    if max(image.shape[:2]) > longest:
        msg = f"{suffix[1:]} holds no side above {longest}: {image.shape[0]}x{image.shape[1]} (height x width)"
        raise LimitError("too_large", msg)
    stored = image if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    is_done, encoded = cv2.imencode(suffix, stored, list(parameters))
    if not is_done:
        msg = f"OpenCV {cv2.__version__} encodes no {suffix[1:]}"
        raise ValueError(msg)
    return bytes(encoded)


ENCODINGS: dict[str, Callable[[NDArray[np.uint8]], bytes]] = {"jpeg": encode_jpeg, "png": encode_png, "webp": encode_webp}
