"""A walk over the markers of a JPEG (ITU-T T.81 annex B), as far as its frame header and never into its pixels."""

from __future__ import annotations

from struct import Struct, error
from typing import TYPE_CHECKING, NamedTuple

from ray_prep.errors import DecodeError
from ray_prep.image.exif import exif_orientation, xmp_orientation

if TYPE_CHECKING:
    from ray_prep.errors import Reason

_SEGMENT = Struct(">H").unpack_from
_FRAME = Struct(">HBHHB").unpack_from
_EXIF = b"Exif\x00\x00"
_XMP = b"http://ns.adobe.com/xap/1.0/\x00"
_MPF = b"MPF\x00"
_ULTRA_HDR = b' hdrgm:Version="'

BASELINE, PROGRESSIVE, LOSSLESS, PROGRESSIVE_ARITHMETIC = 0xC0, 0xC2, 0xC3, 0xCA
END_OF_IMAGE = b"\xff\xd9"
_START_OF_SCAN, _DEFINE_LINES = 0xDA, b"\xff\xdc\x00\x04"

# Frames that no libjpeg decodes: hierarchical ones, and lossless with arithmetic coding.
_UNDECODABLE = {
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE), "hierarchical JPEG"),
    0xCB: "lossless JPEG with arithmetic coding",
    0xC8: "JPEG with the reserved frame type JPG",
    0xF7: "JPEG-LS image",  # T.87, whose frame header is as the others'
}
# What a marker is to the walk; one look at a table costs a third of asking several sets.
_SEGMENT_TO_SKIP, _BARE, _FRAME_HEADER, _MISPLACED, _APP1, _APP2 = range(6)


def _roles() -> bytes:
    """Return the role of each of the 256 codes (T.81 table B.1)."""
    roles = bytearray([_SEGMENT_TO_SKIP] * 256)
    for code in (0x00, 0x01, *range(0xD0, 0xD8)):  # they stand alone; 0 is a stuffed byte, none at all
        roles[code] = _BARE
    # What libjpeg does not take before a frame header: reserved codes, a second start, an end, a scan.
    for code in (*range(0x02, 0xC0), 0xD8, 0xD9, _START_OF_SCAN, *range(0xF0, 0xFE)):
        roles[code] = _MISPLACED
    for code in (*range(0xC0, 0xC4), *range(0xC5, 0xCC), *range(0xCD, 0xD0), 0xDE, 0xF7):
        roles[code] = _FRAME_HEADER
    roles[0xE1], roles[0xE2] = _APP1, _APP2
    return bytes(roles)


_ROLES = _roles()
# Segments that libjpeg skips by their length, and goes on where that is below the two bytes of its own: APPn and comments.
_SKIPPED = frozenset({*range(0xE0, 0xF0), 0xFE})


class Frame(NamedTuple):
    """What a JPEG says of itself before its first scan.

    Args:
        height: As stored, pixels.
        width: As stored, pixels.
        orientation: 1..8, from EXIF, else from XMP, else 1.
        pictures: How many pictures the file holds: above 1 in an MPO.
        components: 1 (grey), 3 (colour) or 4 (CMYK, YCCK).
        process: The marker of the frame header: 0xC0 baseline, 0xC2 progressive …
        body: Where the frame header ends.
    """

    height: int
    width: int
    orientation: int
    pictures: int
    components: int
    process: int
    body: int


def read_frame(data: bytes) -> Frame:
    """Walk to the frame header.

    Bytes between segments are skipped just as libjpeg 6 to libjpeg-turbo 3 do (`next_marker`), so that the frame found here
    is the one that will be decoded.

    Raises:
        DecodeError: `truncated`, `corrupt`, or `unsupported` (a process or depth that no decoder here knows).
    """
    orientation: int | None = None
    xmp: tuple[int, int] | None = None
    pictures = 1
    at = 2
    if data[2:3] not in (b"\xff", b""):
        raise DecodeError("corrupt", "no JPEG marker follows the start of the image")
    try:
        while True:
            if data[at] != 0xFF:
                at = data.index(b"\xff", at)
            marker = data[at + 1]
            while marker == 0xFF:  # padding
                at += 1
                marker = data[at + 1]
            role = _ROLES[marker]
            if role == _BARE:
                at += 2
                continue
            if role == _MISPLACED:
                raise DecodeError("corrupt", f"the JPEG has marker 0x{marker:02x} where its frame header should be")
            start = at + 4
            end = at + 2 + _SEGMENT(data, at + 2)[0]
            if end < start and marker in _SKIPPED:
                end = start
            elif end < start:
                raise DecodeError("corrupt", f"a segment of the JPEG (marker 0x{marker:02x}) states a length of {end - at - 2} bytes")
            if role == _FRAME_HEADER:
                break
            if role == _APP1:
                if data.startswith(_EXIF, start):
                    if orientation is None:
                        orientation = exif_orientation(data, start + 6, end)
                elif data.startswith(_XMP, start):
                    xmp = (start, end)
            elif role == _APP2 and data.startswith(_MPF, start):
                pictures = _pictures(data[start + 4 : end])
            at = end
        _, precision, height, width, components = _FRAME(data, at + 2)
    except (IndexError, ValueError, error):  # ValueError: no 0xFF is left
        raise DecodeError("truncated", f"the JPEG ends after {len(data)} bytes, before its frame header") from None
    _check_frame(data, marker, precision, height, width, components)
    if orientation is None:
        orientation, xmp = _told_before_scan(data, end, xmp)
    if xmp and orientation is None:
        orientation = xmp_orientation(data, *xmp)
    if xmp and pictures > 1 and data.find(_ULTRA_HDR, *xmp) >= 0:
        pictures = 1  # the second picture is a gain map, no picture of its own (Pillow 13 too counts one)
    return Frame(height, width, orientation or 1, pictures, components, marker, end)


def _told_before_scan(data: bytes, at: int, xmp: tuple[int, int] | None) -> tuple[int | None, tuple[int, int] | None]:
    """Return orientation and XMP of what stands between the frame header and the first scan; nothing there is judged."""
    try:
        while True:
            if data[at] != 0xFF:
                at = data.index(b"\xff", at)
            marker = data[at + 1]
            if marker == 0xFF or _ROLES[marker] == _BARE:
                at += 1 if marker == 0xFF else 2
                continue
            if _ROLES[marker] == _MISPLACED:  # the scan, as a rule
                return None, xmp
            start, end = at + 4, at + 2 + _SEGMENT(data, at + 2)[0]
            if _ROLES[marker] == _APP1:
                if data.startswith(_EXIF, start) and (found := exif_orientation(data, start + 6, end)) is not None:
                    return found, xmp
                if data.startswith(_XMP, start):
                    xmp = (start, end)
            at = max(start, end)
    except (IndexError, ValueError, error):
        return None, xmp


def _check_frame(data: bytes, process: int, precision: int, height: int, width: int, components: int) -> None:
    """Refuse a frame that the decoders would refuse, with the reason that fits."""
    if process in _UNDECODABLE:
        raise DecodeError("unsupported", f"a {_UNDECODABLE[process]}, which is not decoded")
    if precision != 8:
        reason: Reason = "unsupported" if 2 <= precision <= 16 else "corrupt"
        raise DecodeError(reason, f"a JPEG of {precision} bits a sample; only 8 are decoded")
    if components not in (1, 3, 4):
        reason = "unsupported" if components == 2 else "corrupt"
        raise DecodeError(reason, f"a JPEG of {components} components; only 1, 3 and 4 are decoded")
    if height == 0 and _DEFINE_LINES in data:
        raise DecodeError("unsupported", "a JPEG whose height stands behind its pixels (DNL marker), which is not decoded")
    if height == 0 or width == 0:
        raise DecodeError("corrupt", f"a JPEG of {height}x{width} (height x width) pixels")


def _pictures(index: bytes) -> int:
    """Return how many pictures an MP index (CIPA DC-007) lists; 1 where it is broken."""
    big = index[:4] == b"MM\x00*"
    if not big and index[:4] != b"II*\x00":
        return 1
    order = ">" if big else "<"
    try:
        at = Struct(order + "I").unpack_from(index, 4)[0]
        (entries,) = Struct(order + "H").unpack_from(index, at)
        found = {}
        for number in range(entries):
            tag, _, count, value = Struct(order + "HHII").unpack_from(index, at + 2 + 12 * number)
            found[tag] = (count, value)
        number_of_images = found[0xB001][1]
        size, offset = found[0xB002]
    except (error, KeyError):
        return 1
    if size < 16 * number_of_images or offset + size > len(index):
        return 1
    return max(1, int(number_of_images))


def has_end(data: bytes, body: int) -> bool:
    """Return whether an end of image stands behind the first scan: a JPEG that was cut has none.

    Within the pixels 0xFF is always followed by 0, so that no end is found where none is.

    Args:
        data: The whole file.
        body: Where the frame header ends.
    """
    if data.endswith(END_OF_IMAGE):
        return True
    at = body
    try:
        while True:  # over the tables, which may hold any bytes, to the first scan
            if data[at] != 0xFF:
                at = data.index(b"\xff", at)
            marker = data[at + 1]
            if marker == _START_OF_SCAN:
                break
            at += 1 if marker == 0xFF else 2 if _ROLES[marker] == _BARE else 2 + _SEGMENT(data, at + 2)[0]
    except (IndexError, ValueError, error):
        return False
    return data.rfind(END_OF_IMAGE, at) >= 0


def scans(data: bytes, body: int) -> int:
    """Return how many scans begin behind the frame header."""
    return data.count(b"\xff\xda", body)
