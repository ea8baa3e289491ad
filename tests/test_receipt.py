from __future__ import annotations

import json

import pytest

from ray_prep.dataset.record import ShardFacts
from ray_prep.dataset.shard import Shard
from ray_prep.receipt import Receipt
from ray_prep.sample import Rejection
from ray_prep.tally import Tally

RECEIPT = Receipt(
    unit_id="0" * 40,
    items=5,
    shards=(
        ShardFacts(
            Shard("split=train/a.parquet", "train", 6, 100, "a" * 64, "k1", "k3"), "0" * 40, 3, {"cat": 2}, (30, 2**60, 1, 1, 3, 4, 5)
        ),
        ShardFacts(Shard("split=train/b.parquet", "train", 2, 50, "b" * 64, "k4", "k4"), "0" * 40, 1, {}, (10, 1, 1, 1, 3, 4, 5)),
    ),
    rejections=(Rejection("k2", "/caf\udce9.jpg", "v", "decode", "corrupt", "caf\udce9: it is bad", 2),),
    sums=(1, 2, 3),
    source_bytes=1234,
    conditions={"cpu_level": "x86-64-v3"},
    seconds=1.5,
)


def test_a_receipt_is_read_as_it_was_written() -> None:
    """Every field survives storage: large sums, names that are not UTF-8, attempts."""
    assert Receipt.from_json(RECEIPT.to_json()) == RECEIPT
    assert (RECEIPT.rows, RECEIPT.stored_bytes) == (8, 150)


@pytest.mark.parametrize("data", [b"", b'{"format": 1, "unit_id"', b'{"format": 0}', b"{}", b"\xff", b"[]", b'{"format": 1}'])
def test_what_is_no_receipt(data: bytes) -> None:
    """A file that was cut, or is of another format, is no receipt; its unit is made again."""
    assert Receipt.from_json(data) is None


def test_the_same_receipt_is_the_same_bytes() -> None:
    """What is written does not depend on the order of its keys."""
    known = json.loads(RECEIPT.to_json())
    assert list(known) == sorted(known)


def test_a_tally_adds_up(tmp_path: object) -> None:
    """Images, rows, classes and sums add up over units; only what ran now counts as decoded."""
    with Tally(tmp_path) as tally:  # type: ignore[arg-type]
        tally.add(RECEIPT, is_new=True)
        tally.add(RECEIPT, is_new=False)
        assert (tally.accepted, tally.rows, tally.rejected, tally.decoded) == (8, 16, 2, 5)
        assert tally.counts == {"train": {"cat": 4, "": 4}}
        assert tally.sums["train"] == (80, 2 * 2**60 + 2, 4, 4, 12, 16, 20)
        assert list(tally.rejections()) == [*RECEIPT.rejections, *RECEIPT.rejections]
        assert tally.rejected_by_reason == {"corrupt": 2}
