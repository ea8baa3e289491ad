"""What the command line and the environment put into a recipe's plain data before it is validated."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from typing import Any

from ray_prep.errors import RecipeError
from ray_prep.notation import read_yaml

# `name`, `name[0]`, `name[0][1]`; and `0` for a place in a list, as it was written first.
_STEP = re.compile(r"([^\[\]]+)((?:\[\d+\])*)")


def filled(uri: str, place: str) -> str:
    """Fill `${NAME}` from the environment and `{date}` with today's date in UTC.

    Args:
        uri: As written.
        place: Where it stands in the recipe, such as `source.uri`.

    Raises:
        RecipeError: The environment lacks a name.
    """

    def variable(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise RecipeError(f"{place}: the environment has no variable {name}, which {uri!r} asks for")
        return os.environ[name]

    return re.sub(r"\$\{(\w+)\}", variable, uri).replace("{date}", datetime.now(UTC).date().isoformat())


def is_filled(uri: str) -> bool:
    """Return whether `filled` would put something else in a uri's place."""
    return re.search(r"\$\{\w+\}|\{date\}", uri) is not None


def apply_override(data: dict[str, Any], override: str) -> None:
    """Put one value into plain data, where its path says; mappings on the way are made.

    Args:
        data: A recipe as YAML gives it; written into.
        override: `output.uri=…` or `preprocess[0].resize.short_side=…`, the value in YAML.

    Raises:
        RecipeError: It is no path with a value, the path goes through something that has no fields, or a list is shorter.
    """
    path, equals, text = override.partition("=")
    path = path.strip()
    steps = _steps(path)
    if not equals or not steps or isinstance(steps[0], int):
        given = path if equals else override
        raise RecipeError(
            f"--set {given}: should be a field and a value, such as output.uri=/data/out or preprocess[0].resize.short_side=256"
        )
    value = json.loads(json.dumps(read_yaml(text, f"--set {path}: the value"), default=str))
    holder: Any = data
    for number, step in enumerate(steps[:-1]):
        holder = _entered(holder, step, _written(steps[:number]), path)
    last = _fitting(holder, steps[-1], _written(steps[:-1]), path)
    holder[last] = value


def _steps(path: str) -> list[str | int]:
    """Return the names and places a path is made of; none where it is no path."""
    steps: list[str | int] = []
    for part in path.split("."):
        match = _STEP.fullmatch(part)
        if match is None:
            return []
        steps.append(match[1])
        steps += [int(place) for place in re.findall(r"\d+", match[2])]
    return steps


def _written(steps: list[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")


def _entered(holder: Any, step: str | int, place: str, path: str) -> Any:
    """Return what a step leads to; a mapping that is not there is made."""
    step = _fitting(holder, step, place, path)
    if isinstance(holder, dict) and step not in holder:
        holder[step] = {}
    if holder[step] is None:
        raise RecipeError(f"--set {path}: {_written([*([place] if place else []), step])} is empty in the recipe")
    return holder[step]


def _fitting(holder: Any, step: str | int, place: str, path: str) -> str | int:
    """Return a step as what holds it takes it.

    Raises:
        RecipeError: It takes no such step.
    """
    if isinstance(holder, list) and isinstance(step, str) and step.isdecimal():
        step = int(step)
    if isinstance(holder, list) and isinstance(step, int):
        if step < len(holder):
            return step
        there = f"its last entry is {place}[{len(holder) - 1}]" if holder else "it is empty"
        raise RecipeError(f"--set {path}: there is no {place}[{step}]: {there}; places are counted from 0")
    if isinstance(holder, dict) and isinstance(step, str):
        return step
    if isinstance(holder, list):
        raise RecipeError(f"--set {path}: {place} is a list; say which of its entries, such as {place}[0]")
    if holder == {}:
        raise RecipeError(f"--set {path}: the recipe has no {place} of which one entry could be set; give it whole: --set {place}=[…]")
    what = "a mapping, whose fields have names" if isinstance(holder, dict) else "no mapping and no list"
    raise RecipeError(f"--set {path}: goes through {place}, which is {what}")
