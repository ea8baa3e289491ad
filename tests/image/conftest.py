"""Writers of image files that follow the specifications byte by byte, so that no decoder is tested against its own encoder."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def png_chunk(name: bytes, body: bytes) -> bytes:
    """Return one chunk (PNG §5.3)."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png_rows(samples: NDArray[Any], depth: int) -> bytes:
    """Return filtered rows (filter 0) of (H, W, C) samples."""
    rows = []
    for row in samples:
        if depth == 16:
            packed = row.astype(">u2").tobytes()
        elif depth == 8:
            packed = row.astype(np.uint8).tobytes()
        else:
            bits = "".join(format(int(value), f"0{depth}b") for value in row.ravel())
            bits += "0" * (-len(bits) % 8)
            packed = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
        rows.append(b"\0" + packed)
    return b"".join(rows)


def png_bytes(
    samples: NDArray[Any],
    colour_type: int,
    depth: int,
    before: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
    *,
    interlaced: bool = False,
) -> bytes:
    """Return a PNG of (H, W, C) samples, with chunks before and behind the pixels."""
    height, width = samples.shape[:2]
    if interlaced:
        passes = [samples[top::down, left::right] for top, left, down, right in ADAM7]
        raw = b"".join(_png_rows(piece, depth) for piece in passes if piece.size)
    else:
        raw = _png_rows(samples, depth)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(interlaced))
    chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(raw)), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def tiff_bytes(
    samples: NDArray[Any],
    photometric: int,
    *,
    order: str = "<",
    planar: bool = False,
    compressed: bool = False,
    extra: int | None = None,
    orientation: int | None = None,
    sample_format: int = 1,
    colour_map: Sequence[int] | None = None,
    more_tags: Sequence[tuple[int, int, Sequence[int]]] = (),
) -> bytes:
    """Return a TIFF of one strip (a plane, where planar) of (H, W, C) samples in their own dtype (TIFF 6.0 §2)."""
    height, width, channels = samples.shape
    ordered = samples.astype(samples.dtype.newbyteorder(order))
    planes = [ordered[..., channel].tobytes() for channel in range(channels)] if planar else [ordered.tobytes()]
    if compressed:
        planes = [zlib.compress(plane) for plane in planes]
    offsets, body = [], b""
    for plane in planes:
        offsets.append(8 + len(body))
        body += plane + b"\0" * (len(plane) % 2)
    tags: list[tuple[int, int, Sequence[int]]] = [
        (256, 3, [width]),
        (257, 3, [height]),
        (258, 3, [samples.dtype.itemsize * 8] * channels),
        (259, 3, [8 if compressed else 1]),
        (262, 3, [photometric]),
        (273, 4, offsets),
        (277, 3, [channels]),
        (278, 3, [height]),
        (279, 4, [len(plane) for plane in planes]),
        (284, 3, [2 if planar else 1]),
        (339, 3, [sample_format] * channels),
        *more_tags,
    ]
    if extra is not None:
        tags.append((338, 3, [extra]))
    if orientation is not None:
        tags.append((274, 3, [orientation]))
    if colour_map is not None:
        tags.append((320, 3, colour_map))
    tags.sort()
    directory = struct.pack(order + "H", len(tags))
    at = 8 + len(body) + 2 + 12 * len(tags) + 4
    outside = b""
    for tag, kind, values in tags:
        packed = b"".join(struct.pack(order + ("H" if kind == 3 else "I"), value) for value in values)
        if len(packed) <= 4:
            field = packed.ljust(4, b"\0")
        else:
            field = struct.pack(order + "I", at + len(outside))
            outside += packed
        directory += struct.pack(order + "HHI", tag, kind, len(values)) + field
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(body))
    return head + body + directory + b"\0\0\0\0" + outside


def exif_block(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """Return an EXIF block without its `Exif` and zeros: one directory of Make, Orientation and Software (CIPA DC-008)."""
    value = struct.pack(order + "HH", orientation, 0) if kind == 3 else struct.pack(order + "I", orientation)
    entries = [
        struct.pack(order + "HHI", 0x010F, 2, 4) + b"abc\0",
        struct.pack(order + "HHI", 0x0112, kind, 1) + value,
        struct.pack(order + "HHI", 0x0131, 2, 4) + b"xyz\0",
    ]
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "IH", 8, len(entries)) + b"".join(entries) + b"\0\0\0\0"


def jpeg_segment(marker: int, body: bytes) -> bytes:
    """Return one marker segment (T.81 §B.1.1.4)."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg_with(data: bytes, *segments: bytes) -> bytes:
    """Return a JPEG with segments put behind its start of image."""
    return data[:2] + b"".join(segments) + data[2:]


@pytest.fixture
def write_png() -> Callable[..., bytes]:
    """Return the PNG writer."""
    return png_bytes


@pytest.fixture
def write_tiff() -> Callable[..., bytes]:
    """Return the TIFF writer."""
    return tiff_bytes


@pytest.fixture
def write_exif() -> Callable[..., bytes]:
    """Return the writer of EXIF blocks."""
    return exif_block


@pytest.fixture
def segment() -> Callable[[int, bytes], bytes]:
    """Return the writer of JPEG segments."""
    return jpeg_segment


@pytest.fixture
def insert() -> Callable[..., bytes]:
    """Return what puts segments into a JPEG."""
    return jpeg_with
