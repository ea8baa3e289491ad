from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_prep.dataset.page import DATA_PAGE, PLAIN, pixels_start, read_page

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

ROW_BYTES = 48


def parquet(values: list[bytes | None], *, nullable: bool = True, **settings: Any) -> tuple[memoryview, Any]:
    """Return a file with one fixed-length column, and the metadata of its first chunk."""
    schema = pa.schema([pa.field("image", pa.binary(ROW_BYTES), nullable)])
    sink = io.BytesIO()
    pq.write_table(pa.table([pa.array(values, pa.binary(ROW_BYTES))], schema=schema), sink, **({"use_dictionary": False} | settings))
    data = sink.getvalue()
    return memoryview(data), pq.read_metadata(io.BytesIO(data)).row_group(0).column(0)


def images(count: int) -> list[bytes | None]:
    """Return so many different values."""
    return [bytes(np.random.default_rng(number).integers(0, 256, ROW_BYTES, np.uint8)) for number in range(count)]


@pytest.mark.parametrize("has_statistics", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 7, 8, 300, 5000])
def test_raw_values_are_found_where_they_lie(rows: int, has_statistics: bool) -> None:  # noqa: FBT001  a parameter
    """One uncompressed PLAIN page: the values lie one after another from the offset on, whatever else the header holds."""
    values = images(rows)
    data, chunk = parquet(values, compression="NONE", data_page_size=2**30, write_statistics=has_statistics)
    start = pixels_start(data, chunk, rows, ROW_BYTES)
    assert start is not None
    assert bytes(data[start : start + rows * ROW_BYTES]) == b"".join(value or b"" for value in values)


def test_a_header_tells_kind_encoding_and_count() -> None:
    """The header is read as parquet.thrift defines it."""
    data, chunk = parquet(images(9), compression="NONE")
    page = read_page(data, chunk.data_page_offset)
    assert (page.kind, page.encoding, page.values) == (DATA_PAGE, PLAIN, 9)
    assert page.end == chunk.data_page_offset + chunk.total_compressed_size


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        (images(9), {"compression": "LZ4"}),
        (images(9), {"compression": "NONE", "use_dictionary": True}),
        (images(3000), {"compression": "NONE", "data_page_size": 1000, "write_batch_size": 10}),
        ([*images(8), None], {"compression": "NONE"}),
        (images(9), {"compression": "NONE", "data_page_version": "2.0"}),
        (images(9), {"compression": "NONE", "use_dictionary": False, "column_encoding": {"image": "BYTE_STREAM_SPLIT"}}),
    ],
    ids=["compressed", "dictionary", "many pages", "nulls", "version 2", "byte stream split"],
)
def test_anything_else_is_left_to_parquets_own_reader(values: list[bytes | None], settings: dict[str, Any]) -> None:
    """Bytes are never taken for pixels unless they are: such a chunk has no offset."""
    data, chunk = parquet(values, **settings)
    assert pixels_start(data, chunk, len(values), ROW_BYTES) is None


def test_a_column_that_cannot_be_null_is_left_too() -> None:
    """ray_prep writes every column nullable; what has no levels is not ours."""
    data, chunk = parquet(images(9), nullable=False, compression="NONE")
    assert pixels_start(data, chunk, 9, ROW_BYTES) is None


def test_a_white_image_is_no_endless_number() -> None:
    """100 MB of 0xff are refused at once."""
    with pytest.raises(ValueError, match="that wide"):
        read_page(memoryview(b"\x15" + b"\xff" * 100_000_000), 0)


@pytest.mark.parametrize("start", [0, 1, 2, 50, 10**9])
def test_what_is_no_header_is_refused(start: int) -> None:
    """A damaged file raises ValueError, never anything else."""
    data, _ = parquet([b"\xff" * ROW_BYTES] * 9, compression="NONE")
    with pytest.raises(ValueError, match=r"no .*page"):
        read_page(data, start)


NOISE = [bytes(np.random.default_rng(seed).integers(0, 256, 200, np.uint8)) for seed in range(50)]


@pytest.mark.parametrize("noise", [*NOISE, b"\x1c" * 9999])
def test_noise_is_read_or_refused(noise: bytes) -> None:
    """Whatever stands there, the outcome is a page or a ValueError, and in bounded time."""
    try:
        page = read_page(memoryview(noise), 0)
    except ValueError:
        return
    assert isinstance(page.values, int)
