from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ray_prep.dataset.reader import Dataset
from ray_prep.dataset.reader import open as open_dataset
from ray_prep.dataset.schema import ImageColumn
from ray_prep.errors import RecipeError

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch")

Make = Callable[..., Any]
RANGE = (0.0, 255.0)
FIXED = ImageColumn("tensor", (6, 5, 3), "uint8", "rgb", RANGE)
FLOAT = ImageColumn("tensor", (3, 3, 1), "float32", "gray", None)
VARIES = ImageColumn("tensor", None, "uint8", "rgb", RANGE)
PNG = ImageColumn("png", None, "uint8", "rgb", RANGE)
PNG_FIXED = ImageColumn("png", (4, 7, 3), "uint8", "rgb", RANGE)
KINDS = pytest.mark.parametrize(
    "image", [FIXED, FLOAT, VARIES, PNG, PNG_FIXED], ids=lambda image: f"{image.encoding}-{image.dtype}-{image.shape}"
)
SHARDS = {"train": [11, 7, 3, 1], "val": [5]}


def loader(dataset: Any, workers: int, **settings: Any) -> Any:
    """Return PyTorch's own loader of it."""
    from torch.utils.data import DataLoader

    return DataLoader(dataset, num_workers=workers, **settings)


def keys(batches: Any) -> list[str]:
    """Return the keys in the order they came."""
    return [key for batch in batches for key in batch["key"]]


@KINDS
@pytest.mark.parametrize("shuffle", [0, 4])
def test_batches_hold_the_stored_pixels_channels_first(a_table: Make, image: ImageColumn, shuffle: int) -> None:
    """(N, C, H, W) in channels_last memory, dtype kept; a list where shapes differ; every row once."""
    made = a_table(image, SHARDS)
    seen = []
    for batch in open_dataset(made.uri).to_torch(4, shuffle=shuffle):
        if image.shape:
            assert batch["image"].is_contiguous(memory_format=torch.channels_last) or 1 in batch["image"].shape
        for key, pixels, label_id in zip(batch["key"], batch["image"], batch["label_id"], strict=True):
            assert str(pixels.dtype) == f"torch.{image.dtype}"
            np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), made.pixels[key])
            expected = made.rows[key]["label_id"]
            assert int(label_id) == (-1 if expected is None else expected)
            seen.append(key)
    assert sorted(seen) == sorted(made.rows)


@pytest.mark.parametrize("shuffle", [0, 6])
@pytest.mark.parametrize(("world_size", "workers"), [(1, 0), (5, 0), (2, 2)])
def test_every_row_comes_once_over_all_ranks_and_workers(a_table: Make, world_size: int, workers: int, shuffle: int) -> None:
    """Whatever the shards are; shares of ranks differ by a row at the most."""
    made = a_table(FIXED, SHARDS)
    shares = []
    for rank in range(world_size):
        batches = open_dataset(made.uri).to_torch(4, shuffle=shuffle, seed=3, epoch=2, rank=rank, world_size=world_size)
        shares.append(keys(loader(batches, workers, batch_size=None)))
    assert Counter(key for share in shares for key in share) == Counter(list(made.rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_workers_than_rows_is_no_error(a_table: Make) -> None:
    """Some have nothing to do."""
    made = a_table(FIXED, {"train": [2]})
    dataset = open_dataset(made.uri)
    shares = [keys(dataset.to_torch(4, rank=rank, world_size=5)) for rank in range(5)]
    assert sorted(key for share in shares for key in share) == sorted(made.rows)


def test_the_order_follows_from_seed_and_epoch_alone(a_table: Make) -> None:
    """Same seed and epoch, same order; another of either, another order; without shuffling the stored one."""
    dataset = open_dataset(a_table(FIXED, SHARDS).uri)

    def order(**settings: Any) -> list[str]:
        return keys(dataset.to_torch(4, **settings))

    shuffled = order(shuffle=8, seed=1, epoch=1)
    assert shuffled == order(shuffle=8, seed=1, epoch=1)
    stored = dataset.to_arrow(columns=["key"]).column("key").to_pylist()
    others = [order(shuffle=8, seed=2, epoch=1), order(shuffle=8, seed=1, epoch=2), order()]
    assert len({tuple(other) for other in [shuffled, *others]}) == 4
    assert order() == stored


def test_the_epoch_can_be_set(a_table: Make) -> None:
    """set_epoch is what the argument would have been."""
    dataset = open_dataset(a_table(FIXED, SHARDS).uri)
    batches = dataset.to_torch(4, shuffle=8, epoch=0)
    first = keys(batches)
    batches.set_epoch(1)
    assert keys(batches) == keys(dataset.to_torch(4, shuffle=8, epoch=1)) != first


def test_a_buffer_mixes_shards_and_rows(a_table: Make) -> None:
    """Neighbours in the files are not neighbours in the epoch."""
    made = a_table(FIXED, {"train": [40, 40, 40]})
    order = keys(open_dataset(made.uri).to_torch(8, shuffle=60))
    places = [int(key.split("/")[1]) for key in order[:40]]
    assert len(set(places)) >= 2
    steps = np.diff([int(key.split("/")[2][:3]) for key in order])
    assert np.mean(steps == 1) < 0.2


def test_batches_are_full_but_for_the_last(a_table: Make) -> None:
    """They go over the ends of row groups and shards."""
    dataset = open_dataset(a_table(FIXED, SHARDS).uri)
    assert [len(batch["key"]) for batch in dataset.to_torch(10)] == [10, 10, 7]


def test_other_columns_come_with_the_batch(a_table: Make) -> None:
    """Integers of ours as int64 tensors, all else as lists."""
    made = a_table()
    for batch in open_dataset(made.uri).to_torch(5, columns=["key", "height", "boxes", "src_Label", "split"]):
        assert list(batch) == ["image", "key", "height", "boxes", "src_Label", "split"]
        assert batch["height"].dtype == torch.int64
        assert batch["boxes"] == [made.rows[key]["boxes"] for key in batch["key"]]
        assert batch["split"] == [made.splits[key] for key in batch["key"]]


@pytest.mark.parametrize("image", [FIXED, VARIES, PNG], ids=["fixed", "varies", "png"])
@pytest.mark.parametrize("columns", [["key", "image", "key"], ["image"], None], ids=["named", "alone", "all"])
def test_images_are_tensors_though_they_are_asked_for(a_table: Make, image: ImageColumn, columns: list[str] | None) -> None:
    """`image` among the columns is what a batch and a row have anyway: a tensor, never the stored bytes."""
    dataset = open_dataset(a_table(image).uri)
    names = dict.fromkeys(["image", *(dataset.schema.names if columns is None else columns)])
    plain = dataset.to_torch(5)
    for batch, same in zip(plain, dataset.to_torch(5, columns=columns), strict=True):
        assert list(same) == list(names)
        assert all(torch.equal(one, other) for one, other in zip(batch["image"], same["image"], strict=True))
    rows = dataset.to_torch(random_access=True, columns=columns)
    assert list(rows[0]) == list(names)
    assert torch.equal(rows[0]["image"], dataset.to_torch(random_access=True)[0]["image"])


@pytest.mark.parametrize(("image", "compression"), [(FIXED, "none"), (FIXED, "lz4"), (FLOAT, "none"), (VARIES, "none"), (PNG, "none")])
def test_rows_are_found_by_number(a_table: Make, image: ImageColumn, compression: str) -> None:
    """In any order, from the end too; numbers follow the stored order."""
    made = a_table(image, SHARDS, compression=compression)
    dataset = open_dataset(made.uri)
    rows = dataset.to_torch(random_access=True, columns=["key", "label_id", "boxes"])
    stored = dataset.to_arrow(columns=["key"]).column("key").to_pylist()
    assert len(rows) == len(stored)
    for number in np.random.default_rng(0).permutation(len(stored)):
        row = rows[int(number)]
        assert row["key"] == stored[number]
        np.testing.assert_array_equal(row["image"].permute(1, 2, 0).numpy(), made.pixels[row["key"]])
        assert row["boxes"] == made.rows[row["key"]]["boxes"]
    assert rows[-1]["key"] == stored[-1]
    for beyond in (len(stored), -len(stored) - 1):
        with pytest.raises(IndexError):
            rows[beyond]


def test_a_row_may_be_changed_by_who_took_it(a_table: Make) -> None:
    """An augmentation in place must not be seen in the next epoch: a row is a copy, the file stays."""
    made = a_table()
    rows = open_dataset(made.uri).to_torch(random_access=True)
    rows[0]["image"].zero_()
    np.testing.assert_array_equal(rows[0]["image"].permute(1, 2, 0).numpy(), made.pixels[rows[0]["key"]])


def test_a_sampler_takes_rows_through_workers(a_table: Make) -> None:
    """The usual DataLoader: shuffled, batched and collated by PyTorch, also in workers that are started anew."""
    made = a_table(FIXED, SHARDS)
    rows = open_dataset(made.uri).to_torch(random_access=True)
    assert rows[0]["key"] in made.rows
    batches = list(loader(rows, 2, batch_size=8, shuffle=True))
    assert sorted(keys(batches)) == sorted(made.rows)
    for batch in batches:
        assert batch["image"].shape[1:] == (3, 6, 5)
        np.testing.assert_array_equal(batch["image"][0].permute(1, 2, 0).numpy(), made.pixels[batch["key"][0]])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 0}, "batch_size: 0"),
        ({"shuffle": -1}, "shuffle: -1"),
        ({"shuffle": True}, "shuffle: True is no whole number"),
        ({"world_size": "2"}, "world_size: '2' is no whole number of 1"),
        ({"rank": 2, "world_size": 2}, "rank: 2 is none of world_size 2"),
        ({"random_access": True, "shuffle": 100}, "belong to the DataLoader's sampler"),
        ({"columns": ["lable"]}, "did you mean 'label'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(a_table: Make, settings: dict[str, Any], said: str) -> None:
    """With what was given."""
    dataset: Dataset = open_dataset(a_table().uri)
    with pytest.raises(RecipeError, match=said):
        dataset.to_torch(**settings)
