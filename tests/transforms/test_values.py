"""Floats of grey levels, correctly rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ray_prep.errors import RecipeError
from ray_prep.sample import Sample
from ray_prep.spec import Interval, Spec
from ray_prep.transforms.values import Normalize, ToFloat

RNG = np.random.default_rng(0)
LEVELS = np.stack([np.arange(256), np.arange(256)[::-1], np.full(256, 9)], axis=-1).astype(np.uint8).reshape(16, 16, 3)


def done(step: Any, image: np.ndarray[Any, Any] = LEVELS) -> np.ndarray[Any, Any]:
    """Return the image after a step."""
    result: np.ndarray[Any, Any] = step(Sample("k", 0, image), RNG).image
    return result


def spec(channels: int = 3, dtype: str = "uint8", value_range: tuple[float, float] | None = (0.0, 255.0)) -> Spec:
    """Return a spec of any size."""
    return Spec(Interval(), Interval(), channels, dtype, value_range)


@pytest.mark.parametrize("channels", [1, 3])
def test_to_float_is_the_correctly_rounded_quotient(channels: int) -> None:
    """0..255 become the float32 nearest to value / 255: 0 and 1 exactly."""
    image = np.ascontiguousarray(LEVELS[:, :, :channels])
    result = done(ToFloat(), image)
    assert result.dtype == np.float32
    assert np.array_equal(result, (image / 255).astype(np.float32))
    assert result.max() == 1.0


@pytest.mark.parametrize("mean", ["imagenet", "clip", "half"])
def test_normalize_speaks_of_zero_to_one(mean: Any) -> None:
    """uint8 and its quotients by 255 come to the same values, those of the definition."""
    step = Normalize(mean, mean)
    means, stds = {
        "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
        "half": ([0.5], [0.5]),
    }[mean]
    expected = (LEVELS / 255 - np.array(means)) / np.array(stds)
    assert np.array_equal(done(step), expected.astype(np.float32))
    assert np.allclose(done(step, done(ToFloat())), expected, atol=1e-6)


def test_one_number_is_for_all_channels() -> None:
    """A single mean and std serve grey and colour."""
    for channels in (1, 3):
        image = np.ascontiguousarray(LEVELS[:, :, :channels])
        assert np.allclose(done(Normalize(0.5, (0.25,)), image), (image / 255 - 0.5) / 0.25, atol=1e-6)


def test_constants_must_suit_the_channels() -> None:
    """Three numbers are refused for grey images, and floats that are not in [0, 1] altogether."""
    with pytest.raises(RecipeError, match="has 3 numbers, and the image has 1 channels"):
        Normalize().output_spec(spec(1))
    with pytest.raises(RecipeError, match=r"float32 in \[0, 1\]"):
        Normalize("half", "half").output_spec(spec(3, "float32", None))
    assert Normalize("half", "half").output_spec(spec(1)).value_range is None
    for mean, std in ((0.0, 1e-40), (1e300, 1.0), ((0.0, 0.0, 0.0), (1.0, 1e-39, 1.0))):
        with pytest.raises(RecipeError, match="make values that float32 cannot hold"):
            Normalize(mean, std).output_spec(spec(3))


def test_impossible_constants_are_refused() -> None:
    """A std of 0 or less, and an empty list, are refused."""
    for std in (0.0, (0.2, -0.1, 0.2), ()):
        with pytest.raises(ValueError, match="std: should be"):
            Normalize("half", std)


def test_dataset_waits_for_its_constants() -> None:
    """`dataset` is filled in by freezing, each side by itself; to use it before is a bug, not a rejection."""
    step = Normalize("dataset", "dataset")
    assert step.needs_constants
    with pytest.raises(RuntimeError, match="not measured"):
        done(step)
    frozen = step.frozen((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert frozen == Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert not frozen.needs_constants
    assert Normalize("dataset", 0.5).frozen((0.1,), (0.2,)) == Normalize((0.1,), 0.5)
