"""What a build must do: the values it holds on to, its units, and which of them are done already."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ray_prep.cut import cut, item_bytes, typical_items, unit_id
from ray_prep.dataset.schema import carried_names, carried_type
from ray_prep.errors import RecipeError
from ray_prep.messages import EVERY, UnitRef
from ray_prep.receipt import WORK_FOLDER, Receipt, receipt_path
from ray_prep.sample import Item
from ray_prep.sources.columns import TYPES, type_name
from ray_prep.sources.parts import ROLES
from ray_prep.work import Frozen, items_to_batch, plan_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence, Set

    from ray_prep.dataset.shard import Shard
    from ray_prep.duplicates import Holder
    from ray_prep.messages import UnitKind
    from ray_prep.recipe import Recipe
    from ray_prep.sample import Item
    from ray_prep.storage import Store
    from ray_prep.survey import Survey

# A plan's footer is read for every unit of the file, and grows with its row groups.
_UNITS_A_FILE = 64


class Carried(NamedTuple):
    """The carried columns of the table, and how they differ from the source's.

    Args:
        schema: Their names in the source, with the types in the table.
        late: Columns of the source, or fields inside, that came too late to be among them.
        gone: Columns that the source has no more: they are null in what is made from now on.
    """

    schema: pa.Schema
    late: list[str]
    gone: list[str]


def carried_columns(recipe: Recipe, frozen: Frozen | None, table_schema: pa.Schema | None) -> Carried:
    """Return the carried columns of the table.

    The column that tells splits is carried where it is not the split itself.

    Args:
        recipe: Whose source is asked, without reading an image.
        frozen: What the first publish fixed; None for a first build.
        table_schema: The published table's columns; None for a first build.

    Raises:
        RecipeError: A column has a type that no reader reads, or the recipe gives it another one than the table has.
    """
    offered = recipe.source.carried_columns(tuple(frozen.columns) if frozen else ())
    if recipe.split.by == "source":
        told_by = recipe.source.split_column()
        offered = pa.schema([known for known in offered if known.name != told_by])
    if frozen is None or table_schema is None:
        fields = [pa.field(known.name, carried_type(known.type, known.name)) for known in offered]
        return Carried(pa.schema(fields), [], [])
    names = list(frozen.columns)
    kept = pa.schema([(name, table_schema.field(stored).type) for name, stored in zip(names, carried_names(names), strict=True)])
    _check_types(recipe, kept)
    return Carried(kept, [late for known in offered for late in _late(known, kept)], [name for name in names if name not in offered.names])


def _check_types(recipe: Recipe, kept: pa.Schema) -> None:
    declared = getattr(recipe.source, "columns", {})
    for known in kept:
        asked = TYPES[declared[known.name]] if known.name in declared and known.name not in ROLES else known.type
        if asked != known.type:
            types = f"{type_name(known.type)}, and the recipe says {type_name(asked)}"
            place, way = f"source.columns.{known.name}", "take the old type back, or start over with --rebuild"
            msg = f"{place}: the dataset was published with {types}; {way}"
            raise RecipeError(msg)


def _late(offered: pa.Field, kept: pa.Schema | pa.StructType, place: str = "") -> list[str]:
    """Return what came too late of a column that the source offers: all of it, or fields inside."""
    position = kept.get_field_index(offered.name)
    if position < 0:
        return [f"{place}{offered.name}"]
    stored, kind = kept.field(position).type, offered.type
    place = f"{place}{offered.name}."
    while pa.types.is_list(stored) and pa.types.is_list(kind):
        stored, kind = stored.value_type, kind.value_type
    return (
        [late for inner in kind for late in _late(inner, stored, place)] if pa.types.is_struct(stored) and pa.types.is_struct(kind) else []
    )


def freeze(recipe: Recipe, frozen: Frozen | None, carried: pa.Schema, labels: Set[str], class_names: Sequence[str] = ()) -> Frozen:
    """Return the values in force: those of the first publish, with classes that are new appended.

    Args:
        recipe: What is asked for now.
        frozen: What the first publish fixed; None for a first build.
        carried: Types of the carried columns.
        labels: Every label on offer.
        class_names: Classes in the source's own order; they come before labels that it does not name.

    Raises:
        RecipeError: The recipe contradicts a frozen value, or an item has a label that `classes` lacks.
    """
    rule: dict[str, Any] = {"by": recipe.split.by, "ratios": dict(recipe.split.ratios)}
    columns = {known.name: str(known.type) for known in carried}
    if frozen is None:
        return Frozen(columns, _classes(recipe, (), labels, class_names), rule)
    # The order of shares is part of the rule: hashes are held against their running sum.
    if (frozen.split["by"], list(frozen.split["ratios"].items())) != (rule["by"], list(rule["ratios"].items())):
        msg = (
            f"split: the dataset was published with {_rule(frozen.split)}, and the recipe has {_rule(rule)}; "
            "an image must not move between splits: take the old rule back, or start over with --rebuild"
        )
        raise RecipeError(msg)
    if frozen.mean and not recipe.needs_constants:
        # Other pixels: the fingerprint says so too, but then the old constants would stand in the record for nothing.
        frozen = replace(frozen, mean=(), std=())
    return replace(frozen, classes=_classes(recipe, frozen.classes, labels, class_names))


def _classes(recipe: Recipe, frozen: Sequence[str], labels: Set[str], class_names: Sequence[str]) -> tuple[str, ...]:
    if recipe.classes is not None:
        if recipe.classes[: len(frozen)] != tuple(frozen):
            msg = (
                f"classes: the dataset was published with {', '.join(frozen)} in this order, and label ids follow from it; "
                "append new ones, or start over with --rebuild"
            )
            raise RecipeError(msg)
        if unknown := sorted({*labels, *class_names} - set(recipe.classes)):
            msg = f"classes: the source has {', '.join(map(repr, unknown[:5]))}, which the list lacks; add or exclude them"
            raise RecipeError(msg)
        return recipe.classes
    known = tuple(dict.fromkeys((*frozen, *class_names)))
    return (*known, *class_order(labels - set(known)))


def class_order(labels: Set[str]) -> list[str]:
    """Return class names in code-point order, or by number where all are whole numbers."""
    if all(label.removeprefix("-").isdecimal() and label.isascii() for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)


def _rule(rule: Mapping[str, Any]) -> str:
    shares = ", ".join(f"{name}: {share:g}" for name, share in rule["ratios"].items())
    return f"{{{shares}{', ' if shares else ''}by: {rule['by']}}}"


def check_image(recipe: Recipe, published: Mapping[str, Any]) -> None:
    """Refuse a recipe whose stored image is another than the published one.

    Args:
        recipe: What is asked for now.
        published: The published `image` field's metadata.

    Raises:
        RecipeError: They differ; the message names what does.
    """
    asked = recipe.image_column.metadata
    for name in asked.keys() | published.keys():
        if asked.get(name) != published.get(name):
            msg = (
                f"output: the dataset's images have {name} {published.get(name)}, and the recipe makes {name} {asked.get(name)}; "
                "take the old value back, write to another place, or start over with --rebuild"
            )
            raise RecipeError(msg)


@dataclass(frozen=True)
class Unit:
    """A unit as it was cut, before anybody knows whether it is done.

    Args:
        unit_id: Its id.
        split: Its split.
        items: Its items in order.
    """

    unit_id: str
    split: str
    items: tuple[Item, ...]


def units(recipe: Recipe, frozen: Frozen, found: Survey, kind: UnitKind, splits: Sequence[str]) -> Iterator[Unit]:
    """Cut a survey's items into units.

    Args:
        recipe: What is made of them.
        frozen: The values in force.
        found: The items.
        kind: What the units do.
        splits: Which splits' items.
    """
    frozen_ids = class_ids = frozen.class_ids
    for split in splits:
        typical = 1 if split == EVERY else typical_items(found.counts[split], item_bytes(recipe, split), recipe.output.shard_mb)
        fingerprint = recipe.whole_fingerprint if split == EVERY else recipe.fingerprint(split)
        for items in cut((item for item in found.items.items() if item.split == split), typical):
            if not recipe.source.is_container:  # what labels a container holds is known when it is read
                class_ids = {label: frozen_ids[label] for label in sorted({item.label for item in items if item.label is not None})}
            yield Unit(unit_id(kind, split, fingerprint, frozen.digest(class_ids), items), split, tuple(items))


def copy_units(recipe: Recipe, frozen: Frozen, shards: Mapping[str, Shard], losers: Mapping[str, Sequence[Holder]]) -> Iterator[Unit]:
    """Return a unit for each shard that is to be copied without some images.

    Args:
        recipe: Of the build.
        frozen: The values in force.
        shards: The shards by path.
        losers: The images to leave out, by shard.
    """
    for path, holders in sorted(losers.items()):
        split = shards[path].split
        items = tuple(Item(holder.key, path, holder.version) for holder in sorted(holders, key=lambda holder: (holder.key, holder.uri)))
        yield Unit(unit_id("copy", split, recipe.fingerprint(split), frozen.digest({}), items), split, items)


class PlanFiles:
    """Writes units into plan files below the table's folder: one row group a unit, so that a worker reads its own and no more.

    Args:
        store: The table's folder.
        build_id: The build.
        carried: Types of the carried columns.
    """

    def __init__(self, store: Store, build_id: str, carried: pa.Schema) -> None:
        self._store = store
        self._prefix = f"{WORK_FOLDER}/plan-{build_id}"
        self._carried = carried
        self._pending: list[tuple[UnitKind, Unit, int]] = []
        self._files: list[str] = []

    def add(self, kind: UnitKind, unit: Unit, attempts: int = 0) -> list[UnitRef]:
        """Take a unit that is to be done; return references once their file is written."""
        self._pending.append((kind, unit, attempts))
        return self.flush() if len(self._pending) >= _UNITS_A_FILE else []

    def flush(self) -> list[UnitRef]:
        """Write the units that are waiting and return references to them."""
        pending, self._pending = self._pending, []
        if not pending:
            return []
        path = f"{self._prefix}-{len(self._files):06}.parquet"
        with tempfile.TemporaryDirectory(prefix="ray_prep-") as folder:
            local = Path(folder) / "plan.parquet"
            with pq.ParquetWriter(local, plan_schema(self._carried), compression="zstd") as writer:
                for _, unit, _ in pending:
                    writer.write_batch(items_to_batch(unit.items, self._carried), row_group_size=len(unit.items))
            self._store.put_file(path, str(local))
        self._files.append(path)
        return [
            UnitRef(unit.unit_id, kind, unit.split, path, place, len(unit.items), attempts)
            for place, (kind, unit, attempts) in enumerate(pending)
        ]

    def remove(self) -> None:
        """Take the plan away after its build has published."""
        for path in self._files:
            self._store.delete(path)


class Receipts:
    """The receipts that earlier builds left, finished or not.

    Args:
        store: The table's folder.
        live: Paths of the published version's shards.
        conditions: What bytes of this build depend on beside a unit's id.
    """

    def __init__(self, store: Store, live: Set[str], conditions: Mapping[str, str]) -> None:
        self._store = store
        self._live = live
        self._conditions = conditions
        self._left = {entry.path for entry in store.list(WORK_FOLDER) if entry.path.endswith(".json")}

    def find(self, unit_id: str) -> Receipt | None:
        """Return a unit's receipt; None where there is none that still holds.

        It holds while its shards are published; or, unpublished, while they lie there whole and were made under the same conditions.
        """
        path = receipt_path(unit_id)
        if path not in self._left:
            return None
        receipt = Receipt.from_json(self._store.get(path))
        if receipt is None or receipt.unit_id != unit_id:
            return None
        if all(made.shard.path in self._live for made in receipt.shards) and receipt.shards:
            return receipt
        if dict(receipt.conditions) != dict(self._conditions):
            return None
        if any(self._store.size(made.shard.path) != made.shard.bytes for made in receipt.shards):
            return None
        return receipt


def attempts_to_add(receipt: Receipt, *, lists_files: bool, retry_rejected: bool) -> int | None:
    """Return the attempts so far of a finished unit that is to run again for its rejected items; None if it is not.

    Args:
        receipt: What the unit left.
        lists_files: As for `Rejection.is_passing`.
        retry_rejected: Whether every rejected item is to be tried again, not only what may have passed.
    """
    troubled = [rejection for rejection in receipt.rejections if retry_rejected or rejection.is_retried(lists_files=lists_files)]
    return max((rejection.attempts for rejection in troubled), default=None)
