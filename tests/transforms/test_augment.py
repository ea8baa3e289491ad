"""Albumentations' transforms: told what they get wrong, random by the sample's own generator, and recorded."""

from __future__ import annotations

import inspect
import os
import random
import threading
from collections import Counter
from typing import Any

import albumentations
import numpy as np
import pytest

from ray_prep.errors import LimitError, RecipeError, TransformError
from ray_prep.sample import Sample
from ray_prep.seed import sample_rng
from ray_prep.spec import Interval, Spec
from ray_prep.transforms import augment
from ray_prep.transforms.chain import Chain, parse_chain

ANY = Spec(Interval(), Interval(), 3)
IMAGE = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def chain(*steps: Any, always: bool = False) -> Chain:
    """Return the chain of steps as YAML gives them."""
    return parse_chain(list(steps), "augment.transforms", always=always)


def done(step: Chain, seed: int = 0, image: np.ndarray[Any, Any] = IMAGE) -> Sample:
    """Run the chain."""
    return step(Sample("k", 1, image), np.random.default_rng(seed))


def test_the_update_server_is_not_asked() -> None:
    """Importing Albumentations makes no network call: the variable that forbids it is set before."""
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
    source = inspect.getsource(augment)
    assert source.index('os.environ["NO_ALBUMENTATIONS_UPDATE"]') < source.index("\nimport albumentations")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"RandomCrop": {"hight": 3, "width": 3}}, "RandomCrop.hight: unknown key; did you mean 'height'?"),
        ({"RandomCrop": {"height": 0, "width": 3}}, "RandomCrop.height: should be greater than or equal to 1, got 0"),
        ({"RandomCrop": {"width": 3}}, "RandomCrop.height: field required"),
        ({"HorizontalFlip": {"p": 2}}, "HorizontalFlip.p: should be less than or equal to 1, got 2"),
        ({"Affine": {"translate_px": 3, "translate_percent": 0.1}}, "Affine: expected either translate_percent or translate_px"),
        ({"Rotate": {"interpolation": "INTER_CUBE"}}, "Rotate.interpolation: OpenCV has no INTER_CUBE; did you mean 'INTER_CUBIC'?"),
        ({"Blur": 3}, "Blur: should be a mapping of parameters to values, got 3"),
    ],
)
def test_wrong_parameters_are_recipe_errors(raw: Any, message: str) -> None:
    """An unknown argument, on which Albumentations only warns, and refused values are one line that names the parameter."""
    with pytest.raises(RecipeError) as caught:
        chain(raw)
    assert message in str(caught.value)
    assert str(caught.value).startswith("augment.transforms[0].")
    assert "\n" not in str(caught.value)


def test_p_is_one_only_where_every_image_goes_through() -> None:
    """In preprocess and finish a step is applied unless told; in augment Albumentations' own p holds."""
    described = [
        chain(step, always=always).describe()[0]["params"]["p"] for always in (True, False) for step in ("CLAHE", {"CLAHE": {"p": 0.3}})
    ]
    assert described == [1.0, 0.3, 0.5, 0.3]


def test_two_flips_are_independent() -> None:
    """Each step draws for itself: four outcomes a quarter each. A seed given to Albumentations yields two."""
    found = Counter(
        tuple(record["name"][0] for record in chain_of_flips(Sample("k", 1, IMAGE[:4, :4]), sample_rng(7, str(key), 1)).applied)
        for key in range(400)
    )
    assert set(found) == {(), ("H",), ("V",), ("H", "V")}
    assert all(65 < count < 140 for count in found.values())


chain_of_flips = chain("HorizontalFlip", "VerticalFlip")


def test_neighbours_change_nothing() -> None:
    """A sample's result depends on its generator alone: not on what ran before, nor in which thread."""
    step = chain({"RandomCrop": {"height": 20, "width": 20}}, "Rotate", "GaussNoise", "ElasticTransform", "RandomBrightnessContrast")
    expected = {seed: done(step, seed).image.tobytes() for seed in range(8)}
    found: dict[int, bytes] = {}
    threads = [
        threading.Thread(target=lambda seeds: found.update({seed: done(step, seed).image.tobytes() for seed in seeds}), args=(seeds,))
        for seeds in ((7, 5, 3, 1), (0, 2, 4, 6))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_it_is_what_albumentations_does() -> None:
    """The pixels are Albumentations' own for the same generators."""
    transform = albumentations.Rotate(limit=30, p=1)
    rng = np.random.default_rng(5)
    draws = augment._Draws()
    draws.generator = rng
    transform.set_random_state(rng, draws)
    assert np.array_equal(done(chain({"Rotate": {"limit": 30, "p": 1}}), 5).image, transform(image=IMAGE)["image"])


def test_the_random_of_python_follows_the_generator() -> None:
    """All that `random.Random` offers comes from the numpy generator, in range and evenly."""
    draws = augment._Draws()
    draws.generator = np.random.default_rng(3)
    numbers = [draws.randint(2, 9) for _ in range(4000)]
    assert set(numbers) == set(range(2, 10))
    assert all(400 < count < 600 for count in Counter(numbers).values())
    assert 0.45 < np.mean([draws.random() for _ in range(2000)]) < 0.55
    assert draws.getrandbits(70) < 1 << 70
    assert max(draws.getrandbits(3) for _ in range(200)) == 7
    assert sorted(draws.sample(range(10), 10)) == list(range(10))
    draws.generator = np.random.default_rng(3)
    again = [draws.randint(2, 9) for _ in range(4000)]
    assert again == numbers
    assert isinstance(draws, random.Random)


def test_what_was_applied_is_recorded() -> None:
    """A step that ran leaves its name and numbers, one that its p kept away leaves nothing, a fixed one needs no record."""
    step = chain({"RandomCrop": {"height": 20, "width": 30}}, {"VerticalFlip": {"p": 0}}, {"HorizontalFlip": {"p": 1}}, {"Blur": {"p": 1}})
    crop, blur = done(step, 3).applied
    assert crop["name"] == "RandomCrop"
    x_min, y_min, x_max, y_max = crop["crop_coords"]
    assert (y_max - y_min, x_max - x_min) == (20, 30)
    assert blur["name"] == "Blur"
    assert blur["kernel"] in (3, 5, 7)
    assert set(blur) == {"name", "kernel"}
    noise = done(chain({"GaussNoise": {"p": 1}}), 1).applied[0]["noise_map"]
    assert set(noise) == {"shape", "sha256"}
    assert done(chain({"GaussNoise": {"p": 1}}), 2).applied[0]["noise_map"] != noise


def test_steps_that_draw_nothing_are_known() -> None:
    """With p = 1 some steps are not random, so that a seed need not change the base; with p between, all are."""
    fixed = chain("HorizontalFlip", {"Resize": {"height": 9, "width": 9}}, "ToGray", {"CenterCrop": {"height": 3, "width": 3}}, always=True)
    assert not fixed.is_random
    assert chain({"HorizontalFlip": {"p": 0.5}}).is_random
    assert chain("Blur", always=True).is_random
    assert not chain({"Blur": {"p": 0}}).is_random
    assert chain({"CenterCrop": {"height": 3, "width": 3, "pad_if_needed": True, "pad_position": "random"}}, always=True).is_random


def test_small_images_are_too_small_only_where_the_step_applies() -> None:
    """A crop larger than the image is too_small; with p < 1 the images it skips pass, and the spec says both."""
    crop = {"height": 70, "width": 70}
    with pytest.raises(LimitError, match=r"augment\.transforms\[0\]\.RandomCrop: it needs 70x70 or more, and gets 60x80"):
        done(chain({"RandomCrop": crop}))
    assert done(chain({"RandomCrop": {**crop, "pad_if_needed": True}})).image.shape == (70, 70, 3)
    sometimes = chain({"RandomCrop": {**crop, "p": 0.5}})
    assert str(sometimes.specs(ANY)[-1]) == "1.. x 1.. x 3 uint8 [0, 255]"
    assert "it needs 70x70 or more" in sometimes.specs(ANY)[-1].notes[0]
    with pytest.raises(RecipeError, match="at least 70"):
        sometimes.specs(Spec(Interval(1, 60), Interval(), 3))


def test_a_step_that_changes_the_dtype_must_be_certain() -> None:
    """With p < 1 some images would be floats and others not."""
    with pytest.raises(RecipeError, match=r"with p: 0.5 it is applied to some images only"):
        chain({"Normalize": {"p": 0.5}}).specs(ANY)


def test_what_a_transform_cannot_take_is_refused_before_work() -> None:
    """Grey images, floats out of [0, 1] and constants for other channels are recipe errors where a step needs others."""
    gray, normal = Spec(Interval(), Interval(), 1), Spec(Interval(), Interval(), 3, "float32", None)
    with pytest.raises(RecipeError, match="it takes colour images and gets grey ones"):
        chain("ISONoise").specs(gray)
    with pytest.raises(RecipeError, match=r"it takes uint8, or float32 in \[0, 1\], and gets .* any range"):
        chain("Blur").specs(normal)
    assert chain("Rotate", "HorizontalFlip").specs(normal)[-1] == normal
    with pytest.raises(RecipeError, match=r"Normalize: mean: .* has 3 numbers, and the image has 1 channels"):
        chain("Normalize").specs(gray)
    with pytest.raises(RecipeError, match="grey images have no hue"):
        chain("HueSaturationValue").specs(gray)


def test_floats_moved_with_cubic_leave_their_range_open() -> None:
    """Bilinear moves keep [0, 1] and what fill adds; cubic overshoots."""
    unit = Spec(Interval(), Interval(), 3, "float32", (0.0, 1.0))
    assert chain({"Rotate": {"p": 1, "fill": 3}}).specs(unit)[-1].value_range == (0.0, 3.0)
    assert chain({"Rotate": {"p": 1, "interpolation": "INTER_CUBIC"}}).specs(unit)[-1].value_range is None


def test_sides_of_one_pixel_survive() -> None:
    """ToGray and ToRGB of 2.0.8 squeeze them away; here the shape stays (H, W, C)."""
    for size in ((1, 7), (7, 1), (1, 1)):
        color = np.full((*size, 3), 90, np.uint8)
        assert done(chain("ToGray", always=True), 0, color).image.shape == (*size, 3)
        assert done(chain({"ToGray": {"num_output_channels": 1}}, always=True), 0, color).image.shape == (*size, 1)
        assert np.array_equal(done(chain("ToRGB", always=True), 0, color[:, :, :1].copy()).image, color)


def test_holes_in_floats_are_the_images_fault() -> None:
    """Some warps of 2.0.8 divide by nothing where an image is one pixel high: nothing that is no number is stored."""
    warp = chain({"Perspective": {"keep_size": False, "fit_output": True, "border_mode": "BORDER_REPLICATE", "p": 1}})
    image = np.full((1, 1, 3), 0.5, np.float32)
    said: set[str] = set()
    for seed in range(40):
        try:
            assert np.isfinite(done(warp, seed, image).image).all()
        except TransformError as error:
            said.add(error.message)
    assert said == {"augment.transforms[0].Perspective: Perspective made values that are not finite"}


def test_a_mirror_needs_two_pixels_for_cubic() -> None:
    """OpenCV 5.0 never comes back from one: such images are too_small, and known to be before the build."""
    turn = chain({"Rotate": {"limit": [20, 20], "interpolation": "INTER_CUBIC", "border_mode": "BORDER_REFLECT_101", "p": 1}})
    for size in ((1, 60), (60, 1)):
        with pytest.raises(LimitError, match="it needs 2x2 or more"):
            done(turn, 0, np.zeros((*size, 3), np.uint8))
        with pytest.raises(RecipeError, match="of at least 2"):
            turn.specs(Spec(Interval.exactly(size[0]), Interval.exactly(size[1]), 3))


@pytest.mark.parametrize(
    ("step", "size"),
    [
        ({"RandomRain": {"drop_length": 100}}, (101, 1)),
        ({"RandomRain": {"rain_type": "heavy"}}, (2, 1)),
        ({"RandomShadow": {"shadow_roi": [0.5, 0, 0.6, 1]}}, (1, 9)),
        ({"RandomShadow": {"shadow_roi": [0, 0.25, 1, 0.45]}}, (5, 1)),
    ],
)
def test_what_needs_room_says_how_much(step: dict[str, Any], size: tuple[int, int]) -> None:
    """A drop's length, or a region that holds a pixel: smaller images are too_small, as the spec says before the build."""
    name, parameters = next(iter(step.items()))
    steps = chain({name: {**parameters, "p": 1}})
    enough = Spec(Interval(size[0], 400), Interval(size[1], 400), 3)
    assert steps.specs(enough)[-1] == enough
    assert f"it needs {size[0]}x{size[1]} or more" in steps.specs(ANY)[-1].notes[0]
    for height, width in (size, (size[0] + 1, size[1] + 1), (size[0] + 5, size[1] + 7)):
        for seed in range(4):
            done(steps, seed, np.zeros((height, width, 3), np.uint8))
    for less in ((size[0] - 1, size[1]), (size[0], size[1] - 1)):
        if min(less):
            with pytest.raises(LimitError, match="or more, and gets"):
                done(steps, 0, np.zeros((*less, 3), np.uint8))


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "15", "inf", [0, float("-inf")], "1e3"])
def test_numbers_are_numbers_and_finite(value: Any) -> None:
    """Albumentations takes them, and makes black pictures of them."""
    with pytest.raises(RecipeError, match=r"^augment\.transforms\[0\]\.Rotate\.limit(\[1\])?: should be a (finite )?number"):
        chain({"Rotate": {"limit": value}})


def test_a_region_of_no_width_is_refused() -> None:
    """There is no image on which it could work."""
    with pytest.raises(RecipeError, match=r"shadow_roi: from 0\.5 to 0\.5 of a side lies no pixel"):
        chain({"RandomShadow": {"shadow_roi": [0.5, 0, 0.5, 1]}}).specs(ANY)


@pytest.mark.parametrize(
    ("step", "size"),
    [
        ({"SmallestMaxSize": {"max_size": 120, "p": 1}}, (1, 15_000)),
        ({"RandomScale": {"scale_limit": [99, 100], "p": 1}}, (200, 200)),
        ({"Pad": {"padding": 1_000_000, "p": 1}}, (3, 60)),
    ],
)
def test_no_image_becomes_larger_than_a_step_may_make(step: Any, size: tuple[int, int]) -> None:
    """It is too_large before memory is asked for."""
    with pytest.raises(LimitError, match="would become") as caught:
        done(chain(step), 0, np.zeros((*size, 1), np.uint8))
    assert caught.value.reason == "too_large"


def test_erasing_leaves_alone_what_nothing_fits_into() -> None:
    """On long thin images 2.0.8's Erasing forgets a parameter and fails; here the image stays as it is."""
    thin = np.ascontiguousarray(np.broadcast_to(IMAGE[:1, :1], (2, 90, 3)))
    assert np.array_equal(done(chain({"Erasing": {"p": 1}}), 0, thin).image, thin)


def test_failures_of_albumentations_are_the_images_fault() -> None:
    """What Albumentations raises for one image is transform_failed with its class, and names the step."""
    step = chain({"PixelDropout": {"p": 1, "drop_value": [1, 2]}})
    with pytest.raises(TransformError, match=r"augment\.transforms\[0\]\.PixelDropout: ValueError: ") as caught:
        done(step)
    assert caught.value.reason == "transform_failed"


def test_the_input_stays_as_it_is() -> None:
    """Even a transform that writes into what it gets cannot reach the sample's image: copies of one image share it."""
    image = IMAGE.copy()
    for step in ("Posterize", {"Posterize": {"num_bits": [[1, 2], [3, 4], [5, 6]]}}, "RandomShadow", "Superpixels", "CoarseDropout"):
        done(chain(step, always=True), 1, image)
        assert np.array_equal(image, IMAGE)


@pytest.mark.parametrize(
    "step",
    [
        {"CoarseDropout": {"fill": "inpaint_ns", "p": 1}},
        {"XYMasking": {"num_masks_x": 1, "mask_x_length": 5, "fill": "inpaint_telea", "p": 1}},
        {"Equalize": {"mode": "pil", "p": 1}},
    ],
)
def test_grey_images_keep_their_channel(step: Any) -> None:
    """Inpainting drops the only channel, Pillow's equalizing wants an array of its own: both work, and write to nobody's pixels."""
    image = np.ascontiguousarray(IMAGE[..., :1])
    before = image.copy()
    result = done(chain(step), image=image)
    assert result.image.shape == image.shape
    assert (image == before).all()
    assert (done(chain(step), image=image).image == result.image).all()


def test_what_works_in_place_gets_a_copy() -> None:
    """Normalize by the image's own extremes writes into the floats it is given."""
    image = IMAGE.astype(np.float32) / 255
    result = done(chain({"Normalize": {"normalization": "min_max_per_channel", "p": 1}}), image=image)
    assert (image == IMAGE.astype(np.float32) / 255).all()
    assert 0 <= result.image.min() < result.image.max() <= 1


@pytest.mark.parametrize(
    ("step", "image"),
    [({"Sharpen": {"method": "gaussian", "p": 1}}, np.zeros((1, 34, 1), np.uint8))],
)
def test_an_image_of_another_make_is_refused(step: Any, image: np.ndarray[Any, Any]) -> None:
    """Channels that come of broadcasting two grey images are no picture."""
    with pytest.raises(TransformError, match="an image of shape"):
        done(chain(step), image=image)


@pytest.mark.parametrize(
    "step",
    [
        {"CropAndPad": {"px": [1, [-5, -2], [-5, -3], 1], "p": 1}},
        {"RandomScale": {"scale_limit": -1, "p": 1}},
        {"SmallestMaxSize": {"max_size": 0, "p": 1}},
        {"LongestMaxSize": {"max_size": [], "p": 1}},
        {"LongestMaxSize": {"max_size_hw": [None, None], "p": 1}},
        {"ToFloat": {"max_value": 0, "p": 1}},
    ],
)
def test_values_that_albumentations_takes_and_cannot_use(step: Any) -> None:
    """They are a wrong recipe, said at the step, and no traceback."""
    with pytest.raises(RecipeError, match=rf"augment.transforms\[0\].{next(iter(step))}"):  # noqa: PT012  either of the two may show it
        for spec in (ANY, Spec(Interval.exactly(60), Interval.exactly(80), 3)):
            chain(step).specs(spec)


def test_floats_may_become_any_of_their_kind() -> None:
    """A narrow range stays narrow only where values are moved, not where they are changed; a fill counts."""
    dark = Spec(Interval.exactly(8), Interval.exactly(8), 3, "float32", (0.0, 0.25))
    assert chain({"InvertImg": {"p": 1}}).specs(dark)[-1].value_range == (0.0, 1.0)
    assert chain({"HueSaturationValue": {"p": 1}}).specs(dark)[-1].value_range == (0.0, 1.0)
    assert chain({"HorizontalFlip": {"p": 1}}).specs(dark)[-1].value_range == (0.0, 0.25)
    assert chain({"ChannelDropout": {"fill": 20, "p": 1}}).specs(dark)[-1].value_range == (0.0, 20.0)


@pytest.mark.parametrize(
    ("name", "given", "what"),
    [
        ("Normalize", {"mean": [0.5, 0.5, 0.5], "std": [0, 0, 0]}, "values that are not finite"),
        ("Pad", {"padding": -3}, "it cannot work with these parameters"),
        ("PixelDropout", {"drop_value": [1, 2, 3]}, "they make 3 channels of 1"),
    ],
)
def test_parameters_that_can_never_work_are_refused(name: str, given: dict[str, Any], what: str) -> None:
    """Albumentations takes them, and fails on every image, or stores infinities: a wrong recipe fails before any work."""
    channels = 1 if name == "PixelDropout" else 3
    with pytest.raises(RecipeError, match=what):
        chain({name: {**given, "p": 1}}).specs(Spec(Interval.exactly(32), Interval(16), channels, "uint8", (0.0, 255.0)))
