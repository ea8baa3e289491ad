"""What every transform owes, over the whole registry: an entry without an example fails, and nothing here knows one by name."""

from __future__ import annotations

import inspect
import json
import pickle
import re
import sys
import types
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_prep.errors import RecipeError, SampleError
from ray_prep.sample import Sample
from ray_prep.spec import Interval, Spec
from ray_prep.transforms.applied import applied_json
from ray_prep.transforms.chain import TRANSFORMS, parse_chain
from ray_prep.transforms.composition import COMPOSITIONS
from ray_prep.transforms.effects import EFFECTS, REFUSED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ray_prep.transforms.chain import Chain

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

NATIVE: dict[str, list[Any]] = {
    "center_crop": [{"height": 5, "width": 7}, 4],
    "contrast": [
        "clahe",
        "equalize",
        "autocontrast",
        {"method": "autocontrast", "cutoff": 5},
        {"method": "gamma", "gamma": 2.2},
        {"method": "clahe", "clip_limit": 4.0, "tile_grid": [2, 3]},
    ],
    "crop": [{"height": 5, "width": 7}, {"height": 3, "width": 2, "top": 4, "left": 1}],
    "denoise": [
        "gaussian",
        {"method": "gaussian", "kernel": 7, "sigma": 2.0},
        "median",
        "bilateral",
        {"method": "nlmeans", "kernel": 3, "strength": 5.0},
    ],
    "flip": ["horizontal", "vertical"],
    "grayscale": [None, 3],
    "normalize": ["half", {"mean": [0.4], "std": [0.2]}, {"mean": 0.1, "std": 0.3}],
    "pad": [
        {"height": 40, "width": 45},
        {"height": 40, "mode": "reflect"},
        {"top": 1, "right": 3, "fill": 7},
        {"left": 9, "bottom": 2, "mode": "edge"},
    ],
    "python": [{"call": "steps_of_a_user:halved", "output": {"height": [1, None], "width": [1, 100]}}],
    "resize": [
        {"height": 20, "width": 30},
        {"short_side": 24},
        {"long_side": 40},
        {"letterbox": {"height": 24, "width": 40, "fill": 9}},
        *({"short_side": 20, "interpolation": name} for name in ("area", "linear", "cubic", "lanczos4", "nearest")),
    ],
    "rotate90": [1, 2, 3],
    "sharpen": [None, {"amount": 2.0, "sigma": 0.7}],
    "to_float": [None],
}

SIZE = {"height": 5, "width": 7}
# What Albumentations needs to be told, and the ways its transforms change sizes; all others run with their defaults.
FOREIGN: dict[str, list[dict[str, Any]]] = {
    "Affine": [
        {"rotate": [-45, 45], "shear": 9, "scale": [0.7, 1.3], "fit_output": True},
        {"translate_px": 3, "fill": 3, "border_mode": "BORDER_REFLECT_101"},
    ],
    "CenterCrop": [SIZE, {**SIZE, "pad_if_needed": True}, {**SIZE, "pad_if_needed": True, "pad_position": "random"}],
    "CoarseDropout": [{}, {"hole_height_range": [2, 6], "hole_width_range": [1, 3], "fill": "random_uniform"}],
    "Crop": [
        {"x_min": 1, "y_min": 2, "x_max": 6, "y_max": 5},
        {"x_max": 60, "y_max": 45, "pad_if_needed": True},
    ],
    "CropAndPad": [
        {"px": 2},
        {"px": 3, "keep_size": False},
        {"px": -2, "keep_size": False},
        {"px": [-2, 4], "keep_size": False},
        {"px": [1, -2, 3, -1], "keep_size": False},
        {"px": [[-1, 2], [0, 3], [1, 2], [-2, 0]], "keep_size": False},
        {"percent": 0.2, "keep_size": False},
        {"percent": [-0.3, 0.2], "keep_size": False},
        {"percent": [0.1, -0.2, 0.15, -0.3], "keep_size": False},
    ],
    "Downscale": [{}, {"scale_range": [0.1, 0.6]}],
    "FrequencyMasking": [{"freq_mask_param": 6}],
    "GlassBlur": [{"max_delta": 2, "iterations": 1}],
    "GridDistortion": [{}, {"num_steps": 8, "distort_limit": 0.5}],
    "GridDropout": [{}, {"unit_size_range": [4, 9]}, {"holes_number_xy": [5, 3]}],
    "GridElasticDeform": [{"num_grid_xy": [3, 4], "magnitude": 3}],
    "HEStain": [{}, {"method": "macenko"}],
    "HueSaturationValue": [{}, {"hue_shift_limit": 0, "sat_shift_limit": 0}],
    "LongestMaxSize": [{"max_size": 20}, {"max_size": [20, 90]}, {"max_size_hw": [20, 70]}, {"max_size_hw": [30, None]}],
    "Normalize": [{"mean": 0.5, "std": 0.2}, {"normalization": "min_max", "mean": 0.0, "std": 1.0}],
    "Pad": [{"padding": 3}, {"padding": [1, 2]}, {"padding": [1, 2, 3, 4], "border_mode": "BORDER_REFLECT_101"}],
    "PadIfNeeded": [
        {"min_height": 40, "min_width": 45},
        {"min_height": None, "min_width": None, "pad_height_divisor": 16, "pad_width_divisor": 5, "position": "random"},
    ],
    "PiecewiseAffine": [{"nb_rows": 2, "nb_cols": 2}],
    "Perspective": [{}, {"keep_size": False, "scale": 0.3}, {"keep_size": False, "fit_output": True}],
    "Posterize": [{}, {"num_bits": [2, 5]}],
    "RandomCrop": [SIZE, {**SIZE, "pad_if_needed": True}],
    "RandomCropFromBorders": [{}, {"crop_left": 0.5, "crop_right": 0.5, "crop_top": 0.3, "crop_bottom": 0.7}],
    "RandomFog": [{"alpha_coef": 0.5}],
    "RandomResizedCrop": [{"size": [20, 30]}],
    "RandomScale": [{"scale_limit": 0.4}, {"scale_limit": [0.5, 1.0], "interpolation": "INTER_CUBIC"}],
    "RandomSizedCrop": [{"min_max_height": [4, 9], "size": [12, 15]}],
    "Resize": [{"height": 20, "width": 30}],
    "Rotate": [{}, {"crop_border": True, "limit": [-180, 180]}, {"interpolation": "INTER_CUBIC", "fill": 0.5}],
    "SmallestMaxSize": [{"max_size": 20}, {"max_size": [20, 40]}, {"max_size_hw": [20, 30]}, {"max_size_hw": [None, 30]}],
    "Superpixels": [{"n_segments": 12}],
    "TimeMasking": [{"time_mask_param": 6}],
    "ToFloat": [{}, {"max_value": 128.0}],
    "ToGray": [{}, {"num_output_channels": 1}],
    "XYMasking": [{"num_masks_x": 1, "num_masks_y": [1, 2], "mask_x_length": 4, "mask_y_length": [2, 3]}],
}
MIXED: dict[str, list[dict[str, Any]]] = {
    "OneOf": [{"transforms": ["HorizontalFlip", {"Rotate": {"limit": 20}}, {"RandomCrop": SIZE}], "p": 0.7}],
    "OneOrOther": [{"transforms": [{"RandomCrop": SIZE}, {"OneOf": {"transforms": ["Blur", "Transpose"]}}]}],
    "RandomOrder": [{"transforms": [{"Pad": {"padding": 2}}, "HorizontalFlip", "RandomRotate90"], "n": 2}],
    "Sequential": [{"transforms": [{"RandomCrop": SIZE}, {"RandomBrightnessContrast": {"p": 0.5}}], "p": 0.5}],
    "SomeOf": [
        {"transforms": [{"RandomScale": {"scale_limit": 0.3}}, "VerticalFlip", {"Pad": {"padding": 1}}], "n": 2, "replace": True},
        {"transforms": [{"RandomCrop": SIZE}, "VerticalFlip"], "n": 2},
    ],
}

SIZES = ((37, 53), (53, 37), (32, 32), (1, 1), (1, 7), (7, 1), (2, 3))
RANGES = {"uint8": (0.0, 255.0), "float32": (0.0, 1.0)}
EXAMPLES: dict[str, list[Any]] = {**NATIVE, **{name: FOREIGN.get(name, [{}]) for name in EFFECTS}, **MIXED}


def halved(image: np.ndarray[Any, Any], _rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Write into the image, as users' functions may, and return every other pixel of it."""
    image //= 2 if image.dtype == np.uint8 else 1
    return image[::2, ::2]


sys.modules["steps_of_a_user"] = types.ModuleType("steps_of_a_user")
vars(sys.modules["steps_of_a_user"])["halved"] = halved


@cache
def chain_of(text: str) -> Chain:
    """Return the chain of one step, built once for all tests."""
    return parse_chain(yaml.safe_load(text), "finish", always=True)


def written(name: str, parameters: Any) -> str:
    """Return the step as a recipe writes it."""
    return yaml.safe_dump([name if parameters is None else {name: parameters}])


@pytest.fixture(params=EXAMPLES)
def chains(request: pytest.FixtureRequest) -> list[Chain]:
    """Each example of one entry, as a chain of one step."""
    return [chain_of(written(request.param, parameters)) for parameters in EXAMPLES[request.param]]


@cache
def picture(height: int, width: int, channels: int, dtype: str) -> np.ndarray[Any, Any]:
    """Return an image of smooth shades and noise that nobody can write to."""
    rng = np.random.default_rng(height * 1000 + width)
    shades = np.linspace(40, 200, height * width * channels).reshape(height, width, channels)
    image = np.clip(shades + rng.normal(0, 30, shades.shape), 0, 255).astype(np.uint8)
    image = image if dtype == "uint8" else (image / np.float32(255)).astype(np.float32)
    image.flags.writeable = False
    return image


def exact(height: int, width: int, channels: int, dtype: str) -> Spec:
    """Return the spec of one image."""
    return Spec(Interval.exactly(height), Interval.exactly(width), channels, dtype, RANGES[dtype])


def accepted(chain: Chain, sizes: tuple[tuple[int, int], ...] = SIZES) -> Iterator[tuple[np.ndarray[Any, Any], Spec, Spec]]:
    """Yield the images the chain takes, with their spec and that of the results."""
    images = [*product(sizes, (3, 1), ("uint8",)), *product(sizes[::3], (3, 1), ("float32",))]
    for (height, width), channels, dtype in images:
        before = exact(height, width, channels, dtype)
        try:
            after = chain.specs(before)[-1]
        except RecipeError:
            continue
        yield picture(height, width, channels, dtype), before, after


def run(chain: Chain, image: np.ndarray[Any, Any], seed: int) -> Sample:
    """Run the chain on one image."""
    return chain(Sample("key", 1, image), np.random.default_rng(seed))


def test_every_entry_has_an_example() -> None:
    """A native step or composition without an example here is a gap; an example without a step is a slip."""
    assert set(NATIVE) == set(TRANSFORMS)
    assert set(MIXED) == set(COMPOSITIONS)
    assert set(FOREIGN) <= set(EFFECTS)


def test_the_table_knows_every_class_of_albumentations() -> None:
    """Each transform and composition of Albumentations 2.0.8 is either available or refused with a reason."""
    import albumentations
    from albumentations.core.composition import BaseCompose
    from albumentations.core.transforms_interface import BasicTransform, DualTransform, ImageOnlyTransform, Transform3D

    bases = {BasicTransform, DualTransform, ImageOnlyTransform, Transform3D, BaseCompose}
    there = {
        name
        for name, kind in vars(albumentations).items()
        if inspect.isclass(kind) and issubclass(kind, (BasicTransform, BaseCompose)) and kind not in bases
    }
    without_torch = {"ToTensorV2", "ToTensor3D"}  # Albumentations has these where torch is installed
    assert there | without_torch == set(EFFECTS) | set(REFUSED) | set(COMPOSITIONS)
    assert albumentations.__version__ == "2.0.8"


def test_results_are_what_the_spec_says(chains: list[Chain]) -> None:
    """A result has the size, channels, dtype and range that output_spec said, is C-contiguous, and the input is untouched."""
    for chain in chains:
        assert [check_results(chain, image, after) for image, _, after in accepted(chain)], "it takes no image at all"


def check_results(chain: Chain, image: np.ndarray[Any, Any], after: Spec) -> None:
    """Run the chain twice on one image, and hold what comes out against the specs."""
    kept = image.tobytes()
    wide = wider(chain, image)
    for seed in range(2):
        result = run(chain, image, seed).image
        assert result.ndim == 3
        for spec in (after, *wide):
            assert spec.admits(*result.shape, str(result.dtype)), (chain, image.shape, result.shape, str(spec))
        assert result.flags.c_contiguous
        if after.value_range is not None:
            low, high = after.value_range
            assert low - 1e-5 <= result.min() <= result.max() <= high + 1e-5, (chain, image.dtype, str(after))
    assert image.tobytes() == kept


def wider(chain: Chain, image: np.ndarray[Any, Any]) -> tuple[Spec, ...]:
    """Return what is said of results for images between two sizes, and of any size: it must hold for this one too."""
    return tuple(widest(chain, high, image.shape[2], str(image.dtype)) for high in (64, None))


def widest(chain: Chain, high: int | None, channels: int, dtype: str) -> Spec:
    """Return what is said of results for images from one pixel on."""
    return chain.specs(Spec(Interval(1, high), Interval(1, high), channels, dtype, RANGES[dtype]))[-1]


def test_images_that_are_too_small_are_said_to_be(chains: list[Chain]) -> None:
    """Where the spec refuses a size that it takes in a larger image, running says too_small, and the wide spec warned."""
    for chain in chains:
        wide = Spec(Interval(), Interval(), 3)
        if refused(chain, wide):
            continue  # it takes no uint8 colour images
        for height, width in SIZES[3:]:
            refusal = refused(chain, exact(height, width, 3, "uint8"))
            if refusal is None:
                continue
            assert chain.specs(wide)[-1].notes, "nothing warned of small images"
            assert "it needs a " in refusal
            outcomes = {reason(chain, picture(height, width, 3, "uint8"), seed) for seed in range(20)}
            assert "too_small" in outcomes, f"{height}x{width} passed though the spec refuses it"
            assert outcomes <= {"too_small", None}


def refused(chain: Chain, spec: Spec) -> str | None:
    """Return why the chain takes no image of this spec; None where it does."""
    try:
        chain.specs(spec)
    except RecipeError as error:
        return str(error)
    return None


def reason(chain: Chain, image: np.ndarray[Any, Any], seed: int) -> str | None:
    """Return why an image was rejected; None where it was not."""
    try:
        run(chain, image, seed)
    except SampleError as error:
        return error.reason
    return None


def test_the_same_generator_makes_the_same_bytes(chains: list[Chain]) -> None:
    """A result depends on image, parameters and generator: not on what ran before, nor on the process."""
    for chain in chains:
        copy = pickle.loads(pickle.dumps(chain))
        for image, _, _ in accepted(chain, SIZES[:1]):
            first, second = run(chain, image, 7), run(chain, image, 8)
            for again in (run(chain, image, 7), run(copy, image, 7)):
                assert again.image.tobytes() == first.image.tobytes()
                assert again.applied == first.applied
            if not chain.is_random:
                assert second.image.tobytes() == first.image.tobytes()
                assert first.applied == ()
                rng = np.random.default_rng(3)
                before = rng.bit_generator.state
                chain(Sample("key", 0, image), rng)
                assert rng.bit_generator.state == before


def test_records_and_descriptions_are_plain_data(chains: list[Chain]) -> None:
    """What was applied is JSON that fits its column; a step's description survives YAML, and as a recipe makes the same step."""
    for chain in chains:
        for image, _, _ in accepted(chain, SIZES[:1]):
            applied = run(chain, image, 5).applied
            assert json.loads(json.dumps(applied, allow_nan=False)) == list(map(dict, applied))
            text = applied_json(applied)
            assert text is None if not applied else text is not None and len(text.encode()) <= 4096
            assert all(record["name"] in {*EFFECTS, "python"} for record in applied)
        described = chain.describe()
        assert yaml.safe_load(yaml.safe_dump(described)) == described
        again = parse_chain([{entry["name"]: entry["params"]} for entry in described], "finish", always=False)
        assert again.describe() == described


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_the_docstring_says_what_is_true(name: str) -> None:
    """The fixed line names shape, dtype, range, randomness and targets, and dtype and randomness are as it says."""
    document = " ".join((inspect.getdoc(TRANSFORMS[name]) or "").split())
    line = re.search(r"Shape: (.+?)\. Dtype: (.+?)\. Range: (.+?)\. Random: (.+?)\. Targets: image\.", document)
    assert line, "the line is missing"
    dtype, randomness = line.group(2), line.group(4)
    assert randomness in ("no", "as declared")
    for parameters in NATIVE[name]:
        chain = chain_of(written(name, parameters))
        assert randomness == "as declared" or not chain.is_random
        taken = {(before.dtype, after.dtype) for _, before, after in accepted(chain)}
        assert taken, "it takes no image at all"
        for before, after in taken:
            match dtype:
                case "kept":
                    assert after == before
                case "uint8 -> float32":
                    assert (before, after) == ("uint8", "float32")
                case "float32" | "uint8":
                    assert after == dtype
                case _:
                    assert dtype == "as declared"


NATIVE_STEPS = [{name: example} for name, examples in NATIVE.items() for example in examples if "nlmeans" not in str(example)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    steps=st.lists(st.sampled_from(NATIVE_STEPS), min_size=1, max_size=5),
    sides=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    slack=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    channels=st.sampled_from([1, 3]),
)
def test_specs_follow_any_chain(steps: list[Any], sides: tuple[int, int], slack: tuple[int, int], channels: int) -> None:
    """Whatever steps follow each other: an image the first spec speaks of is, after each step, one that step's spec speaks of."""
    chain = parse_chain(steps, "finish", always=True)
    height, width = sides
    start = Spec(Interval(max(1, height - slack[0]), height + slack[1]), Interval(max(1, width - slack[1]), width + slack[0]), channels)
    if refused(chain, start):
        return
    image = picture(height, width, channels, "uint8")
    for index, spec in enumerate(chain.specs(start)):
        step = chain[index : index + 1]
        if rejection := reason(step, image, 0):
            assert rejection == "too_small"
            assert spec.notes
            return
        image = run(step, image, 0).image
        assert spec.admits(*image.shape, str(image.dtype))
