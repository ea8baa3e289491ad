"""The layout `webdataset`: tars of samples, each a picture with the siblings that say something of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa

from ray_prep.errors import DecodeError, FetchError, LimitError, SampleError
from ray_prep.sample import Item
from ray_prep.sources.container import Offer, ahead, containers, member_uri, open_container
from ray_prep.sources.gunzip import unpacked
from ray_prep.sources.listing import check_globs, key_of, split_folder
from ray_prep.sources.tar import Stream, Tar
from ray_prep.sources.tar_samples import TarSample, tar_samples
from ray_prep.storage import StorageOptions, is_local

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

TARS = Offer("tar", (".tar", ".tar.gz", ".tgz"))
CARRIED: pa.Schema = pa.schema([("json", pa.string()), ("txt", pa.string())])

_LOCAL_CHUNK_BYTES = 1 << 20
# One request; three of them are in memory at once.
_REMOTE_CHUNK_BYTES = 8 << 20
_INT32_MAX = (1 << 31) - 1


@dataclass(frozen=True)
class WebDataset:
    """Every tar (.tar, .tar.gz, .tgz) below a root, or one of them, as the webdataset library writes them.

    Members next to each other whose names agree up to the first dot are a sample. Its image is the first of its plain pictures in the
    order jpg, jpeg, png, webp, … (`a.jpg`, not `a.seg.png`), or else the member whose bytes are a picture; further pictures are ignored
    and counted. `.cls` is its label: a whole number is the label_id (-1: nobody told), another text the class's name. `.json` and `.txt`
    are carried as columns. Files whose names have dots (`2020.01.02.jpg`) and no siblings are samples by themselves. A sample with
    siblings and without a picture is `missing`.

    Args:
        uri: The root, or a tar.
        include: Globs below the root, of which one must match a tar.
        exclude: Globs below the root, of which none may match.
        storage_options: How the tars are reached.
    """

    layout: ClassVar[str] = "webdataset"
    is_container: ClassVar[bool] = True
    lists_files: ClassVar[bool] = True

    uri: str
    include: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()
    storage_options: StorageOptions = field(default_factory=StorageOptions)

    def __post_init__(self) -> None:
        check_globs(self.include, self.exclude)

    def items(self, ignored: Counter[str]) -> Iterator[Item]:
        """Stream the tars."""
        return containers(self.uri, self.storage_options, self.include, self.exclude, ignored, TARS)

    def members(
        self, container: Item, on_wait: Callable[[], None] | None = None, *, ignored: Counter[str] | None = None
    ) -> Iterator[tuple[Item, bytes | SampleError]]:
        """Read a tar once, front to back; one sample and three chunks of it are in memory.

        The split of a member is its tar's, else what the first folder of its own path says.

        Args:
            container: One of `items`.
            on_wait: Called every other second while the consumer waits for a remote store.
            ignored: Counts, by suffix, the members that are in no sample.
        """
        seen: Counter[str] = Counter()
        chunks = ahead(partial(_chunks, container, self.storage_options), container, on_wait, window=1)
        try:
            for sample in tar_samples(Tar(Stream(unpacked(chunks))), Counter() if ignored is None else ignored):
                seen[sample.key] += 1
                yield _member(container, sample, seen[sample.key])
        except FileNotFoundError as error:
            yield container, FetchError("missing", str(error))
        except DecodeError as error:
            yield container, error
        finally:
            chunks.close()

    def carried_columns(self, published: Collection[str] = ()) -> pa.Schema:  # noqa: ARG002  they are always the same
        return CARRIED

    def split_column(self) -> None:
        """Return None: names of tars and folders tell splits."""
        return

    def offers(self, path: str) -> bool:
        return TARS.takes(path, self.include, self.exclude)

    def class_names(self) -> None:
        """Return None: labels are members of the tars."""
        return


def _chunks(container: Item, options: StorageOptions) -> Iterator[bytes]:
    size_bytes = _LOCAL_CHUNK_BYTES if is_local(container.uri) else _REMOTE_CHUNK_BYTES
    with open_container(container, options, buffer_bytes=size_bytes) as file:
        while chunk := file.read(size_bytes):
            yield chunk


def _member(container: Item, sample: TarSample, number: int) -> tuple[Item, bytes | SampleError]:
    """Return a sample as an item; of several with one key, those after the first are rejected."""
    data = sample.data
    label, label_id = None, None
    if not isinstance(data, SampleError):
        try:
            label, label_id = _label(sample)
        except LimitError as error:
            data = error
    place = key_of(sample.name)
    if number > 1:
        data = LimitError("duplicate_key", f"{place}: is number {number} of its key in this tar; the first one stays")
        place = f"{place}#{number}"
    columns = {name: _text(sample.siblings[name]) if name in sample.siblings else None for name in CARRIED.names}
    item = Item(
        key=f"{container.key}/{key_of(sample.key)}",
        uri=member_uri(container, place),
        version=container.version,
        label=label,
        split=container.split or split_folder(sample.name),
        columns=columns,
        label_id=label_id,
    )
    return item, data


def _label(sample: TarSample) -> tuple[str | None, int | None]:
    """Return what `.cls` says: class and number.

    Raises:
        LimitError: `annotation_invalid`: it is no text, or no number of a class.
    """
    try:
        text = sample.siblings.get("cls", b"").decode("utf-8").strip("\ufeff \t\r\n\0")
    except UnicodeDecodeError as error:
        raise LimitError("annotation_invalid", f"{sample.key}.cls: is no text in UTF-8, so that it names no class") from error
    if not text or text == "-1":
        return None, None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        return text, None
    if text != digits or len(digits) > 10 or int(digits) > _INT32_MAX:
        raise LimitError("annotation_invalid", f"{sample.key}.cls: {text[:40]} is no number of a class; these go from 0 to {_INT32_MAX}")
    return str(int(text)), int(text)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
