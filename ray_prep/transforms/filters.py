"""Steps that look at a pixel's neighbourhood: noise out, edges up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import cv2
import numpy as np

from ray_prep.transforms.transform import RGB, Image, check_parameters, check_uint8, with_image

if TYPE_CHECKING:
    from ray_prep.sample import Sample
    from ray_prep.spec import Spec

_PARAMETERS = {
    "gaussian": ("kernel", "sigma"),
    "median": ("kernel",),
    "bilateral": ("kernel", "sigma", "strength"),
    "nlmeans": ("kernel", "strength"),
}
_KERNELS = {"gaussian": 5, "median": 5, "bilateral": 5, "nlmeans": 7}
_SEARCH_PX = 21
_MAX_KERNEL = {"gaussian": 255, "median": 255, "bilateral": 31, "nlmeans": 21}


@dataclass(frozen=True)
class Denoise:
    """Takes noise out. `gaussian` takes float32 too; the others uint8 only.

    - gaussian: kernel 5; sigma from the kernel, by OpenCV's rule 0.3 (kernel / 2 - 1) + 0.8 with kernel halved down.
    - median: kernel 5.
    - bilateral: kernel 5 (the diameter), sigma 50 (how far pixels reach), strength 50 (how unlike they may be).
    - nlmeans: kernel 7 (the patches compared, within 21 x 21), strength 3; in colour on L and on a, b of Lab. Slow: 0.1 to 1 s.

    Shape: (H, W, C) -> (H, W, C).   Dtype: kept.   Range: kept.   Random: no.   Targets: image.

    Args:
        method: gaussian, median, bilateral or nlmeans.
        kernel: Its side or diameter, pixels, odd. None: as above.
        sigma: Of the Gaussian in space, pixels. None: as above.
        strength: Of bilateral and nlmeans, grey levels. None: as above.
    """

    version: ClassVar[int] = 1
    is_random: ClassVar[bool] = False
    shorthand: ClassVar[tuple[str, ...]] = ("method",)

    method: Literal["gaussian", "median", "bilateral", "nlmeans"]
    kernel: int | None = None
    sigma: float | None = None
    strength: float | None = None

    def __post_init__(self) -> None:
        check_parameters(self, "sigma", "strength", low=0, is_open=True)
        for name in ("kernel", "sigma", "strength"):
            if getattr(self, name) is not None and name not in _PARAMETERS[self.method]:
                msg = f"{name} is not for {self.method}, which takes {' and '.join(_PARAMETERS[self.method])}"
                raise ValueError(msg)
        if self.kernel is not None and not (self.kernel % 2 == 1 and 3 <= self.kernel <= _MAX_KERNEL[self.method]):
            msg = f"kernel: should be odd, from 3 to {_MAX_KERNEL[self.method]} for {self.method}, got {self.kernel}"
            raise ValueError(msg)

    def output_spec(self, spec: Spec, /) -> Spec:
        if self.method != "gaussian":
            check_uint8(spec)
        return spec

    def __call__(self, sample: Sample, _rng: np.random.Generator, /) -> Sample:
        return with_image(sample, self._denoised(sample.image).reshape(sample.image.shape))

    def _denoised(self, image: Image) -> Image:
        kernel = self.kernel or _KERNELS[self.method]
        result: Image
        match self.method:
            case "gaussian":
                result = cv2.GaussianBlur(image, (kernel, kernel), self.sigma or 0)
            case "median":
                result = cv2.medianBlur(image, kernel)
            case "bilateral":
                result = cv2.bilateralFilter(image, kernel, self.strength or 50, self.sigma or 50)
            case "nlmeans":
                strength = self.strength or 3
                if image.shape[2] != RGB:
                    result = cv2.fastNlMeansDenoising(image, None, strength, kernel, _SEARCH_PX)
                else:
                    # OpenCV takes the channels for blue, green, red on their way to Lab.
                    blue_first = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
                    blue_first = cv2.fastNlMeansDenoisingColored(blue_first, None, strength, strength, kernel, _SEARCH_PX)
                    result = cv2.cvtColor(blue_first, cv2.COLOR_BGR2RGB)
        return result


@dataclass(frozen=True)
class Sharpen:
    """Sharpens by an unsharp mask: image + amount * (image - blurred image), rounded, cut at 0 and 255.

    Shape: (H, W, C) -> (H, W, C).   Dtype: uint8.   Range: kept.   Random: no.   Targets: image.

    Args:
        amount: 0 does nothing, 1 doubles what the blur takes away.
        sigma: Of the Gaussian blur, pixels: how wide an edge is.
    """

    version: ClassVar[int] = 1
    is_random: ClassVar[bool] = False

    amount: float = 1.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        check_parameters(self, "amount", low=0, high=10)
        check_parameters(self, "sigma", low=0, high=50, is_open=True)

    def output_spec(self, spec: Spec, /) -> Spec:
        check_uint8(spec)
        return spec

    def __call__(self, sample: Sample, _rng: np.random.Generator, /) -> Sample:
        blurred = cv2.GaussianBlur(sample.image, (0, 0), self.sigma)
        result = cv2.addWeighted(sample.image.reshape(blurred.shape), 1 + self.amount, blurred, -self.amount, 0)
        return with_image(sample, result.reshape(sample.image.shape))
