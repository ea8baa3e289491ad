"""From a Pillow image of any mode to 8-bit pixels, by the rules of `policy`."""

from __future__ import annotations

import sys
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import ImageFile

from ray_prep.errors import DecodeError
from ray_prep.image.pillow import CONVERSION, PLUGINS, open_image, pillow_errors
from ray_prep.image.policy import as_channels, bands, cmyk_to_rgb, composed, fitted, keyed, lab_to_rgb, scaled

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from ray_prep.image.policy import Pixels

_PLANAR, _BITS, _SAMPLE_FORMAT, _PHOTOMETRIC, _EXTRA_SAMPLES = 284, 258, 339, 262, 338  # TIFF 6.0 §8
_UNSIGNED, _TOGETHER, _SEPARATE, _WHITE_IS_ZERO, _PREMULTIPLIED = 1, 1, 2, 0, 1
_NATIVE_IS_LITTLE = sys.byteorder == "little"


class _Depth(NamedTuple):
    """What Pillow's mode does not tell of an image.

    Args:
        full_scale: Largest value of a sample in the file.
        low: Last letter of the raw modes by which Pillow reads the low byte of each 16-bit sample (a byte order that is the
            file's turned round); None where one reading gives all there is. Separate planes that are compressed give their
            high bytes only.
        is_grey_alpha: 16-bit grey with alpha, read as four bytes.
        is_premultiplied: Colours are already multiplied by alpha.
        is_inverted: Zero is white, and Pillow has not turned it.
        is_unsigned: 32-bit integers without a sign.
    """

    full_scale: int = 255
    low: str | None = None
    is_grey_alpha: bool = False
    is_premultiplied: bool = False
    is_inverted: bool = False
    is_unsigned: bool = False


def read_pixels(
    image_format: str, data: bytes, stored: tuple[int, int], background: tuple[int, int, int], *, gray: bool
) -> tuple[Pixels, bool]:
    """Decode the first frame with Pillow.

    Shape: bytes -> (H, W, 1 or 3).   Dtype: uint8.   Range: [0, 255].   Random: no.   Targets: image.

    Args:
        image_format: As `recognise` names it, and in `PLUGINS`.
        data: The whole file.
        stored: (height, width) that the header stated and the limits were checked for.
        background: What lies below transparent pixels.
        gray: One channel instead of three.

    Returns:
        The pixels, and whether Pillow has turned them upright already (it does so for TIFF).

    Raises:
        DecodeError: The bytes make no picture.
    """
    image = open_image(image_format, data)
    if sorted(image.size) != sorted(stored):
        message = f"{image_format}: two headers disagree: {stored[0]}x{stored[1]} and {image.height}x{image.width} (height x width)"
        raise DecodeError("corrupt", message)
    with pillow_errors(image_format, data):
        depth = _depth(image_format, data, image)
        if gray and image_format in ("jpeg", "mpo"):
            image.draft("L", None)  # the luma that the file stores, as OpenCV reads it
        image.load()
        low = _load_low_bytes(image_format, data, depth.low) if depth.low else None
    with pillow_errors(image_format, data, CONVERSION):
        pixels = _convert(image, low, depth, background, image_format, gray=gray)
    return pixels, image_format == "tiff"


def _depth(image_format: str, data: bytes, image: ImageFile.ImageFile) -> _Depth:
    """Look at the depth of the samples, and choose how Pillow reads them (before it does)."""
    if image_format == "png":
        bits, kind = data[24], data[25]
        if bits < 16:
            return _Depth(full_scale=(1 << bits) - 1)
        if kind == 4:
            _read_as(image, "RGBA")  # four bytes: grey high and low, alpha high and low
            return _Depth(65535, is_grey_alpha=True)
        return _Depth(65535, low="L" if kind in (2, 6) else None)
    if image_format == "tiff":
        return _tiff_depth(image)
    if image_format == "jpeg2000":
        _check_jpeg2000(data, image.mode)
    return _Depth(65535 if image.mode.startswith("I") else 255)


def _check_jpeg2000(data: bytes, mode: str) -> None:
    """Refuse depths that Pillow 13 gets wrong: it rounds deeper samples up beyond their byte (white becomes 0), and shifts shallower ones.

    The depth of each component stands in the SIZ marker segment (ISO/IEC 15444-1, A.5.1): 7 bits, less one.
    """
    start = data.find(b"\xff\x4f\xff\x51")
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    depths = {(depth & 0x7F) + 1 for depth in data[start + 42 : start + 42 + 3 * count : 3]}
    if start >= 0 and depths != {8} and not (mode.startswith("I") and min(depths) > 9):
        raise DecodeError("unsupported", f"JPEG 2000 of {max(depths)} bits a channel, which is not decoded; convert it to PNG")


def _tiff_depth(image: Any) -> _Depth:
    """Look at the tags of a TIFF, and have Pillow read its samples as they are.

    Left alone, Pillow 13 misreads separate planes of 16 bits, a lone plane whose zero is white, grey with alpha in planes, and
    big-endian floats that are compressed.
    """
    tags = image.tag_v2
    if tags.get(_PLANAR) == _SEPARATE:
        if image.mode in ("LA", "La", "PA"):
            raise DecodeError("unsupported", "a TIFF of grey or palette and alpha in separate planes, which is not decoded")
        if image.mode not in ("RGB", "RGBA", "CMYK", "YCbCr", "LAB"):  # one plane is no plane
            tags[_PLANAR] = _TOGETHER
            image._setup()
    bits = max(tags.get(_BITS, (1,)))
    rawmode: str = image.tile[0].args[0]
    is_premultiplied = image.mode == "RGBA" and _PREMULTIPLIED in tags.get(_EXTRA_SAMPLES, ())
    is_unsigned = tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED
    is_planar = tags.get(_PLANAR) == _SEPARATE
    if is_planar and image.use_load_libtiff:
        is_premultiplied = False  # Pillow divides by alpha once it has put such planes together
    if bits <= 8:
        if is_premultiplied:  # Pillow would divide by alpha, and round
            image.tile = [tile._replace(args=(tile.args[0].replace("a", "A"), *tile.args[1:])) for tile in image.tile]
        return _Depth(is_premultiplied=is_premultiplied)
    is_inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if bits == 12:
        return _Depth(4095, is_inverted=is_inverted)
    native = {
        "RGB": "RGBX;16N" if "X" in rawmode else "RGB;16N",
        "RGBA": "RGBA;16N",
        "CMYK": "CMYK;16N",
        "F": "F;32NF",
        "I": "I;16NS" if bits == 16 else "I;32N" if is_unsigned else "I;32NS",
    }.get(image.mode, "I;16N")
    if image.use_load_libtiff:
        _read_as(image, native)  # libtiff hands out samples in the machine's own order
    elif is_planar and image.mode in ("RGB", "RGBA"):
        order = "L" if tags.prefix == b"II" else "B"
        # One letter a plane; planes beyond the colours have none.
        planes = [(tile, tile.args[0].upper()) for tile in image.tile if tile.args[0].isalpha()]
        image.tile = [tile._replace(args=(f"{letter};16{order}", *tile.args[1:])) for tile, letter in planes]
    elif is_planar:
        height, width = image._tile_size[::-1]
        image.use_load_libtiff = True
        image.tile = [ImageFile._Tile("libtiff", (0, 0, width, height), 0, (native, False, tags.offset))]
    elif is_premultiplied:
        _read_as(image, rawmode.replace("a", "A"))
    low = None
    if image.mode in ("RGB", "RGBA", "CMYK") and not (is_planar and image.use_load_libtiff):
        rawmode = image.tile[0].args[0]
        is_little = rawmode.endswith("L") or (rawmode.endswith("N") and _NATIVE_IS_LITTLE)
        low = "B" if is_little else "L"
    return _Depth(65535, low, is_premultiplied=is_premultiplied, is_inverted=is_inverted, is_unsigned=is_unsigned and bits == 32)


def _read_as(image: Any, rawmode: str) -> None:
    """Have Pillow unpack the file's bytes in another way."""
    image.tile = [tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode) for tile in image.tile]


def _load_low_bytes(image_format: str, data: bytes, byte_order: str) -> Image:
    """Decode a second time for the low bytes. Pillow 13 has no mode for 16-bit colours, but unpackers for either byte."""
    image: Any = PLUGINS[image_format](BytesIO(data))
    if image_format == "tiff":
        _tiff_depth(image)
    image.tile = [
        tile._replace(
            args=(tile.args[0][:-1] + byte_order, *tile.args[1:]) if isinstance(tile.args, tuple) else tile.args[:-1] + byte_order
        )
        for tile in image.tile
    ]
    image.load()
    return image  # type: ignore[no-any-return]


def _convert(image: Image, low: Image | None, depth: _Depth, background: tuple[int, int, int], image_format: str, *, gray: bool) -> Pixels:
    """Convert a loaded image band by band, so that wide arithmetic needs little memory."""
    if image.mode in ("I", "F") and image_format != "ppm":
        samples = np.asarray(image)
        whole = fitted(samples.view(np.uint32) if depth.is_unsigned else samples)
        return np.ascontiguousarray(as_channels(255 - whole if depth.is_inverted else whole, gray=gray))
    height, width = image.height, image.width
    out = np.empty((height, width, 1 if gray else 3), np.uint8)
    for top, bottom in bands(height, width):
        box = (0, top, width, bottom)
        is_all = bottom - top == height
        piece = image if is_all else image.crop(box)
        low_piece = low if low is None or is_all else low.crop(box)
        if depth.full_scale > 255:
            band = _deep_band(piece, low_piece, depth, background, image.info.get("transparency"))
        else:
            band = _band(piece, depth, background, image.info.get("transparency"))
        out[top:bottom] = as_channels(255 - band if depth.is_inverted else band, gray=gray)
    return out


def _band(image: Image, depth: _Depth, background: tuple[int, int, int], key: Any) -> Pixels:
    """Convert what Pillow holds at 8 bits or fewer."""
    if image.mode == "1":
        image = image.convert("L")
    if image.mode in ("L", "RGB"):
        colour: Pixels = np.asarray(image)
        if key is None:
            return colour
        # Pillow spreads grey of 1, 2 and 4 bits over 0 … 255 but leaves the key as it stands in the file.
        # Bits of the key beyond the depth mean nothing (PNG, third edition, 11.3.1.1). Of 1 bit it is 0 or 255 already, which becomes 1.
        step = 255 // depth.full_scale
        values = tuple((int(value) & depth.full_scale) * step for value in (key if isinstance(key, tuple) else (key,)))
        return keyed(colour if colour.ndim == 3 else colour[..., None], values, background, 255)
    if image.mode in ("P", "PA") and image.palette is None:
        raise DecodeError("corrupt", "a palette picture without a palette")
    if image.has_transparency_data:
        if image.mode not in ("LA", "RGBA"):
            image = image.convert("LA" if image.mode == "La" else "RGBA")
        samples = np.asarray(image)
        colour, alpha = samples[..., :-1], samples[..., -1]
        if alpha.min() == 255:
            return colour
        return composed(colour, alpha, background, is_premultiplied=depth.is_premultiplied)
    if image.mode == "LAB":
        return lab_to_rgb(np.asarray(image))
    return np.asarray(image.convert("RGB"))


def _deep_band(image: Image, low: Image | None, depth: _Depth, background: tuple[int, int, int], key: Any) -> Pixels:
    """Convert samples of more than 8 bits."""
    if depth.is_grey_alpha:
        four = np.asarray(image).astype(np.uint16)
        return composed(four[..., :1] << 8 | four[..., 1:2], four[..., 2] << 8 | four[..., 3], background)
    samples: NDArray[Any] = np.asarray(image)
    if samples.ndim == 3:
        samples = samples.astype(np.uint16) << 8 | (samples if low is None else np.asarray(low))
    else:
        # Mode I of a plain PGM holds 0 … 65535 in 32 bits.
        samples = (samples.astype(np.uint16) if samples.dtype.kind == "i" else samples)[..., None]
    if image.mode == "CMYK":
        return cmyk_to_rgb(samples)
    if image.mode == "RGBA":
        return composed(samples[..., :3], samples[..., 3], background, is_premultiplied=depth.is_premultiplied)
    if key is not None:
        return keyed(samples, key if isinstance(key, tuple) else (key,), background, depth.full_scale)
    return scaled(samples, depth.full_scale)
