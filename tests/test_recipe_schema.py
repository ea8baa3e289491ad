"""The recipe's JSON Schema says what the code says."""

from __future__ import annotations

from typing import Any

import pytest

from ray_prep.errors import RecipeError
from ray_prep.recipe_schema import BOUNDS, recipe_schema
from ray_prep.sections import Output
from ray_prep.validation import validate

NEEDED: dict[type[Any], dict[str, Any]] = {Output: {"uri": "/t"}}
OUTSIDE = {"minimum": -1, "maximum": 1, "exclusiveMinimum": 0}


@pytest.mark.parametrize(
    ("kind", "name", "keyword"),
    [(kind, name, keyword) for kind, named in BOUNDS.items() for name, bounds in named.items() for keyword in bounds],
)
def test_bounds_are_those_of_the_code(kind: type[Any], name: str, keyword: str) -> None:
    """A bound itself is right, unless it is an open one, and what lies beyond is refused."""
    bound = BOUNDS[kind][name][keyword]
    if keyword != "exclusiveMinimum":
        validate(kind, {**NEEDED.get(kind, {}), name: bound}, "here")
    with pytest.raises(RecipeError, match=name):
        validate(kind, {**NEEDED.get(kind, {}), name: bound + OUTSIDE[keyword]}, "here")


def test_bounds_stand_in_the_schema() -> None:
    """Of every section, beside what the fields are."""
    properties = recipe_schema()["properties"]
    assert properties["augment"]["properties"]["copies"] == {
        "default": 0,
        "title": "Copies",
        "type": "integer",
        "minimum": 0,
        "maximum": 1000,
    }
    for section in ("decode", "filter", "output", "checks"):
        assert any(keyword in str(properties[section]["properties"]) for keyword in ("minimum", "maximum")), section
