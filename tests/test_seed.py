"""Numbers that follow from names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ray_prep.sample import Item
from ray_prep.sections import Split
from ray_prep.seed import digest, order, sample_rng, split_of

RATIOS = {"train": 0.8, "val": 0.1, "test": 0.1}


@given(st.text(), st.text())
def test_parts_do_not_run_into_each_other(one: str, other: str) -> None:
    """The digest of two parts is not that of their concatenation."""
    assert digest(one, other) != digest(one + other)
    assert digest(one, other) == digest(one, other)


def test_streams_of_copies_and_keys_differ() -> None:
    """Seed, key and copy each change the stream, and nothing else does."""
    draws = {sample_rng(*parts).integers(1 << 60) for parts in ((0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1))}
    assert len(draws) == 4
    assert sample_rng(0, "a", 0).integers(1 << 60) in draws


def test_splits_have_their_shares() -> None:
    """Of many keys each split gets its share, within four standard deviations."""
    count = 20_000
    found = [split_of(f"image-{number}.jpg", RATIOS) for number in range(count)]
    for name, share in RATIOS.items():
        assert abs(found.count(name) - share * count) < 4 * (share * (1 - share) * count) ** 0.5


@given(st.text(min_size=1))
def test_a_split_depends_on_the_key_alone(key: str) -> None:
    """The order in which a key is asked for, or who else was, has no part in its split."""
    assert split_of(key, RATIOS) == split_of(key, dict(RATIOS))


def test_a_split_without_a_share_gets_nothing() -> None:
    """Shares of 0 stay empty, the last one too."""
    assert {split_of(str(number), {"train": 1.0, "test": 0.0}) for number in range(1000)} == {"train"}


def test_the_order_is_fixed_for_good() -> None:
    """Known values: shard names of published datasets follow from them."""
    assert order("a.jpg") == 0xFE47F0026E12A789
    assert digest("split", "a.jpg") == 0x1E9081B545F24748
    assert sample_rng(7, "a.jpg", 1).integers(1 << 40) == 462250162332


@given(number=st.integers(-(2**53), 2**53))
def test_a_group_is_the_same_as_a_whole_float(number: int) -> None:
    """Pandas makes floats of a column of whole numbers where one is missing; the images stay together, and where they were."""
    rule = Split.parse({"train": 0.5, "val": 0.5, "by": "patient"})
    assert len({rule.of(Item("k", "/k", "", columns={"patient": value})) for value in (number, float(number), str(number))}) == 1
