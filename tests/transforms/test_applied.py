"""Records of what was applied: plain, and never too long for their column."""

from __future__ import annotations

import json
from hashlib import sha256

import numpy as np

from ray_prep.transforms.applied import MAX_BYTES, applied_json, plain


def test_plain_keeps_numbers_as_they_are() -> None:
    """Numpy's numbers, tuples and small arrays become Python's, unrounded; what JSON cannot hold becomes text."""
    value = {"a": np.float32(0.1), "b": (1, 2.5, None), "c": np.arange(4).reshape(2, 2), "d": np.bool_(True), "e": float("inf"), 3: "x"}
    assert plain(value) == {"a": float(np.float32(0.1)), "b": [1, 2.5, None], "c": [[0, 1], [2, 3]], "d": True, "e": "inf", "3": "x"}
    assert plain(np.array([np.nan, 1.0])) == ["nan", 1.0]


def test_long_arrays_become_shape_and_hash() -> None:
    """Above 64 numbers an array is named by shape and sha256 of its bytes, a list by its length and text."""
    array = np.arange(65, dtype=np.float32).reshape(5, 13)
    assert plain(array) == {"shape": [5, 13], "sha256": sha256(array.tobytes()).hexdigest()}
    assert plain(array.T)["sha256"] == sha256(np.ascontiguousarray(array.T)).hexdigest()
    assert plain(array.ravel()[:64]) == list(range(64))
    pairs = [(number, number) for number in range(33)]
    assert plain(pairs)["shape"] == [33]
    assert plain(pairs) != plain(pairs[::-1])


def test_nothing_applied_is_null() -> None:
    """A copy that no random step touched has no params."""
    assert applied_json(()) is None


def test_records_are_shortened_until_they_fit() -> None:
    """Long lists go first, then all parameters, then the names: the text is JSON of at most 4096 bytes, and says something."""
    numbers = {"name": "Some", "values": [0.123456789 + number for number in range(60)]}
    few = applied_json([numbers] * 2)
    several = applied_json([numbers, {"name": "Other", "angle": 3.5}] * 5)
    many = applied_json([{"name": "Name", "text": "x" * 40}] * 150)
    countless = applied_json([{"name": "Name"}] * 1000)
    assert few is not None and several is not None and many is not None and countless is not None  # noqa: PT018
    assert json.loads(few) == [numbers, numbers]
    assert json.loads(several)[1] == {"name": "Other", "angle": 3.5}
    assert json.loads(several)[0]["values"]["shape"] == [60]
    assert json.loads(many) == [{"name": "Name"}] * 150
    assert json.loads(countless)[0]["steps"] == 1000
    assert all(len(text.encode()) <= MAX_BYTES for text in (few, several, many, countless))
