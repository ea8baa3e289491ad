from __future__ import annotations

import datetime as dt

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ray_prep.sample import Item, Sample

VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(), st.dates())


@given(columns=st.dictionaries(st.text(min_size=1), VALUES), label=st.one_of(st.none(), st.text()))
def test_facts_follow_from_label_and_columns(columns: dict[str, object], label: str | None) -> None:
    """16 hex digits; the order of columns does not matter, nor do those that are null."""
    item = Item("a", "/a", "v", label, "train", columns)
    backwards = Item("b", "/b", "w", label, None, dict(reversed([*columns.items(), ("\x00 a new one", None)])))
    assert item.facts == backwards.facts
    assert len(item.facts) == 16
    assert int(item.facts, 16) >= 0


def test_facts_tell_values_apart() -> None:
    """Another label, value or column gives other facts; text is no number, and no label is not an empty one."""
    noon = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
    columns: list[tuple[str | None, dict[str, object]]] = [
        (None, {}),
        ("", {}),
        ("cat", {}),
        (None, {"a": 1}),
        (None, {"a": "1"}),
        (None, {"b": 1}),
        (None, {"a": 1.5}),
        (None, {"a": b"\x01"}),
        (None, {"a": noon}),
        (None, {"a": noon.date()}),
        (None, {"a": [1, 2]}),
        (None, {"a": {"b": 1}}),
        (None, {"a": True}),
    ]
    facts = [Item("k", "/k", "", label, None, values).facts for label, values in columns]
    assert len(set(facts)) == len(facts)


def test_facts_stay_what_they_were() -> None:
    """Facts stand in published tables: their making must not change between versions of ray_prep."""
    assert Item("k", "/k", "v").facts == "20190d2393d67889"
    assert Item("k", "/k", "v", "cat", None, {"weight": 3, "note": "é"}).facts == "488205de1ac2aac3"


def test_size_is_that_of_the_picture() -> None:
    """A sample decoded at a fraction of its size says the size it stands for, height first."""
    image = np.zeros((10, 20, 3), np.uint8)
    assert (Sample("k", 0, image).height, Sample("k", 0, image).width) == (10, 20)
    small = Sample("k", 0, image, full_size=(40, 80))
    assert (small.height, small.width) == (40, 80)
