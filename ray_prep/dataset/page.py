"""Where the pixels lie in a shard: the one page of a row group's image column, found by its header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow.parquet as pq

# Type codes of Thrift's compact protocol (apache/thrift, doc/specs/thrift-compact-protocol.md); a page header has no others.
_STOP, _TRUE, _FALSE, _I16, _I32, _I64, _BINARY, _STRUCT = 0, 1, 2, 4, 5, 6, 8, 12
# Numbers of parquet.thrift: PageType and Encoding, and the fields of PageHeader and DataPageHeader.
DATA_PAGE = 0
PLAIN = 0
_HEADER_TYPE, _HEADER_STORED_BYTES, _HEADER_DATA_PAGE = 1, 3, 5
_PAGE_VALUES, _PAGE_ENCODING = 1, 2
_LEVELS_LENGTH_BYTES = 4
# PageHeader, DataPageHeader, Statistics; and 64 bits in groups of seven. White pixels taken for a header must not be read to their end.
_DEEPEST = 2
_WIDEST_BITS = 63


@dataclass(frozen=True, slots=True)
class Page:
    """What a page's header says.

    Args:
        kind: 0 is a data page of version 1; for others the next two are -1.
        values: Values in it, nulls included.
        encoding: 0 is PLAIN.
        start: Where its bytes begin, from the start of the file.
        size_bytes: How many they are, as stored.
    """

    kind: int
    values: int
    encoding: int
    start: int
    size_bytes: int

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.start + self.size_bytes


def read_page(data: memoryview, start: int) -> Page:
    """Read the page header that begins at `start`.

    Args:
        data: The whole file.
        start: Offset of the header, bytes.

    Raises:
        ValueError: No page header stands there.
    """
    try:
        header, body = _struct(data, start)
        kind, size_bytes = header[_HEADER_TYPE], header[_HEADER_STORED_BYTES]
        page = header.get(_HEADER_DATA_PAGE, {})
        if isinstance(kind, int) and isinstance(size_bytes, int) and isinstance(page, dict):
            return Page(kind, page.get(_PAGE_VALUES, -1), page.get(_PAGE_ENCODING, -1), body, size_bytes)
    except (KeyError, IndexError):
        pass
    msg = f"no Parquet page begins at byte {start}"
    raise ValueError(msg)


def pixels_start(data: memoryview, chunk: pq.ColumnChunkMetaData, rows: int, row_bytes: int) -> int | None:
    """Return where the values of a fixed-length column begin, if they lie there as they are, one after another.

    That is so where the chunk is one uncompressed PLAIN data page without nulls, as ray_prep writes it unless told to compress.

    Args:
        data: The whole file.
        chunk: The image column of one row group.
        rows: Rows of the row group.
        row_bytes: Bytes of one value.

    Raises:
        ValueError: The file is damaged.
    """
    if chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page:
        return None
    page = read_page(data, chunk.data_page_offset)
    is_whole = page.end == chunk.data_page_offset + chunk.total_compressed_size
    if not is_whole or page.kind != DATA_PAGE or page.encoding != PLAIN or page.values != rows:
        return None
    # First stand the definition levels of a nullable column, after their length; nulls would leave fewer values than rows behind them.
    levels_bytes = int.from_bytes(data[page.start : page.start + _LEVELS_LENGTH_BYTES], "little")
    start = page.end - rows * row_bytes
    return start if start == page.start + _LEVELS_LENGTH_BYTES + levels_bytes else None


def _struct(data: memoryview, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    if depth > _DEEPEST:
        msg = "no page header is nested that deep"
        raise ValueError(msg)
    fields: dict[int, Any] = {}
    name = 0
    while data[at] != _STOP:
        kind, delta = data[at] & 15, data[at] >> 4
        at += 1
        if delta:
            name += delta
        else:
            name, at = _zigzag(data, at)
        fields[name], at = _value(data, at, kind, depth)
    return fields, at + 1


def _value(data: memoryview, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in {_I16, _I32, _I64}:
        return _zigzag(data, at)
    if kind in {_TRUE, _FALSE}:
        return kind == _TRUE, at
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    if kind == _BINARY:  # smallest and largest value, in the statistics some writers put here
        size, at = _varint(data, at)
        return None, at + size
    msg = f"no page header has a field of Thrift type {kind}"
    raise ValueError(msg)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] & 128:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if shift > _WIDEST_BITS:
            msg = "no page header has a number that wide"
            raise ValueError(msg)
    return value | data[at] << shift, at + 1


def _zigzag(data: memoryview, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at
