"""A table that lists images, read batch by batch, whatever its format."""

from __future__ import annotations

import gzip
import io
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

from ray_prep.errors import RecipeError, StorageError
from ray_prep.sources.columns import UNFIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from ray_prep.storage import Store

BATCH_ROWS = 4096
# Read ahead from an object store: a manifest of 100 MB in 25 requests.
_BUFFER_BYTES = 4 << 20


class Batch(NamedTuple):
    """Some rows of a table.

    Args:
        places: `line 7` or `row 7` of each row, for messages.
        values: The values of each column: a list, or an Arrow array.
    """

    places: Sequence[str]
    values: Mapping[str, Any]


class Mixed(NamedTuple):
    """Stands for the type of a column whose values have no one type.

    Args:
        message: Where that shows, and what to do, should anybody need a type.
    """

    message: str


class Table(Protocol):
    """A table of unknown length. Hashable: what it is made of names it."""

    @property
    def file(self) -> FileOpener:
        """Where it lies."""
        ...

    def __hash__(self) -> int: ...

    def columns(self) -> dict[str, pa.DataType | Mixed]:
        """Return its columns in their order and the types their values have by themselves."""
        ...

    def batches(self) -> Iterator[Batch]:
        """Stream its rows, in their order."""
        ...

    def to_array(self, values: Any, kind: pa.DataType) -> pa.Array:
        """Return the values of a batch's column as a type; raises what `UNFIT` names."""
        ...


class FileOpener(NamedTuple):
    """A file of a store, opened as often as it is read.

    Args:
        store: Where it lies.
        path: Its path there.
    """

    store: Store
    path: str

    @property
    def uri(self) -> str:
        """What to call it in messages."""
        return self.store.uri_of(self.path)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open it, unpacked where its name ends in `.gz`."""
        try:
            file = self.store.open_input(self.path, buffer_bytes=_BUFFER_BYTES)
        except (FileNotFoundError, IsADirectoryError) as error:
            msg = f"{self.uri}: there is no such manifest"
            raise StorageError(msg) from error
        with file:
            if not self.path.lower().endswith(".gz"):
                yield file
                return
            try:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield io.BufferedReader(unpacked, _BUFFER_BYTES)
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                msg = f"{self.uri}: cannot be unpacked: {error}"
                raise RecipeError(msg) from error


def first_unfit(to_array: Callable[[Any, pa.DataType], pa.Array], values: Any, kind: pa.DataType) -> int:
    """Return the position of the first value that does not fit a type."""
    for position in range(len(values)):
        try:
            to_array(values[position : position + 1], kind)
        except UNFIT:
            return position
    return 0
