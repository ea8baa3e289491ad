"""A tar as it comes, block by block: nothing is sought, nothing is extracted, and no damage passes for the end.

Python 3.11's `tarfile` takes a damaged header, or a file that ends too early, for the end of the archive, and reads extended headers of
any size into memory; only its parser of one header is used here.
"""

from __future__ import annotations

import re
import tarfile
from typing import TYPE_CHECKING, NamedTuple

from ray_prep.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_BYTES = 512
_ZEROS = bytes(BLOCK_BYTES)
# What a name or a record of metadata may take; the longest path a system knows has 4096 bytes.
_MAX_EXTENDED_BYTES = 1 << 20

_FILES = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
_LINKS = {tarfile.LNKTYPE: "a hard link", tarfile.SYMTYPE: "a symbolic link"}
_WITHOUT_DATA = frozenset({tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE})
_PAX = frozenset({tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE})
_PAX_LENGTH = re.compile(rb"(\d{1,7}) ")


class Member(NamedTuple):
    """A member that is a file, or should have been one.

    Args:
        name: As it is written; bytes that are not UTF-8 are surrogates.
        size_bytes: Bytes of its data.
        fault: Why it cannot be read: it is a link, or stored in pieces; None for a plain file.
    """

    name: str
    size_bytes: int
    fault: DecodeError | None = None


class Stream:
    """Bytes that come in chunks, read once.

    Args:
        chunks: The bytes; may raise DecodeError where they are damaged.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._start = 0
        self.position = 0

    def read(self, size_bytes: int) -> bytes:
        """Return so many bytes; fewer only at the end."""
        end = self._start + size_bytes
        if end <= len(self._chunk):
            data = self._chunk[self._start : end]
            self._start = end
            self.position += size_bytes
            return data
        parts = []
        missing = size_bytes
        while missing and self._fill():
            part = self._chunk[self._start : self._start + missing]
            self._start += len(part)
            missing -= len(part)
            parts.append(part)
        self.position += size_bytes - missing
        return b"".join(parts)

    def skip(self, size_bytes: int) -> int:
        """Pass over so many bytes; return how many there were."""
        missing = size_bytes
        while missing and self._fill():
            step = min(missing, len(self._chunk) - self._start)
            self._start += step
            missing -= step
        self.position += size_bytes - missing
        return size_bytes - missing

    def _fill(self) -> bool:
        while self._start == len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._chunk, self._start = chunk, 0
        return True


class Tar:
    """The files of a tar, one after the other: `next`, then `read` at the most once; `fault` when there is no next one.

    Several tars in one file, written one after the other, are read as one (`tar --ignore-zeros`).

    Args:
        stream: The tar, unpacked.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._left_bytes = 0
        self._padding_bytes = 0
        # Whether zero blocks were the last that came, and what is known to be wrong although all members before came whole.
        self._is_ended = False
        self._late: DecodeError | None = None

    def next(self) -> Member | None:
        """Return the next file or link; None at the end.

        Raises:
            DecodeError: `empty`, `truncated` or `corrupt`: there is no tar, or none from here on.
        """
        self._pass_by()
        path: str | None = None
        size_bytes: int | None = None
        is_sparse = False
        is_begun = False
        while True:
            at = self._stream.position
            block = self._block(is_begun=is_begun)
            header = None if block is None else self._header(block)
            if block is None or header is None:
                return None
            if header.type in _PAX or header.type == tarfile.XGLTYPE:
                records = _pax_records(self._extended(header.size, at), at)
                if header.type in _PAX:
                    is_begun = True
                    is_sparse |= any(name.startswith(b"GNU.sparse.") for name in records)
                    path = _text(records.get(b"GNU.sparse.name", records.get(b"path"))) or path
                    size_bytes = _size(records.get(b"size"), at) if b"size" in records else size_bytes
            elif header.type == tarfile.GNUTYPE_LONGNAME:
                is_begun = True
                path = _text(self._extended(header.size, at).partition(b"\0")[0]) or path
            elif header.type == tarfile.GNUTYPE_LONGLINK:
                is_begun = True
                self._extended(header.size, at)
            else:
                header.size = header.size if size_bytes is None else size_bytes
                header.name = path or header.name
                member = self._member(header, block, is_sparse=is_sparse)
                if member is not None:
                    return member
                path, size_bytes, is_sparse, is_begun = None, None, False, False
                self._pass_by()

    def read(self) -> bytes:
        """Return the data of the file that `next` gave.

        Raises:
            DecodeError: `truncated` or `corrupt`: it is not all there.
        """
        wanted, self._left_bytes = self._left_bytes, 0
        data = self._stream.read(wanted)
        if len(data) < wanted:
            raise DecodeError("truncated", f"the tar ends within a member, {wanted - len(data)} of its {wanted} bytes are missing")
        return data

    @property
    def has_end_mark(self) -> bool:
        """Whether zeros were the last that came, as it must be."""
        return self._is_ended

    @property
    def fault(self) -> DecodeError | None:
        """What is known to be wrong although no member is cut: no end mark, something behind it, a wrong checksum of the packed form."""
        return self._late

    def _pass_by(self) -> None:
        """Go to the next header."""
        wanted = self._left_bytes + self._padding_bytes
        # That only the padding of the last member is missing is no loss: the end mark is missing too, and that will be told.
        if self._stream.skip(wanted) < self._left_bytes:
            raise DecodeError("truncated", "the tar ends within a member that was passed by")
        self._left_bytes = self._padding_bytes = 0

    def _block(self, *, is_begun: bool) -> bytes | None:
        """Return the next block that is not zero; None at the end, having noted what is wrong with it."""
        begin = self._stream.position
        while True:
            try:
                block = self._stream.read(BLOCK_BYTES)
            except DecodeError as error:
                if not self._is_ended:
                    raise
                # All members were there before.
                self._late = error
                return None
            if len(block) == BLOCK_BYTES:
                if block != _ZEROS:
                    return block
                self._is_ended = True
                continue
            if self._stream.position == 0:
                raise DecodeError("empty", "the file holds no bytes")
            if is_begun or (block and not self._is_ended):
                raise DecodeError("truncated", f"the tar ends within a header, at byte {self._stream.position}")
            if not self._is_ended:
                self._late = DecodeError(
                    "truncated", f"the tar ends at byte {begin} without its end mark (blocks of zeros): more may have followed"
                )
            return None

    def _header(self, block: bytes) -> tarfile.TarInfo | None:
        """Return what a header says; None where it is none and stands behind the end mark, having noted that."""
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            header = None
        if header is None or header.size < 0:
            at = self._stream.position - BLOCK_BYTES
            if at == 0:
                raise DecodeError("corrupt", f"no tar: it begins with the bytes {block[:8].hex(' ')}, which are no header of a tar")
            fault = DecodeError("corrupt", f"the tar is damaged at byte {at}: there is no header where one must be")
            if not self._is_ended:
                raise fault
            self._late = fault
            return None
        self._is_ended = False
        return header

    def _extended(self, size_bytes: int, at: int) -> bytes:
        if size_bytes > _MAX_EXTENDED_BYTES:
            raise DecodeError("corrupt", f"the tar is damaged at byte {at}: a header that claims {size_bytes} bytes of metadata")
        self._left_bytes, self._padding_bytes = size_bytes, -size_bytes % BLOCK_BYTES
        data = self.read()
        self._pass_by()
        return data

    def _member(self, header: tarfile.TarInfo, block: bytes, *, is_sparse: bool) -> Member | None:
        """Take note of the data that follows a header; return the member, or None for folders, devices and notes of an archiver."""
        kind = header.type
        size_bytes = 0 if kind in _WITHOUT_DATA else header.size
        if kind == tarfile.GNUTYPE_SPARSE:
            # Its map of pieces may go on in further blocks, each of which says whether another one follows.
            is_extended = block[482] != 0
            while is_extended:
                block = self._stream.read(BLOCK_BYTES)
                is_extended = len(block) == BLOCK_BYTES and block[504] != 0
        self._left_bytes, self._padding_bytes = size_bytes, -size_bytes % BLOCK_BYTES
        if kind in _LINKS:
            message = (
                f"is {_LINKS[kind]} to {header.linkname!r}, without data of its own; pack it with tar --dereference --hard-dereference"
            )
            return Member(header.name, 0, DecodeError("unsupported", message))
        if is_sparse or kind == tarfile.GNUTYPE_SPARSE:
            return Member(header.name, size_bytes, DecodeError("unsupported", "is stored in pieces (tar --sparse), pack it without"))
        # POSIX: what nobody knows is a file; capital letters are for notes of an archiver.
        if kind in _FILES or not (kind in _WITHOUT_DATA or kind.isalpha()):
            return Member(header.name, size_bytes)
        return None


def _pax_records(data: bytes, at: int) -> dict[bytes, bytes]:
    """Return the records of an extended header (POSIX pax): length, space, name, `=`, value, newline each."""
    records = {}
    while data.strip(b"\0"):
        match = _PAX_LENGTH.match(data)
        length = int(match[1]) if match else 0
        record = data[match.end() : length] if match else b""
        name, mark, value = record.partition(b"=")
        if not mark or not value.endswith(b"\n") or length > len(data):
            raise DecodeError("corrupt", f"the tar is damaged at byte {at}: an extended header that cannot be read")
        records[name] = value[:-1]
        data = data[length:]
    return records


def _size(value: bytes | None, at: int) -> int:
    if value is None or not value.isdigit() or len(value) > 18:
        raise DecodeError("corrupt", f"the tar is damaged at byte {at}: a size of {value!r} bytes")
    return int(value)


def _text(name: bytes | None) -> str | None:
    return None if name is None else name.decode("utf-8", "surrogateescape")
