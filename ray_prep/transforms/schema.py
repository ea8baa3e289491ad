"""The JSON Schema of steps, for editors."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from ray_prep.spec import MAX_SIDE_PX
from ray_prep.validation import adapter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What native steps refuse of a number, whichever step has the parameter.
BOUNDS: dict[str, dict[str, float]] = {
    **{name: {"minimum": 1, "maximum": MAX_SIDE_PX} for name in ("height", "width", "short_side", "long_side")},
    **{name: {"minimum": 0, "maximum": MAX_SIDE_PX} for name in ("top", "bottom", "left", "right")},
    **{name: {"exclusiveMinimum": 0} for name in ("sigma", "strength", "clip_limit")},
    "kernel": {"minimum": 3},
    "amount": {"minimum": 0, "maximum": 10},
    "gamma": {"exclusiveMinimum": 0, "maximum": 100},
    "cutoff": {"minimum": 0, "maximum": 49},
    "version": {"minimum": 0},
}


def native_schema(native: Mapping[str, type[Any]], foreign: Sequence[str]) -> dict[str, Any]:
    """Return the schema of a list of steps.

    Args:
        native: Name to class; descriptions come from the docstrings.
        foreign: Names of steps whose parameters are described elsewhere.
    """
    properties = {name: _parameters(kind) for name, kind in native.items()}
    properties |= {name: {"type": ["object", "null"], "description": f"Albumentations 2.0.8: {name}"} for name in sorted(foreign)}
    bare = [name for name, kind in native.items() if not any(_is_required(field) for field in fields(kind))]
    step = {
        "anyOf": [
            {"enum": [*bare, *sorted(foreign)]},
            {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": False, "properties": properties},
        ]
    }
    return {"type": ["array", "null"], "items": step}


def _is_required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _parameters(kind: Any) -> dict[str, Any]:
    schema = adapter(kind).json_schema()
    schema = _inlined(schema, schema.pop("$defs", {}))
    properties = schema["properties"]
    for field in fields(kind):
        if not field.metadata.get("is_parameter", True):
            properties.pop(field.name)
    for name, description in _descriptions(kind).items():
        properties[name]["description"] = description
    _bound(schema)
    schema["description"] = (inspect.getdoc(kind) or "").splitlines()[0]
    others = [{"type": "null"}] if not schema.get("required") else []
    if hasattr(kind, "shorthand"):
        others.append({key: value for key, value in properties[kind.shorthand[0]].items() if key != "default"})
    return {"anyOf": [schema, *others]} if others else schema


def _bound(schema: Any) -> None:
    """Write the bounds of numbers into the schema, also into those of parameters of parameters."""
    if isinstance(schema, list):
        for part in schema:
            _bound(part)
    elif isinstance(schema, dict):
        for name, part in schema.get("properties", {}).items():
            part.update(BOUNDS.get(name, {}))
        for part in schema.values():
            _bound(part)


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return the schema without references, so that it can stand anywhere in another."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(part, definitions) for key, part in schema.items()}


def _descriptions(kind: type[Any]) -> dict[str, str]:
    """Return what the docstring's Args say of each parameter."""
    described: dict[str, str] = {}
    name = ""
    _, _, text = (inspect.getdoc(kind) or "").partition("\nArgs:\n")
    for line in text.splitlines():
        if line.startswith("    ") and not line.startswith("     "):
            name, _, described_so_far = line.strip().partition(": ")
            described[name] = described_so_far
        elif line.strip() and name:
            described[name] += " " + line.strip()
    return described
