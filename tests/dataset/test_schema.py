from __future__ import annotations

import json

import pyarrow as pa
import pytest

from ray_prep.dataset.schema import (
    ImageColumn,
    carried_name,
    carried_names,
    carried_type,
    delta_schema,
    image_column,
    table_schema,
)
from ray_prep.errors import RecipeError

FIXED = ImageColumn("tensor", (4, 6, 3), "float32", "rgb", None)
COLUMNS = [
    "key",
    "copy",
    "split",
    "image",
    "height",
    "width",
    "channels",
    "label",
    "label_id",
    "boxes",
    "mask",
    "keypoints",
    "source_uri",
    "source_version",
    "source_facts",
    "source_sha256",
    "source_bytes",
    "source_format",
    "source_height",
    "source_width",
    "source_orientation",
    "source_frames",
    "sums",
    "scores",
    "params",
]


def test_the_columns_are_the_contracts_in_its_order_and_nullable() -> None:
    """Every column is there from the first version on, nullable; the source's follow; `split` is in the log and not in the file."""
    schema = table_schema(FIXED, pa.schema([("sku", pa.string())]))
    assert schema.names == [name for name in COLUMNS if name != "split"] + ["sku"]
    assert delta_schema(schema).names == [*COLUMNS, "sku"]
    assert all(known.nullable for known in delta_schema(schema))


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (FIXED, pa.binary(4 * 6 * 3 * 4)),
        (ImageColumn("tensor", None, "uint8", "rgb", (0, 255)), pa.binary()),
        (ImageColumn("jpeg", (4, 6, 3), "uint8", "rgb", (0, 255)), pa.binary()),
    ],
)
def test_only_raw_images_of_one_shape_have_a_fixed_length(image: ImageColumn, kind: pa.DataType) -> None:
    """FIXED_LEN_BYTE_ARRAY where every value is equally long, binary elsewhere, and always binary for Delta."""
    schema = table_schema(image, pa.schema([]))
    assert schema.field("image").type == kind
    assert delta_schema(schema).field("image").type == pa.binary()


@pytest.mark.parametrize(
    "image",
    [
        FIXED,
        ImageColumn("tensor", None, "uint8", "gray", (0.0, 255.0)),
        ImageColumn("webp", (1, 1, 1), "uint8", "gray", (0.0, 255.0)),
        ImageColumn("tensor", (2, 2, 3), "float32", "rgb", (0.0, 0.5)),
    ],
)
def test_the_image_field_says_what_it_holds_and_is_read_back(image: ImageColumn) -> None:
    """What the metadata says is all a reader needs to know of the bytes, in the file's schema and in Delta's."""
    schema = table_schema(image, pa.schema([]))
    assert image_column(schema) == image
    assert image_column(delta_schema(schema)) == image


def test_the_metadata_is_json_with_null_for_what_varies() -> None:
    """Shape and range are JSON; null says that the recipe fixes none."""
    known = ImageColumn("tensor", None, "uint8", "rgb", (0.0, 255.0)).metadata
    assert (known["shape"], known["range"], known["dtype"], known["layout"], known["color"]) == ("null", "[0, 255]", "uint8", "HWC", "rgb")
    assert json.loads(FIXED.metadata["shape"]) == [4, 6, 3]


def test_a_schema_without_our_metadata_is_not_ours() -> None:
    """A foreign image column is not taken for one of ours."""
    assert image_column(pa.schema([("image", pa.binary())])) is None
    assert image_column(pa.schema([("key", pa.string())])) is None


def test_an_image_above_two_gib_is_refused() -> None:
    """Parquet keeps lengths in 32 bits: such a recipe is wrong before any work."""
    with pytest.raises(RecipeError, match="2 GiB"):
        table_schema(ImageColumn("tensor", (30000, 30000, 3), "float32", "rgb", None), pa.schema([]))


def test_names_that_are_taken_are_prefixed_whatever_their_case() -> None:
    """Collisions with our columns, with each other, and with the prefixed ones are told apart; DuckDB and Spark fold letter case."""
    assert carried_names(["sku", "label", "Height", "split", "SKU", "src_label", ""]) == [
        "sku",
        "src_label",
        "src_Height",
        "src_split",
        "src_SKU",
        "src_src_label",
        "src_",
    ]
    assert carried_name("image") == "src_image"
    assert carried_name("colour") == "colour"


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (pa.uint8(), pa.int16()),
        (pa.uint16(), pa.int32()),
        (pa.uint32(), pa.int64()),
        (pa.uint64(), pa.int64()),
        (pa.float16(), pa.float32()),
        (pa.timestamp("ns"), pa.timestamp("us", "UTC")),
        (pa.timestamp("s", "Europe/Berlin"), pa.timestamp("us", "UTC")),
        (pa.date64(), pa.date32()),
        (pa.large_string(), pa.string()),
        (pa.dictionary(pa.int32(), pa.string()), pa.string()),
        (pa.null(), pa.string()),
        (pa.bool_(), pa.bool_()),
        (pa.list_(pa.uint8()), pa.list_(pa.field("element", pa.int16()))),
        (pa.list_(pa.float32(), 4), pa.list_(pa.field("element", pa.float32()))),
        (pa.struct([("a", pa.large_list(pa.uint16()))]), pa.struct([("a", pa.list_(pa.field("element", pa.int32())))])),
    ],
)
def test_types_some_reader_cannot_read_become_the_next_that_all_can(given: pa.DataType, stored: pa.DataType) -> None:
    """delta-rs takes unsigned integers and reads them back wrong; nanoseconds and float16 break others."""
    assert carried_type(given, "x") == stored


def test_a_name_that_readers_cut_is_refused() -> None:
    """What is behind a NUL is lost on the way through Parquet; the table could not be read back."""
    for given in (pa.string(), pa.struct([("b\0c", pa.string())])):
        with pytest.raises(RecipeError, match="NUL in its name"):
            carried_type(given, "a\0b" if given == pa.string() else "a")


@pytest.mark.parametrize(
    ("given", "place"),
    [
        (pa.map_(pa.string(), pa.string()), "x"),
        (pa.decimal128(10, 2), "x"),
        (pa.duration("s"), "x"),
        (pa.time64("us"), "x"),
        (pa.list_(pa.struct([("size", pa.decimal128(3))])), r"x\[\].size"),
        (pa.fixed_shape_tensor(pa.uint8(), [2]), "x"),
        (pa.struct([]), "x"),
    ],
)
def test_types_without_such_a_neighbour_are_refused_by_name(given: pa.DataType, place: str) -> None:
    """The message names the column, down to the child."""
    with pytest.raises(RecipeError, match=f"column '{place}'"):
        table_schema(FIXED, pa.schema([("x", given)]))
