"""How every kind of pixel becomes 8-bit RGB or grey. This is the whole policy; nothing else in the library changes values.

- **Alpha** is laid over `decode.background`: (colour x alpha + background x (1 - alpha)), rounded once, whether it comes as a
  channel (LA, RGBA, PA), with a palette, premultiplied (TIFF), or as a key: the one grey or colour that a PNG calls
  transparent, compared at the depth of the file.
- **16 bits** are scaled, never clipped: round(value / 257), so that 65535 becomes 255. The same rule at other depths:
  round(value x 255 / full scale) with a full scale of 1, 3, 15, 4095 (12-bit TIFF) or the largest value of a PGM/PPM. Alpha is
  applied at full depth, before the scaling. (Compressed TIFFs with each channel in a plane of 16 bits are taken by their high
  bytes, which is at most one level off, and with alpha two.)
- **32-bit integers and floats** (TIFF, PFM) state no full scale. The smallest customary one that holds every value of the image
  is taken: 1 (floats only), 255 or 65535; where values are negative or larger, the image's own smallest becomes 0 and its largest
  255. NaN becomes 0, infinities 0 and 255.
- **Palettes** are replaced by their colours first: no step ever averages indices.
- **CMYK and YCCK** become RGB by (1 - C)(1 - K) and so on, without a profile. JPEGs are taken as inverted, as Adobe writes them,
  with the Adobe marker and without, as Pillow and OpenCV do.
- **LAB** (TIFF's CIE L*a*b*, taken at D50) becomes sRGB; what lies outside is cut off in each channel. **YCbCr** is converted by
  the weights of JPEG (ITU-R BT.601).
- **Grey to RGB** repeats the value. **RGB to grey** is 0.299 R + 0.587 G + 0.114 B (OpenCV's integers; within one level of
  Pillow's); of a JPEG it is the luma that the file itself stores.
- **Orientation** (EXIF, and where that says nothing XMP, AVIF's own boxes, TIFF's tag) is applied exactly once.
- **Several frames**: the first one, as shown on its canvas; `source_frames` counts them. Of an icon, the largest picture.
- **ICC profiles and gamma** are ignored: values are taken as they stand in the file.
- White-is-zero TIFFs are inverted at every depth that is read (of 16 bits, Pillow 13 reads little-endian ones only).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Samples = NDArray[Any]

_BAND_PIXELS = 1 << 20
_FULL_SCALES = (1, 255, 65535)
_D50 = np.array([0.96422, 1.0, 0.82521])
_XYZ_D50_TO_SRGB = np.array(  # brucelindbloom.com, "RGB/XYZ Matrices", sRGB adapted to D50
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
)


def bands(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield (first row, last row + 1): bands of about a million pixels, so that wide arithmetic never needs the whole image."""
    rows = max(1, _BAND_PIXELS // max(1, width))
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


@cache
def scale_table(full_scale: int) -> Pixels:
    """Return the table round(value x 255 / full scale) for 0 … 65535; what lies above the full scale becomes 255."""
    values = np.arange(65536, dtype=np.int64)
    table = np.minimum((values * 510 + full_scale) // (2 * full_scale), 255).astype(np.uint8)
    table.setflags(write=False)
    return table


def scaled(samples: Samples, full_scale: int) -> Pixels:
    """Bring unsigned integers of up to 16 bits to 8.

    Shape: kept.   Dtype: any unsigned -> uint8.   Range: [0, full_scale] -> [0, 255].   Random: no.   Targets: image.
    """
    if full_scale == 255 and samples.dtype == np.uint8:
        return samples
    return scale_table(full_scale)[samples]


def fitted(samples: Samples) -> Pixels:
    """Bring numbers without a stated full scale to 8 bits: by the smallest of 1 (floats), 255, 65535 that holds them, or their own ends.

    Shape: kept.   Dtype: int32, uint32, float32 -> uint8.   Range: any -> [0, 255].   Random: no.   Targets: image.
    """
    is_float = samples.dtype.kind == "f"
    finite = samples[np.isfinite(samples)] if is_float else samples
    if finite.size == 0:
        return np.zeros(samples.shape, np.uint8)
    low, high = float(finite.min()), float(finite.max())
    del finite
    known = [scale for scale in _FULL_SCALES[0 if is_float else 1 :] if low >= 0 and high <= scale]
    low, high = (0.0, float(known[0])) if known else (low, high)
    out = np.empty(samples.shape, np.uint8)
    for top, bottom in bands(*samples.shape[:2]):
        values = samples[top:bottom].astype(np.float64)
        if is_float:
            values = np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
        out[top:bottom] = np.rint((values - low) / ((high - low) or 1.0) * 255.0)
    return out


def composed(colour: Samples, alpha: Samples, background: tuple[int, int, int], *, is_premultiplied: bool = False) -> Pixels:
    """Lay colours over the background by their alpha, at the depth of the samples, and bring them to 8 bits with one rounding.

    Shape: (H, W, 1 or 3) and (H, W) -> (H, W, 3).   Dtype: uint8 or uint16 -> uint8.   Range: [0, full scale] -> [0, 255].
    Random: no.   Targets: image.
    """
    if colour.dtype.itemsize == 1 and not is_premultiplied:
        cover = alpha.astype(np.uint16)[..., None]
        total = colour * cover + np.asarray(background, np.uint16) * (np.uint16(255) - cover) + np.uint16(128)
        return ((total + (total >> 8)) >> 8).astype(np.uint8)  # division by 255 with rounding, exact to 65025
    full = 65535 if colour.dtype.itemsize == 2 else 255
    wide_cover = alpha.astype(np.uint64)[..., None]
    below = np.asarray(background, np.uint64) * np.uint64(full // 255)
    paint = colour.astype(np.uint64)
    wide = (paint * np.uint64(full) if is_premultiplied else paint * wide_cover) + below * (np.uint64(full) - wide_cover)
    np.minimum(wide, np.uint64(full * full), out=wide)  # premultiplied colours brighter than their alpha allows exist in files
    divisor = np.uint64(full * full // 255)
    return ((wide + divisor // np.uint64(2)) // divisor).astype(np.uint8)  # the divisor is odd: there are no ties


def keyed(colour: Samples, key: tuple[int, ...], background: tuple[int, int, int], full_scale: int) -> Pixels:
    """Put the background where every channel equals the key, compared at the file's own depth.

    Shape: (H, W, 1 or 3) -> (H, W, 3).   Dtype: unsigned -> uint8.   Range: [0, full scale] -> [0, 255].   Random: no.
    Targets: image.
    """
    hidden = (colour == np.asarray(key, np.int64)).all(axis=-1)
    out = np.array(np.broadcast_to(scaled(colour, full_scale), (*colour.shape[:2], 3)))
    out[hidden] = background
    return out


def cmyk_to_rgb(samples: Samples) -> Pixels:
    """Turn 16-bit inks into light: (1 - C)(1 - K), (1 - M)(1 - K), (1 - Y)(1 - K), rounded once.

    Shape: (H, W, 4) -> (H, W, 3).   Dtype: uint16 -> uint8.   Range: [0, 65535] -> [0, 255].   Random: no.   Targets: image.
    """
    light = np.uint64(65535) - samples.astype(np.uint64)
    divisor = np.uint64(65535 * 65535 // 255)
    return ((light[..., :3] * light[..., 3:] + divisor // np.uint64(2)) // divisor).astype(np.uint8)


def lab_to_rgb(samples: Samples) -> Pixels:
    """Turn 8-bit CIE L*a*b* (TIFF 6.0 §23: L over 0..255, a and b signed) into sRGB (IEC 61966-2-1).

    By the formulas of CIE 15 and a Bradford adaptation from D50 to D65; LittleCMS at 8 bits makes (254, 255, 254) of white and is
    up to 11 levels off elsewhere.

    Shape: (H, W, 3) -> (H, W, 3).   Dtype: uint8.   Range: [0, 255].   Random: no.   Targets: image.
    """
    root_y = (samples[..., 0] / 2.55 + 16) / 116
    signed = np.ascontiguousarray(samples[..., 1:]).view(np.int8)
    root = np.stack([root_y + signed[..., 0] / 500, root_y, root_y - signed[..., 1] / 200], axis=-1)
    ratio = np.where(root > 6 / 29, root**3, (root - 4 / 29) * 3 * (6 / 29) ** 2)
    linear = np.clip(ratio * _D50 @ _XYZ_D50_TO_SRGB.T, 0, 1)
    encoded: NDArray[np.float64] = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(encoded * 255).astype(np.uint8)


def as_channels(image: Pixels, *, gray: bool) -> Pixels:
    """Return the image with one channel or three.

    Shape: (H, W), (H, W, 1) or (H, W, 3) -> (H, W, 1 or 3).   Dtype: kept.   Range: kept.   Random: no.   Targets: image.
    """
    if image.ndim == 2:
        image = image[..., None]
    if gray:
        return image if image.shape[2] == 1 else cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None]
    return image if image.shape[2] == 3 else np.repeat(image, 3, axis=2)


def oriented(image: Pixels, orientation: int) -> Pixels:
    """Turn and mirror the stored picture as its EXIF orientation 1..8 asks (CIPA DC-008 §4.6.5).

    Shape: (H, W, C) -> (H, W, C), or (W, H, C) for 5 to 8.   Dtype: kept.   Range: kept.   Random: no.   Targets: image.
    """
    if orientation == 1:
        return image
    flat: Any = image[..., 0] if image.shape[2] == 1 else image
    if orientation == 2:
        flat = cv2.flip(flat, 1)
    elif orientation == 3:
        flat = cv2.rotate(flat, cv2.ROTATE_180)
    elif orientation == 4:
        flat = cv2.flip(flat, 0)
    elif orientation == 5:
        flat = cv2.transpose(flat)
    elif orientation == 6:
        flat = cv2.rotate(flat, cv2.ROTATE_90_CLOCKWISE)
    elif orientation == 7:
        flat = cv2.flip(cv2.transpose(flat), -1)
    else:
        flat = cv2.rotate(flat, cv2.ROTATE_90_COUNTERCLOCKWISE)
    turned: Pixels = flat[..., None] if flat.ndim == 2 else flat
    return turned
