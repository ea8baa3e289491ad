from __future__ import annotations

import numpy as np
import pytest

from ray_prep.show.thumbnail import fit, to_rgb


def _photo(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, channels), np.uint8)


def test_uint8_is_shown_as_it_is() -> None:
    """Pixels of a uint8 picture are not touched, and nothing is said about them; grey gets three equal channels."""
    photo = _photo(5, 7)
    shown, note = to_rgb(photo)
    assert np.array_equal(shown, photo)
    assert note == ""
    gray, note = to_rgb(photo[:, :, :1])
    assert np.array_equal(gray, np.repeat(photo[:, :, :1], 3, axis=2))
    assert note == ""
    assert np.array_equal(to_rgb(photo[:, :, 0])[0], gray)


def test_a_known_range_is_mapped_back() -> None:
    """float32 in [0, 1] shows the very pixels it was made from."""
    photo = _photo(20, 30)
    shown, note = to_rgb(photo.astype(np.float32) / 255, value_range=(0, 1))
    assert np.array_equal(shown, photo)
    assert note == "range 0 … 1"


def test_mean_and_std_are_undone() -> None:
    """A normalised picture shows the pixels it was made from, and says so."""
    photo = _photo(20, 30)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    normalized = ((photo.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)).astype(np.float32)
    shown, note = to_rgb(normalized, mean=mean, std=std)
    assert np.abs(shown.astype(int) - photo).max() <= 1
    assert "undone" in note


def test_mean_without_std_counts() -> None:
    """Either constant may be missing."""
    photo = _photo(4, 4)
    shown, _ = to_rgb(photo.astype(np.float32) / 255 - np.float32(0.5), mean=(0.5, 0.5, 0.5))
    assert np.abs(shown.astype(int) - photo).max() <= 1


def test_an_unknown_range_is_stretched_and_stated() -> None:
    """Smallest is black, largest white, and both numbers are in the note."""
    ramp = np.linspace(-2, 6, 81, dtype=np.float32).reshape(9, 9, 1)
    shown, note = to_rgb(ramp)
    assert (shown.min(), shown.max()) == (0, 255)
    assert note == "stretched from -2 … 6"


def test_constant_and_unfinite_pictures_are_shown() -> None:
    """One value is mid-grey; what is not finite is magenta, and the rest is stretched by what is."""
    shown, _ = to_rgb(np.full((3, 3, 3), 7.5, np.float32))
    assert set(np.unique(shown)) <= {127, 128}
    image = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 2, 3)
    image[0, 0, 1], image[1, 1, 0] = np.nan, np.inf
    shown, note = to_rgb(image)
    assert shown[0, 0].tolist() == shown[1, 1].tolist() == [255, 0, 255]
    assert "not finite" in note
    assert to_rgb(np.full((2, 2, 1), np.nan, np.float32))[0].reshape(-1, 3).tolist() == [[255, 0, 255]] * 4


@pytest.mark.parametrize("shape", [(3, 3, 2), (3, 3, 4), (0, 4, 3), (3,), (1, 2, 3, 3)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    """The message names the shape."""
    with pytest.raises(ValueError, match=r"no picture to show: shape \("):
        to_rgb(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (32, 32), (224, 224), (256, 341), (500, 375), (4000, 30), (30, 4000), (3, 900), (256, 1)]
)
def test_every_size_fits(height: int, width: int) -> None:
    """A picture of any size lies within the space and can be seen."""
    shown, _ = fit(_photo(height, width), 256, 256)
    assert 1 <= shown.shape[0] <= 256
    assert 1 <= shown.shape[1] <= 256
    assert min(shown.shape[:2]) >= 14 or max(height, width) <= 256


def test_aspect_is_kept_where_it_can_be() -> None:
    """Both sides shrink by one factor, to half a pixel."""
    shown, note = fit(_photo(375, 500), 256, 256)
    assert shown.shape == (192, 256, 3)
    assert note == ""


def test_small_pictures_grow_by_whole_pixels() -> None:
    """Every pixel becomes a square, and the factor is stated; what fits once is shown pixel for pixel."""
    photo = _photo(32, 40)
    shown, note = fit(photo, 256, 256)
    assert shown.shape == (192, 240, 3)
    assert np.array_equal(shown[::6, ::6], photo)
    assert "6 times" in note
    same, note = fit(_photo(200, 224), 256, 256)
    assert np.array_equal(same, _photo(200, 224))
    assert note == ""


def test_widened_strips_say_so() -> None:
    """A strip that would be a hair line is widened, and the note admits it."""
    shown, note = fit(_photo(4000, 30), 256, 256)
    assert shown.shape[:2] == (256, 14)
    assert "widened" in note
