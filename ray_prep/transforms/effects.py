"""What each Albumentations 2.0.8 transform does to a spec: a table that needs no Albumentations to be read.

Read from its source and held against its behaviour by the contract tests. Functions get the transform Albumentations built,
whose attributes are its validated parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ray_prep.errors import RecipeError
from ray_prep.spec import Spec
from ray_prep.transforms import least, sizes
from ray_prep.transforms.transform import RGB

_CUBIC, _LANCZOS4 = 2, 4  # OpenCV's codes of the interpolations that overshoot
_REFLECT_101 = 4  # and of the border that is a mirror without its edge


def _kept(_transform: Any, spec: Spec) -> Spec:
    return spec


def _any_size(_transform: Any) -> tuple[int, int]:
    return 1, 1


def _never(_transform: Any) -> bool:
    return False


def _always(_transform: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Effect:
    """What one transform does where it is applied.

    Args:
        spec: Sizes, channels and dtype of the result.
        least: The smallest (height, width) it works on.
        is_color: Whether it refuses grey images.
        moves: Whether it takes values from elsewhere in the image without changing them, so that floats of any range will
            do; the others take uint8, or float32 in [0, 1].
        is_fixed: Whether, once it is applied, nothing about it is random.
    """

    spec: Callable[[Any, Spec], Spec] = _kept
    least: Callable[[Any], tuple[int, int]] = _any_size
    is_color: bool = False
    moves: bool = False
    is_fixed: Callable[[Any], bool] = _never

    def smallest(self, transform: Any) -> tuple[int, int]:
        """Return the smallest (height, width) that it works on as it is set up."""
        height, width = self.least(transform)
        # OpenCV 5.0 mirrors for ever where the side is one pixel.
        is_endless = getattr(transform, "interpolation", None) == _CUBIC and getattr(transform, "border_mode", None) == _REFLECT_101
        return (max(height, 2), max(width, 2)) if is_endless else (height, width)

    def applied(self, transform: Any, spec: Spec) -> Spec:
        """Return the spec of results.

        Raises:
            RecipeError: It cannot work on images of `spec`.
        """
        if self.is_color and spec.channels != RGB:
            raise RecipeError("it takes colour images and gets grey ones")
        if spec.dtype != "uint8" and not self.moves and not _is_unit(spec):
            raise RecipeError(f"it takes uint8, or float32 in [0, 1], and gets {spec}")
        spec = self.spec(transform, spec.at_least(*self.smallest(transform), "it"))
        if spec.dtype == "uint8" or spec.value_range is None:
            return spec
        if self.moves:
            return replace(spec, value_range=_moved_range(transform, spec.value_range))
        # What changes values may use all of [0, 1], from whatever part of it they come; and some have a fill.
        return replace(spec, value_range=_moved_range(transform, (0.0, 1.0))) if self.spec in (_kept, sizes.value_only) else spec


def _is_unit(spec: Spec) -> bool:
    return spec.value_range is not None and spec.value_range[0] >= 0 and spec.value_range[1] <= 1


def _moved_range(transform: Any, value_range: tuple[float, float]) -> tuple[float, float] | None:
    """Return the range of floats after a transform that moves them: fill colours come in, some interpolations overshoot."""
    if getattr(transform, "interpolation", None) in (_CUBIC, _LANCZOS4):
        return None
    values: list[float] = [*value_range]
    for name in ("fill", "drop_value"):
        fill = getattr(transform, name, 0.0 if name == "drop_value" else None)
        # A word ("random", "inpaint_ns") and None draw from all that a float image of [0, 1] may hold.
        values += [0.0, 1.0] if isinstance(fill, str) else fill if isinstance(fill, (tuple, list)) else () if fill is None else [fill]
    return min(values), max(values)


_MOVES = Effect(moves=True)
_COLOR = Effect(is_color=True)
_TONE = Effect()
_FIXED_TONE = Effect(is_fixed=_always)
_FIXED_MOVE = Effect(moves=True, is_fixed=_always)
_MASKING = Effect(least=least.masking, moves=True)

EFFECTS: dict[str, Effect] = {
    "AdditiveNoise": _TONE,
    "AdvancedBlur": _TONE,
    "Affine": Effect(sizes.fitted, moves=True),
    "AutoContrast": _FIXED_TONE,
    "Blur": _TONE,
    "CLAHE": _TONE,
    "CenterCrop": Effect(sizes.height_width, least.crop, moves=True, is_fixed=sizes.is_placed),
    "ChannelDropout": _COLOR,
    "ChannelShuffle": _MOVES,
    "ChromaticAberration": _COLOR,
    "CoarseDropout": Effect(least=least.holes, moves=True),
    "ColorJitter": _TONE,
    "Crop": Effect(sizes.rectangle, least.rectangle, moves=True, is_fixed=sizes.is_placed),
    "CropAndPad": Effect(sizes.cropped_and_padded, least.crop_and_pad, moves=True),
    "D4": Effect(sizes.perhaps_swapped, moves=True),
    "Defocus": _TONE,
    "Downscale": Effect(least=least.downscale),
    "ElasticTransform": _MOVES,
    "Emboss": _TONE,
    "Equalize": _FIXED_TONE,
    "Erasing": _MOVES,
    "FancyPCA": Effect(least=least.two_by_two),
    "FrequencyMasking": _MASKING,
    "FromFloat": Effect(sizes.from_float, is_fixed=_always),
    "GaussNoise": _TONE,
    "GaussianBlur": _TONE,
    "GlassBlur": Effect(least=lambda transform: (2 * transform.max_delta,) * 2),
    "GridDistortion": Effect(least=lambda transform: (transform.num_steps,) * 2, moves=True),
    "GridDropout": Effect(least=least.grid_dropout, moves=True),
    "GridElasticDeform": _MOVES,
    "HEStain": _COLOR,
    "HorizontalFlip": _FIXED_MOVE,
    "HueSaturationValue": Effect(sizes.value_only),
    "ISONoise": _COLOR,
    # OpenCV takes an array of four lines for a colour (4.x and 5.0), and Illumination adds such arrays.
    "Illumination": Effect(least=lambda _transform: (5, 1)),
    "ImageCompression": _TONE,
    "InvertImg": _FIXED_TONE,
    "LongestMaxSize": Effect(sizes.max_sized(max), moves=True, is_fixed=sizes.has_one_size),
    "MedianBlur": _TONE,
    "Morphological": _TONE,
    "MotionBlur": _TONE,
    "MultiplicativeNoise": _TONE,
    "NoOp": _FIXED_MOVE,
    "Normalize": Effect(sizes.normalized, is_fixed=_always),
    "OpticalDistortion": _MOVES,
    "Pad": Effect(sizes.padded, moves=True, is_fixed=_always),
    "PadIfNeeded": Effect(sizes.padded_if_needed, moves=True, is_fixed=sizes.is_placed),
    "Perspective": Effect(sizes.in_perspective, moves=True),
    "PiecewiseAffine": _MOVES,
    "PixelDropout": _MOVES,
    "PlanckianJitter": _COLOR,
    "PlasmaBrightnessContrast": Effect(least=least.two_by_two),
    "PlasmaShadow": Effect(least=least.two_by_two),
    "Posterize": _TONE,
    "RGBShift": _TONE,
    "RandomBrightnessContrast": _TONE,
    "RandomCrop": Effect(sizes.height_width, least.crop, moves=True),
    "RandomCropFromBorders": Effect(sizes.cut_from_borders, moves=True),
    "RandomFog": _COLOR,
    "RandomGamma": _TONE,
    "RandomGravel": _COLOR,
    "RandomGridShuffle": _MOVES,
    "RandomRain": Effect(least=least.rain, is_color=True),
    "RandomResizedCrop": Effect(sizes.size, moves=True),
    "RandomRotate90": Effect(sizes.perhaps_swapped, moves=True),
    "RandomScale": Effect(sizes.scaled, least.scale, moves=True),
    "RandomShadow": Effect(least=least.shadow),
    "RandomSizedCrop": Effect(sizes.size, least.sized_crop, moves=True),
    "RandomSnow": _COLOR,
    "RandomSunFlare": _COLOR,
    "RandomToneCurve": _TONE,
    "Resize": Effect(sizes.height_width, moves=True, is_fixed=_always),
    "RingingOvershoot": _TONE,
    "Rotate": Effect(sizes.rotated, least.rotate, moves=True),
    "SafeRotate": _MOVES,
    "SaltAndPepper": _TONE,
    "Sharpen": _TONE,
    "ShiftScaleRotate": _MOVES,
    "ShotNoise": _TONE,
    "SmallestMaxSize": Effect(sizes.max_sized(min), moves=True, is_fixed=sizes.has_one_size),
    "Solarize": _TONE,
    "Spatter": _COLOR,
    "SquareSymmetry": Effect(sizes.perhaps_swapped, moves=True),
    "Superpixels": Effect(least=least.segments),
    "ThinPlateSpline": _MOVES,
    "TimeMasking": _MASKING,
    "TimeReverse": _FIXED_MOVE,
    "ToFloat": Effect(sizes.to_float, is_fixed=_always),
    "ToGray": Effect(sizes.gray, is_fixed=_always),
    "ToRGB": Effect(sizes.color, is_fixed=_always),
    "ToSepia": _FIXED_TONE,
    "Transpose": Effect(sizes.swapped, moves=True, is_fixed=_always),
    "UnsharpMask": _TONE,
    "VerticalFlip": _FIXED_MOVE,
    "XYMasking": _MASKING,
    "ZoomBlur": _TONE,
}

_BOXES = "it needs boxes, and ray_prep gives it the image alone; RandomCrop and CoarseDropout do not need them"
_MASK = "it needs a mask, and ray_prep gives it the image alone"
_REFERENCE = "it needs reference images, and ray_prep gives it the image alone"
_METADATA = "it needs metadata with each image, and ray_prep gives it the image alone"
_VOLUME = "it is for volumes, and ray_prep prepares images"
_TENSOR = "ray_prep stores arrays of (height, width, channels); ask the reader for tensors"

REFUSED: dict[str, str] = {
    **dict.fromkeys(
        ("AtLeastOneBBoxRandomCrop", "BBoxSafeRandomCrop", "ConstrainedCoarseDropout", "RandomCropNearBBox", "RandomSizedBBoxSafeCrop"),
        _BOXES,
    ),
    **dict.fromkeys(("CropNonEmptyMaskIfExists", "MaskDropout"), _MASK),
    **dict.fromkeys(("FDA", "HistogramMatching", "PixelDistributionAdaptation"), _REFERENCE),
    **dict.fromkeys(("Mosaic", "OverlayElements", "TextImage"), _METADATA),
    **dict.fromkeys(("CenterCrop3D", "CoarseDropout3D", "CubicSymmetry", "Pad3D", "PadIfNeeded3D", "RandomCrop3D"), _VOLUME),
    **dict.fromkeys(("ToTensor3D", "ToTensorV2"), _TENSOR),
    "Lambda": "a recipe cannot hold a function; write `python: {call: module:function}`",
    "Compose": "a list of steps is a composition already; inside OneOf and the like use Sequential",
    "ReplayCompose": "a list of steps is a composition already, and what was applied is recorded anyway",
    "SelectiveChannelTransform": "it is not available; write `python: {call: module:function}`",
}
