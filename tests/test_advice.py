"""What a person hears of a recipe in which nothing is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from ray_prep.advice import recipe_advice
from ray_prep.recipe import Recipe

CROP = {"center_crop": {"height": 8, "width": 8}}
FLIP = {"HorizontalFlip": {"p": 0.5}}
NONE_APPLIED = "augment.transforms: none of them is applied, for augment.copies is 0; set it to 1 or more, or leave them out"
OF_ORIGINALS = "augment.copies: 3 without transforms: every copy is an exact duplicate of its original; write augment.transforms"
OF_EACH_OTHER = "augment.transforms: nothing in them is random: the 3 copies of an image are exact duplicates of each other"


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({}, []),
        ({"augment": {"copies": 0}}, []),
        ({"augment": {"copies": 3, "transforms": [FLIP]}}, []),
        ({"augment": {"copies": 1, "transforms": [{"flip": "horizontal"}]}}, []),
        ({"augment": {"copies": 3}, "finish": [FLIP, CROP]}, []),
        ({"augment": {"copies": 3, "transforms": [{"flip": "horizontal"}]}, "finish": [FLIP, CROP]}, []),
        ({"augment": {"transforms": [FLIP]}}, [NONE_APPLIED]),
        ({"augment": {"copies": 0, "transforms": [FLIP]}}, [NONE_APPLIED]),
        ({"augment": {"copies": 3}}, [OF_ORIGINALS]),
        ({"augment": {"copies": 3, "transforms": []}}, [OF_ORIGINALS]),
        ({"augment": {"copies": 3, "transforms": [{"flip": "horizontal"}]}}, [OF_EACH_OTHER]),
        ({"augment": {"copies": 3, "transforms": [{"HorizontalFlip": {"p": 1}}]}}, [OF_EACH_OTHER]),
    ],
)
def test_copies_that_are_none(sections: dict[str, Any], said: list[str]) -> None:
    """Transforms that nothing goes through, and copies without anything random, are told in a line; one turned copy is a wish."""
    recipe = Recipe.parse({"source": {"uri": "/s"}, "finish": [CROP], "output": {"uri": "/t"}, **sections})
    assert list(recipe_advice(recipe)) == said
