"""Plain data in, a validated object out, or one RecipeError that names the field (the only importer of pydantic)."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ray_prep.errors import RecipeError, did_you_mean
from ray_prep.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)


# Pydantic's word for what a value should be -> ours.
_WORDS = {"string": "a text", "int": "a whole number", "float": "a number", "bool": "true or false", "tuple": "a list", "list": "a list"}

# Of a value of megabytes its beginning is looked at.
_LONGEST_CHARS = 4000

_adapters: dict[Any, TypeAdapter[Any]] = {}


def adapter(kind: Any) -> TypeAdapter[Any]:
    """Return the validator of a frozen dataclass: unknown keys are refused, infinities too. Made once, as making takes a millisecond."""
    if kind not in _adapters:
        if not hasattr(kind, "__pydantic_config__"):
            kind.__pydantic_config__ = _CONFIG
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def validate(kind: type[T], raw: object, place: str) -> T:
    """Make a `kind` (a frozen dataclass whose fields are the keys of a section) from plain data.

    Numbers, texts, and true and false are never taken for one another; a number without a fraction is a whole one, as JSON Schema has it.
    A ValueError raised in `__post_init__` reaches the user with the same prefix.

    Args:
        kind: What to make.
        raw: A mapping as JSON gives it; None stands for an empty one.
        place: Where it stands in the recipe, such as `decode` or `preprocess[0].resize`.

    Raises:
        RecipeError: Every field that is wrong, a line each: its path, what was given, what would be right.
    """
    plain = _with_whole_numbers({} if raw is None else raw)
    if truths := list(_truths(kind, plain, place)):
        raise RecipeError("\n".join(truths))
    try:
        # As JSON: in Python's own terms a strict pydantic would take no list for a tuple.
        made: T = adapter(kind).validate_json(json.dumps(plain), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        # A misspelt word is a misspelt word, though a list or a number would do as well.
        words = {(*_written(plain, one),) for one in details if one["type"] == "literal_error" and isinstance(one["input"], str)}
        kept = [one for one in details if one["type"] == "literal_error" or (*_written(plain, one),) not in words]
        lines = [_line(kind, place, plain, detail) for detail in kept]
        raise RecipeError("\n".join(dict.fromkeys(lines))) from None
    return made


def _with_whole_numbers(raw: object) -> object:
    if isinstance(raw, float) and raw.is_integer():
        return int(raw)
    if isinstance(raw, list):
        return [_with_whole_numbers(part) for part in raw]
    if isinstance(raw, dict):
        return {key: _with_whole_numbers(part) for key, part in raw.items()}
    return raw


def _truths(kind: type[object], raw: object, place: str) -> Iterator[str]:
    """Yield a line for each true or false where some whole numbers are allowed: pydantic's Literal takes true for 1 (2.14)."""
    if not isinstance(raw, dict) or not is_dataclass(kind):
        return
    hints = get_type_hints(kind)
    for name, value in raw.items():
        options = [option for option in (hints.get(name), *get_args(hints.get(name))) if get_origin(option) is Literal]
        numbers = [number for option in options for number in get_args(option) if type(number) is int]
        if isinstance(value, bool) and numbers:
            yield f"{place}.{name}: should be {' or '.join(map(str, numbers))}, got {value}"
        for nested in get_args(hints.get(name)) or (hints.get(name),):
            yield from _truths(nested, value, f"{place}.{name}")


def _line(kind: type[object], place: str, raw: object, detail: Any) -> str:
    steps = _written(raw, detail)
    path = place + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    given = _short(detail.get("input"))
    match detail["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            known = _known_keys(kind, steps[:-1])
            hint = did_you_mean(str(steps[-1]), known) or (f"; known are {', '.join(known)}" if known else "")
            return f"{path}: unknown key{hint}"
        case "missing" | "missing_argument":
            return f"{path}: is needed and was not given"
        case "value_error" | "assertion_error":
            said = str(detail["ctx"]["error"])
            named = re.match(r"(\w+)(?:: | (?=should |is |\d))", said)
            if named and named[1] in _known_keys(kind, steps):
                return f"{path}.{named[1]}: {said[named.end() :]}"
            return f"{path}: {said}"
        case "dataclass_type" | "dict_type" | "mapping_type":
            return f"{path}: should be a mapping of keys to values, got {given}"
        case kind_of_fault if (word := _WORDS.get(kind_of_fault.partition("_")[0])) and not kind_of_fault.startswith("tuple_too"):
            example = f", such as [{detail['input']}]" if word == "a list" and isinstance(detail["input"], str) else ""
            return f"{path}: should be {word}{example}, got {given}"
        case _:
            expected = detail["msg"].removeprefix("Input should be ")
            expected = expected[0].lower() + expected[1:]
            hint = ""
            if detail["type"] == "literal_error" and isinstance(detail.get("input"), str):
                options = [word.strip("' ") for word in detail["ctx"]["expected"].replace(" or ", ", ").split(",")]
                hint = did_you_mean(detail["input"], options)
            return f"{path}: should be {expected}, got {given}{hint}"


def _written(raw: object, detail: Any) -> list[str | int]:
    """Return the steps of pydantic's path that are the user's: it also names branches of unions and classes."""
    steps: list[str | int] = []
    location = detail["loc"]
    for place, step in enumerate(location):
        if (isinstance(raw, dict) and step in raw) or (isinstance(raw, list) and isinstance(step, int) and step < len(raw)):
            raw = raw[step]
        elif not (place == len(location) - 1 and detail["type"].startswith("missing")):
            continue
        steps.append(step)
    return steps


def _known_keys(kind: type[object], steps: list[str | int]) -> list[str]:
    for step in steps:
        hint = get_type_hints(kind).get(str(step)) if is_dataclass(kind) else None
        nested = [option for option in (hint, *get_args(hint)) if isinstance(option, type) and is_dataclass(option)]
        if not nested:
            return []
        kind = nested[0]
    return [field.name for field in fields(kind) if field.init and not field.name.startswith("_")] if is_dataclass(kind) else []


def _short(value: object) -> str:
    text = redact(repr(value)[:_LONGEST_CHARS])  # before it is cut in the midst of a secret
    return text if len(text) <= 80 else text[:77] + "…"
