from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ray_prep.dataset.repeats import Place, Repeats, digests

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("rows_in_memory", [7, 300, 10**6])
def test_rows_with_the_same_key_and_copy_are_found_wherever_they_are(tmp_path: Path, rows_in_memory: int) -> None:
    """Within a shard and across shards, from disk as from memory; copies of one image are no repeats, nor are keys that look alike."""
    keys = [f"k{number}" for number in range(500)]
    repeats = Repeats(tmp_path, rows_in_memory)
    for shard in range(4):
        own = keys[shard * 120 : shard * 120 + 120]
        copies = [0] * 120
        if shard == 1:
            own[5], copies[5] = "k3", 1  # a copy of the first shard's k3
            own[6] = "0\x00k3"
        if shard == 3:
            own[10], own[11] = "k3", own[12]
        repeats.add(shard, digests(own, copies))
    assert bool(list(tmp_path.iterdir())) == (rows_in_memory < 480)
    assert sorted(repeats.found()) == [(Place(0, 3), Place(3, 10)), (Place(3, 11), Place(3, 12))]


def test_three_of_a_kind_are_two_pairs(tmp_path: Path) -> None:
    """The first and the second, the second and the third."""
    repeats = Repeats(tmp_path)
    for shard in range(3):
        repeats.add(shard, digests(["a"], [0]))
    assert list(repeats.found()) == [(Place(0, 0), Place(1, 0)), (Place(1, 0), Place(2, 0))]


def test_nothing_repeats_in_an_empty_table(tmp_path: Path) -> None:
    """No rows, no error."""
    repeats = Repeats(tmp_path)
    repeats.add(0, digests([], []))
    assert list(repeats.found()) == []
