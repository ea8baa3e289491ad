"""The images of one row group as arrays: views of the stored bytes where they are raw, decoded one by one where they are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ray_prep.errors import RecipeError, StorageError

if TYPE_CHECKING:
    from ray_prep.dataset.schema import ImageColumn

    Image = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Pixels:
    """The images of some rows.

    Args:
        image: What is known of all of them.
        stored: Their bytes, as they are stored; no nulls.
        heights: Of each, pixels; None where all have one shape.
        widths: As heights.
        is_view: Whether the bytes are those of a mapped file, so that holding them costs no memory.
    """

    image: ImageColumn
    stored: pa.LargeBinaryArray
    heights: np.ndarray[Any, np.dtype[np.int32]] | None = None
    widths: np.ndarray[Any, np.dtype[np.int32]] | None = None
    is_view: bool = False

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.stored)

    def __getitem__(self, place: int) -> Image:
        """Return one image, shape (H, W, C); of a tensor column a read-only view of the stored bytes."""
        begin, end = self._ends[place], self._ends[place + 1]
        data = self._bytes[begin:end]
        if self.image.encoding != "tensor":
            return decode(data, self.image)
        shape = self.image.shape or (int(self.heights[place]), int(self.widths[place]), self.image.channels)  # type: ignore[index]  # made so
        return data.view(self.image.dtype).reshape(shape)

    @property
    def stacked(self) -> Image | None:
        """All of them as one read-only view of the stored bytes, shape (N, H, W, C); None where they are not raw or differ in shape."""
        if not self.image.is_fixed_tensor:
            return None
        return self._bytes[self._ends[0] : self._ends[-1]].view(self.image.dtype).reshape(len(self), *(self.image.shape or ()))

    @property
    def _ends(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        start = self.stored.offset
        return np.frombuffer(self.stored.buffers()[1], np.int64)[start : start + len(self.stored) + 1]

    @property
    def _bytes(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        data = self.stored.buffers()[2]
        return np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)


def large_binary(array: pa.Array) -> pa.LargeBinaryArray:
    """Return a binary array with 64-bit offsets over the same bytes; no value is copied."""
    if not pa.types.is_fixed_size_binary(array.type):
        return array.cast(pa.large_binary())
    width = array.type.byte_width
    return with_offsets(array.buffers()[1].slice(array.offset * width, len(array) * width), len(array), width)


def with_offsets(data: pa.Buffer, rows: int, row_bytes: int) -> pa.LargeBinaryArray:
    """Return an array over values of one length that lie one after another.

    Args:
        data: The values.
        rows: How many.
        row_bytes: Bytes of one.
    """
    ends = np.arange(rows + 1, dtype=np.int64) * row_bytes
    return pa.Array.from_buffers(pa.large_binary(), rows, [None, pa.py_buffer(ends), data])


def tensors(table: pa.Table, image: ImageColumn) -> pa.Table:
    """Return a table whose raw images are `arrow.fixed_shape_tensor` values over the same bytes.

    Shape: bytes -> (H, W, C).   Dtype: kept.   Range: kept.   Random: no.

    Raises:
        RecipeError: The images are encoded, or differ in shape.
    """
    if not image.is_fixed_tensor:
        why = "differ in shape" if image.encoding == "tensor" else f"are {image.encoding} files"
        msg = f"the images {why} and cannot be one tensor; batches() and to_torch() hand out arrays"
        raise RecipeError(msg)
    numbers = pa.from_numpy_dtype(image.dtype)
    kind = pa.fixed_shape_tensor(numbers, list(image.shape or ()))
    place = table.schema.get_field_index("image")
    chunks = [_tensor(chunk, kind, image) for chunk in table.column(place).chunks]
    field = pa.field("image", kind, metadata=table.schema.field(place).metadata)
    return table.set_column(place, field, pa.chunked_array(chunks, kind))


def _tensor(chunk: pa.LargeBinaryArray, kind: pa.DataType, image: ImageColumn) -> pa.Array:
    values = np.empty(0, image.dtype) if not len(chunk) else Pixels(image, chunk).stacked
    # A page begins at any byte, and Arrow wants floats where the processor does.
    flat = np.require(values, requirements="A").reshape(-1)
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(pa.array(flat), type=kind.storage_type))


def decode(data: np.ndarray[Any, np.dtype[np.uint8]], image: ImageColumn) -> Image:
    """Decode one stored JPEG, PNG or WebP; what ray_prep stores is upright and 8 bits a channel.

    Shape: bytes -> (H, W, C).   Dtype: uint8.   Range: [0, 255].   Random: no.

    Raises:
        StorageError: The bytes are damaged.
    """
    import cv2  # noqa: PLC0415  0.1 s that readers of tensors need not wait for

    flags = (cv2.IMREAD_COLOR_RGB if image.channels == 3 else cv2.IMREAD_GRAYSCALE) | cv2.IMREAD_IGNORE_ORIENTATION
    made: Image | None = cv2.imdecode(data, flags)
    if made is None:
        msg = f"a stored {image.encoding} of {len(data)} bytes does not decode: the shard is damaged; `ray-prep verify` finds which"
        raise StorageError(msg)
    return made if made.ndim == 3 else made[:, :, None]
