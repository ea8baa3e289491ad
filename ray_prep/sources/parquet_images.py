"""What the columns of a Parquet file of images are: which one holds the images, which the labels, and what the classes are called."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from ray_prep.errors import LimitError, RecipeError
from ray_prep.sources.columns import TYPES, UNFIT, merge, table_type
from ray_prep.sources.parts import ROLES, lost_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ray_prep.sources.parts import Lost

# Taken where `columns` does not say: the first of these that is there and holds bytes.
_IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes")


class Roles(NamedTuple):
    """How a file is read.

    Args:
        image: The column with the encoded images: bytes, or a struct of `bytes` and `path`.
        label: The column of classes; None where there is none.
        split: The column of splits.
        id: The column of keys.
        names: Classes by number, where the file says (Hugging Face's ClassLabel); else empty.
        carried: The other columns, with the types they have in the table, and the column of splits, as text.
        lost: Columns that the recipe gives types to and this file does not have.
    """

    image: str
    label: str | None
    split: str | None
    id: str | None
    names: tuple[str, ...]
    carried: pa.Schema
    lost: Lost

    @property
    def columns(self) -> list[str]:
        """All columns that are read."""
        return [*dict.fromkeys(name for name in (self.image, self.label, self.split, self.id, *self.carried.names) if name is not None)]


def roles_of(uri: str, schema: pa.Schema, declared: Mapping[str, str]) -> Roles:
    """Decide what each column of a file is.

    Args:
        uri: The file, for messages.
        schema: Its columns and their metadata.
        declared: `source.columns`.

    Raises:
        RecipeError: A column that is asked for is not there, or not of a kind that can play its part; or none holds images.
    """
    natural = dict(zip(schema.names, schema.types, strict=True))
    if len(natural) < len(schema.names):
        twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
        msg = f"{uri}: has two columns {twice[0]!r}"
        raise RecipeError(msg)
    lost = lost_columns(uri, declared, natural)
    image = declared.get("image") or _image_among(uri, natural)
    if not _holds_images(natural[image]):
        msg = f"source.columns.image: column {image!r} of {uri} is {natural[image]}, not bytes or a struct of bytes and path"
        raise RecipeError(msg)
    found: dict[str, str | None] = {}
    for role in ("label", "split", "id"):
        found[role] = declared.get(role) or (role if role in natural and role != image else None)
        column_name = found[role]
        if column_name is not None and not _is_told_as_text(natural[column_name]):
            msg = (
                f"source.columns.{role}: column {column_name!r} of {uri} is {natural[column_name]}, and a {role} is a text or a number; "
                "name another column"
            )
            raise RecipeError(msg)
    kinds = {
        name: TYPES[declared[name]] if name in declared and name not in ROLES else table_type(kind) or pa.string()
        for name, kind in natural.items()
    }
    if found["split"] is not None:
        kinds[found["split"]] = pa.string()
    carried = [(name, kind) for name, kind in kinds.items() if name not in {image, found["label"], found["id"]}]
    names = _class_label_names(schema.metadata, found["label"])
    return Roles(image, found["label"], found["split"], found["id"], names, pa.schema(carried), lost)


def merged(files: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
    """Return the carried columns of all files: each in its first file's place, with a type that holds the values of all.

    Args:
        files: Uri and carried columns of each.

    Raises:
        RecipeError: A column has types in two files that nothing holds both of.
    """
    kinds: dict[str, pa.DataType] = {}
    told_by: dict[str, str] = {}
    for uri, schema in files:
        for known in schema:
            first = kinds.setdefault(known.name, known.type)
            told_by.setdefault(known.name, uri)
            if first == known.type:
                continue
            try:
                kinds[known.name] = merge(first, known.type)
            except UNFIT as error:
                msg = (
                    f"{uri}: column {known.name!r} is {known.type}, and in {told_by[known.name]} it is {first}; "
                    f"give it one type in source.columns ({{{known.name}: string}}), or leave one of the files out"
                )
                raise RecipeError(msg) from error
    return pa.schema(list(kinds.items()))


def label_of(value: object, names: Sequence[str]) -> tuple[str | None, int | None]:
    """Return class and number that a value of the label column tells; -1 is a test set's way to tell none.

    Args:
        value: Of the label column.
        names: Classes by number; empty where numbers have no names.

    Raises:
        LimitError: `annotation_invalid`: it names no class.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if value == -1:
            return None, None
        if value < 0 or value >= (len(names) or 1 << 31):
            known = f"0 to {len(names) - 1}" if names else "0 to 2147483647"
            raise LimitError("annotation_invalid", f"the label is {value}, and numbers of classes go from {known}")
        return (names[value], None) if names else (str(value), value)
    return text_of(value, "label"), None


def text_of(value: object, what: str) -> str | None:
    """Return a value that plays a part as text: whole numbers without a point, true and false, None for empty.

    Raises:
        LimitError: `annotation_invalid`: bytes that are no text.
    """
    if value is None or value in ("", b"") or value != value:
        return None
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise LimitError("annotation_invalid", f"the {what} is no text in UTF-8") from error
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _image_among(uri: str, natural: Mapping[str, pa.DataType]) -> str:
    candidates = [name for name, kind in natural.items() if _holds_images(kind)]
    named = [name for name in _IMAGE_NAMES if name in candidates]
    if named:
        return named[0]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        msg = f"{uri}: several columns hold bytes: {', '.join(candidates)}; name the one with the images in source.columns.image"
        raise RecipeError(msg)
    msg = (
        f"{uri}: no column holds images as bytes; it has {', '.join(f'{name} ({kind})' for name, kind in natural.items())}. "
        "A table that names images by uri is `layout: manifest`"
    )
    raise RecipeError(msg)


def _holds_images(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _is_bytes(kind.field(place).type)
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_told_as_text(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return not pa.types.is_nested(kind)


def _class_label_names(metadata: Mapping[bytes, bytes] | None, label: str | None) -> tuple[str, ...]:
    """Return the names a ClassLabel has in the metadata that Hugging Face's datasets writes (`info.features`)."""
    if label is None or not metadata:
        return ()
    try:
        feature = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"][label]
        names = feature["names"] if feature["_type"] == "ClassLabel" else ()
        return tuple(str(name) for name in names)
    except (KeyError, TypeError, ValueError):
        return ()
