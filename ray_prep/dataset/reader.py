"""Opening a dataset: one version of the table, or one split of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pyarrow as pa

from ray_prep.arguments import place, whole_number
from ray_prep.dataset.dataset import Dataset
from ray_prep.dataset.log import no_dataset
from ray_prep.dataset.schema import image_column
from ray_prep.dataset.sums import Stats
from ray_prep.dataset.table import open_table
from ray_prep.errors import RecipeError, did_you_mean
from ray_prep.storage import StorageOptions, absolute_uri

__all__ = ["Dataset", "Stats", "open"]


def open(
    uri: str | os.PathLike[str],
    version: int | None = None,
    split: str | None = None,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
) -> Dataset:
    """Open a dataset.

    Args:
        uri: The folder a recipe's `output.uri` named.
        version: None takes the newest.
        split: None takes all.
        storage_options: The recipe's five keys: endpoint, region, profile, anonymous, allow_http.

    Raises:
        RecipeError: There is no such version or split, or an argument is of the wrong kind.
        StorageError: There is no dataset there, or storage is unreachable.
    """
    options = _options(storage_options)
    uri = absolute_uri(place("uri", uri))
    if version is not None:
        version = whole_number("version", version)
    snapshot = open_table(uri, options, version)
    if snapshot is None:
        raise no_dataset(uri)
    image = image_column(snapshot.schema)
    if image is None:
        msg = f"{uri}: this table was not made by ray_prep: its image column says nothing of shape and dtype"
        raise RecipeError(msg)
    known = sorted({shard.split for shard in snapshot.shards})
    if split is not None and split not in known:
        there = f"there are {', '.join(known) or 'none'}; without one, all are taken"
        msg = f"{uri}: version {snapshot.version} has no split {split!r}{did_you_mean(str(split), known)}; {there}"
        raise RecipeError(msg)
    shards = tuple(shard for shard in snapshot.shards if split in {None, shard.split})
    at = snapshot.schema.get_field_index("image")
    schema = snapshot.schema.set(at, pa.field("image", pa.large_binary(), metadata=image.metadata))
    return Dataset(uri, snapshot.version, shards, schema, image, options, snapshot.record)


def _options(given: object) -> StorageOptions:
    if isinstance(given, StorageOptions):
        return given
    if given is None:
        return StorageOptions()
    if not isinstance(given, Mapping):
        msg = f"storage_options: should be a mapping of keys to values, such as {{'region': 'eu-west-1'}}, got {given!r}"
        raise RecipeError(msg)
    from ray_prep.validation import validate  # noqa: PLC0415  0.1 s with pydantic, and most datasets are opened without options

    known = {option.name for option in fields(StorageOptions)}
    # Validation takes what JSON has words for; of a key that is unknown the value is nothing to show, it may be a secret.
    plain = {str(key): value if key in known else None for key, value in given.items()}
    for key, value in plain.items():
        if not isinstance(value, str | bool | int | float | None):
            msg = f"storage_options.{key}: should be a text, or true or false, got {value!r}"
            raise RecipeError(msg)
    return validate(StorageOptions, plain, "storage_options")
