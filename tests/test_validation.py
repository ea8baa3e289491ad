from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from ray_prep.errors import RecipeError
from ray_prep.validation import validate


@dataclass(frozen=True)
class Inner:
    """A part of a section."""

    depth: int = 1
    count: Literal[1, 2] = 1


@dataclass(frozen=True)
class Section:
    """A section of a recipe."""

    size: int
    share: float = 0.5
    kind: Literal["wide", "tall"] = "wide"
    names: tuple[str, ...] = ()
    inner: Inner = field(default_factory=Inner)
    either: int | Literal["all"] = 1
    is_on: bool = False
    turns: Literal[1, 3] | None = None

    def __post_init__(self) -> None:
        if self.size < 0:
            msg = f"size should be 0 or more, got {self.size}"
            raise ValueError(msg)


def test_what_fits_is_made() -> None:
    """Plain data becomes the typed object, lists become tuples, nested mappings their own class."""
    assert validate(Section, {"size": 1e8, "share": 1}, "here") == Section(100_000_000, 1.0)
    made = validate(Section, {"size": 3, "names": ["a"], "inner": {"depth": 2}, "either": "all"}, "here")
    assert made == Section(3, names=("a",), inner=Inner(2), either="all")


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (None, "here.size: is needed and was not given"),
        ({"size": "x"}, "here.size: should be a whole number, got 'x'"),
        ({"size": -1}, "here.size: should be 0 or more, got -1"),
        ({"size": 1, "sise": 2}, "here.sise: unknown key; did you mean 'size'?"),
        ({"size": 1, "zzz": 2}, "here.zzz: unknown key; known are size, share, kind, names, inner, either, is_on, turns"),
        ({"size": 1, "kind": "wyde"}, "here.kind: should be 'wide' or 'tall', got 'wyde'; did you mean 'wide'?"),
        ({"size": 1, "inner": {"dept": 2}}, "here.inner.dept: unknown key; did you mean 'depth'?"),
        # Keys that look like the names pydantic has for branches of a union.
        ({"size": 1, "Share": 1}, "here.Share: unknown key; did you mean 'share'?"),
        ({"size": 1, "int": 1}, "here.int: unknown key; known are"),
        ({"size": 1, "": 1}, "here.: unknown key; known are"),
        ({"size": 1, "a[0]": 1}, "here.a[0]: unknown key; known are"),
        ({"size": 1, "inner": {"Depth": 1}}, "here.inner.Depth: unknown key; did you mean 'depth'?"),
        # Nothing is taken for something else.
        ({"size": True}, "here.size: should be a whole number, got True"),
        ({"size": "1"}, "here.size: should be a whole number, got '1'"),
        ({"size": 1, "share": True}, "here.share: should be a number, got True"),
        ({"size": 1, "turns": True}, "here.turns: should be 1 or 3, got True"),
        ({"size": 1, "inner": {"count": True}}, "here.inner.count: should be 1 or 2, got True"),
        ({"size": 1, "is_on": 1}, "here.is_on: should be true or false, got 1"),
        ({"size": 1, "is_on": "yes"}, "here.is_on: should be true or false, got 'yes'"),
        ({"size": 1, "inner": 3}, "here.inner: should be a mapping of keys to values, got 3"),
        ({"size": 1, "names": [1]}, "here.names[0]: should be a text, got 1"),
        ({"size": 1, "names": "a"}, "here.names: should be a list, such as [a], got 'a'"),
        ({"size": 1.5}, "here.size: should be a whole number, got 1.5"),
        ({"size": 1, "share": "1%"}, "here.share: should be a number, got '1%'"),
        ({"size": 1, "is_on": "maybe"}, "here.is_on: should be true or false, got 'maybe'"),
        ({"size": 1, "share": float("inf")}, "here.share: should be a finite number, got inf"),
        ([1], "here: should be a mapping of keys to values, got [1]"),
        ({"size": "x" * 500}, "…"),
    ],
)
def test_what_does_not_fit_is_named(raw: object, what: str) -> None:
    """The field's path, what was given (cut where it is long), what would be right."""
    with pytest.raises(RecipeError) as caught:
        validate(Section, raw, "here")
    assert what in str(caught.value)
    assert len(str(caught.value)) < 220
