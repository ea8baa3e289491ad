"""Pixels survive their encoding as far as it promises."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from ray_prep.errors import LimitError
from ray_prep.image.allocation import keep_large_buffers
from ray_prep.image.decode import Decode, decode
from ray_prep.image.encode import ENCODINGS
from ray_prep.image.header import read_header

PICTURE = cv2.GaussianBlur(np.random.default_rng(8).integers(0, 256, (61, 87, 3)).astype(np.uint8), (9, 9), 0)


def psnr(a: Any, b: Any) -> float:
    """Return the peak signal-to-noise ratio in dB."""
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_round_trip(name: str, channels: int) -> None:
    """PNG is exact, the others near; red stays red; twice the same pixels are twice the same bytes."""
    picture = np.ascontiguousarray(PICTURE[..., :channels])
    picture[:20, :20] = [220, 40, 90][:channels]
    encoded = ENCODINGS[name](picture)
    assert isinstance(encoded, bytes)
    assert ENCODINGS[name](picture.copy()) == encoded
    header = read_header(encoded)
    assert (header.format, header.height, header.width) == (name, 61, 87)
    image = decode(encoded, header, Decode(color="rgb" if channels == 3 else "gray"))
    assert image.shape == picture.shape
    if name == "png":
        np.testing.assert_array_equal(image, picture)
    else:
        assert psnr(image, picture) > 34
        assert np.abs(image[5:15, 5:15].astype(int) - picture[5:15, 5:15]).max() < 12


@pytest.mark.parametrize("name", ENCODINGS)
def test_others_read_what_is_written(name: str) -> None:
    """The file is an ordinary one, not only to ourselves."""
    with Image.open(io.BytesIO(ENCODINGS[name](PICTURE))) as image:
        assert (image.format, image.mode, image.size) == (name.upper(), "RGB", (87, 61))
        assert psnr(np.asarray(image), PICTURE) > 34 if name != "png" else np.array_equal(np.asarray(image), PICTURE)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize(
    "bad", [PICTURE.astype(np.float32), PICTURE[..., 0], PICTURE[..., :2], PICTURE.astype(np.uint16), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_cannot_be_encoded_is_named(name: str, bad: Any) -> None:
    """Another dtype or shape says what would be right."""
    with pytest.raises(ValueError, match=r"uint8 of \(H, W, 1 or 3\) would be right"):
        ENCODINGS[name](bad)


def test_sides_that_a_format_cannot_hold() -> None:
    """WebP ends at 16,383 pixels, JPEG at 65,535."""
    with pytest.raises(LimitError, match="16384x1"):
        ENCODINGS["webp"](np.zeros((16384, 1, 3), np.uint8))
    with pytest.raises(LimitError, match="65536"):
        ENCODINGS["jpeg"](np.zeros((1, 65536, 1), np.uint8))


def test_keeping_buffers_is_harmless() -> None:
    """It may be asked of any C library, any number of times."""
    first = keep_large_buffers()
    assert isinstance(first, bool)
    assert keep_large_buffers() == first
