"""What random steps did to a copy, in words for a person; the column `params` holds it to the last digit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_FACTS_A_STEP = 4
# A shift below half a pixel and a scale of one to three digits are what turning about the centre leaves of rounding.
_STILL_PX = 0.5
# Where no crop was drawn, Albumentations 2.0.8 records -1; sizes are seen from the picture, seeds mean nothing to anybody.
_UNSAID = {"image_type", "max_height", "max_width", "name", "output_shape", "random_seed", "result_shape", "seed"}
_UNSAID |= {"x_max", "x_min", "y_max", "y_min"}


def applied_text(applied: Sequence[Mapping[str, Any]]) -> str:
    """Return what random steps did: `RandomCrop 224 x 224 at row 9, column 83; HorizontalFlip; Rotate 7.3°`.

    Angles are degrees counter-clockwise. Maps of a value a pixel and the like are left out.

    Args:
        applied: A sample's `applied`, or the column `params` as plain data.
    """
    return "; ".join(" ".join([str(step.get("name", "?")), ", ".join(list(_facts(step))[:_FACTS_A_STEP])]).strip() for step in applied) or (
        "nothing applied"
    )


def _facts(step: Mapping[str, Any]) -> Iterator[str]:
    own = _OWN.get(str(step.get("name")))
    if own is not None:
        yield from own(step)
        return
    unsaid = _UNSAID
    if "matrix" in step:
        yield from _turned(step)
        unsaid = _UNSAID | {"matrix", "rotate", "scale"}
    for name, value in step.items():
        if name in ("crop_coords", "crop_params") and _are_numbers(value, 4):
            left, top, right, bottom = (round(number) for number in value)
            yield f"{bottom - top} x {right - left} at row {top}, column {left}"
        elif name == "holes":
            count = value["shape"][0] if isinstance(value, dict) else len(value)
            yield f"{count} hole" + ("" if count == 1 else "s")
        elif name not in unsaid:
            yield from _plain(name, value)


def _plain(name: str, value: Any) -> Iterator[str]:
    """Yield a number, a few numbers or a word with its name; nothing for what only a program reads."""
    words = name.replace("_", " ")
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        yield f"{words} {_number(value)}"
    elif isinstance(value, str):
        yield value if name == "call" else f"{words} {value}"
    elif _are_numbers(value, len(value)) and 0 < len(value) <= 4:
        yield f"{words} {', '.join(map(_number, value))}"
    elif name == "kernel" and value and isinstance(value, list):
        # A row of weights blurs in both directions; a square of them is the kernel itself.
        yield f"kernel {len(value)}"


def _turned(step: Mapping[str, Any]) -> Iterator[str]:
    """Yield angle, scale and shift of an affine matrix about the picture's centre; nothing of a perspective."""
    matrix = step["matrix"]
    if not (isinstance(matrix, list) and len(matrix) >= 2 and (len(matrix) < 3 or matrix[2] == [0, 0, 1])):
        return
    (right, skew, _), (down, below, _) = matrix[:2]
    # Rows point down, so that a turn counter-clockwise, as a person sees it, has a negative sine here.
    angle = step.get("rotate", -math.degrees(math.atan2(down, right)))
    yield f"{angle + 0.0:.1f}°"
    scale = math.hypot(right, down), math.hypot(skew, below)
    if any(abs(side - 1) > 5e-4 for side in scale):
        is_one = abs(scale[0] - scale[1]) < 5e-3
        yield f"scale {scale[1]:.3g}" + ("" if is_one else f" x {scale[0]:.3g}")
    if _are_numbers(step.get("output_shape"), 2):
        y, x = ((side - 1) / 2 for side in step["output_shape"])
        rows = down * x + below * y + matrix[1][2] - y
        columns = right * x + skew * y + matrix[0][2] - x
        if max(abs(rows), abs(columns)) > _STILL_PX:
            yield f"shifted by {rows + 0.0:.0f} rows, {columns + 0.0:.0f} columns"


def _brightness_contrast(step: Mapping[str, Any]) -> Iterator[str]:
    """Yield what becomes of a pixel: it is multiplied by alpha, then beta is added."""
    yield f"contrast x {step['alpha']:.3g}"
    yield f"brightness {step['beta']:+.3g}"


def _quarters(step: Mapping[str, Any]) -> Iterator[str]:
    yield f"{90 * int(step['factor'])}°"


def _color_jitter(step: Mapping[str, Any]) -> Iterator[str]:
    for name in ("brightness", "contrast", "saturation"):
        yield f"{name} x {step[name]:.3g}"
    yield f"hue {step['hue']:+.3g}"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _are_numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(isinstance(number, float | int) for number in value)


_OWN: dict[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "ColorJitter": _color_jitter,
    "RandomBrightnessContrast": _brightness_contrast,
    "RandomRotate90": _quarters,
}
