"""What is true of one version: its record, the complete list of its rejections, and a row a live shard."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ray_prep.dataset.finding import UNREADABLE, unreadable
from ray_prep.dataset.shard import Shard
from ray_prep.dataset.sums import pooled
from ray_prep.errors import Damaged, StorageError
from ray_prep.sample import Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ray_prep.storage import Store

T = TypeVar("T")
Json = bytes  # in a record `bytes` is a number

FORMAT = 1
# The split that a model learns from: its pixels alone may tell it what is normal.
TRAINING = "train"
BUILDS_FOLDER = "_ray_prep/builds"
# One place, not one a build: only the last refusal matters, and refused nights leave no heap.
REFUSAL = "_ray_prep/refused.parquet"
_BATCH_ROWS = 10_000

REJECTIONS = pa.schema(
    [*(pa.field(name, pa.string()) for name in ("key", "uri", "version", "stage", "reason", "message")), pa.field("attempts", pa.int32())]
)
SHARDS = pa.schema(
    [
        pa.field("path", pa.string()),
        pa.field("split", pa.string()),
        pa.field("rows", pa.int64()),
        pa.field("bytes", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("min_key", pa.string()),
        pa.field("max_key", pa.string()),
        pa.field("unit_id", pa.string()),
        pa.field("images", pa.int64()),
        pa.field("labels", pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("images", pa.int64())]))),
        pa.field("sums", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """What the record keeps of one live shard.

    Args:
        shard: The file.
        unit_id: The unit that made it.
        images: Accepted items in it (rows are more where there are copies).
        labels: Accepted items by class; items without a label are not counted.
        sums: n, Σ and Σ² of each channel over the originals' integer pixels; empty where it holds no original.
    """

    shard: Shard
    unit_id: str
    images: int
    labels: Mapping[str, int]
    sums: tuple[int, ...] = ()


@dataclass(frozen=True)
class Record:
    """What is true of one version. Parts of a build that do not apply are 0 or empty.

    Args:
        build_id: The build that published it.
        version: The version it speaks of.
        engine: Who ran the units: `local` or `ray`.
        listed: Items the source listed; unchanged + added + changed, and accepted + rejected.
        unchanged: Items of which it says what it said at the last build.
        added: Items that were new.
        changed: Items of which the source says something else than before: version, label, columns, or its own split.
        removed: Items the source no longer lists.
        accepted: Items that are in the table.
        rejected: Items that are not, with remembered ones.
        rejected_new: Rejections that the version before does not have: of another item, another version of it, or for another reason.
        rejected_by_reason: Rejections by reason code.
        ignored: Names in the source, and inside of its tars, that were not listed, by suffix.
        rows: Rows of the table, copies included.
        shards: Files of the table.
        bytes: Their size.
        decoded: Items fetched and judged in this build.
        copied_rows: Rows taken over from replaced shards.
        seconds: Wall time of the build.
        images_per_second: Decoded items by wall time.
        recipe_fingerprint: Of the whole recipe.
        versions: Versions of the libraries pixels depend on.
        cpu_level: The level every worker had, such as `x86-64-v3`.
        classes: Class names; a label's id is its place here.
        counts: Accepted items by split and class; the class of items without a label is "".
        sums: n, Σ and Σ² of each channel of the originals, by split.
        fingerprints: Of the rows, by split.
        frozen: What the first publish fixed: columns, classes, constants of normalize, split rule.
        recipe: The recipe as plain data, with defaults filled in.
        limit: How many items the build was limited to; None for all.
        ignored_members: What of `ignored` is inside of tars: the next build may not read these.
    """

    build_id: str
    version: int
    engine: str = ""
    listed: int = 0
    unchanged: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    accepted: int = 0
    rejected: int = 0
    rejected_new: int = 0
    rejected_by_reason: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)
    rows: int = 0
    shards: int = 0
    bytes: int = 0
    decoded: int = 0
    copied_rows: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    recipe_fingerprint: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    cpu_level: str = ""
    classes: tuple[str, ...] = ()
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    sums: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    frozen: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    ignored_members: Mapping[str, int] = field(default_factory=dict)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over the training originals' pixels, in [0, 1]; empty where there is none."""
        return pooled(self.sums.get(TRAINING, ()))[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel over the training originals' pixels, in [0, 1]; empty where there is none."""
        return pooled(self.sums.get(TRAINING, ()))[1]

    def to_json(self) -> Json:
        """Return the record as it is kept in storage. Mappings keep their order: that of a recipe's shares and of columns has meaning."""
        known = {"format": FORMAT, **asdict(self), "mean": self.mean, "std": self.std}
        return (json.dumps(known, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "surrogatepass")

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """Read what `to_json` gave.

        Raises:
            Damaged: Nobody wrote it so.
            StorageError: A later format wrote it.
        """
        try:
            known: dict[str, Any] = json.loads(data)
            if known.get("format") == FORMAT:
                known = {own.name: known[own.name] for own in fields(cls) if own.name in known}
                known["classes"] = tuple(known["classes"])
                known["sums"] = {split: tuple(sums) for split, sums in known["sums"].items()}
                return cls(**known)
            wrote = known.get("format")
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise Damaged("the record", f"cannot be read: {' '.join(str(error).split())}") from error
        msg = f"the record has format {wrote}, this ray_prep reads {FORMAT}: use the one that wrote it, or a later one"
        raise StorageError(msg)


def write_record(store: Store, build_id: str, record: Record, rejections: Iterable[Rejection], shards: Iterable[ShardFacts]) -> str:
    """Put a record and its two lists into the table's folder, and return the path of `record.json` for the commit to name.

    The lists may be of any length: a few thousand rows are in memory at once. Until a commit names it, it belongs to no version.

    Raises:
        StorageError: Storage is unreachable or refuses.
    """
    folder = f"{BUILDS_FOLDER}/{build_id}"
    _put_table(store, f"{folder}/rejections.parquet", REJECTIONS, rejections, _rejection_row)
    _put_table(store, f"{folder}/shards.parquet", SHARDS, shards, _shard_row)
    path = f"{folder}/record.json"
    store.put(path, record.to_json())
    return path


def read_record(store: Store, path: str) -> Record:
    """Read the record a commit names.

    Args:
        store: The table's folder.
        path: Of `record.json`, below it.

    Raises:
        Damaged: It is not there, or cannot be read.
        StorageError: A later format wrote it.
    """
    try:
        return Record.from_json(store.get(path))
    except FileNotFoundError:
        raise _gone(store, path) from None
    except Damaged as error:
        raise Damaged(store.uri_of(path), error.what) from error


def read_rejections(store: Store, path: str) -> Iterator[Rejection]:
    """Read the complete list of rejections beside a record, a few thousand at a time.

    Args:
        store: The table's folder.
        path: Of `record.json`.

    Raises:
        Damaged: It is not there, or cannot be read.
    """
    for batch in rejection_batches(store, path):
        for row in batch.to_pylist():
            yield Rejection(**row)


def rejection_batches(store: Store, path: str) -> Iterator[pa.RecordBatch]:
    """Read the same list as Arrow batches with the columns of `REJECTIONS`."""
    return _batches(store, _beside(path, "rejections.parquet"), REJECTIONS)


def write_refusal(store: Store, build_id: str, rejections: Iterable[Rejection]) -> None:
    """Put the complete list of rejections of a build that was refused, in place of an earlier one's; it belongs to no version.

    Raises:
        StorageError: Storage is unreachable or refuses.
    """
    _put_table(store, REFUSAL, REJECTIONS.with_metadata({"build_id": build_id}), rejections, _rejection_row)


def read_refusal(store: Store) -> tuple[str, pa.Table] | None:
    """Return the last refused build's id and the list of its rejections; None where none was refused since the last publish."""
    try:
        with store.open_input(REFUSAL) as file:
            table = pq.read_table(file)
    except FileNotFoundError:
        return None
    return (table.schema.metadata or {}).get(b"build_id", b"").decode(), table.replace_schema_metadata()


def remove_refusal(store: Store) -> None:
    """Take the list away: a build has published since."""
    store.delete(REFUSAL)


def read_shards(store: Store, path: str) -> Iterator[ShardFacts]:
    """Read what the record keeps of the live shards.

    Args:
        store: The table's folder.
        path: Of `record.json`.

    Raises:
        Damaged: It is not there, or cannot be read.
    """
    own = [known.name for known in fields(Shard)]
    for batch in _batches(store, _beside(path, "shards.parquet"), SHARDS):
        for row in batch.to_pylist():
            labels = {known["label"]: known["images"] for known in row["labels"]}
            yield ShardFacts(Shard(**{name: row[name] for name in own}), row["unit_id"], row["images"], labels, tuple(row["sums"]))


def _rejection_row(rejection: Rejection) -> dict[str, Any]:
    # Messages quote foreign libraries, which quote whatever bytes a file holds.
    return {**asdict(rejection), "message": rejection.message.encode("utf-8", "replace").decode()}


def _shard_row(facts: ShardFacts) -> dict[str, Any]:
    labels = [{"label": label, "images": images} for label, images in sorted(facts.labels.items())]
    return {**asdict(facts.shard), "unit_id": facts.unit_id, "images": facts.images, "labels": labels, "sums": facts.sums}


def _put_table(store: Store, path: str, schema: pa.Schema, things: Iterable[T], row: Callable[[T], dict[str, Any]]) -> None:
    rows = (row(thing) for thing in things)
    with tempfile.TemporaryDirectory(prefix="ray_prep-") as folder:
        local = Path(folder) / "table.parquet"
        with pq.ParquetWriter(local, schema, compression="zstd") as writer:
            while part := list(islice(rows, _BATCH_ROWS)):
                writer.write_batch(pa.RecordBatch.from_pylist(part, schema=schema))
        store.put_file(path, str(local))


def _batches(store: Store, path: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    try:
        with store.open_input(path) as file:
            for batch in pq.ParquetFile(file).iter_batches(_BATCH_ROWS):
                yield batch.select(schema.names).cast(schema)
    except FileNotFoundError:
        raise _gone(store, path) from None
    except UNREADABLE as error:
        raise Damaged(store.uri_of(path), unreadable(error)) from error


def _beside(path: str, name: str) -> str:
    return str(PurePosixPath(path).with_name(name))


def _gone(store: Store, path: str) -> Damaged:
    return Damaged(store.uri_of(path), "is not there, though a version of the table names it: its statistics are lost, its rows are not")
