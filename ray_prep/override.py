"""What the command line and the environment put into a recipe's plain data before it is validated."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from typing import Any

import yaml

from ray_prep.errors import RecipeError


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


def apply_override(data: dict[str, Any], override: str) -> None:
    """Put one value into plain data, where its path says; mappings on the way are made.

    Args:
        data: A recipe as YAML gives it; written into.
        override: `output.uri=…`, the value in YAML; a number in the path is a place in a list.

    Raises:
        RecipeError: It is no path with a value, or the path goes through something else.
    """
    path, equals, text = override.partition("=")
    names = path.strip().split(".")
    if not equals or not all(names):
        raise RecipeError(f"--set {override}: should be a field and a value, such as output.uri=/data/out")
    try:
        value = json.loads(json.dumps(yaml.safe_load(text), default=str))
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override}: the value is not YAML: {' '.join(str(error).split())}") from None
    place: Any = data
    for name in names[:-1]:
        if isinstance(place, list) and name.isdigit() and int(name) < len(place):
            place = place[int(name)]
            continue
        if not isinstance(place, dict):
            raise RecipeError(f"--set {override}: {path} goes through something that is no mapping")
        place = place.setdefault(name, {})
        if place is None:
            raise RecipeError(f"--set {override}: {name} is empty in the recipe")
    if isinstance(place, list) and names[-1].isdigit() and int(names[-1]) < len(place):
        place[int(names[-1])] = value
    elif isinstance(place, dict):
        place[names[-1]] = value
    else:
        raise RecipeError(f"--set {override}: {path} goes through something that is no mapping")
