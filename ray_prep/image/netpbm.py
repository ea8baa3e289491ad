"""Netpbm's raw formats (PGM, PPM) and PFM, read with their full depth.

Pillow 13 brings colours of 16 bits down to 8 in a Python loop of a microsecond a value, and reads no PFM in colour. The plain
formats and bitmaps (P1 to P4) are left to it.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ray_prep.errors import DecodeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ray_prep.errors import Reason

# White space and comments, so that each byte can be read in one way only: repeats within repeats take time without end to fail.
_SPACE = rb"(?:[ \t\r\n\v\f]|#[^\r\n]*[\r\n])+"
_SIZE = re.compile(rb"P([1-6fF])" + _SPACE + rb"(\d{1,10})" + _SPACE + rb"(\d{1,10})(?=[ \t\r\n\v\f#])")
_SCALE = re.compile(rb"(?:" + _SPACE + rb")([-+0-9.eE]{1,20})[ \t\r\n\v\f]")
_CHANNELS = {"5": 1, "6": 3, "f": 1, "F": 3}


class Netpbm(NamedTuple):
    """The header of a Netpbm file.

    Args:
        kind: The digit or letter behind the `P`.
        height: Pixels.
        width: Pixels.
        scale: The largest value; of a PFM, its scale: negative where little-endian. 1 for bitmaps.
        body: Where the pixels begin.
    """

    kind: str
    height: int
    width: int
    scale: float
    body: int


def read_netpbm(data: bytes) -> Netpbm:
    """Read the header (netpbm.sourceforge.net/doc/ppm.html, /pfm.html).

    Raises:
        DecodeError: `truncated` or `corrupt`.
    """
    head = data[:65536]
    size = _SIZE.match(head)
    if size is None:
        reason: Reason = "truncated" if len(data) < 64 and re.fullmatch(rb"P[1-6fF][\s\d]*", data) else "corrupt"
        raise DecodeError(reason, f"the header of the Netpbm image is not right: {head[:24]!r}")
    kind, width, height = size[1].decode(), int(size[2]), int(size[3])
    if height == 0 or width == 0:
        raise DecodeError("corrupt", f"a Netpbm image of {height}x{width} (height x width) pixels")
    if kind in "14":
        return Netpbm(kind, height, width, 1, size.end())
    found = _SCALE.match(head, size.end())
    if found is None:
        raise DecodeError("truncated" if len(data) < size.end() + 24 else "corrupt", "the Netpbm image states no largest value")
    try:
        scale = float(found[1])
    except ValueError:
        scale = math.nan
    if not math.isfinite(scale) or scale == 0 or (kind not in "fF" and not (0 < scale < 65536 and scale.is_integer())):
        raise DecodeError("corrupt", f"the Netpbm image states a largest value of {found[1].decode('latin-1')}")
    return Netpbm(kind, height, width, scale, found.end())


def read_samples(data: bytes, header: Netpbm) -> NDArray[Any] | None:
    """Return the samples of a raw file, (H, W, C) as stored: uint8, uint16 or float32; None for the kinds left to Pillow.

    Raises:
        DecodeError: `truncated`.
    """
    channels = _CHANNELS.get(header.kind)
    if channels is None:
        return None
    little_or_big = "<f4" if header.scale < 0 else ">f4"
    dtype: np.dtype[Any] = np.dtype(little_or_big if header.kind in "fF" else "u1" if header.scale < 256 else ">u2")
    count = header.height * header.width * channels
    if len(data) < header.body + count * dtype.itemsize:
        message = f"the Netpbm image ends after {len(data)} bytes; {header.body + count * dtype.itemsize} would be all of it"
        raise DecodeError("truncated", message)
    samples = np.frombuffer(data, dtype, count, header.body).reshape(header.height, header.width, channels)
    return samples[::-1] if header.kind in "fF" else samples  # a PFM begins with its lowest row
