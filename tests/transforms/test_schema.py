"""The JSON Schema of steps says what the code says."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from ray_prep.errors import RecipeError
from ray_prep.transforms.chain import TRANSFORMS, parse_chain, steps_schema
from ray_prep.transforms.composition import COMPOSITIONS
from ray_prep.transforms.effects import EFFECTS
from ray_prep.transforms.schema import BOUNDS

STEP = steps_schema()["items"]["anyOf"]
PROPERTIES = STEP[1]["properties"]


def parameters(name: str) -> dict[str, object]:
    """Return the schema of a native step's parameters, without its other spellings."""
    schema = PROPERTIES[name]
    found: dict[str, object] = next(option for option in schema.get("anyOf", [schema]) if "properties" in option)["properties"]
    return found


def test_every_step_is_there() -> None:
    """Native steps, Albumentations' and compositions are the keys, and no other key is allowed."""
    assert set(PROPERTIES) == {*TRANSFORMS, *EFFECTS, *COMPOSITIONS}
    assert STEP[1]["additionalProperties"] is False


def test_every_parameter_is_described() -> None:
    """Each parameter of a native step has the description of its docstring; what is no parameter is not there."""
    for name, kind in TRANSFORMS.items():
        shown = {field.name for field in fields(kind) if field.metadata.get("is_parameter", True)}
        assert set(parameters(name)) == shown, name
        for parameter, schema in parameters(name).items():
            assert isinstance(schema, dict)
            assert len(schema["description"]) > 3, (name, parameter)


# A step with each parameter that has bounds; what it needs beside.
BOUNDED: dict[tuple[str, str], dict[str, object]] = {
    ("center_crop", "height"): {"width": 8},
    ("crop", "left"): {"height": 8, "width": 8},
    ("crop", "top"): {"height": 8, "width": 8},
    ("pad", "bottom"): {"top": 8},
    ("pad", "right"): {"top": 8},
    ("pad", "width"): {},
    ("resize", "short_side"): {},
    ("resize", "long_side"): {},
    ("denoise", "kernel"): {"method": "gaussian"},
    ("denoise", "sigma"): {"method": "gaussian"},
    ("denoise", "strength"): {"method": "nlmeans"},
    ("contrast", "clip_limit"): {"method": "clahe"},
    ("contrast", "gamma"): {"method": "gamma"},
    ("contrast", "cutoff"): {"method": "autocontrast"},
    ("sharpen", "amount"): {},
    ("python", "version"): {"call": "os:getcwd"},
}


def test_bounds_are_those_of_the_code() -> None:
    """Each bound stands at its parameter; it is right itself, unless it is an open one, and what lies beyond is refused."""
    assert {name for _, name in BOUNDED} == BOUNDS.keys()
    for (step, name), beside in BOUNDED.items():
        for keyword, bound in BOUNDS[name].items():
            assert parameters(step)[name][keyword] == bound  # type: ignore[index]
            beyond = bound + {"minimum": -1, "maximum": 1, "exclusiveMinimum": 0}[keyword]
            with pytest.raises(RecipeError, match=name):
                parse_chain([{step: {**beside, name: beyond}}], "here", always=True)
            if keyword != "exclusiveMinimum":
                parse_chain([{step: {**beside, name: bound}}], "here", always=True)


def test_parameters_of_parameters_have_bounds_too() -> None:
    """The sides of a letterbox's frame are sides."""
    schema = parameters("resize")["letterbox"]
    assert isinstance(schema, dict)
    frame = next(option for option in schema["anyOf"] if "properties" in option)["properties"]
    for side in ("height", "width"):
        assert BOUNDS[side].items() <= frame[side].items()
        with pytest.raises(RecipeError, match=side):
            parse_chain([{"resize": {"letterbox": {"height": 8, "width": 8, side: 0}}}], "here", always=True)


def test_bare_names_are_those_that_need_nothing() -> None:
    """A step may be a bare name where every parameter has a default."""
    assert "grayscale" in STEP[0]["enum"]
    assert "crop" not in STEP[0]["enum"]


def test_it_can_stand_anywhere() -> None:
    """There are no references into a document that another schema would have to carry along."""
    assert "$ref" not in json.dumps(steps_schema())
