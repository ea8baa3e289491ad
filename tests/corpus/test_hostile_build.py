"""Builds over what people really have: every file ends as the corpus says, on both engines, and nothing brings a build down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ray_prep.build import build
from ray_prep.dataset.reader import open as open_dataset
from ray_prep.recipe import Recipe

CORPORA = Path(__file__).parents[3] / "shared" / "corpora"
FOLDERS = ("hostile", "odd-modes", "exif-orientation")

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not there"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"),
]


def _recipe(folder: str, target: Path) -> Recipe:
    return Recipe.parse(
        {
            "source": {"uri": str(CORPORA / folder)},
            "filter": {},
            "preprocess": [{"resize": {"height": 64, "width": 64}}],
            "output": {"uri": str(target)},
            "checks": {"max_rejected": 1.0},
        }
    )


def _firm(folder: str) -> dict[str, dict[str, Any]]:
    """Return what the corpus is sure of, by key."""
    lines = (CORPORA / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["file"].startswith(f"{folder}/")]
    return {row["file"].removeprefix(f"{folder}/"): row for row in rows if row["firm"]}


def _check(folder: str, target: Path, report: Any) -> None:
    """Hold a dataset against the corpus: accepted or rejected, and the upright size."""
    dataset = open_dataset(str(target))
    columns = ["key", "source_height", "source_width", "source_orientation"]
    accepted = {row["key"]: row for row in dataset.to_arrow(columns=columns).to_pylist()}
    rejected = {row["key"] for row in dataset.rejections.to_pylist()}
    assert report.listed == len(accepted) + len(rejected)
    wrong = []
    for key, row in _firm(folder).items():
        if (key in accepted) != (row["expect"] == "ok") or (key in rejected) == (key in accepted):
            wrong.append((key, row["expect"]))
        elif key in accepted:
            known = accepted[key]
            size = (known["source_height"], known["source_width"])
            upright = size[::-1] if known["source_orientation"] >= 5 else size
            if upright != (row["height"], row["width"]):
                wrong.append((key, upright, (row["height"], row["width"])))
    assert wrong == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_firm_file_ends_as_the_corpus_says(folder: str, tmp_path: Path) -> None:
    """Exit 0, every file accounted for, rejected ones for a reason, in child processes of this one."""
    _check(folder, tmp_path / "out", build(_recipe(folder, tmp_path / "out"), engine="local", workers=2))


@pytest.mark.ray
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_same_on_ray(folder: str, tmp_path: Path) -> None:
    """The same shards, names and bytes, on Ray."""
    _check(folder, tmp_path / "ray", build(_recipe(folder, tmp_path / "ray"), engine="ray", workers=2))
    build(_recipe(folder, tmp_path / "local"), engine="local", workers=2)
    one, other = (open_dataset(str(tmp_path / name)) for name in ("ray", "local"))
    assert [shard.path for shard in one.shards] == [shard.path for shard in other.shards]
