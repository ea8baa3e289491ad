"""One picture in a process of its own: what comes back is what the walk says, or how the process ended."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ray_prep.errors import DecodeError, ProcessDied
from ray_prep.isolation import Isolation
from ray_prep.walk import Walk
from ray_prep.work import read_items

if TYPE_CHECKING:
    from ray_prep.sample import Item

pytestmark = pytest.mark.slow


def _items(collection: Any, **sections: Any) -> tuple[Any, str, dict[str, Item]]:
    work, refs = collection.planned(output={"shard_mb": 1}, split=None, **sections)
    return work, refs[0].split, {item.key: item for item in read_items(work, refs[0])}


def test_rows_are_those_of_the_walk(collection: Any) -> None:
    """Pixels, sums, params and facts come through the pipe as they are; rejections as the errors they are; and fast."""
    work, split, items = _items(
        collection, augment={"copies": 1, "splits": ["train"], "transforms": [{"RandomBrightnessContrast": {"p": 1}}]}
    )
    walk = Walk(work.recipe, work.class_ids)
    with Isolation(work) as isolation:
        isolation.run("measured", split, items["cat/06.jpg"], collection.pictures["cat/06.jpg"])
        began = time.monotonic()
        for key in sorted(items)[:12]:
            data = collection.pictures[key]
            if key == "cat/cut_short.jpg":
                with pytest.raises(DecodeError) as caught:
                    isolation.run("rows", split, items[key], data)
                assert caught.value.reason == "truncated"
                continue
            for one, other in zip(isolation.run("rows", split, items[key], data), walk.rows(split, items[key], data), strict=True):
                assert one.pop("image").tobytes() == other.pop("image").tobytes()
                assert one == other
            assert isolation.run("measured", split, items[key], data) == walk.measured(split, items[key], data)
        assert (time.monotonic() - began) / 24 < 0.25  # a fresh interpreter would cost a second each


def test_a_bug_is_no_rejection(collection: Any) -> None:
    """What is no picture's fault ends the unit, even in a process of its own."""
    work, split, items = _items(collection)
    with Isolation(work) as isolation, pytest.raises(RuntimeError, match="TypeError"):
        isolation.run("rows", split, items["cat/06.jpg"], "no bytes")  # type: ignore[arg-type]


def test_the_deadline_is_the_items_own(collection: Any) -> None:
    """A picture that takes longer is `timed_out`; the next one has the whole time again, and the process is the same."""
    (collection.home / "sleepy_step.py").write_text(
        "import time\n\ndef fn(image, rng):\n    if image.shape[0] == 32:\n        time.sleep(30)\n    return image\n"
    )
    work, split, items = _items(collection, preprocess=[{"resize": {"short_side": 32}}, {"python": {"call": "sleepy_step:fn"}}])

    with Isolation(replace(work, item_deadline_s=1.0)) as isolation:
        outcomes: dict[str, str] = {}
        longest_s = 0.0
        for key in sorted(items)[:6]:
            began = time.monotonic()
            try:
                isolation.run("rows", split, items[key], collection.pictures[key])
                outcomes[key] = "made"
            except ProcessDied as error:
                outcomes[key] = f"{error.reason}: {error.message}"
            longest_s = max(longest_s, time.monotonic() - began)
    assert set(outcomes.values()) == {"made", "timed_out: not done after 1 s"}
    assert longest_s < 10
