"""What a worker works from: the work that all units of a build share, and the items of one unit."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from ray_prep.arrays import exact_array
from ray_prep.dataset.schema import table_schema
from ray_prep.errors import StorageError
from ray_prep.messages import Order
from ray_prep.recipe import Recipe
from ray_prep.sample import Item
from ray_prep.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ray_prep.messages import UnitRef
    from ray_prep.storage import Store

# A decoder at work on one picture for longer than this has met a picture made to keep it busy; the slowest of the real ones took 2 s.
ITEM_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Frozen:
    """What the first publish fixed, and only `--rebuild` changes.

    Args:
        columns: Names and Arrow types of the carried columns.
        classes: Class names; a label's id is its place here.
        split: The split rule: `by` and the ratios.
        mean: Constant of `normalize: dataset` per channel, in [0, 1]; empty where the recipe has none.
        std: As `mean`.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    split: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as the record keeps it."""
        return {
            "columns": dict(self.columns),
            "classes": list(self.classes),
            "split": dict(self.split),
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave."""
        return cls(data["columns"], tuple(data["classes"]), data["split"], tuple(data["mean"]), tuple(data["std"]))

    @property
    def class_ids(self) -> dict[str, int]:
        """A label's id: its place in the class list."""
        return {name: place for place, name in enumerate(self.classes)}

    def digest(self, class_ids: Mapping[str, int]) -> str:
        """Return 20 hex digits that change when a frozen value does; part of every unit's id.

        Args:
            class_ids: Of the classes that the unit's rows may have. Another class that is appended changes no row of it.
        """
        known = self.to_dict() | {"classes": dict(class_ids)}
        return sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Work:
    """What all units of a build share; small, plain, and sent to every worker.

    Args:
        recipe_data: The recipe as plain data.
        folder: Where `python` steps are looked for first.
        frozen: The frozen values in force.
        carried: The carried columns' Arrow schema, serialised.
        build_id: The build.
        made_with: Library versions and CPU level, which every worker must share; they go into each shard's footer.
        item_deadline_s: Seconds one picture may take.
    """

    recipe_data: Mapping[str, Any]
    folder: str
    frozen: Frozen
    carried: bytes
    build_id: str
    made_with: Mapping[str, str]
    item_deadline_s: float = ITEM_DEADLINE_S

    @property
    def conditions(self) -> dict[str, str]:
        """All that a unit's bytes depend on and its id does not tell; a receipt made under others is no receipt."""
        output = self.recipe.output
        return {**self.made_with, "compression": output.compression, "shard_mb": f"{output.shard_mb:g}", "shape": output.shape}

    def order(self) -> Order:
        """Return the work as an engine passes it on."""
        output, source = self.recipe.output, self.recipe.source
        plain = replace(self)  # without what was computed from it
        return Order(self.build_id, output.uri, source.storage_options, self.made_with, self.item_deadline_s, pickle.dumps(plain))

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe, with the constants of `normalize: dataset` filled in."""
        return self.written_recipe.freeze(self.frozen.mean, self.frozen.std) if self.frozen.mean else self.written_recipe

    @cached_property
    def written_recipe(self) -> Recipe:
        """The recipe as it was written: fingerprints are of this one, measured constants are no part of them."""
        return Recipe.parse(self.recipe_data, folder=self.folder)

    @cached_property
    def carried_schema(self) -> pa.Schema:
        """Types of the carried columns."""
        return pa.ipc.read_schema(pa.py_buffer(self.carried))

    def known(self, item: Item) -> Item:
        """Return an item without the columns that its source offers and the table has not, so that facts follow from what is stored."""
        names = self.carried_schema.names
        if item.columns.keys() <= set(names):
            return item
        return replace(item, columns={name: value for name, value in item.columns.items() if name in names})

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of a shard."""
        return table_schema(self.recipe.image_column, self.carried_schema)

    @cached_property
    def store(self) -> Store:
        """The table's folder."""
        return open_store(self.recipe.output.uri, self.recipe.source.storage_options)

    @cached_property
    def class_ids(self) -> dict[str, int]:
        """A label's id: its place in the class list."""
        return self.frozen.class_ids


def plan_schema(carried: pa.Schema) -> pa.Schema:
    """Return the columns of a plan: one row an item, one row group a unit."""
    fields = [
        pa.field("key", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("version", pa.string()),
        pa.field("label", pa.string()),
        pa.field("source_split", pa.string()),
    ]
    return pa.schema([*fields, *(pa.field(f"column:{known.name}", known.type) for known in carried)])


def items_to_batch(items: Iterable[Item], carried: pa.Schema) -> pa.RecordBatch:
    """Return items as rows of a plan."""
    items = list(items)
    schema = plan_schema(carried)
    columns: list[list[Any]] = [
        [item.key for item in items],
        [item.uri for item in items],
        [item.version for item in items],
        [item.label for item in items],
        [item.split for item in items],
        *([item.columns.get(name) for item in items] for name in carried.names),
    ]
    return pa.RecordBatch.from_arrays(
        [exact_array(values, known.type) for values, known in zip(columns, schema, strict=True)], schema=schema
    )


def batch_to_items(batch: pa.RecordBatch | pa.Table, carried: pa.Schema) -> list[Item]:
    """Return rows of a plan as items."""
    lists = [batch.column(place).to_pylist() for place in range(5 + len(carried))]
    names = carried.names
    if not names:
        return [Item(key, uri, version, label, split) for key, uri, version, label, split in zip(*lists, strict=True)]
    return [
        Item(key, uri, version, label, split, dict(zip(names, values, strict=True)))
        for key, uri, version, label, split, *values in zip(*lists, strict=True)
    ]


def read_items(work: Work, ref: UnitRef) -> list[Item]:
    """Read a unit's items from the plan.

    Raises:
        StorageError: The plan is not there any more.
    """
    try:
        with work.store.open_input(ref.plan_file) as file:
            table = pq.ParquetFile(file).read_row_group(ref.row_group)
    except FileNotFoundError:
        msg = f"{work.recipe.output.uri}/{ref.plan_file}: the build's plan is gone; was the folder cleaned while it ran?"
        raise StorageError(msg) from None
    return batch_to_items(table, work.carried_schema)
