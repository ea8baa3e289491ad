"""What stands below a copy is what a person would say, and agrees with what happened to the pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ray_prep.sample import Sample
from ray_prep.show.caption import applied_text
from ray_prep.transforms.chain import parse_chain

_SIDE = 201


def _applied(step: dict[str, Any], image: np.ndarray[Any, Any]) -> Sample:
    (name,) = step
    chain = parse_chain([{name: {**step[name], "p": 1.0}}], "augment", always=False, folder=None)
    return chain(Sample("key", 1, image), np.random.default_rng(5))


def _dot(row: int, column: int) -> np.ndarray[Any, Any]:
    image = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    image[row - 4 : row + 5, column - 4 : column + 5] = 255
    return image


def _place(image: np.ndarray[Any, Any]) -> tuple[float, float]:
    rows, columns = np.nonzero(image[..., 0] > 128)
    return float(rows.mean()), float(columns.mean())


@pytest.mark.parametrize("name", ["Rotate", "Affine", "ShiftScaleRotate"])
@pytest.mark.parametrize("angle", [30, -50])
def test_an_angle_is_the_one_a_person_sees(name: str, angle: int) -> None:
    """A dot at three o'clock turns counter-clockwise by the angle that is told."""
    parameters = {
        "Rotate": {"limit": [angle, angle]},
        "Affine": {"rotate": [angle, angle]},
        "ShiftScaleRotate": {"rotate_limit": [angle, angle], "shift_limit": [0, 0], "scale_limit": [0, 0]},
    }
    sample = _applied({name: parameters[name]}, _dot(100, 170))
    row, column = _place(sample.image)
    assert math.degrees(math.atan2(100 - row, column - 100)) == pytest.approx(angle, abs=1)
    assert applied_text(sample.applied) == f"{name} {angle}.0°"


def test_a_shift_and_a_scale_are_those_of_the_pixels() -> None:
    """Rows come before columns; a scale is told where there is one."""
    sample = _applied({"Affine": {"translate_px": {"x": [20, 20], "y": [-7, -7]}}}, _dot(100, 100))
    assert _place(sample.image) == pytest.approx((93, 120), abs=0.6)
    assert applied_text(sample.applied) == "Affine 0.0°, shifted by -7 rows, 20 columns"
    scaled = _applied({"Affine": {"scale": [0.5, 0.5]}}, _dot(100, 140))
    assert _place(scaled.image) == pytest.approx((100, 120), abs=0.6)
    assert applied_text(scaled.applied) == "Affine 0.0°, scale 0.5"


def test_a_crop_is_told_by_size_and_origin() -> None:
    """The origin is that of the pixels, row first."""
    image = np.arange(_SIDE * _SIDE, dtype=np.int64).reshape(_SIDE, _SIDE)
    coded = np.stack([image // _SIDE, image % _SIDE, image * 0], axis=2).astype(np.uint8)
    sample = _applied({"RandomCrop": {"height": 60, "width": 80}}, coded)
    row, column, _ = sample.image[0, 0]
    assert applied_text(sample.applied) == f"RandomCrop 60 x 80 at row {row}, column {column}"


def test_brightness_and_contrast_are_told_as_what_became_of_a_pixel() -> None:
    """The pixel is multiplied by the contrast, and the brightness is added."""
    sample = _applied(
        {"RandomBrightnessContrast": {"brightness_limit": [0.1, 0.1], "contrast_limit": [0.2, 0.2]}}, np.full((8, 8, 3), 100, np.uint8)
    )
    assert applied_text(sample.applied) == "RandomBrightnessContrast contrast x 1.2, brightness +25.5"
    assert abs(int(sample.image[0, 0, 0]) - (100 * 1.2 + 25.5)) <= 1


def test_what_only_a_program_reads_is_left_out() -> None:
    """No maps, no seeds, no bookkeeping of Albumentations; steps stay in order, and nothing is said so."""
    steps = [
        {"name": "HorizontalFlip"},
        {"name": "CoarseDropout", "holes": [[1, 2, 3, 4]], "seed": 7},
        {"name": "GridDropout", "holes": {"shape": [100, 4], "sha256": "0"}, "seed": 7},
        {"name": "ElasticTransform", "map_x": {"shape": [9, 9], "sha256": "0"}},
        {"name": "Perspective", "matrix": [[1.1, 0.1, -5.0], [0.0, 1.2, -7.0], [-0.0002, 0.0007, 1.0]], "max_height": 9, "max_width": 9},
        {"name": "RandomRotate90", "factor": 3},
        {"name": "PlanckianJitter", "temperature": 3710},
        {"name": "python", "call": "steps:fn"},
    ]
    assert applied_text(steps) == (
        "HorizontalFlip; CoarseDropout 1 hole; GridDropout 100 holes; ElasticTransform; Perspective; RandomRotate90 270°; "
        "PlanckianJitter temperature 3710; python steps:fn"
    )
    assert applied_text([]) == "nothing applied"
