"""Steps that change each pixel's tone or colour: contrast, grey."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import cv2
import numpy as np

from ray_prep.transforms.transform import GRAY, RGB, Image, check_parameters, check_uint8, with_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray_prep.sample import Sample
    from ray_prep.spec import Spec

_PARAMETERS = {"clahe": ("clip_limit", "tile_grid"), "equalize": (), "autocontrast": ("cutoff",), "gamma": ("gamma",)}


@dataclass(frozen=True)
class Contrast:
    """Evens out contrast or brightness; uint8 only.

    - clahe: adaptive equalisation, tile by tile; clip_limit 2, tile_grid [8, 8]. In colour on L of Lab.
    - equalize: of the whole histogram. In colour on L of Lab.
    - autocontrast: stretches each channel from its darkest to its lightest value to 0..255, as Pillow's does.
    - gamma: 255 * (value / 255) ** gamma; above 1 darkens.

    Shape: (H, W, C) -> (H, W, C).   Dtype: uint8.   Range: kept.   Random: no.   Targets: image.

    Args:
        method: clahe, equalize, autocontrast or gamma.
        clip_limit: clahe: how much a tile's contrast may be raised; larger raises more. None: 2.
        tile_grid: clahe: rows and columns of tiles. None: [8, 8].
        gamma: gamma: the exponent; needed there.
        cutoff: autocontrast: percent of pixels left out at each end. None: 0.
    """

    version: ClassVar[int] = 1
    is_random: ClassVar[bool] = False
    shorthand: ClassVar[tuple[str, ...]] = ("method",)

    method: Literal["clahe", "equalize", "autocontrast", "gamma"]
    clip_limit: float | None = None
    tile_grid: tuple[int, int] | None = None
    gamma: float | None = None
    cutoff: float | None = None

    def __post_init__(self) -> None:
        check_parameters(self, "clip_limit", low=0, is_open=True)
        check_parameters(self, "gamma", low=0, high=100, is_open=True)
        check_parameters(self, "cutoff", low=0, high=49)
        check_parameters(self, "tile_grid", low=1, high=64)
        wanted: tuple[str, ...] = _PARAMETERS[self.method]
        for name in ("clip_limit", "tile_grid", "gamma", "cutoff"):
            if getattr(self, name) is not None and name not in wanted:
                msg = f"{name} is not for {self.method}, which takes {' and '.join(wanted) or 'no parameters'}"
                raise ValueError(msg)
        if self.method == "gamma" and self.gamma is None:
            msg = "gamma: is needed for method gamma and was not given"
            raise ValueError(msg)

    def output_spec(self, spec: Spec, /) -> Spec:
        check_uint8(spec)
        return spec

    def __call__(self, sample: Sample, _rng: np.random.Generator, /) -> Sample:
        match self.method:
            case "clahe":
                rows, columns = self.tile_grid or (8, 8)
                # OpenCV's tileGridSize is (width, height).
                clahe = cv2.createCLAHE(2.0 if self.clip_limit is None else self.clip_limit, (columns, rows))
                image = _on_lightness(sample.image, clahe.apply)
            case "equalize":
                image = _on_lightness(sample.image, cv2.equalizeHist)
            case "autocontrast":
                image = _autocontrast(sample.image, self.cutoff or 0.0)
            case "gamma":
                levels = 255 * (np.arange(256) / 255) ** (self.gamma or 1.0)
                image = cv2.LUT(sample.image, np.rint(levels).astype(np.uint8))
        return with_image(sample, image.reshape(sample.image.shape))


def _on_lightness(image: Image, change: Callable[[Image], Image]) -> Image:
    if image.shape[2] == GRAY:
        return change(np.ascontiguousarray(image[:, :, 0]))
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[:, :, 0] = change(np.ascontiguousarray(lab[:, :, 0]))
    changed: Image = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return changed


def _autocontrast(image: Image, cutoff: float) -> Image:
    """Stretch each channel between the values that leave `cutoff` percent of the pixels on each side."""
    tables = []
    aside = int(image.shape[0] * image.shape[1] * cutoff / 100)
    for channel in range(image.shape[2]):
        counts = np.cumsum(np.bincount(image[:, :, channel].ravel(), minlength=256))
        low = int(np.searchsorted(counts, aside, side="right"))
        high = int(np.searchsorted(counts, counts[-1] - aside, side="left"))
        levels = np.arange(256, dtype=np.float64)
        tables.append(levels if high <= low else np.clip((levels - low) * 255 / (high - low), 0, 255))
    table = np.rint(np.stack(tables, axis=-1)).astype(np.uint8)
    stretched: Image = cv2.LUT(image, table[None])
    return stretched


@dataclass(frozen=True)
class Grayscale:
    """Makes grey of colour: 0.299 red + 0.587 green + 0.114 blue (ITU-R BT.601). Grey images stay as they are.

    Shape: (H, W, C) -> (H, W, channels).   Dtype: kept.   Range: kept.   Random: no.   Targets: image.

    Args:
        channels: 1, or 3 equal ones.
    """

    version: ClassVar[int] = 1
    is_random: ClassVar[bool] = False
    shorthand: ClassVar[tuple[str, ...]] = ("channels",)

    channels: Literal[1, 3] = 1

    def output_spec(self, spec: Spec, /) -> Spec:
        return replace(spec, channels=self.channels)

    def __call__(self, sample: Sample, _rng: np.random.Generator, /) -> Sample:
        image = sample.image
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == RGB else image[:, :, 0]
        return with_image(sample, cv2.merge([gray] * RGB) if self.channels == RGB else gray[:, :, None])
