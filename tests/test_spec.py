from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_prep.errors import RecipeError
from ray_prep.spec import Interval, Spec

BOUNDS = st.tuples(st.integers(1, 1000), st.one_of(st.none(), st.integers(0, 1000)))
INTERVALS = BOUNDS.map(lambda bounds: Interval(bounds[0], None if bounds[1] is None else bounds[0] + bounds[1]))


@given(one=INTERVALS, other=INTERVALS, size=st.integers(1, 3000))
def test_a_union_holds_what_either_holds(one: Interval, other: Interval, size: int) -> None:
    """The union holds every size of both, and ends where one of them ends."""
    union = one.union(other)
    assert (size in union) >= (size in one or size in other)
    assert union.low in {one.low, other.low}
    assert union.high in {one.high, other.high}


@pytest.mark.parametrize(("low", "high"), [(0, 5), (-1, None), (6, 5)])
def test_what_is_no_interval(low: int, high: int | None) -> None:
    """A side has one pixel at least, and ends do not cross."""
    with pytest.raises(ValueError, match="no interval of pixels"):
        Interval(low, high)


def test_words_for_people() -> None:
    """Height first, exact sizes as one number, open ones with dots."""
    assert str(Spec(Interval(256), Interval.exactly(224), 3)) == "256.. x 224 x 3 uint8 [0, 255]"
    assert str(Spec(Interval(1, 8), Interval(2), 1, "float32", None)) == "1..8 x 2.. x 1 float32 any range"


def test_at_least_narrows_notes_or_refuses() -> None:
    """Large enough: nothing. Perhaps too small: narrowed, with a note. Always too small: an error with step and sizes."""
    spec = Spec(Interval(300), Interval(200, 400), 3)
    assert spec.at_least(300, 200, "crop") == spec
    assert spec.at_least(300, 200, "crop").notes == ()
    narrowed = spec.at_least(310, 250, "crop")
    assert (narrowed.height, narrowed.width) == (Interval(310), Interval(250, 400))
    assert narrowed.notes == ("crop needs 310x250 or more and may get 300.. x 200..400: smaller images will be rejected as too_small",)
    with pytest.raises(RecipeError, match=r"crop needs a width of at least 401, and gets 200\.\.400 at the most; resize or pad before it"):
        spec.at_least(1, 401, "crop")


@given(height=INTERVALS, width=INTERVALS, channels=st.sampled_from([1, 3]), dtype=st.sampled_from(["uint8", "float32"]))
def test_the_largest_image_bounds_the_bytes(height: Interval, width: Interval, channels: int, dtype: str) -> None:
    """Bytes follow from the upper ends; without one there is no bound."""
    spec = Spec(height, width, channels, dtype)
    if height.high is None or width.high is None:
        assert spec.max_bytes is None
    else:
        assert spec.max_bytes == height.high * width.high * channels * (4 if dtype == "float32" else 1)
        assert spec.admits(height.high, width.high, channels, dtype)
        assert not spec.admits(height.high + 1, width.high, channels, dtype)
    assert not spec.admits(height.low, width.low, channels + 1, dtype)
    assert spec.is_fixed == (height.is_exact and width.is_exact)
