"""The recipe as JSON Schema, for editors that complete and check YAML."""

from __future__ import annotations

from typing import Any

from ray_prep.image.decode import Decode
from ray_prep.image.scores import SCORES
from ray_prep.recipe import KEYS
from ray_prep.sections import Checks, Copies, Filter, Output
from ray_prep.sources import SOURCES
from ray_prep.transforms.chain import steps_schema
from ray_prep.validation import adapter


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a recipe: every key, with the words of the docstrings."""
    definitions: dict[str, Any] = {}

    def section(kind: type[Any]) -> dict[str, Any]:
        made = adapter(kind).json_schema(ref_template="#/$defs/{model}")
        definitions.update(made.pop("$defs", {}))
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
    share = {"type": "number", "minimum": 0, "maximum": 1}
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
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ray_prep recipe",
        "type": "object",
        "required": ["source", "output"],
        "properties": properties,
        "additionalProperties": False,
        "$defs": definitions,
    }
