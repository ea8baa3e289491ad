"""Whether one shard is what the log and the record say of it: its bytes, its footer, its rows, and some of its images."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_prep.dataset.finding import UNREADABLE, Finding, unreadable
from ray_prep.dataset.pixels import Pixels, large_binary
from ray_prep.dataset.repeats import digests
from ray_prep.dataset.schema import PARTITION, delta_schema, image_column
from ray_prep.dataset.shard import NAME_DIGITS
from ray_prep.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ray_prep.dataset.record import ShardFacts
    from ray_prep.dataset.schema import ImageColumn
    from ray_prep.dataset.shard import Shard
    from ray_prep.storage import Store

_CHUNK_BYTES = 8 << 20
_LABELLING = ["key", "copy", "height", "width", "channels", "label", "label_id", "sums"]


@dataclass(frozen=True)
class Expected:
    """What is true of every shard of a version.

    Args:
        schema: The table's columns, as the log has them.
        image: What they say of the image.
        fingerprints: Of the rows by split, as the record has them; None where it cannot be read.
        class_ids: A label's id, as the record has them; None where it cannot be read.
        names: Live paths by the hash in them, to tell whose bytes a file holds.
        has_stored_sums: Whether `sums` add up the very pixels that are stored.
    """

    schema: pa.Schema
    image: ImageColumn
    fingerprints: Mapping[str, str] | None
    class_ids: Mapping[str | None, int | None] | None
    names: Mapping[str, str]
    has_stored_sums: bool

    @property
    def has_classes(self) -> bool:
        """Whether the record names any class."""
        return bool(self.class_ids and self.class_ids.keys() - {None})


@dataclass
class ShardCheck:
    """What one shard was found to be.

    Args:
        path: The file.
        findings: What is wrong with it.
        size_bytes: Its size; 0 where it is not there.
        rows: Rows in it; 0 where it was not looked into.
        rows_digests: What stands for key and copy of each.
        decoded: Images that were decoded.
    """

    path: str
    findings: list[Finding] = field(default_factory=list)
    size_bytes: int = 0
    rows: int = 0
    rows_digests: bytes = b""
    decoded: int = 0

    def say(self, what: str) -> None:
        """Add something that is wrong."""
        self.findings.append(Finding(self.path, what))


def check_shard(store: Store, shard: Shard, facts: ShardFacts | None, expected: Expected, sample: Sequence[int]) -> ShardCheck:
    """Check one shard; a file whose bytes are not those it was published with is not looked into.

    Args:
        store: The table's folder.
        shard: What the log says of it.
        facts: What the record says of it; None where it says nothing.
        expected: What is true of all shards.
        sample: Numbers of the rows whose images are decoded.

    Raises:
        StorageError: Storage is unreachable or refuses.
    """
    check = ShardCheck(shard.path)
    if not shard.path.startswith(f"{PARTITION}={shard.split}/"):
        check.say(f"does not lie below {PARTITION}={shard.split}/, though its rows are in that split by the log")
    if facts is not None:
        _compare(check, "the record's shards.parquet", _log_facts(shard), _log_facts(facts.shard))
    if not _has_its_bytes(store, shard, facts, expected, check):
        return check
    try:
        with store.open_input(shard.path) as file:
            _look_into(pq.ParquetFile(file), shard, facts, expected, sample, check)
    except UNREADABLE as error:
        check.say(unreadable(error))
    return check


def _log_facts(shard: Shard) -> dict[str, Any]:
    return {"rows": shard.rows, "bytes": shard.bytes, "split": shard.split, "smallest key": shard.min_key, "largest key": shard.max_key}


def _compare(check: ShardCheck, who: str, found: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    for name, value in found.items():
        if value != said[name]:
            check.say(f"{name}: {value!r}, and {who} says {said[name]!r}")


def _has_its_bytes(store: Store, shard: Shard, facts: ShardFacts | None, expected: Expected, check: ShardCheck) -> bool:
    """Read the whole file and return whether size and hash are those of its name."""
    hashed = sha256()
    try:
        with store.open_input(shard.path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                hashed.update(chunk)
                check.size_bytes += len(chunk)
    except FileNotFoundError:
        check.say("is not there, though the log names it")
        return False
    except OSError as error:
        check.say(f"cannot be read: {error.strerror or error}")
        return False
    digest, name = hashed.hexdigest(), PurePosixPath(shard.path).stem
    if digest[:NAME_DIGITS] == name:
        if facts is not None and facts.shard.sha256 != digest:
            check.say(f"its sha256 is {digest}, and the record's shards.parquet says {facts.shard.sha256}")
        if check.size_bytes != shard.bytes:
            check.say(f"has {check.size_bytes} bytes, and the log says {shard.bytes}")
        return True
    if (other := expected.names.get(digest[:NAME_DIGITS])) is not None:
        check.say(f"holds the bytes of {other}")
    elif check.size_bytes != shard.bytes:
        check.say(f"has {check.size_bytes} bytes instead of {shard.bytes}: it was {'cut' if check.size_bytes < shard.bytes else 'changed'}")
    else:
        check.say(f"its bytes are not those it was published with: their sha256 begins with {digest[:NAME_DIGITS]}, not with its name")
    return False


def _look_into(
    parquet: pq.ParquetFile, shard: Shard, facts: ShardFacts | None, expected: Expected, sample: Sequence[int], check: ShardCheck
) -> None:
    metadata = parquet.metadata
    if metadata.num_rows != shard.rows:
        check.say(f"holds {metadata.num_rows} rows, and the log says {shard.rows}")
    if expected.fingerprints is not None:
        given = (metadata.metadata or {}).get(b"fingerprint", b"").decode("utf-8", "replace")
        right = expected.fingerprints.get(shard.split, "")
        if given != right:
            check.say(f"its footer names the fingerprint {given or '(none)'}, and the record says {right or '(none)'} for {shard.split}")
    differences = list(schema_differences(parquet.schema_arrow, expected))
    if differences:
        check.say(f"its columns are not the table's: {'; '.join(differences)}")
        return
    groups = [parquet.read_row_group(group, _LABELLING, use_threads=False) for group in range(metadata.num_row_groups)]
    rows = pa.concat_tables(groups) if groups else parquet.schema_arrow.empty_table().select(_LABELLING)
    check.rows = rows.num_rows
    _check_rows(rows, shard, facts, expected, check)
    start = 0
    for group, table in enumerate(groups):
        wanted = [row - start for row in sample if start <= row < start + table.num_rows]
        if wanted:
            _check_images(parquet.read_row_group(group, ["image"], use_threads=False), table, wanted, expected, check)
        start += table.num_rows


def schema_differences(schema: pa.Schema, expected: Expected) -> Iterator[str]:
    """Yield how a shard's columns differ from the table's.

    Args:
        schema: The shard's.
        expected: The table's.
    """
    image = image_column(schema)
    if image is None:
        yield "its image field says nothing of shape and dtype"
        return
    if schema.field("image").type != image.type:
        yield f"image is {schema.field('image').type}, and its own metadata ask for {image.type}"
    own = delta_schema(schema)
    for name in dict.fromkeys([*expected.schema.names, *own.names]):
        if name not in own.names or name not in expected.schema.names:
            yield f"{name} is {'missing' if name not in own.names else 'no column of the table'}"
        elif own.field(name).type != expected.schema.field(name).type:
            yield f"{name} is {own.field(name).type} instead of {expected.schema.field(name).type}"
    if own.field("image").metadata != expected.schema.field("image").metadata:
        yield f"its image field says {image.metadata} instead of {expected.image.metadata}"
    if own.names != expected.schema.names and set(own.names) == set(expected.schema.names):
        yield "their order is another"


def _check_rows(rows: pa.Table, shard: Shard, facts: ShardFacts | None, expected: Expected, check: ShardCheck) -> None:
    """Check what the small columns of all rows say."""
    keys, copies, labels = (rows.column(name).to_pylist() for name in ("key", "copy", "label"))
    check.rows_digests = digests(keys, copies)
    for name in ("key", "copy", "height", "width", "channels"):
        if nulls := rows.column(name).null_count:
            check.say(f"{nulls} rows have no {name}")
    if rows.column("key").null_count or not keys:
        return
    said = {"smallest key": shard.min_key, "largest key": shard.max_key}
    _compare(check, "the log", {"smallest key": min(keys), "largest key": max(keys)}, said)
    if expected.image.shape is not None:
        sizes = np.stack([pc.fill_null(rows.column(name), -1).to_numpy() for name in ("height", "width", "channels")], axis=1)
        wrong = np.flatnonzero((sizes != expected.image.shape).any(axis=1))
        if len(wrong):
            size = " x ".join(map(str, sizes[wrong[0]]))
            right = " x ".join(map(str, expected.image.shape))
            check.say(f"{len(wrong)} rows say another size than {right}, such as {size} of {keys[wrong[0]]!r}")
    if expected.class_ids is not None:
        for label, number in sorted(set(zip(labels, rows.column("label_id").to_pylist(), strict=True)), key=repr):
            # A tar's numbers are ids without a class list, and such a label is the number as a text.
            is_number = label is not None and label == str(number) and not expected.has_classes
            if expected.class_ids.get(label) != number and not is_number:
                check.say(f"label {label!r} has the id {number}, and by the record's classes it is {expected.class_ids.get(label)}")
    if facts is not None:
        firsts = [place for place, key in enumerate(keys) if place == 0 or keys[place - 1] != key]
        by_class = dict(sorted(Counter(labels[place] for place in firsts if labels[place] is not None).items()))
        found = {"images": len(firsts), "images by class": by_class, "sums": _summed(rows.column("sums"))}
        said_of_it = {"images": facts.images, "images by class": dict(sorted(facts.labels.items())), "sums": tuple(facts.sums)}
        _compare(check, "the record's shards.parquet", found, said_of_it)


def _summed(column: pa.ChunkedArray) -> tuple[int, ...]:
    """Return the sums of all rows that have some, added up; nothing where there are none, or they are not alike."""
    counted = len(column) - column.null_count
    values = pc.list_flatten(column).to_numpy()
    if not counted or len(values) % counted:
        return ()
    return tuple(int(total) for total in values.reshape(counted, -1).sum(axis=0))


def _check_images(images: pa.Table, rows: pa.Table, wanted: Sequence[int], expected: Expected, check: ShardCheck) -> None:
    """Decode some images of one row group and hold them against their rows."""
    column = images.column("image")
    sizes = [pc.fill_null(rows.column(name), 0).to_numpy() for name in ("height", "width", "channels")]
    stored = large_binary(column.combine_chunks())
    pixels = Pixels(expected.image, stored, sizes[0], sizes[1])
    for place in wanted:
        row = rows.slice(place, 1).to_pylist()[0]
        who = f"row of {row['key']!r}, copy {row['copy']}"
        size = (int(sizes[0][place]), int(sizes[1][place]), int(sizes[2][place]))
        stored_bytes = len(stored[place].as_buffer()) if stored[place].is_valid else 0
        if expected.image.encoding == "tensor" and stored_bytes != (
            right := int(np.prod(size, dtype=np.int64)) * expected.image.itemsize_bytes
        ):
            check.say(f"{who}: its image has {stored_bytes} bytes, and {' x '.join(map(str, size))} are {right}")
            continue
        try:
            image = pixels[place]
        except (StorageError, cv2.error):
            check.say(f"{who}: its {expected.image.encoding} of {stored_bytes} bytes does not decode")
            continue
        check.decoded += 1
        if image.shape != size:
            check.say(f"{who}: its image is {' x '.join(map(str, image.shape))}, and the row says {' x '.join(map(str, size))}")
        elif expected.has_stored_sums and row["copy"] == 0 and row["sums"] is not None and row["sums"] != _sums_of(image):
            check.say(f"{who}: its sums are not those of its pixels")


def _sums_of(image: np.ndarray[Any, np.dtype[Any]]) -> list[int]:
    """Return n, then Σ and Σ² of each channel; by numpy in 64 bits, so independently of what wrote them."""
    flat = image.reshape(-1, image.shape[2]).astype(np.int64)
    return [len(flat), *map(int, flat.sum(axis=0)), *map(int, (flat * flat).sum(axis=0))]
