"""How Albumentations 2.0.8's transforms change a spec: rules read from its source.

Each gets the transform Albumentations built; its attributes are its validated parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from ray_prep.errors import RecipeError
from ray_prep.spec import Interval, Spec
from ray_prep.transforms.transform import GRAY, RGB


def _exactly(spec: Spec, height: int, width: int) -> Spec:
    return spec.sized(Interval.exactly(height), Interval.exactly(width))


def _mapped(side: Interval, low: Callable[[int], int], high: Callable[[int], int] | None = None) -> Interval:
    """Return the interval of sizes after a rule that grows with the size."""
    top = None if side.high is None else max(1, (high or low)(side.high))
    return Interval(max(1, low(side.low)), top)


def height_width(transform: Any, spec: Spec) -> Spec:
    """Result: height x width, whatever comes."""
    return _exactly(spec, transform.height, transform.width)


def size(transform: Any, spec: Spec) -> Spec:
    """Result: size, (height, width), whatever comes."""
    return _exactly(spec, *transform.size)


def rectangle(transform: Any, spec: Spec) -> Spec:
    """Result: the rectangle."""
    return _exactly(spec, transform.y_max - transform.y_min, transform.x_max - transform.x_min)


def swapped(_transform: Any, spec: Spec) -> Spec:
    """Result: height and width change places."""
    return spec.sized(spec.width, spec.height)


def perhaps_swapped(_transform: Any, spec: Spec) -> Spec:
    """Result: height and width may change places."""
    both = spec.height.union(spec.width)
    return spec if spec.height == spec.width else spec.sized(both, both)


def scaled(transform: Any, spec: Spec) -> Spec:
    """Result: both sides by one drawn factor, cut to whole pixels."""
    low, high = (limit + 1.0 for limit in transform.scale_limit)
    return spec.sized(*(_mapped(side, lambda n: int(n * low), lambda n: int(n * high)) for side in (spec.height, spec.width)))


def max_sized(pick: Callable[[Iterable[float]], float]) -> Callable[[Any, Spec], Spec]:
    """Return the rule of LongestMaxSize (pick: max) and SmallestMaxSize (min).

    The scale is the smaller (longest) or larger (smallest) of limit / side; a result is max(1, round(side * scale)).
    """

    def sides(transform: Any, spec: Spec) -> Spec:
        if transform.max_size is not None:
            sizes = transform.max_size if isinstance(transform.max_size, (list, tuple)) else [transform.max_size]
            limits = [(size, size) for size in sizes]
        else:
            limits = [transform.max_size_hw]
        made = [
            (_max_side(spec.height, spec.width, high, wide, pick), _max_side(spec.width, spec.height, wide, high, pick))
            for high, wide in limits
        ]
        height, width = made[0]
        for other in made[1:]:
            height, width = height.union(other[0]), width.union(other[1])
        return spec.sized(height, width)

    return sides


def _max_side(side: Interval, other: Interval, limit: int | None, other_limit: int | None, pick: Callable[..., float]) -> Interval:
    # side * scale is largest for the largest side beside the smallest other one, and smallest the other way round.
    def result(length: float, beside: float) -> float:
        scales = [bound / size for bound, size in ((limit, length), (other_limit, beside)) if bound is not None]
        return length * (min(scales) if pick is max else max(scales))

    low = max(1, round(result(side.low, other.high))) if other.high is not None else None
    high = max(1, round(result(side.high, other.low))) if side.high is not None else None
    if low is None:  # the other side may grow without end
        low = 1 if pick is max or limit is None else limit
    if high is None:
        high = limit if pick is max and limit is not None else None
    return Interval(low, None if high is None else max(low, high))


def padded(transform: Any, spec: Spec) -> Spec:
    """Result: the padding added."""
    padding = transform.padding
    if isinstance(padding, (tuple, list)):
        left, top, right, bottom = padding if len(padding) == 4 else (padding[0], padding[1]) * 2
    else:
        left = top = right = bottom = padding
    return spec.sized(_mapped(spec.height, lambda n: n + top + bottom), _mapped(spec.width, lambda n: n + left + right))


def padded_if_needed(transform: Any, spec: Spec) -> Spec:
    """Result: at least so much, or a multiple of the divisor."""

    def side(interval: Interval, least: int | None, divisor: int | None) -> Interval:
        return _mapped(interval, lambda n: max(n, least) if least is not None else -(-n // (divisor or 1)) * (divisor or 1))

    return spec.sized(
        side(spec.height, transform.min_height, transform.pad_height_divisor),
        side(spec.width, transform.min_width, transform.pad_width_divisor),
    )


def edges(transform: Any) -> list[tuple[float, float]]:
    """Return how far CropAndPad may move each edge outwards: (least, most) of top, right, bottom, left."""
    given = transform.px if transform.px is not None else transform.percent
    whole = transform.px is not None
    if isinstance(given, (int, float)):
        return [(given, given)] * 4
    if len(given) == 2:
        return [(given[0], given[1] - 1 if whole else given[1])] * 4
    if isinstance(given[0], (int, float)):
        return [(edge, edge) for edge in given]
    return [(edge[0], edge[1] - 1 if whole else edge[1]) if len(edge) == 2 else (min(edge), max(edge)) for edge in given]


def cropped_and_padded(transform: Any, spec: Spec) -> Spec:
    """Result: each edge moved, or the size it came with."""
    if transform.keep_size:
        return spec
    top, right, bottom, left = edges(transform)
    if transform.px is None:
        return spec.sized(_shared_out(spec.height, top, bottom), _shared_out(spec.width, left, right))

    def side(interval: Interval, one: tuple[float, float], two: tuple[float, float]) -> Interval:
        return _mapped(interval, lambda n: n + int(one[0] + two[0]), lambda n: n + int(one[1] + two[1]))

    return spec.sized(side(spec.height, top, bottom), side(spec.width, left, right))


def _shared_out(side: Interval, one: tuple[float, float], two: tuple[float, float]) -> Interval:
    # Each edge moves by int(share * n), cut towards zero: by less than a pixel from share * n.
    if side.is_exact and one[0] == one[1] and two[0] == two[1]:
        return Interval.exactly(max(1, side.low + int(one[0] * side.low) + int(two[0] * side.low)))
    least, most = 1 + one[0] + two[0], 1 + one[1] + two[1]
    low = max(1, math.floor(side.low * least) - 2)
    if side.high is None:
        return Interval(low)
    return Interval(low, max(low, math.ceil(max(side.low * most, side.high * most)) + 2))


def cut_from_borders(transform: Any, spec: Spec) -> Spec:
    """Result: up to the given shares less."""

    def side(interval: Interval, before: float, after: float) -> Interval:
        # The first line is drawn up to int(before * n), the end from int((1 - after) * n).
        return Interval(max(1, math.floor(interval.low * (1 - before - after)) - 1), interval.high)

    return spec.sized(
        side(spec.height, transform.crop_top, transform.crop_bottom), side(spec.width, transform.crop_left, transform.crop_right)
    )


def rotated(transform: Any, spec: Spec) -> Spec:
    """Result: what the largest upright rectangle leaves, or the size it came with."""
    if not transform.crop_border:
        return spec
    return spec.sized(Interval(1, spec.height.high), Interval(1, spec.width.high))


def fitted(transform: Any, spec: Spec) -> Spec:
    """Result: open where it grows to fit."""
    return spec.sized(Interval(), Interval()) if transform.fit_output else spec


def in_perspective(transform: Any, spec: Spec) -> Spec:
    """Result: open where the size is not kept."""
    return spec if transform.keep_size else spec.sized(Interval(), Interval())


def gray(transform: Any, spec: Spec) -> Spec:
    """Result: grey; grey images stay as they are."""
    if spec.channels == GRAY:
        return spec
    return _channels(spec, transform.num_output_channels)


def color(transform: Any, spec: Spec) -> Spec:
    """Result: three channels; colour images stay as they are."""
    if spec.channels == RGB:
        return spec
    return _channels(spec, transform.num_output_channels)


def _channels(spec: Spec, channels: int) -> Spec:
    if channels not in (GRAY, RGB):
        raise RecipeError(f"num_output_channels: should be 1 or 3, got {channels}")
    return replace(spec, channels=channels)


def to_float(transform: Any, spec: Spec) -> Spec:
    """Result: float32, divided by max_value or 255; floats stay as they are."""
    if spec.dtype != "uint8":
        return spec
    return replace(spec, dtype="float32", value_range=(0.0, 255.0 / (255.0 if transform.max_value is None else transform.max_value)))


def from_float(transform: Any, spec: Spec) -> Spec:
    """Result: uint8."""
    if spec.dtype == "uint8":
        raise RecipeError("it takes float32, and gets uint8")
    if str(transform.dtype) != "uint8":
        raise RecipeError(f"dtype: images are uint8 or float32, got {transform.dtype!r}")
    return replace(spec, dtype="uint8", value_range=(0.0, 255.0))


def normalized(transform: Any, spec: Spec) -> Spec:
    """Result: float32 of open range."""
    if transform.normalization == "standard":
        for name in ("mean", "std"):
            value = getattr(transform, name)
            if isinstance(value, (tuple, list)) and len(value) != spec.channels:
                raise RecipeError(f"{name}: {list(value)} has {len(value)} numbers, and the image has {spec.channels} channels")
    return replace(spec, dtype="float32", value_range=None)


def value_only(transform: Any, spec: Spec) -> Spec:
    """Result: as it came; refuses grey images where hue or saturation would be shifted."""
    if spec.channels == GRAY and any((*transform.hue_shift_limit, *transform.sat_shift_limit)):
        raise RecipeError("grey images have no hue and saturation; set hue_shift_limit and sat_shift_limit to 0")
    return spec


def is_placed(transform: Any) -> bool:
    """Whether borders go to a fixed place."""
    return getattr(transform, "pad_position", getattr(transform, "position", None)) != "random"


def has_one_size(transform: Any) -> bool:
    """Whether there is one size to scale to."""
    return not isinstance(transform.max_size, (list, tuple))
