"""Which members of a tar make a sample: one picture, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ray_prep.errors import DecodeError, FetchError, LimitError, SampleError
from ray_prep.image.signature import recognise
from ray_prep.sources.container import MAX_IMAGE_BYTES
from ray_prep.sources.listing import SIDECARS, is_hidden, suffix_of

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from ray_prep.sources.tar import Member, Tar

# Siblings that are read. A label or a caption larger than this is none.
SIBLINGS = frozenset({"cls", "json", "txt"})
_MAX_SIBLING_BYTES = 16 << 20
# Of several plain pictures of one sample (`a.jpg`, `a.png`) the first in this order is the image.
_EXTENSIONS = "jpg jpeg jpe jfif png webp avif tif tiff bmp dib gif mpo jp2 j2k jpx ppm pgm pbm pnm pfm ico img image"
_RANKS = {extension: rank for rank, extension in enumerate(_EXTENSIONS.split())}
# Behind all of these comes what its first bytes say is a picture, and behind that, what the decoder will say is none.
_RECOGNISED = len(_RANKS)
_UNRECOGNISED = _RECOGNISED + 1
# As long as nothing tells whether `a.1.jpg` and `a.2.jpg` belong together, so many of them and so many bytes are kept.
_UNDECIDED = 64
_UNDECIDED_BYTES = 64 << 20


class TarSample(NamedTuple):
    """What a tar holds of one sample.

    Args:
        key: Its name without extension.
        name: The member that is its picture, or else one that stands for it.
        data: The picture's bytes, or what is wrong with the sample.
        siblings: What stands beside the picture, by extension: cls, json, txt.
    """

    key: str
    name: str
    data: bytes | SampleError
    siblings: dict[str, bytes]


class _Picture(NamedTuple):
    name: str
    rank: int
    data: bytes | SampleError


class _Stem:
    """Members whose names agree in everything but the last extension."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.first = ""
        self.picture: _Picture | None = None
        self.siblings: dict[str, bytes] = {}
        self.fault: SampleError | None = None

    def add(self, name: str, extension: str, member: Member, tar: Tar) -> str | None:
        """Read a member, or pass it by; return the name of the one that plays no part, if there is one."""
        self.first = self.first or name
        if extension in SIBLINGS:
            return self._add_sibling(name, extension, member, tar)
        rank = _RANKS.get(extension, _RECOGNISED)
        if self.picture is not None and self.picture.rank <= rank:
            return name
        data = _picture_data(member, tar)
        if rank == _RECOGNISED and not _is_recognised(data):
            rank = _UNRECOGNISED
        other = self.picture
        if other is not None and other.rank <= rank:
            return name
        self.picture = _Picture(name, rank, data)
        return None if other is None else other.name

    def _add_sibling(self, name: str, extension: str, member: Member, tar: Tar) -> str | None:
        if extension in self.siblings:
            return name
        self.siblings[extension] = b""
        if member.fault is not None:
            self.fault = LimitError("annotation_invalid", f"{name}: {member.fault.message}")
        elif member.size_bytes > _MAX_SIBLING_BYTES:
            self.fault = LimitError("annotation_invalid", f"{name}: has {member.size_bytes} bytes, more than any label or caption")
        else:
            self.siblings[extension] = tar.read()
        return None

    def names(self) -> list[str]:
        """Return the members that are kept."""
        return [*([] if self.picture is None else [self.picture.name]), *(f"{self.key}.{extension}" for extension in self.siblings)]

    def sample(self, picture: _Picture | None) -> TarSample:
        """Return the sample of a picture and what stands beside it here."""
        name = self.first if picture is None else picture.name
        if self.fault is not None:
            return TarSample(self.key, name, self.fault, {})
        if picture is None:
            there = ", ".join(f".{extension}" for extension in sorted(self.siblings))
            message = f"the sample has {there} and no picture beside it; the members of a sample must stand next to each other in the tar"
            return TarSample(self.key, name, FetchError("missing", message), {})
        return TarSample(self.key, name, picture.data, self.siblings)


class _Group:
    """Members next to each other whose names agree up to the first dot: one sample, as the webdataset library has it.

    Where none of them has a plain extension (`a.jpg`, `a.cls`), these are files whose names have dots, and each picture is a sample.

    Args:
        prefix: Folder, and name up to the first dot.
        ignored: Counts, by suffix, what is in none of the samples.
    """

    def __init__(self, prefix: str, ignored: Counter[str]) -> None:
        self.prefix = prefix
        self.kinds: set[str] = set()
        self._ignored = ignored
        self._stems: dict[str, _Stem] = {}
        self._has_dotted_names = False

    def has_picture(self, name: str) -> bool:
        """Return whether the picture of a stem has this very name."""
        return any(stem.picture is not None and stem.picture.name == name for stem in self._stems.values())

    @property
    def has_any_picture(self) -> bool:
        """Return whether there is a picture at all."""
        return any(stem.picture is not None for stem in self._stems.values())

    def add(self, name: str, member: Member, tar: Tar) -> Iterator[TarSample]:
        """Take a member in; yield the samples that are known to be complete by that."""
        key, extension = _parted(name)
        if key not in self._stems:
            yield from self._settled()
            if self._is_beside_the_point(key):
                self._ignored[suffix_of(name)] += 1
                return
        left_out = self._stems.setdefault(key, _Stem(key)).add(name, extension, member, tar)
        if left_out is not None:
            self._ignored[suffix_of(left_out)] += 1

    def close(self) -> Iterator[TarSample]:
        """Yield the samples that are left."""
        plain = self._stems.pop(self.prefix, None)
        if plain is None or self._has_dotted_names:
            yield from self._apart()
            if plain is not None:
                yield plain.sample(plain.picture)
            return
        picture = self._chosen(plain)
        for stem in (plain, *self._stems.values()):
            for name in stem.names():
                is_used = (picture is not None and name == picture.name) or (stem is plain and not _is_picture(stem, name))
                if not is_used:
                    self._ignored[suffix_of(name)] += 1
        yield plain.sample(picture)

    def _settled(self) -> Iterator[TarSample]:
        """Decide that the names have dots where members become too many to wait; yield what is complete then."""
        if self.prefix in self._stems and not self._has_dotted_names:
            return
        pictures = [stem.picture.data for stem in self._stems.values() if stem.picture is not None]
        held_bytes = sum(len(data) for data in pictures if isinstance(data, bytes))
        self._has_dotted_names = self._has_dotted_names or len(self._stems) >= _UNDECIDED or held_bytes > _UNDECIDED_BYTES
        if self._has_dotted_names:
            yield from self._apart()

    def _apart(self) -> Iterator[TarSample]:
        """Yield each picture as a sample of its own."""
        stems = list(self._stems.values())
        self._stems.clear()
        for stem in stems:
            if stem.picture is not None or stem.key == self.prefix:
                yield stem.sample(stem.picture)
            else:
                for name in stem.names():
                    self._ignored[suffix_of(name)] += 1

    def _is_beside_the_point(self, key: str) -> bool:
        """Return whether a new stem only accompanies a sample that has its picture: `a.seg.png` beside `a.jpg`."""
        plain = self._stems.get(self.prefix)
        if plain is None or key == self.prefix or self._has_dotted_names:
            return False
        picture = self._chosen(plain)
        return picture is not None and picture.rank <= _RECOGNISED

    def _chosen(self, plain: _Stem) -> _Picture | None:
        """Return the picture of a sample: the plain one, else the first of the others."""
        pictures = [stem.picture for stem in (plain, *self._stems.values()) if stem.picture is not None]
        return next((picture for picture in pictures if picture.rank <= _RECOGNISED), pictures[0] if pictures else None)


def tar_samples(tar: Tar, ignored: Counter[str]) -> Iterator[TarSample]:
    """Stream the samples of a tar.

    Args:
        tar: Read to its end.
        ignored: Counts, by suffix, the members that are in no sample: hidden ones, sidecars nobody reads, further pictures of a sample.

    Raises:
        DecodeError: The tar is at fault; all samples that are known to be complete were yielded before.
    """
    group: _Group | None = None
    before: set[str] = set()
    try:
        while (member := tar.next()) is not None:
            name = clean_name(member.name)
            if not name or member.name.endswith("/"):
                continue
            suffix = suffix_of(name)
            extension = suffix[suffix.rfind(".") + 1 :]
            if is_hidden(name) or (extension not in SIBLINGS and "." + extension in SIDECARS):
                ignored[suffix] += 1
                continue
            prefix = prefix_of(name)
            if group is None or group.prefix != prefix or group.has_picture(name):
                if group is not None:
                    yield from group.close()
                    before = group.kinds
                group = _Group(prefix, ignored)
            group.kinds.add(name[len(prefix) :])
            yield from group.add(name, member, tar)
    except DecodeError as error:
        where = "" if group is None else f"; the sample {group.prefix!r} and what follows it are lost"
        raise DecodeError(error.reason, f"{error.message}{where}") from error
    fault = tar.fault
    if group is not None:
        # Cut right behind a member: the last sample is whole if it has all that the one before had.
        if fault is not None and not tar.has_end_mark and (group.kinds < before or not group.has_any_picture):
            raise DecodeError(fault.reason, f"{fault.message}; the sample {group.prefix!r} lacks members that others have, and is lost")
        yield from group.close()
    if fault is not None:
        raise fault


def clean_name(name: str) -> str:
    """Return a member's name as a path below the root: without `.`, `..` and empty parts. Nothing is ever written under it."""
    if "/" not in name:
        return "" if name in {".", ".."} else name
    return "/".join(part for part in name.split("/") if part not in {"", ".", ".."})


def prefix_of(name: str) -> str:
    """Return a name up to the first dot behind the last slash."""
    at = name.find(".", name.rfind("/") + 1)
    return name if at < 0 else name[:at]


def _parted(name: str) -> tuple[str, str]:
    """Return a name without its last extension, and that in lower case, without its dot."""
    at = name.rfind(".", name.rfind("/") + 1)
    return (name, "") if at < 0 else (name[:at], name[at + 1 :].lower())


def _is_picture(stem: _Stem, name: str) -> bool:
    return stem.picture is not None and stem.picture.name == name


def _is_recognised(data: bytes | SampleError) -> bool:
    if isinstance(data, SampleError):
        return False
    try:
        recognise(data)
    except DecodeError as error:
        return error.reason == "unsupported"
    return True


def _picture_data(member: Member, tar: Tar) -> bytes | SampleError:
    if member.fault is not None:
        return member.fault
    if member.size_bytes > MAX_IMAGE_BYTES:
        return DecodeError("too_large", f"the member has {member.size_bytes} bytes, above the limit of {MAX_IMAGE_BYTES}")
    return tar.read()
