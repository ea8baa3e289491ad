"""Gzip unpacked as it comes, with an end to bombs, and no damage taken for the end."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from ray_prep.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNPACKED_BYTES = 256 << 10
_DRIP_BYTES = 64
# Deflate packs 1032 to 1 at best. Beyond a quarter of a gigabyte, nothing but a bomb stays above half of that.
_BOMB_BYTES = 256 << 20
_BOMB_RATIO = 500


def unpacked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Unpack gzip, of one part or several; what does not begin as gzip comes as it is.

    Raises:
        DecodeError: `truncated`, `corrupt`, `too_large` (a bomb), or `unsupported`: packed otherwise.
    """
    first = next(chunks, b"")
    packing = next((name for magic, name in _PACKINGS if first.startswith(magic)), None)
    if packing is not None:
        raise DecodeError("unsupported", f"the tar is packed with {packing}; pack it with gzip, or not at all")
    if not first.startswith(b"\x1f\x8b"):
        yield first
        yield from chunks
        return
    taken = given = 0
    unpacker = zlib.decompressobj(wbits=31)
    is_between = False
    for chunk in _put_first(first, chunks):
        taken += len(chunk)
        rest = chunk
        while rest:
            if is_between:
                # Zeros behind the last part are the padding of a tape.
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                unpacker, is_between = zlib.decompressobj(wbits=31), False
            # zlib gives nothing of a call that meets damage: a copy of what was before gives all that is left to be had.
            before = unpacker.copy()
            try:
                data = unpacker.decompress(rest, _UNPACKED_BYTES)
            except zlib.error as error:
                yield from _until_damage(before, rest)
                raise DecodeError("corrupt", f"the packed tar is damaged near byte {taken} ({error})") from error
            given += len(data)
            if given > _BOMB_BYTES and given > _BOMB_RATIO * taken:
                raise DecodeError("too_large", f"{taken} packed bytes have become {given}, more than any picture packs: a bomb")
            if data:
                yield data
            is_between = unpacker.eof
            rest = unpacker.unused_data if is_between else unpacker.unconsumed_tail
    if not is_between:
        raise DecodeError("truncated", f"the packed tar ends within its data, after {taken} bytes")


_PACKINGS = (
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"PK\x03\x04", "zip"),
)


def _until_damage(unpacker: zlib._Decompress, packed: bytes) -> Iterator[bytes]:
    """Yield what comes before the damage, nearly to the byte."""
    try:
        while data := unpacker.decompress(packed, _DRIP_BYTES):
            yield data
            packed = unpacker.unconsumed_tail
    except zlib.error:
        return


def _put_first(first: bytes, others: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from others
