from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFile

from ray_prep.errors import DecodeError
from ray_prep.image.salvage import salvage

MANY = 100_000_000


@pytest.fixture(autouse=True)
def _tolerance_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Salvaging switches Pillow's tolerance on for the process, which here goes on."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)


def _gradient(height: int, width: int) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([rows * 255 // height, columns * 255 // width, rows * 0 + 90], axis=2).astype(np.uint8))


def _saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, image_format, **options)
    return out.getvalue()


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF"])
def test_of_a_cut_file_the_upper_part_is_shown(image_format: str) -> None:
    """As far as the bytes go, right side up and at a size for a person's eye."""
    data = _saved(_gradient(600, 300), image_format)
    whole = salvage(data, MANY)
    assert whole.shape == (256, 128, 3)
    cut = salvage(data[: len(data) * 6 // 10], MANY)
    assert cut.shape == whole.shape
    assert np.abs(cut[:80].astype(int) - whole[:80]).mean() < 4
    assert np.abs(cut[-20:].astype(int) - whole[-20:]).mean() > 20


def test_orientation_is_applied_also_to_what_is_cut() -> None:
    """The turned upper part of the file is the right part of the picture."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = _saved(_gradient(600, 300), "JPEG", exif=exif.tobytes())
    cut = salvage(data[: len(data) * 6 // 10], MANY)
    assert cut.shape == (128, 256, 3)
    assert cut[:, -20:].astype(int).std() > cut[:, :20].astype(int).std()


def test_a_jpeg_above_the_limit_is_decoded_at_an_eighth() -> None:
    """Which has a 64th of the pixels; other formats, and larger ones, are not decoded."""
    image = _gradient(640, 320)
    assert salvage(_saved(image, "JPEG"), 640 * 320 - 1).shape == (80, 40, 3)
    for data, limit in ((_saved(image, "PNG"), 640 * 320 - 1), (_saved(image, "JPEG"), 640 * 5 - 1)):
        with pytest.raises(DecodeError, match="too large to be shown"):
            salvage(data, limit)


@pytest.mark.parametrize("data", [b"", b"<html>", b"\x89PNG\r\n\x1a\n\0\0"])
def test_where_nothing_can_be_shown_it_says_so(data: bytes) -> None:
    """An error of one picture, as with decoding."""
    with pytest.raises(DecodeError):
        salvage(data, MANY)
