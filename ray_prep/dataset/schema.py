"""The columns of the table: their names, order and Arrow types, and what the `image` field says of itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa

from ray_prep.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

Encoding = Literal["tensor", "jpeg", "png", "webp"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)

# Parquet keeps the length of a value, and of the page around it, in signed 32 bits; a page holds one image at least, and its levels.
MAX_IMAGE_BYTES = 2**31 - 1 - 1024


def _list(values: pa.DataType) -> pa.DataType:
    """Return a list type whose field is named as Parquet and Delta name it."""
    return pa.list_(pa.field("element", values))


BOX = pa.struct(
    [
        *(pa.field(name, pa.float32()) for name in ("x_min", "y_min", "x_max", "y_max", "area")),
        pa.field("label", pa.string()),
        pa.field("label_id", pa.int32()),
        pa.field("is_crowd", pa.bool_()),
        pa.field("source_id", pa.string()),
        pa.field("rle", pa.string()),
    ]
)
KEYPOINT = pa.struct(
    [
        *(pa.field(name, pa.float32()) for name in ("x", "y")),
        pa.field("visibility", pa.int32()),
        pa.field("name", pa.string()),
        pa.field("box", pa.int32()),
    ]
)
SCORES = pa.struct([pa.field(name, pa.float32()) for name in ("sharpness", "brightness", "contrast")])

PARTITION = "split"
_BEFORE_IMAGE = (pa.field("key", pa.string()), pa.field("copy", pa.int32()))
_AFTER_IMAGE = (
    pa.field("height", pa.int32()),
    pa.field("width", pa.int32()),
    pa.field("channels", pa.int32()),
    pa.field("label", pa.string()),
    pa.field("label_id", pa.int32()),
    pa.field("boxes", _list(BOX)),
    pa.field("mask", pa.binary()),
    pa.field("keypoints", _list(KEYPOINT)),
    pa.field("source_uri", pa.string()),
    pa.field("source_version", pa.string()),
    pa.field("source_facts", pa.string()),
    pa.field("source_sha256", pa.string()),
    pa.field("source_bytes", pa.int64()),
    pa.field("source_format", pa.string()),
    pa.field("source_height", pa.int32()),
    pa.field("source_width", pa.int32()),
    pa.field("source_orientation", pa.int32()),
    pa.field("source_frames", pa.int32()),
    pa.field("sums", _list(pa.int64())),
    pa.field("scores", SCORES),
    pa.field("params", pa.string()),
)
# Every name that is ours, the partition included.
OWN_COLUMNS: tuple[str, ...] = (*(own.name for own in _BEFORE_IMAGE), PARTITION, "image", *(own.name for own in _AFTER_IMAGE))
OWN_INTEGERS = frozenset(own.name for own in (*_BEFORE_IMAGE, *_AFTER_IMAGE) if pa.types.is_integer(own.type))
_OWN_LOWER = frozenset(name.lower() for name in OWN_COLUMNS)


@dataclass(frozen=True, slots=True)
class ImageColumn:
    """What a recipe fixes of the stored image; nothing else is said of it in schemas.

    Args:
        encoding: `tensor` (raw C-order bytes), or the format of the encoded file.
        shape: (height, width, channels), pixels; None where it varies from row to row.
        dtype: `uint8` or `float32`.
        color: `rgb` or `gray`.
        value_range: Smallest and largest possible value; None where the recipe leaves it open.
    """

    encoding: Encoding
    shape: tuple[int, int, int] | None
    dtype: str
    color: Literal["rgb", "gray"]
    value_range: tuple[float, float] | None

    @property
    def is_fixed_tensor(self) -> bool:
        """Whether every value has the same length, so that it is stored as FIXED_LEN_BYTE_ARRAY."""
        return self.encoding == "tensor" and self.shape is not None

    @property
    def channels(self) -> int:
        """Channels of every image."""
        return self.shape[2] if self.shape else {"rgb": 3, "gray": 1}[self.color]

    @property
    def itemsize_bytes(self) -> int:
        """Bytes of one channel of one pixel."""
        return int(np.dtype(self.dtype).itemsize)

    @property
    def nbytes(self) -> int | None:
        """Bytes of one image as pixels; None where it varies."""
        return None if self.shape is None else int(np.prod(self.shape, dtype=np.int64)) * self.itemsize_bytes

    @property
    def type(self) -> pa.DataType:
        """Arrow type of the column in a shard.

        Raises:
            RecipeError: One image is more than Parquet can hold as one value.
        """
        if not self.is_fixed_tensor:
            return pa.binary()
        if (self.nbytes or 0) > MAX_IMAGE_BYTES:
            msg = f"output.image: an image of {self.shape} {self.dtype} has {self.nbytes} bytes; Parquet holds values below 2 GiB"
            raise RecipeError(msg)
        return pa.binary(self.nbytes)

    @property
    def metadata(self) -> dict[str, str]:
        """What stands at the `image` field, in shards and in the Delta schema; shape and range are JSON (`null`: it varies, it is open)."""
        extent = None if self.value_range is None else [_whole(bound) for bound in self.value_range]
        return {
            "color": self.color,
            "dtype": self.dtype,
            "encoding": self.encoding,
            "layout": "HWC",
            "range": json.dumps(extent),
            "shape": json.dumps(self.shape),
        }

    @property
    def field(self) -> pa.Field:
        """The column, as a shard has it."""
        return pa.field("image", self.type, metadata=self.metadata)


def _whole(bound: float) -> float:
    """Return 255 for 255.0, so that the metadata reads as people write it."""
    return int(bound) if float(bound).is_integer() else bound


def image_column(schema: pa.Schema) -> ImageColumn | None:
    """Read what the `image` field says of itself; None where it is not one of ours."""
    place = schema.get_field_index("image")
    raw: Mapping[bytes, bytes] = (schema.field(place).metadata if place >= 0 else None) or {}
    known = {name.decode(): value.decode() for name, value in raw.items()}
    if not {"shape", "dtype", "color", "range", "encoding"} <= known.keys():
        return None
    shape, extent = json.loads(known["shape"]), json.loads(known["range"])
    encoding: Any = known["encoding"]
    color: Any = known["color"]
    return ImageColumn(encoding, tuple(shape) if shape else None, known["dtype"], color, tuple(extent) if extent else None)


def table_schema(image: ImageColumn, carried: pa.Schema) -> pa.Schema:
    """Return the columns of a shard: ours in the table's order, then the source's; all nullable.

    `split` is not among them: it is in a shard's path and in the log.

    Args:
        image: What the recipe fixes of the image.
        carried: The source's other columns, by the source's names.

    Raises:
        RecipeError: A carried column has a type that some reader cannot read; or an image is above 2 GiB.
    """
    ours = [*_BEFORE_IMAGE, image.field, *_AFTER_IMAGE]
    theirs = [
        pa.field(name, carried_type(known.type, known.name)) for name, known in zip(carried_names(carried.names), carried, strict=True)
    ]
    return pa.schema([*ours, *theirs])


def delta_schema(schema: pa.Schema) -> pa.Schema:
    """Return the table's schema as Delta keeps it: `split` after `copy`, and `image` as plain binary, for Delta has no fixed length.

    Args:
        schema: What `table_schema` gave.
    """
    image = schema.field("image")
    fields = [pa.field("image", pa.binary(), metadata=image.metadata) if known.name == "image" else known for known in schema]
    fields.insert(schema.get_field_index("image"), pa.field(PARTITION, pa.string()))
    return pa.schema(fields)


def carried_names(names: Sequence[str]) -> list[str]:
    """Return what the source's columns are called in the table, in their order."""
    taken = set(_OWN_LOWER)
    made: list[str] = []
    for name in names:
        made.append(carried_name(name, taken))
        taken.add(made[-1].lower())
    return made


def carried_name(name: str, taken: Set[str] = _OWN_LOWER) -> str:
    """Return `name`, or, where it is taken, `name` with `src_` before it, as often as needed.

    Letter case does not tell names apart: DuckDB and Spark fold it. A column without a name (a saved pandas index) is `src_`.

    Args:
        name: The source's name.
        taken: Names in use, in lower case; those of our own columns unless told. With several columns use `carried_names`.
    """
    while not name or name.lower() in taken:
        name = f"src_{name}"
    return name


def carried_type(given: pa.DataType, place: str) -> pa.DataType:
    """Return the type a carried column is stored as: the nearest one that all readers read.

    Unsigned integers go to the next signed type (delta-rs accepts them and reads them back wrong), float16 to float32, all timestamps to
    microseconds in UTC (one without a zone is taken to be UTC), dictionaries to their values, large and view types to plain ones, a column
    of nulls to string.

    Args:
        given: The source's type.
        place: The column's name, for the message; children are added to it.

    Raises:
        RecipeError: There is no such type, or the name is one that Parquet's readers cut; the message names the column.
    """
    if "\0" in place:
        raise RecipeError(f"column {place!r} has a NUL in its name, at which readers of Parquet end it; call it otherwise, or leave it out")
    known = _SIMPLE.get(given)
    if known is not None:
        return known
    types = pa.types
    if types.is_timestamp(given):
        return pa.timestamp("us", "UTC")
    if types.is_fixed_size_binary(given):
        return pa.binary()
    if types.is_dictionary(given):
        return carried_type(given.value_type, place)
    if types.is_list(given) or types.is_large_list(given) or types.is_fixed_size_list(given) or types.is_list_view(given):
        return _list(carried_type(given.value_type, f"{place}[]"))
    if types.is_struct(given) and given.num_fields:
        children = [given.field(place_of) for place_of in range(given.num_fields)]
        return pa.struct([pa.field(child.name, carried_type(child.type, f"{place}.{child.name}")) for child in children])
    msg = (
        f"column {place!r} has the type {given}, which not every reader of the table reads; "
        "give it as bool, integer, float, string, binary, date, timestamp, or a list or struct of these, or leave it out"
    )
    raise RecipeError(msg)


_SIMPLE: dict[pa.DataType, pa.DataType] = {
    pa.null(): pa.string(),
    pa.bool_(): pa.bool_(),
    pa.int8(): pa.int8(),
    pa.int16(): pa.int16(),
    pa.int32(): pa.int32(),
    pa.int64(): pa.int64(),
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.int64(),
    pa.float16(): pa.float32(),
    pa.float32(): pa.float32(),
    pa.float64(): pa.float64(),
    pa.string(): pa.string(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.binary(): pa.binary(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.date32(): pa.date32(),
    pa.date64(): pa.date32(),
}
