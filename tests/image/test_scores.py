from __future__ import annotations

import io
import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ray_prep.dataset.schema import SCORES as COLUMN
from ray_prep.image.decode import Decode, decode
from ray_prep.image.header import read_header
from ray_prep.image.scores import SCORES, decode_at_least, measure

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

Pixels = np.ndarray[Any, Any]


def scored(image: Pixels) -> dict[str, float]:
    """Return all scores of a grey or RGB picture."""
    return measure(image if image.ndim == 3 else image[..., None], SCORES)


def scene(height: int, width: int, number: int = 0) -> Pixels:
    """Draw edges of all directions and sizes: dark and light discs and bars over a ramp, antialiased, in proportion to the size."""
    rng = np.random.default_rng(number)
    over = 2
    canvas = np.linspace(60, 160, width * over, dtype=np.float32)[None].repeat(height * over, axis=0).astype(np.uint8)
    canvas = cv2.merge([canvas, canvas // 2 + 40, 200 - canvas])
    side = math.sqrt(height * width) * over
    for _ in range(120):
        row, column = int(rng.uniform(0, height * over)), int(rng.uniform(0, width * over))
        color = tuple(int(value) for value in rng.integers(0, 256, 3))
        size = max(1, round(side * rng.uniform(0.01, 0.06)))
        if rng.random() < 0.5:
            cv2.circle(canvas, (column, row), size, color, -1)
        else:
            cv2.line(canvas, (column, row), (column + 3 * size, row + round(size * rng.uniform(-3, 3))), color, max(1, round(side * 0.008)))
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA))


def blurred(image: Pixels, share: float) -> Pixels:
    """Blur by a share of the picture's side."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), share * math.sqrt(image.shape[0] * image.shape[1])))


def test_the_column_has_a_field_for_each_score() -> None:
    """Names and order are those of the table."""
    assert [COLUMN.field(place).name for place in range(COLUMN.num_fields)] == list(SCORES)


@pytest.mark.parametrize(
    ("picture", "brightness", "contrast"),
    [
        (np.zeros((300, 400), np.uint8), 0, 0),
        (np.full((300, 400), 255, np.uint8), 1, 0),
        (np.full((300, 400), 51, np.uint8), 0.2, 0),
        (np.repeat(np.array([0, 255], np.uint8), 200)[None].repeat(300, axis=0), 0.5, 1),
        (np.repeat(np.array([51, 102], np.uint8), 200)[None].repeat(300, axis=0), 0.3, 0.2),
        ((np.indices((200, 200)) // 20).sum(axis=0).astype(np.uint8) % 2 * 255, 0.5, 1),
        # 3 % of black on white: it is no empty page, and a light one.
        (np.repeat(np.array([0, 255], np.uint8), [6, 194])[None].repeat(200, axis=0), 1, 1),
        # Half a percent: dust.
        (np.repeat(np.array([0, 255], np.uint8), [1, 199])[None].repeat(200, axis=0), 1, 0),
        (np.array([[7]], np.uint8), 7 / 255, 0),
    ],
)
def test_brightness_and_contrast_of_known_pictures(picture: Pixels, brightness: float, contrast: float) -> None:
    """Middle and width of luma's range."""
    scores = scored(picture)
    assert scores["brightness"] == pytest.approx(brightness, abs=1e-6)
    assert scores["contrast"] == pytest.approx(contrast, abs=1e-6)
    assert (scores["sharpness"] == 0) == (picture.min() == picture.max())


def test_brightness_and_contrast_are_percentiles() -> None:
    """They agree with numpy's percentiles of luma, to a level."""
    for number in range(5):
        pixels = np.random.default_rng(number).gamma(2, 10 + 10 * number, (190, 250)).clip(0, 255).astype(np.uint8)
        scores = scored(pixels)
        low, high = np.percentile(pixels, [5, 95])
        assert scores["brightness"] == pytest.approx((low + high) / 510, abs=1 / 255)
        low, high = np.percentile(pixels, [1, 99])
        assert scores["contrast"] == pytest.approx((high - low) / 255, abs=2 / 255)


def test_sharpness_is_the_quotient_it_says() -> None:
    """It agrees with the formula computed in floats by other means."""
    pixels = cv2.cvtColor(scene(190, 250), cv2.COLOR_RGB2GRAY)
    wide = np.pad(pixels.astype(float), 1, mode="edge")
    rows = (wide[:-2] + 2 * wide[1:-1] + wide[2:]) / 4
    smooth = np.pad((rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4, 1, mode="edge")
    laplacian = smooth[:-2, 1:-1] + smooth[2:, 1:-1] + smooth[1:-1, :-2] + smooth[1:-1, 2:] - 4 * smooth[1:-1, 1:-1]
    assert scored(pixels)["sharpness"] == pytest.approx(laplacian.std() / math.sqrt(pixels.var() + 1), rel=1e-6)


@pytest.mark.parametrize("size", [(224, 224), (375, 500), (1200, 900)])
def test_the_more_blurred_the_lower(size: tuple[int, int]) -> None:
    """Blur by growing shares of the side is ordered, at any size, also after JPEG compression."""
    for number in range(3):
        picture = scene(*size, number)
        copies = [picture, *(blurred(picture, share) for share in (0.0025, 0.005, 0.01, 0.02, 0.04))]
        scores = [scored(copy)["sharpness"] for copy in copies]
        assert scores == sorted(scores, reverse=True)
        assert scores[3] < 0.09 < 0.25 < scores[0]
        data = cv2.imencode(".jpg", copies[3], [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
        assert scored(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)))["sharpness"] < 0.09


def test_darker_is_darker_and_flatter_is_flatter() -> None:
    """Exposure orders brightness, the span of values orders contrast; neither makes a sharp picture a blurred one."""
    picture = scene(375, 500)
    exposed = [scored((((picture / 255) ** 2.2 / 2**stops) ** (1 / 2.2) * 255).astype(np.uint8)) for stops in range(5)]
    assert [scores["brightness"] for scores in exposed] == sorted((scores["brightness"] for scores in exposed), reverse=True)
    assert exposed[4]["brightness"] < 0.2 < 0.4 < exposed[0]["brightness"]
    flat = [scored((picture * share + 100).astype(np.uint8)) for share in (0.6, 0.3, 0.1)]
    assert [scores["contrast"] for scores in flat] == sorted((scores["contrast"] for scores in flat), reverse=True)
    assert flat[2]["contrast"] < 0.1 < 0.3 < flat[0]["contrast"]
    for scores in (*exposed, *flat):
        assert scores["sharpness"] == pytest.approx(scored(picture)["sharpness"], rel=0.1)


def test_a_negative_is_as_sharp_and_as_rich() -> None:
    """Black and white play the same part."""
    grey = cv2.cvtColor(scene(190, 250), cv2.COLOR_RGB2GRAY)
    scores, negative = scored(grey), scored(255 - grey)
    assert negative["brightness"] == pytest.approx(1 - scores["brightness"], abs=1e-6)
    assert negative["contrast"] == scores["contrast"]
    assert negative["sharpness"] == scores["sharpness"]


def test_resolution_matters_little() -> None:
    """From 300 x 400 to 2400 x 3200 sharpness stays within a quarter, the others within 0.05."""
    for number in range(3):
        large = scene(2400, 3200, number)
        known = [scored(cv2.resize(large, (width, 3 * width // 4), interpolation=cv2.INTER_AREA)) for width in (400, 500, 640, 1000, 1600)]
        known.append(scored(large))
        sharp = [scores["sharpness"] for scores in known]
        assert max(sharp) < 1.25 * min(sharp)
        for name in ("brightness", "contrast"):
            assert max(scores[name] for scores in known) - min(scores[name] for scores in known) < 0.05


def test_a_jpeg_decoded_smaller_scores_the_same() -> None:
    """What `jpeg_scaling` may leave is enough: sharpness within 3 %, the others within 0.01."""
    for height, width in ((1200, 1600), (1801, 1203), (2400, 3199)):
        data = bytes(cv2.imencode(".jpg", scene(height, width), [cv2.IMWRITE_JPEG_QUALITY, 90])[1])
        header = read_header(data)
        whole, part = decode(data, header, Decode()), decode(data, header, Decode(), decode_at_least(height, width))
        assert part.shape[0] <= whole.shape[0] / 2 + 1
        assert scored(part)["sharpness"] == pytest.approx(scored(whole)["sharpness"], rel=0.03)
        for name in ("brightness", "contrast"):
            assert scored(part)[name] == pytest.approx(scored(whole)[name], abs=0.01)


def test_grey_scores_as_its_rgb() -> None:
    """One channel, or three equal ones."""
    grey = cv2.cvtColor(scene(375, 500), cv2.COLOR_RGB2GRAY)
    assert scored(grey) == scored(np.ascontiguousarray(grey[..., None].repeat(3, axis=2)))


def test_color_is_weighed_as_luma() -> None:
    """Blue is darker than green; a picture whose colours differ but whose luma does not is flat."""
    levels = [scored(np.full((50, 60, 3), color, np.uint8))["brightness"] for color in ((0, 0, 255), (255, 0, 0), (0, 255, 0))]
    assert levels == pytest.approx([0.114, 0.299, 0.587], abs=0.003)


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 900), channels=st.sampled_from([1, 3]), number=st.integers(0, 2**32 - 1))
def test_scores_stay_in_range(height: int, width: int, channels: int, number: int) -> None:
    """Any picture, down to one pixel: finite, within the range, as float32; the picture is left as it is."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, int(rng.integers(1, 257)), (height, width, channels), np.uint8)
    kept = image.copy()
    scores = measure(image, SCORES)
    assert np.array_equal(image, kept)
    assert 0 <= scores["sharpness"] <= 1.19
    assert 0 <= scores["brightness"] <= 1
    assert 0 <= scores["contrast"] <= 1
    assert all(value == np.float32(value) for value in scores.values())
    assert measure(image, ["contrast"]) == {"contrast": scores["contrast"]}


def test_scores_stay_what_they_were() -> None:
    """Scores stand in published rows: where these change, `SCORES_VERSION` must, so that datasets are made again."""
    rows, columns = np.mgrid[0:375, 0:500]
    picture = np.stack([rows * 255 // 375, columns * 255 // 500, (rows // 25 + columns // 25) % 2 * 200], axis=2).astype(np.uint8)
    assert measure(picture, SCORES) == {"sharpness": 0.07763990759849548, "brightness": 0.4843137264251709, "contrast": 0.8117647171020508}


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_an_upright_picture_is_scored(format: str) -> None:
    """A quarter turn by EXIF changes the scores by no more than turned resampling does."""
    picture = Image.fromarray(scene(375, 500))
    scores = []
    for orientation in (1, 6):
        exif = Image.Exif()
        exif[0x0112] = orientation
        out = io.BytesIO()
        picture.save(out, format, exif=exif.tobytes())
        scores.append(scored(decode(out.getvalue(), read_header(out.getvalue()), Decode())))
    assert scores[0] == pytest.approx(scores[1], rel=0.02)
