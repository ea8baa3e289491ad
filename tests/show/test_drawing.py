from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageOps

from ray_prep.show import drawing
from ray_prep.show.drawing import LABELS, draw_collection, draw_picture
from ray_prep.show.scenery import SCENES

if TYPE_CHECKING:
    from pathlib import Path

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

COUNT = 32


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw the collection that most rules are checked on."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_collection(folder, COUNT, seed=3)
    return folder


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def _whole(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*.*") if path.stem.startswith(path.parent.name))


def test_same_seed_same_bytes(collection: Path, tmp_path: Path) -> None:
    """A collection is a function of count and seed, byte for byte; another seed gives another."""
    draw_collection(tmp_path / "again", COUNT, seed=3)
    assert _files(tmp_path / "again") == _files(collection)
    draw_collection(tmp_path / "other", 3, seed=4)
    assert not {path.read_bytes() for path in _whole(tmp_path / "other")} & {path.read_bytes() for path in _whole(collection)}


def test_counts(collection: Path) -> None:
    """There are as many whole pictures as asked for, three broken files, and every label has its folder."""
    assert len(_whole(collection)) == COUNT
    assert len(_files(collection)) == COUNT + 3
    assert sorted(path.name for path in collection.iterdir()) == sorted(LABELS)


@pytest.mark.parametrize("count", [1, 2, 9, 10])
def test_small_collections_have_their_size(count: int, tmp_path: Path) -> None:
    """A count below the number of kinds is kept to as well."""
    draw_collection(tmp_path, count)
    assert len(_whole(tmp_path)) == count


def test_kinds(collection: Path) -> None:
    """Most are RGB JPEG, one is CMYK, and each odd kind of PNG, WebP and JPEG is there."""
    kinds: Counter[tuple[str | None, str]] = Counter()
    for path in _whole(collection):
        with Image.open(path) as image:
            image.load()
            kinds[image.format, image.mode] += 1
            assert 240 <= min(image.size) <= max(image.size) <= 900
    assert kinds["JPEG", "CMYK"] == 1
    assert kinds["JPEG", "RGB"] > COUNT / 2
    odd = {("JPEG", "L"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16"), ("WEBP", "RGB"), ("WEBP", "RGBA")}
    assert odd <= set(kinds)


def test_landscape_and_portrait(collection: Path) -> None:
    """Neither format of paper is rare."""
    shapes = []
    for path in _whole(collection):
        with Image.open(path) as image:
            shapes.append(ImageOps.exif_transpose(image).size)
    assert sum(width > height for width, height in shapes) >= COUNT // 6
    assert sum(width < height for width, height in shapes) >= COUNT // 6


def test_orientations_are_undone_by_their_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All eight orientations are there, and shown upright each picture is the one that was drawn."""
    drawn = []

    def record(label: str, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        drawn.append(draw_picture(label, height, width, rng))
        return drawn[-1]

    monkeypatch.setattr(drawing, "draw_picture", record)
    draw_collection(tmp_path, 30, seed=1)
    seen: Counter[int | None] = Counter()
    for path in _whole(tmp_path):
        with Image.open(path) as image:
            orientation = image.getexif().get(0x0112)
            if orientation is None:
                continue
            seen[orientation] += 1
            upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        picture = drawn[int(path.stem[-4:])]
        assert upright.shape == picture.shape
        assert np.abs(upright.astype(int) - picture).mean() < 12, path.name
        for turned in (picture[::-1], picture[:, ::-1], picture[::-1, ::-1]):
            assert np.abs(upright.astype(int) - turned).mean() > 12, path.name
    assert sorted(seen) == list(range(1, 9))


def test_broken_files_are_broken(collection: Path) -> None:
    """One ends in the middle, one is a web page, one is empty; none of them decodes."""
    assert (collection / "ring" / "empty.jpg").read_bytes() == b""
    assert (collection / "star" / "web_page.jpg").read_bytes().startswith(b"<!doctype html>")
    cut = collection / "square" / "cut_short.jpg"
    assert cut.read_bytes()[:3] == b"\xff\xd8\xff"
    with Image.open(cut) as image, pytest.raises(OSError, match="truncated"):
        image.load()


@pytest.mark.parametrize(
    ("label", "height", "width"), [*((label, 240, 300) for label in LABELS), ("star", 901, 60), ("ring", 1100, 1300), ("cross", 24, 24)]
)
def test_any_size(label: str, height: int, width: int) -> None:
    """A picture of any label has the size that was asked for, more than one colour, and depends on its generator."""
    pictures = [draw_picture(label, height, width, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert pictures[0].shape == (height, width, 3)
    assert pictures[0].dtype == np.uint8
    assert pictures[0].std() > 5
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_scenes(scene: object) -> None:
    """Every scene fills the picture, landscape and portrait."""
    for height, width in ((90, 160), (160, 90)):
        picture = scene(height, width, np.random.default_rng(5))  # type: ignore[operator]
        assert picture.shape == (height, width, 3)
        assert picture.dtype == np.uint8
        assert picture.reshape(-1, 3).std(axis=0).max() > 5
