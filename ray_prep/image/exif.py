"""The orientation that a camera wrote, read from an EXIF block with every offset checked."""

from __future__ import annotations

import re
from struct import Struct

# (byte order mark and 42) -> readers of four bytes and of two, and the tag 0x0112 (Orientation) as it stands in the file.
_ORDERS = {
    b"II*\x00": (Struct("<I").unpack_from, Struct("<H").unpack_from, b"\x12\x01"),
    b"MM\x00*": (Struct(">I").unpack_from, Struct(">H").unpack_from, b"\x01\x12"),
}
_PREFIX = b"Exif\x00\x00"
# Types of whole numbers -> bytes of one: SHORT, LONG, SBYTE, SSHORT, SLONG, IFD. Two's complement says 1..8 as the unsigned does.
_WHOLE = {3: 2, 4: 4, 6: 1, 8: 2, 9: 4, 13: 4}
_XMP_NAME = b"tiff:Orientation"
_XMP_VALUE = re.compile(rb"\s*(?:=\s*[\"']|>)\s*([1-8])")


def exif_orientation(data: bytes, start: int, end: int) -> int | None:
    """Return the orientation 1..8 that an EXIF block names; None where it names none, or is broken.

    Args:
        data: The bytes the block lies in.
        start: Where it begins; before its TIFF header `Exif` and two zeros may stand, once or more.
        end: Where it ends.
    """
    end = min(end, len(data))
    while data.startswith(_PREFIX, start):
        start += len(_PREFIX)
    order = _ORDERS.get(data[start : start + 4])
    if order is None or start + 8 > end:
        return None
    long_at, short_at, tag = order
    directory = start + long_at(data, start + 4)[0]
    if directory + 2 > end:
        return None
    first = directory + 2
    stop = min(first + 12 * short_at(data, directory)[0], end)
    # An entry is 12 bytes and begins with its tag. Searching for the tag costs a fifth of reading every entry. Of several entries
    # the first that can be read counts, as in Pillow 13 and OpenCV 5.
    entry = data.find(tag, first, stop)
    while 0 <= entry <= stop - 12:
        if (entry - first) % 12 == 0:
            kind, count = short_at(data, entry + 2)[0], long_at(data, entry + 4)[0]
            size = _WHOLE.get(kind, 0)
            # So does the first of several values; what does not fit into the entry stands elsewhere.
            place = entry + 8 if count * size <= 4 else start + long_at(data, entry + 8)[0]
            if size and count and place + size <= end:
                value: int = data[place] if size == 1 else (short_at if size == 2 else long_at)(data, place)[0]
                return value if 1 <= value <= 8 else 1  # 0 and others stand for "as it is"
        entry = data.find(tag, entry + 1, stop)
    return None


def xmp_orientation(data: bytes, start: int = 0, end: int | None = None) -> int | None:
    """Return the `tiff:Orientation` of an XMP packet; None where it has none.

    Args:
        data: The bytes the packet lies in.
        start: Where it begins.
        end: Where it ends; None for the end of the bytes.
    """
    end = len(data) if end is None else min(end, len(data))
    at = data.find(_XMP_NAME, start, end)  # a hundred times as fast as the expression
    found = _XMP_VALUE.match(data, at + len(_XMP_NAME), end) if at >= 0 else None
    return int(found[1]) if found else None
