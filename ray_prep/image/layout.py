"""How the container formats lay their pieces out: size, frames, and whether a file ends before it should.

Every walk is bounded by the bytes at hand, and no pixel is touched.
"""

from __future__ import annotations

from struct import Struct, error
from typing import NamedTuple

from ray_prep.errors import DecodeError
from ray_prep.image import jpeg, png
from ray_prep.image.exif import exif_orientation, xmp_orientation

_U16, _U32 = Struct("<H").unpack_from, Struct("<I").unpack_from
_MOST_PAGES = 100_000


class Canvas(NamedTuple):
    """Size, orientation and number of frames, as a container states them. Height and width are as stored, pixels."""

    height: int
    width: int
    orientation: int
    frames: int


def webp_canvas(data: bytes) -> Canvas:
    """Read the chunks of a WebP (RFC 9649 §2). Pillow 13 allocates the canvas twice merely to open one.

    Raises:
        DecodeError: `truncated` or `corrupt`.
    """
    kind = data[12:16]
    try:
        if kind == b"VP8X":
            width = 1 + int.from_bytes(data[24:27], "little")
            height = 1 + int.from_bytes(data[27:30], "little")
            _ = data[29]
        elif kind == b"VP8 ":
            width, height = _U16(data, 26)[0] & 0x3FFF, _U16(data, 28)[0] & 0x3FFF
        elif kind == b"VP8L":
            (bits,) = _U32(data, 21)
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        elif len(data) < 16:
            raise DecodeError("truncated", f"the WebP ends after {len(data)} bytes, before its first chunk")
        else:
            raise DecodeError("corrupt", f"the WebP begins with a chunk {kind!r}; VP8, VP8L or VP8X would be right")
    except (IndexError, error):
        raise DecodeError("truncated", f"the WebP ends after {len(data)} bytes, within its header") from None
    if height == 0 or width == 0:
        raise DecodeError("corrupt", f"a WebP of {height}x{width} (height x width) pixels")
    if kind != b"VP8X":
        return Canvas(height, width, 1, 1)
    # libwebp leaves out a chunk that the flags do not announce, or that ends beyond the file.
    has_exif, has_xmp = data[20] & 0x08, data[20] & 0x04
    frames, exif, xmp = 0, None, None
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], _U32(data, at + 4)[0]
        if name == b"ANMF":
            frames += 1
        elif at + 8 + size > len(data):
            break
        elif name == b"EXIF" and has_exif and exif is None:
            exif = exif_orientation(data, at + 8, at + 8 + size)
        elif name == b"XMP " and has_xmp and xmp is None:
            xmp = xmp_orientation(data[at + 8 : at + 8 + size])
        at += 8 + size + (size & 1)
    return Canvas(height, width, exif or xmp or 1, max(1, frames))


def ico_canvas(data: bytes) -> Canvas:
    """Read the largest picture of a Windows icon: the directory, then the header of the picture itself.

    Pillow 13 decodes an icon merely to open it.

    Raises:
        DecodeError: `truncated` or `corrupt`.
    """
    try:
        entries = [Struct("<BBBBHHII").unpack_from(data, 6 + 16 * number) for number in range(_U16(data, 4)[0])]
        if not entries:
            raise DecodeError("corrupt", "the icon lists no picture")
        # Pillow's choice: the largest, of several the one of the smallest depth.
        entries.sort(key=lambda e: (-((e[0] or 256) * (e[1] or 256)), e[5] or (max(0, e[2] - 1).bit_length() or 256)))
        at = entries[0][7]
        if data[at : at + 8] == b"\x89PNG\r\n\x1a\n":
            width, height = Struct(">II").unpack_from(data, at + 16)
        else:
            width, height = Struct("<ii").unpack_from(data, at + 4)
            height = abs(height) // 2  # the mask stands below the picture
    except error:
        raise DecodeError("truncated", f"the icon ends after {len(data)} bytes, before the header of its picture") from None
    if height <= 0 or width <= 0:
        raise DecodeError("corrupt", f"an icon of {height}x{width} (height x width) pixels")
    return Canvas(height, width, 1, 1)


def gif_frames(data: bytes) -> int:
    """Count the image descriptors of a GIF (GIF89a §20): what can be counted before the file ends, and at least 1."""
    return max(1, _walk_gif(data)[0])


def _walk_gif(data: bytes) -> tuple[int, bool]:
    """Return (frames, whether the trailer was met)."""
    frames = 0
    try:
        at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 128 else 0)
        while True:
            block = data[at]
            if block == 0x3B:
                return frames, True
            if block == 0x2C:
                flags = data[at + 9]
                at += 11 + (3 << (flags & 7) + 1 if flags & 128 else 0)
                _ = data[at - 1]
                frames += 1
            elif block == 0x21:
                at += 2
            else:
                at += 1
                continue
            while size := data[at]:
                at += 1 + size
            at += 1
    except IndexError:
        return frames, False


def tiff_pages(data: bytes) -> int:
    """Count the directories of a TIFF by following their chain; it ends at the end of the file or where it returns."""
    little = data[:2] == b"II"
    order = "<" if little else ">"
    is_big = data[2:4] in (b"+\x00", b"\x00+")
    count_at = Struct(order + ("Q" if is_big else "H"))
    next_at = Struct(order + ("Q" if is_big else "I"))
    entry = 20 if is_big else 12
    seen: set[int] = set()
    try:
        (at,) = next_at.unpack_from(data, 8 if is_big else 4)
        while at and at not in seen and len(seen) < _MOST_PAGES:
            (entries,) = count_at.unpack_from(data, at)
            seen.add(at)
            (at,) = next_at.unpack_from(data, at + count_at.size + entry * entries)
    except (error, OverflowError):
        pass
    return max(1, len(seen))


def is_cut(image_format: str, data: bytes) -> bool:
    """Return whether a file is shorter than its own structure says.

    Asked only once decoding has failed: it tells `truncated` from `corrupt`.

    Args:
        image_format: As `recognise` names it.
        data: The whole file.
    """
    check = _CUTS.get(image_format)
    try:
        return check(data) if check else False
    except (error, IndexError, OverflowError):
        return True


def _jpeg_is_cut(data: bytes) -> bool:
    try:
        return not jpeg.has_end(data, jpeg.read_frame(data).body)
    except DecodeError:
        return not data.endswith(jpeg.END_OF_IMAGE)


def _webp_is_cut(data: bytes) -> bool:
    return bool(len(data) < 8 + _U32(data, 4)[0])


def _bmp_is_cut(data: bytes) -> bool:
    (pixels_at, header) = Struct("<II").unpack_from(data, 10)
    if header == 12:
        width, height, _, bits = Struct("<HHHH").unpack_from(data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = Struct("<iiHHI").unpack_from(data, 18)
    if compression in (1, 2):  # run lengths: only the size in the header can tell
        return bool(len(data) < _U32(data, 2)[0])
    return bool(len(data) < pixels_at + (abs(width) * bits + 31) // 32 * 4 * abs(height))


def _tiff_is_cut(data: bytes) -> bool:
    """Return whether the first directory, a value that the picture needs, or one of its strips lies beyond the end (classic TIFF)."""
    order = "<" if data[:2] == b"II" else ">"
    if data[2:4] in (b"+\x00", b"\x00+"):
        (at,) = Struct(order + "Q").unpack_from(data, 8)
        return bool(at + 8 > len(data))
    (at,) = Struct(order + "I").unpack_from(data, 4)
    (entries,) = Struct(order + "H").unpack_from(data, at)
    if at + 2 + 12 * entries > len(data):
        return True
    read = Struct(order + "HHI").unpack_from
    values: dict[int, tuple[int, ...]] = {}
    for number in range(entries):
        place = at + 2 + 12 * number
        tag, kind, count = read(data, place)
        size = _TIFF_BYTES.get(kind, 0) * count
        start = place + 8 if size <= 4 else Struct(order + "I").unpack_from(data, place + 8)[0]
        if tag in _NEEDED and start + size > len(data):
            return True
        if tag in _STRIPS and kind in _TIFF_COUNTS:
            values[tag] = Struct(f"{order}{count}{_TIFF_COUNTS[kind]}").unpack_from(data, start)
    for offsets, sizes in ((273, 279), (324, 325)):
        pairs = zip(values.get(offsets, ()), values.get(sizes, ()), strict=False)
        if any(offset + size > len(data) for offset, size in pairs):
            return True
    return False


_STRIPS = frozenset({273, 279, 324, 325})
# What a picture cannot be read without: that another tag's value lies beyond the end is no sign of a cut.
_NEEDED = _STRIPS | {258, 320, 339, 347}
# TIFF 6.0 §2: type -> bytes of one value, and the letter of those that count something.
_TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TIFF_COUNTS = {1: "B", 3: "H", 4: "I"}


def _boxes_are_cut(data: bytes) -> bool:
    """Return whether the last box of an AVIF or JPEG 2000 file (ISO/IEC 14496-12 §4.2) reaches beyond the end."""
    if data[:4] == b"\xff\x4f\xff\x51":
        return not data.endswith(jpeg.END_OF_IMAGE)  # a bare codestream ends as a JPEG does
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 0:  # to the end of the file
            return False
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:
            return False
        at += size
    return at != len(data)


def _ico_is_cut(data: bytes) -> bool:
    entries = (Struct("<II").unpack_from(data, 14 + 16 * number) for number in range(_U16(data, 4)[0]))
    return any(size + offset > len(data) for size, offset in entries)


_CUTS = {
    "jpeg": _jpeg_is_cut,
    "mpo": _jpeg_is_cut,
    "png": png.is_cut,
    "webp": _webp_is_cut,
    "gif": lambda data: not _walk_gif(data)[1],
    "bmp": _bmp_is_cut,
    "tiff": _tiff_is_cut,
    "avif": _boxes_are_cut,
    "jpeg2000": _boxes_are_cut,
    "ico": _ico_is_cut,
}
