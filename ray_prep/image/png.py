"""A walk over the chunks of a PNG (W3C PNG, third edition, §5), never into its pixels."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

from ray_prep.errors import DecodeError
from ray_prep.image.exif import exif_orientation, xmp_orientation

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER, _PIXELS, _END = b"IHDR", b"IDAT", b"IEND"
_PALETTE_KIND = 3
_FIRST = 8  # behind the signature
_FRAME_BYTES = 12  # a chunk's length, name and check sum
# An orientation stands in the first bytes of a text; a bomb is not inflated.
_TEXT_BYTES = 1 << 20
_XMP, _RAW_EXIF = b"XML:com.adobe.xmp", b"Raw profile type exif"


class _Chunk(NamedTuple):
    name: bytes
    start: int
    end: int


def check_png(data: bytes) -> None:
    """Refuse what makes the pixels mean something else to one decoder than to the next (libpng refuses it; Pillow 13 reads on).

    Raises:
        DecodeError: `corrupt`: the header is not the first chunk or comes twice, or a palette picture has no palette.
    """
    has_palette = False
    for number, chunk in enumerate(_chunks(data)):
        if (chunk.name == _HEADER) != (number == 0):
            raise DecodeError("corrupt", "a PNG whose header (IHDR) comes twice" if number else "a PNG whose first chunk is not its header")
        if chunk.name == _PIXELS:
            break
        has_palette |= chunk.name == b"PLTE"
    else:
        return  # no pixels: Pillow says so
    if data[25] == _PALETTE_KIND and not has_palette:
        raise DecodeError("corrupt", "a palette PNG without a palette (PLTE)")


def without_broken_exif(data: bytes) -> bytes:
    """Return a PNG without eXIf chunks whose check sum is wrong: one before the pixels makes Pillow refuse the file (libpng skips it)."""
    if b"eXIf" not in data:
        return data
    for chunk in [*_chunks(data)][::-1]:
        if chunk.name == b"eXIf" and chunk.end + 4 <= len(data) and not _is_sound(data, chunk):
            data = data[: chunk.start - 8] + data[chunk.end + 4 :]
    return data


def stated_orientation(data: bytes) -> int | None:
    """Return the orientation that a PNG's eXIf chunk or its texts (XMP, ImageMagick's form of EXIF) state, wherever they stand.

    Pillow 13 finds those behind the pixels only by decoding them.
    """
    told: dict[bytes, int | None] = {}
    for chunk in _chunks(data):
        if chunk.name == b"eXIf" and _is_sound(data, chunk):
            told[chunk.name] = exif_orientation(data, chunk.start, chunk.end)
        elif chunk.name in (b"iTXt", b"tEXt", b"zTXt"):
            keyword = data[chunk.start : chunk.start + 80].partition(b"\0")[0]
            if keyword == _XMP:
                told[keyword] = xmp_orientation(_text(data, chunk, len(keyword)))
            elif keyword == _RAW_EXIF:
                told[keyword] = _raw_orientation(_text(data, chunk, len(keyword)))
    return told.get(b"eXIf") or told.get(_RAW_EXIF) or told.get(_XMP)


def is_cut(data: bytes) -> bool:
    """Return whether a PNG ends before its last chunk does."""
    # The end, or no chunk at all.
    return not any(chunk.name == _END or not (chunk.name.isascii() and chunk.name.isalpha()) for chunk in _chunks(data))


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Yield the chunks: name, and where what they hold starts and ends; the last may end beyond the file."""
    at = _FIRST
    while at + _FRAME_BYTES <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        yield _Chunk(data[at + 4 : at + 8], at + 8, end)
        at = end + 4


def _is_sound(data: bytes, chunk: _Chunk) -> bool:
    return zlib.crc32(data[chunk.start - 4 : chunk.end]) == int.from_bytes(data[chunk.end : chunk.end + 4], "big")


def _text(data: bytes, chunk: _Chunk, keyword_bytes: int) -> bytes:
    """Return the beginning of a text chunk's text; b"" where it cannot be inflated."""
    body = data[chunk.start + keyword_bytes + 1 : chunk.end]
    is_deflated = chunk.name == b"zTXt"
    if chunk.name == b"zTXt":
        body = body[1:]  # the method: there is one
    elif chunk.name == b"iTXt":
        is_deflated = body[:1] == b"\x01"
        body = body[2:].partition(b"\0")[2].partition(b"\0")[2]  # behind language and translated keyword
    if not is_deflated:
        return body[:_TEXT_BYTES]
    try:
        return zlib.decompressobj().decompress(body, _TEXT_BYTES)
    except zlib.error:
        return b""


def _raw_orientation(text: bytes) -> int | None:
    """Return the orientation of an EXIF block written as hexadecimal digits below three lines of a heading."""
    try:
        block = bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return None
    return exif_orientation(block, 0, len(block))
