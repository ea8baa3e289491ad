"""The recipe as JSON Schema, for editors that complete and check YAML."""

from __future__ import annotations

from typing import Any

from ray_prep.image.decode import Decode
from ray_prep.image.scores import SCORES
from ray_prep.recipe import KEYS
from ray_prep.sections import MOST_COPIES, MOST_SHARD_MB, Checks, Copies, Filter, Output
from ray_prep.sources import SOURCES
from ray_prep.transforms.chain import steps_schema
from ray_prep.validation import adapter

_SHARE: dict[str, float] = {"minimum": 0, "maximum": 1}
_COUNT: dict[str, float] = {"minimum": 0}
# What the classes refuse as they are made, in a schema's words; a test holds them against each other.
BOUNDS: dict[type[Any], dict[str, dict[str, float]]] = {
    Decode: {"max_pixels": {"minimum": 1}},
    Filter: {
        "min_side": {"minimum": 1},
        "max_aspect": {"minimum": 1},
        "min_sharpness": {"minimum": 0, "maximum": 1.2},
        **dict.fromkeys(("min_brightness", "max_brightness", "min_contrast"), _SHARE),
    },
    Copies: {"copies": {"minimum": 0, "maximum": MOST_COPIES}},
    Output: {"shard_mb": {"exclusiveMinimum": 0, "maximum": MOST_SHARD_MB}},
    Checks: {
        **dict.fromkeys(("max_rejected", "max_drop", "max_class_shift", "max_mean_drift"), _SHARE),
        **dict.fromkeys(("min_images", "cross_split_duplicates"), _COUNT),
    },
}


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a recipe: every key, with the words of the docstrings."""
    definitions: dict[str, Any] = {}

    def section(kind: type[Any]) -> dict[str, Any]:
        made = adapter(kind).json_schema(ref_template="#/$defs/{model}")
        definitions.update(made.pop("$defs", {}))
        for name, bounds in BOUNDS.get(kind, {}).items():
            made["properties"][name].update(bounds)
        return made

    sources = []
    for layout, kind in SOURCES.items():
        made = section(kind)
        made["properties"]["layout"] = {"const": layout}
        made["required"] = sorted({*made.get("required", []), *(["layout"] if layout != "files" else [])})
        made["additionalProperties"] = False
        sources.append(made)
    copies = section(Copies)
    steps = steps_schema()
    definitions.update(steps.pop("$defs", {}))
    definitions["steps"] = steps
    chain = {"$ref": "#/$defs/steps"}
    copies["properties"]["transforms"] = chain
    copies["additionalProperties"] = False
    share = {"type": "number", **_SHARE}
    properties: dict[str, Any] = {
        "name": {"type": "string", "description": "For people; part of no fingerprint."},
        "seed": {"type": "integer", "default": 0, "description": "Where all randomness starts."},
        "source": {"anyOf": sources},
        "decode": section(Decode),
        "filter": section(Filter),
        "preprocess": chain,
        "augment": copies,
        "finish": chain,
        "split": {
            "type": "object",
            "description": "Share of each split by name, and `by`: key, source, or a column that keeps a group together.",
            "properties": {"by": {"type": "string", "default": "key"}},
            "additionalProperties": share,
        },
        "output": section(Output),
        "checks": section(Checks),
        "classes": {
            "type": "array",
            "items": {"type": ["string", "integer"]},
            "minItems": 1,
            "uniqueItems": True,
            "description": "The class list, when not taken from the data.",
        },
        "scores": {
            "type": "array",
            "items": {"enum": list(SCORES)},
            "uniqueItems": True,
            "default": [],
            "description": "Which numbers on blur, darkness and emptiness the rows hold.",
        },
    }
    assert properties.keys() == set(KEYS)
    for name in ("decode", "filter", "augment", "split", "checks", "classes", "scores"):  # a key without a value says nothing
        properties[name]["type"] = [properties[name]["type"], "null"]
    properties["removed"] = {"const": "now", "description": "Rows of images that are gone from the source leave the dataset."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ray_prep recipe",
        "type": "object",
        "required": ["source", "output"],
        "properties": properties,
        "additionalProperties": False,
        "$defs": definitions,
    }
