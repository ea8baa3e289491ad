"""A dataset in the hands of other libraries: Polars, Hugging Face datasets, Ray Data. Each is imported where it is asked for."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ray_prep.dataset.pixels import Pixels, tensors, with_offsets
from ray_prep.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ray_prep.dataset.reader import Dataset
    from ray_prep.dataset.schema import ImageColumn


def needs(module: str, extra: str) -> None:
    """Refuse where a library is not installed.

    Raises:
        RecipeError: So it is; the message says how to get it.
    """
    if find_spec(module) is None:
        msg = f"{module} is not installed: pip install 'ray_prep[{extra}]'"
        raise RecipeError(msg)


def to_polars(dataset: Dataset, columns: Sequence[str] | None) -> Any:
    """See `Dataset.to_polars`."""
    needs("polars", "polars")
    import polars as pl  # noqa: PLC0415  an extra

    return pl.from_arrow(dataset.to_arrow(columns=columns), rechunk=False)


def to_hf(dataset: Dataset, columns: Sequence[str] | None) -> Any:
    """See `Dataset.to_hf`."""
    needs("datasets", "hf")
    import datasets  # noqa: PLC0415  an extra

    names = dataset.check_columns(columns)
    table = dataset.to_arrow(columns=[*names, *_sizes(dataset.image, names)])
    image = dataset.image
    if "image" in names and image.encoding != "tensor":
        table = _as_files(table)
    elif "image" in names and not image.shape:
        table = _with_sizes(table)
    table = table.select(names)
    features = datasets.Features.from_arrow_schema(table.schema.remove_metadata())
    if "image" in names and image.encoding != "tensor":
        # WebP knows no grey: without the mode its pictures would come as three equal channels.
        features["image"] = datasets.Image(mode="L" if image.channels == 1 else None)
    # Without a name of its own the dataset would be known by a hash over all its pixels.
    name = f"{dataset.uri}@{dataset.version}:{','.join(dataset.splits)}:{','.join(names)}"
    made = datasets.Dataset(
        datasets.table.InMemoryTable(table.cast(features.arrow_schema)),
        info=datasets.DatasetInfo(features=features),
        fingerprint=datasets.fingerprint.Hasher.hash(name),
    )
    return made.with_transform(partial(_rows_as_arrays, image)) if "image" in names and image.encoding == "tensor" else made


def _as_files(table: pa.Table) -> pa.Table:
    """Return the table with images as the structs that Hugging Face's `Image` feature stores; no byte is copied."""
    place = table.schema.get_field_index("image")
    kind = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
    chunks = [
        pa.StructArray.from_arrays([chunk.cast(pa.binary()), pa.nulls(len(chunk), pa.string())], fields=list(kind))
        for chunk in table.column(place).chunks
    ]
    return table.set_column(place, pa.field("image", kind), pa.chunked_array(chunks, kind))


def _sizes(image: ImageColumn, names: Sequence[str]) -> list[str]:
    """Return the columns to be read with images that differ in shape, as far as they were not asked for."""
    needed = ["height", "width"] if "image" in names and not image.shape else []
    return [name for name in needed if name not in names]


def _with_sizes(table: pa.Table) -> pa.Table:
    """Return the table with each raw image beside its own size: it stays an image in whatever selection of columns. No byte is copied."""
    place = table.schema.get_field_index("image")
    kind = pa.struct([pa.field("bytes", pa.large_binary()), pa.field("height", pa.int32()), pa.field("width", pa.int32())])
    chunks = [
        pa.StructArray.from_arrays([batch.column("image"), batch.column("height"), batch.column("width")], fields=list(kind))
        for batch in table.to_batches()
    ]
    return table.set_column(place, pa.field("image", kind), pa.chunked_array(chunks, kind))


def _rows_as_arrays(image: ImageColumn, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Turn what is stored of the images of some rows into arrays (H, W, C)."""
    if "image" not in rows:
        return rows
    if image.shape:
        made = [np.frombuffer(data, image.dtype).reshape(image.shape) for data in rows["image"]]
    else:
        made = [np.frombuffer(one["bytes"], image.dtype).reshape(one["height"], one["width"], image.channels) for one in rows["image"]]
    return {**rows, "image": made}


def to_ray(dataset: Dataset, columns: Sequence[str] | None) -> Any:
    """See `Dataset.to_ray`."""
    import ray.data  # noqa: PLC0415  takes a second, and nothing of it starts a cluster before the dataset is used

    names = dataset.check_columns(columns)
    if not dataset.shards:
        return ray.data.from_arrow(dataset.to_arrow(columns=names))
    if not names:
        # Of our blocks without columns Ray 2.60 counts no rows; of its own it does.
        return ray.data.range(len(dataset)).select_columns([])
    numbers = ray.data.range(len(dataset.shards), override_num_blocks=len(dataset.shards))
    return numbers.map_batches(partial(_ray_blocks, dataset, names), batch_size=1, batch_format="pyarrow", zero_copy_batch=True)


def _ray_blocks(dataset: Dataset, names: list[str], numbers: pa.Table) -> Iterator[pa.Table]:
    """Read some shards in a Ray worker: one block a row group."""
    for number in numbers.column("id").to_pylist():
        part = replace(dataset, shards=(dataset.shards[number],))
        for table in part.tables([*names, *_sizes(dataset.image, names)]):
            yield (_with_tensors(table, dataset.image) if "image" in names else table).select(names)


def _with_tensors(table: pa.Table, image: ImageColumn) -> pa.Table:
    """Return the table with images as tensors of Ray's kind: all of one shape, or each of its own."""
    if image.is_fixed_tensor:
        return tensors(table, image)
    from ray.data.extensions import ArrowVariableShapedTensorArray  # noqa: PLC0415  see to_ray

    place = table.schema.get_field_index("image")
    stored = table.column(place).combine_chunks()
    sizes = (None, None) if image.shape else (table.column("height").to_numpy(), table.column("width").to_numpy())
    pixels = Pixels(image, stored, *sizes)
    made = [pixels[number] for number in range(len(pixels))]
    if not image.shape:
        return table.set_column(place, "image", ArrowVariableShapedTensorArray.from_numpy(made))
    decoded = with_offsets(pa.py_buffer(np.stack(made)), len(made), image.nbytes or 0)
    return tensors(table.set_column(place, "image", decoded), replace(image, encoding="tensor"))
