from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_prep.errors import RecipeError, StorageError
from ray_prep.recipe import Recipe
from ray_prep.sample import Item
from ray_prep.seed import order, split_of
from ray_prep.storage import StorageOptions
from ray_prep.survey import KnownItem, Survey, survey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NO_COLUMNS = pa.schema([])
RECIPE = Recipe.parse(
    {
        "source": {"uri": "/nowhere"},
        "preprocess": [{"resize": {"height": 8, "width": 8}}],
        "split": {"train": 0.6, "val": 0.4},
        "output": {"uri": "/nowhere/out"},
    }
)


@dataclass(frozen=True)
class Given:
    """A source that offers the items it is given."""

    layout: ClassVar[str] = "given"
    offered: tuple[Item, ...]
    uri: str = "given"
    storage_options: StorageOptions = field(default_factory=StorageOptions)

    def items(self, ignored: Counter[str]) -> Iterator[Item]:
        ignored[".txt"] += 3
        return iter(self.offered)

    def carried_columns(self) -> pa.Schema:
        return NO_COLUMNS


def surveyed(items: Sequence[Item], known: Sequence[KnownItem] = (), limit: int | None = None, **changes: Any) -> tuple[Survey, list[Item]]:
    """Survey some items against what is published."""
    with TemporaryDirectory() as folder:
        found = survey(replace(RECIPE, source=Given(tuple(items)), **changes), known, NO_COLUMNS, Path(folder), limit)
        return found, list(found.items.items())


def published(found: Survey, items: Sequence[Item], rejected: set[str]) -> list[KnownItem]:
    """Return what is known after these items were built and those of some keys rejected."""
    known = [
        KnownItem(item.key, item.uri, item.version, None, None, "rejected")
        if item.key in rejected
        else KnownItem(item.key, "", item.version, item.facts, item.split, "live")
        for item in items
    ]
    return known + [KnownItem(one.key, one.uri, one.version, None, None, "duplicate") for one in found.duplicates]


OFFERS = st.lists(
    st.builds(
        Item,
        st.sampled_from("abcdefghijkl"),
        st.sampled_from(["/1", "/2", "/3"]),
        st.sampled_from(["v1", "v2"]),
        st.sampled_from([None, "cat", "dog"]),
    ),
    min_size=1,
    max_size=20,
    unique_by=lambda item: (item.key, item.uri),
)


@settings(max_examples=25, deadline=None)
@given(before=OFFERS, after=OFFERS, rejected=st.sets(st.sampled_from("abcdefghijkl")), seed=st.randoms(use_true_random=False))
def test_every_offer_is_accounted_for(before: list[Item], after: list[Item], rejected: set[str], seed: Any) -> None:
    """Listed = unchanged + added + changed = to have + duplicates; removed is live and not on offer; in any order; idempotent."""
    first, items = surveyed(before)
    known = published(first, items, rejected)
    found, wanted = surveyed(after, known)
    live = {one.key for one in known if one.state == "live"}
    assert found.listed == found.unchanged + found.added + found.changed == len(after) == len(wanted) + len(found.duplicates)
    assert {item.key for item in wanted} == {item.key for item in after}
    assert sum(found.counts.values()) == len(wanted)
    assert found.removed == len(live - {item.key for item in after})
    assert [item.key for item in wanted] == sorted((item.key for item in wanted), key=order)
    assert all(item.split == split_of(item.key, RECIPE.split.ratios) for item in wanted)
    seed.shuffle(after)
    shuffled, same = surveyed(after, known)
    assert same == wanted
    assert sorted(map(repr, shuffled.duplicates)) == sorted(map(repr, found.duplicates))
    again, _ = surveyed(after, published(found, wanted, rejected))
    assert again.is_as_published
    assert again.unchanged == again.listed


@settings(max_examples=15, deadline=None)
@given(keys=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=30, unique=True), more=st.lists(st.text(min_size=1), max_size=5))
def test_a_split_does_not_change_because_others_came(keys: list[str], more: list[str]) -> None:
    """The split of an item follows from its key alone."""
    _, alone = surveyed([Item(key, "/x", "") for key in keys])
    _, together = surveyed([Item(key, "/x", "") for key in {*keys, *more}])
    splits = {item.key: item.split for item in together}
    assert all(splits[item.key] == item.split for item in alone)


@settings(max_examples=10, deadline=None)
@given(count=st.integers(1, 40), limit=st.integers(1, 40))
def test_a_limit_takes_the_first_in_order(count: int, limit: int) -> None:
    """The first so many by hash of the key; a larger limit takes the same and more."""
    keys = sorted((f"k{number}" for number in range(count)), key=order)
    _, items = surveyed([Item(key, "/x", "") for key in reversed(keys)], limit=limit)
    assert [item.key for item in items] == keys[:limit]


def test_the_smallest_uri_holds_the_key() -> None:
    """Of two holders of a key the smaller uri stays; the message names it."""
    found, items = surveyed([Item("a", "/2", "v"), Item("a", "/1", "v"), Item("b", "/3", "v")])
    assert {item.key: item.uri for item in items} == {"a": "/1", "b": "/3"}
    (rejection,) = found.duplicates
    assert (rejection.uri, rejection.reason, rejection.stage) == ("/2", "duplicate_key", "plan")
    assert rejection.message == "/1 has the same key and stays"


@settings(max_examples=25, deadline=None)
@given(
    items=st.lists(
        st.builds(
            Item,
            st.just("a"),
            st.sampled_from(["/1", "/2"]),
            st.sampled_from(["v1", "v2"]),
            st.sampled_from([None, "cat", "dog"]),
            st.sampled_from([None, "train", "val"]),
        ),
        min_size=2,
        max_size=5,
    ),
    seed=st.randoms(use_true_random=False),
)
def test_who_holds_a_key_follows_from_what_is_listed(items: list[Item], seed: Any) -> None:
    """Of holders with one uri the smallest version stays, then facts, then split: the order of rows plays no part, nor do equal rows."""
    found, (kept,) = surveyed(items)
    smallest = min(items, key=lambda item: (item.uri, item.version, item.facts, item.split or ""))
    assert kept == replace(smallest, split=kept.split)
    again, _ = surveyed(items, published(found, [kept], set()))
    assert again.is_as_published
    assert again.unchanged == len(items)
    seed.shuffle(items)
    shuffled, (same,) = surveyed(items)
    assert same == kept
    assert shuffled.duplicates == found.duplicates


def test_only_the_sources_own_splits_change_items() -> None:
    """An item that the source put into another split is changed; one that another rule puts there (--rebuild) is as it was."""
    item = Item("a", "/1", "v", split="val")
    known = [KnownItem("a", "", "v", item.facts, "train", "live")]
    for by, changed in (("source", 1), ("key", 0)):
        rule = replace(RECIPE.split, by=by, ratios={} if by == "source" else {"val": 1.0})
        found, (kept,) = surveyed([item], known, split=rule)
        assert (kept.split, found.changed, found.unchanged) == ("val", changed, 1 - changed)


def test_nothing_listed_is_no_survey() -> None:
    """A source without an image is exit 3, and says what it saw instead."""
    with pytest.raises(StorageError, match=r"given: no image is listed there; ignored were 3 \.txt"):
        surveyed([])


def test_an_empty_field_is_no_missing_column() -> None:
    """It is not answered with a list of columns in which the one asked for stands."""
    with pytest.raises(RecipeError, match="'a' has no value in column 'patient': the field is empty, or the column is gone"):
        replace(RECIPE.split, by="patient").of(Item("a", "/1", "", columns={"patient": None}))


@pytest.mark.parametrize(
    ("by", "item", "what"),
    [
        ("source", Item("a", "/1", ""), "'a' has none; name a split column"),
        ("source", Item("a", "/1", "", split="a/b"), "'a/b', which does not do as a name"),
        ("patient", Item("a", "/1", "", columns={"site": "x"}), "'a' has no value in column 'patient'; the source's columns are"),
        ("sourc", Item("a", "/1", ""), r"the source's columns are none; did you mean 'source'\?"),
    ],
)
def test_an_item_without_a_split(by: str, item: Item, what: str) -> None:
    """The rule asks for something the item lacks: a wrong recipe that names item and remedy."""
    with pytest.raises(RecipeError, match=what):
        surveyed([item], split=replace(RECIPE.split, by=by))
