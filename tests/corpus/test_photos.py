"""Real photos, all the way: what the README promises of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ray_prep.build import build
from ray_prep.dataset.reader import open as open_dataset
from ray_prep.recipe import Recipe

PHOTOS = Path(__file__).parents[3] / "shared" / "corpora" / "photos"
pytestmark = [
    pytest.mark.corpus,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photos are not there"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"),
]


def photos(target: Path) -> Recipe:
    """Return the recipe: short side 256, two copies of four transforms, the middle 224."""
    return Recipe.parse(
        {
            "seed": 7,
            "source": {"uri": str(PHOTOS)},
            "preprocess": [{"resize": {"short_side": 256}}],
            "augment": {
                "copies": 2,
                "transforms": [
                    {"RandomCrop": {"height": 224, "width": 224}},
                    {"HorizontalFlip": {"p": 0.5}},
                    {"Rotate": {"limit": 15, "p": 0.5}},
                    {"RandomBrightnessContrast": {"p": 0.5}},
                ],
            },
            "finish": [{"center_crop": {"height": 224, "width": 224}}],
            "split": {"train": 0.8, "val": 0.1, "test": 0.1},
            "output": {"uri": str(target), "shard_mb": 4},
        }
    )


def shards(target: Path) -> list[str]:
    """Return the names of the live shards, which hold the hash of their bytes."""
    return [shard.path for shard in open_dataset(str(target)).shards]


def check(target: Path, report: Any) -> None:
    """Hold a build of the photos to its numbers."""
    dataset = open_dataset(str(target))
    train = set(open_dataset(str(target), split="train").to_arrow(columns=["key"]).column("key").to_pylist())
    assert (report.listed, report.accepted, report.rejected) == (116, 116, 0)
    assert report.rows == len(dataset) == 116 + 2 * len(train)
    assert len(open_dataset(str(target), split="train").shards) >= 5
    keys: dict[str, set[str]] = {
        split: set(open_dataset(str(target), split=split).to_arrow(columns=["key"]).column("key").to_pylist()) for split in dataset.splits
    }
    assert sum(len(found) for found in keys.values()) == len(set().union(*keys.values())) == 116


def test_the_photos_locally(tmp_path: Path) -> None:
    """116 listed and accepted, rows = 116 + 2 x train, five train shards or more, no key in two splits; again: nothing to do."""
    report = build(photos(tmp_path / "local"), engine="local", workers=2)
    check(tmp_path / "local", report)
    assert build(photos(tmp_path / "local"), engine="local", workers=2).decoded == 0


@pytest.mark.ray
def test_the_photos_on_ray(tmp_path: Path) -> None:
    """The same on Ray: equal names and so equal bytes."""
    check(tmp_path / "ray", build(photos(tmp_path / "ray"), engine="ray", workers=2))
    build(photos(tmp_path / "local"), engine="local", workers=2)
    assert shards(tmp_path / "ray") == shards(tmp_path / "local")
