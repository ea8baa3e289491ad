"""The published version a build starts from: its table, its record, and what it knows of every item."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple, dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ray_prep.dataset.live import live_rows
from ray_prep.dataset.record import Record, read_record, read_rejections
from ray_prep.dataset.table import Snapshot, open_table
from ray_prep.errors import RETRIED_REASONS, Damaged, StorageError
from ray_prep.survey import KnownItem
from ray_prep.work import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pyarrow as pa

    from ray_prep.sample import Rejection
    from ray_prep.storage import StorageOptions, Store


@dataclass(frozen=True)
class Base:
    """One published version.

    Args:
        snapshot: Its table.
        record: What is true of it.
        store: The table's folder.
        options: How it is reached.
        damage: Takes what is wrong with files that cannot be read, for a build that replaces them all; None raises that.
    """

    snapshot: Snapshot
    record: Record
    store: Store
    options: StorageOptions
    damage: dict[str, Damaged] | None = None

    @property
    def version(self) -> int:
        """Its number."""
        return self.snapshot.version

    @property
    def schema(self) -> pa.Schema:
        """The table's columns."""
        return self.snapshot.schema

    @property
    def image_metadata(self) -> Mapping[str, Any]:
        """What the `image` field says of itself."""
        raw: Mapping[bytes, bytes] = self.schema.field("image").metadata or {}
        return {name.decode(): value.decode() for name, value in raw.items()}

    @cached_property
    def frozen(self) -> Frozen:
        """The values the first publish fixed."""
        return Frozen.from_dict(self.record.frozen)

    @cached_property
    def paths(self) -> set[str]:
        """Paths of its shards."""
        return {shard.path for shard in self.snapshot.shards}

    def rejections(self) -> Iterator[Rejection]:
        """Yield the complete list of its rejections."""
        assert self.snapshot.record is not None
        try:
            yield from read_rejections(self.store, self.snapshot.record)
        except Damaged as error:
            self._bear(error)

    def known_items(self, *, with_uri: bool = False) -> Iterator[KnownItem]:
        """Yield every item it accepted or rejected, once; rows of one item stand together in a shard.

        Args:
            with_uri: Whether accepted items come with their uri, which is read for containers alone.
        """
        last = None
        names = ("key", "source_version", "source_facts", "split", *(("source_uri",) if with_uri else ()))
        for batch in live_rows(self.snapshot, self.options, names, self._bear):
            columns = [batch.column(name).to_pylist() for name in names]
            for key, version, facts, split, *uri in zip(*columns, strict=True):
                if key != last:
                    yield KnownItem(key, uri[0] if uri else "", version, facts, split, "live")
                last = key
        for rejection in self.rejections():
            state = "duplicate" if rejection.reason == "duplicate_key" else "rejected"
            yield KnownItem(rejection.key, rejection.uri, rejection.version, None, None, state)

    def _bear(self, error: Damaged) -> None:
        if self.damage is None:
            raise error
        self.damage[error.place] = error

    def has_retries(self, *, lists_files: bool) -> bool:
        """Return whether there are rejections that are to be tried again.

        Args:
            lists_files: As for `Rejection.is_passing`.
        """
        if not {*RETRIED_REASONS, *(("missing",) if lists_files else ())} & self.record.rejected_by_reason.keys():
            return False
        return any(rejection.is_retried(lists_files=lists_files) for rejection in self.rejections())

    def has_rejections(self, rejections: Iterable[Rejection]) -> bool:
        """Return whether its list of rejections is this one, in whatever order."""
        return _counted(map(astuple, self.rejections())) == _counted(map(astuple, rejections))

    def published_among(self, rejections: Iterable[Rejection]) -> int:
        """Return how many of its images are among these rejections; a twin with the key of one that stays is not that one."""
        lost = _counted((rejection.key,) for rejection in rejections if rejection.reason != "duplicate_key")
        if not lost:
            return 0
        rows = (key for batch in live_rows(self.snapshot, self.options, ("key",), self._bear) for key in batch.column("key").to_pylist())
        return sum(_short((key,)) in lost for key, _ in groupby(rows))  # an image's rows stand together

    def new_among(self, rejections: Iterable[Rejection]) -> int:
        """Return how many rejections it does not have: of another item, another version of it, or for another reason."""
        return (_counted(map(_what_and_why, rejections)) - _counted(map(_what_and_why, self.rejections()))).total()


def _what_and_why(rejection: Rejection) -> tuple[str, ...]:
    return rejection.key, rejection.version, rejection.reason


def _counted(facts: Iterable[tuple[object, ...]]) -> Counter[bytes]:
    """Count what is told of rejections by short hashes: there may be millions."""
    return Counter(map(_short, facts))


def _short(told: tuple[object, ...]) -> bytes:
    return blake2b(repr(told).encode("utf-8", "replace"), digest_size=12).digest()


def read_base(uri: str, options: StorageOptions, store: Store, damage: dict[str, Damaged] | None = None) -> Base | None:
    """Read the newest version of a table; None where there is no table.

    Args:
        uri: The table's folder.
        options: How it is reached.
        store: The same folder.
        damage: Takes what is wrong with files of the version, by place; None raises it.

    Raises:
        Damaged: The version's record is gone or cannot be read.
        StorageError: It is a table, but none of ours: no commit names a record.
    """
    snapshot = open_table(uri, options)
    if snapshot is None:
        return None
    if snapshot.record is None:
        msg = f"{uri}: a Delta table is there that ray_prep did not make; write to another place"
        raise StorageError(msg)
    try:
        record = read_record(store, snapshot.record)
    except Damaged as error:
        if damage is None:
            raise
        damage[error.place] = error
        record = Record("", snapshot.version, limit=0)  # whether that build had a limit is not known: any may be asked for
    return Base(snapshot, record, store, options, damage)
