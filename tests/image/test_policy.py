"""Values of pixels, against numbers worked out here with whole numbers and fractions, never by a decoder."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from ray_prep.errors import DecodeError
from ray_prep.image.decode import Decode, decode
from ray_prep.image.header import read_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Writer = Callable[..., bytes]

RNG = np.random.default_rng(11)
BACKGROUND = (250, 100, 3)
OVER = Decode(background=BACKGROUND)


def opened(data: bytes, config: Decode = OVER) -> NDArray[np.uint8]:
    """Return the decoded picture, checked for its form."""
    header = read_header(data)
    image = decode(data, header, config)
    assert image.shape == (*header.oriented_size, 1 if config.color == "gray" else 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    return image


def rounded(value: Fraction) -> int:
    """Return the nearest whole number."""
    return int(value + Fraction(1, 2))


def to_8_bits(samples: NDArray[Any], full_scale: int) -> NDArray[np.int64]:
    """Return round(value x 255 / full scale), one value at a time."""
    values = [rounded(Fraction(int(value) * 255, full_scale)) for value in samples.ravel()]
    return np.array(values).reshape(samples.shape)


def over(colour: NDArray[Any], alpha: NDArray[Any], full_scale: int) -> NDArray[np.int64]:
    """Return colours laid over the background, one value at a time."""
    out = np.empty((*colour.shape[:2], 3), np.int64)
    for y, x, channel in np.ndindex(out.shape):
        paint = int(colour[y, x, channel % colour.shape[2]])
        cover = Fraction(int(alpha[y, x]), full_scale)
        out[y, x, channel] = rounded(Fraction(paint * 255, full_scale) * cover + BACKGROUND[channel] * (1 - cover))
    return out


def deep(height: int, width: int, channels: int) -> NDArray[np.uint16]:
    """Return 16-bit samples with both ends and the values around the steps of the scaling among them."""
    samples = RNG.integers(0, 65536, (height, width, channels)).astype(np.uint16)
    samples.ravel()[:8] = [0, 65535, 128, 129, 385, 386, 65406, 65407]
    return samples


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits(colour_type: int, channels: int, write_png: Writer, *, interlaced: bool) -> None:
    """Every kind is scaled from its full depth, alpha applied before, in all interlacings."""
    samples = deep(9, 11, channels)
    image = opened(write_png(samples, colour_type, 16, interlaced=interlaced))
    if channels in (2, 4):
        expected = over(samples[..., :-1], samples[..., -1], 65535)
    else:
        expected = np.broadcast_to(to_8_bits(samples, 65535), (9, 11, 3))
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_grey_png_of_few_bits(depth: int, write_png: Writer) -> None:
    """The full scale of each depth becomes 255."""
    samples = RNG.integers(0, 1 << depth, (5, 13, 1))
    expected = to_8_bits(samples, (1 << depth) - 1)
    np.testing.assert_array_equal(opened(write_png(samples, 0, depth)), np.broadcast_to(expected, (5, 13, 3)))
    np.testing.assert_array_equal(opened(write_png(samples, 0, depth), Decode(color="gray")), expected)


@pytest.mark.parametrize("key", [0, 1])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png(depth: int, key: int, write_png: Writer) -> None:
    """The key is compared at the depth of the file: 16-bit neighbours of it stay, and bits of it that no sample has mean nothing."""
    samples = RNG.integers(0, 1 << depth, (6, 9, 1))
    samples[0, :4, 0] = key, key ^ 1, key, key
    beyond = 0 if depth in (1, 16) else 1 << depth  # Pillow 13 takes any key of 1 bit that is not 0 for 1
    data = write_png(samples, 0, depth, before=[(b"tRNS", struct.pack(">H", key | beyond))])
    expected = np.array(np.broadcast_to(to_8_bits(samples, (1 << depth) - 1), (6, 9, 3)))
    expected[samples[..., 0] == key] = BACKGROUND
    np.testing.assert_array_equal(opened(data), expected)


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_colour_of_a_png(depth: int, write_png: Writer) -> None:
    """All three channels must match."""
    samples = RNG.integers(0, 1 << depth, (6, 9, 3))
    key = samples[1, 1].copy()
    samples[4, 4] = key
    samples[0, 0] = key ^ [0, 0, 1]
    data = write_png(samples, 2, depth, before=[(b"tRNS", struct.pack(">HHH", *key))])
    expected = to_8_bits(samples, (1 << depth) - 1)
    expected[(samples == key).all(axis=-1)] = BACKGROUND
    np.testing.assert_array_equal(opened(data), expected)


@pytest.mark.parametrize(("colour_type", "channels"), [(4, 2), (6, 4)])
def test_alpha_of_8_bits(colour_type: int, channels: int, write_png: Writer) -> None:
    """Colours over the background, rounded once; grey too, over a background that is none."""
    samples = RNG.integers(0, 256, (20, 30, channels))
    samples[0, :, -1], samples[1, :, -1] = 0, 255
    np.testing.assert_array_equal(opened(write_png(samples, colour_type, 8)), over(samples[..., :-1], samples[..., -1], 255))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes(depth: int, write_png: Writer) -> None:
    """Indices become their colours, with the alpha that the palette gives them; what it leaves out is opaque."""
    colours = RNG.integers(0, 256, (1 << depth, 3))
    indices = RNG.integers(0, 1 << depth, (7, 10, 1))
    palette = (b"PLTE", colours.astype(np.uint8).tobytes())
    np.testing.assert_array_equal(opened(write_png(indices, 3, depth, before=[palette])), colours[indices[..., 0]])
    some = RNG.integers(0, 256, 1 << depth)
    some[-1:] = 255
    data = write_png(indices, 3, depth, before=[palette, (b"tRNS", some[:-1].astype(np.uint8).tobytes())])
    np.testing.assert_array_equal(opened(data), over(colours[indices[..., 0]], some[indices[..., 0]], 255))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize(("channels", "extra"), [(1, None), (3, None), (4, 0), (4, 1), (4, 2)])
def test_tiff_of_16_bits(channels: int, extra: int | None, order: str, write_tiff: Writer, *, planar: bool, compressed: bool) -> None:
    """Either byte order, packed or not, planes or pixels, without alpha, with it, and multiplied by it."""
    samples = deep(8, 9, channels)
    if extra == 1:
        samples[..., :3] = np.minimum(samples[..., :3], samples[..., 3:])
    image = opened(write_tiff(samples, 1 if channels == 1 else 2, order=order, compressed=compressed, planar=planar, extra=extra))
    if extra == 2:
        expected = over(samples[..., :3], samples[..., 3], 65535)
    elif extra == 1:
        paint, below = samples[..., :3].astype(object), 65535 - samples[..., 3:].astype(object)
        total = (paint * 65535 * 255 + below * np.array(BACKGROUND, object) * 65535) * 2 + 65535 * 65535
        expected = (total // (2 * 65535 * 65535)).astype(np.int64)
    else:
        expected = np.broadcast_to(to_8_bits(samples[..., :3], 65535), (8, 9, 3))
    if planar and compressed and channels > 1:  # the high bytes are all that Pillow gives
        assert np.abs(image - expected).max() <= 1 + (channels == 4)
    else:
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize(("channels", "photometric", "extra"), [(3, 2, None), (4, 2, 2), (4, 2, 1), (2, 1, 2), (1, 0, None), (1, 1, None)])
def test_tiff_of_8_bits(channels: int, photometric: int, extra: int | None, write_tiff: Writer, *, planar: bool, compressed: bool) -> None:
    """Colours, alpha apart or multiplied in, and zero as white or as black; planes of grey and alpha are refused, not misread."""
    samples = RNG.integers(0, 256, (8, 9, channels)).astype(np.uint8)
    if extra == 1:
        samples[..., :3] = np.minimum(samples[..., :3], samples[..., 3:])
        expected: Any = np.rint(samples[..., :3] + (255.0 - samples[..., 3:]) / 255 * BACKGROUND)
    elif extra == 2:
        expected = over(samples[..., :-1], samples[..., -1], 255)
    else:
        expected = np.broadcast_to(255 - samples if photometric == 0 else samples, (8, 9, 3))
    data = write_tiff(samples, photometric, extra=extra, planar=planar, compressed=compressed)
    if planar and channels == 2:
        with pytest.raises(DecodeError, match="separate planes"):
            opened(data)
        return
    image = opened(data)
    if extra == 1 and planar and compressed:  # Pillow has divided by alpha, and rounded
        assert np.abs(image - expected).max() <= 1
    else:
        np.testing.assert_array_equal(image, expected)


def test_white_is_zero_at_16_bits(write_tiff: Writer) -> None:
    """What Pillow inverts at 8 bits only is inverted at 16."""
    samples = deep(4, 5, 1)
    expected = np.broadcast_to(255 - to_8_bits(samples, 65535), (4, 5, 3))
    np.testing.assert_array_equal(opened(write_tiff(samples, 0)), expected)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", [False, True])
def test_cmyk_tiff(bits: int, order: str, write_tiff: Writer, *, planar: bool) -> None:
    """Red is (1 - C)(1 - K), and so on; 0 is no ink. Of separate planes of 16 bits the high bytes are read: each factor is a level off."""
    full = (1 << bits) - 1
    samples = np.random.default_rng(bits).integers(0, full + 1, (6, 7, 4)).astype(np.uint8 if bits == 8 else np.uint16)
    light = full - samples.astype(object)
    expected = (light[..., :3] * light[..., 3:] * 255 * 2 + full * full) // (2 * full * full)
    image = opened(write_tiff(samples, 5, order=order, planar=planar))
    assert np.abs(image - expected.astype(np.int64)).max() <= (2 if planar and bits == 16 else 0)


@pytest.mark.parametrize("with_marker", [True, False])
def test_cmyk_jpeg(*, with_marker: bool) -> None:
    """Inks are stored inverted, as Adobe writes them; a file that lost the marker means the same."""
    inks = np.zeros((32, 32, 4), np.uint8)
    inks[:16, :16], inks[:16, 16:], inks[16:, :16], inks[16:, 16:] = (200, 0, 0, 0), (0, 180, 20, 50), (0, 0, 0, 255), (90, 60, 30, 0)
    buffer = io.BytesIO()
    Image.fromarray(inks, "CMYK").save(buffer, "JPEG", quality=100, subsampling=0)
    data = buffer.getvalue()
    if not with_marker:
        at = data.index(b"\xff\xee\0\x0eAdobe")
        data = data[:at] + data[at + 16 :]
    light = 255.0 - inks
    expected = light[..., :3] * light[..., 3:] / 255
    assert np.abs(opened(data) - expected).max() <= 4
    luma = expected @ [0.299, 0.587, 0.114]
    assert np.abs(opened(data, Decode(color="gray"))[..., 0] - luma).max() <= 4


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.25, 0.5, 1.0], [0, 64, 128, 255]),
        ([0.0, 1.5, 100.0, 255.0], [0, 2, 100, 255]),
        ([0.0, 257.0, 25700.0, 65535.0], [0, 1, 100, 255]),
        ([-1.0, 0.0, 1.0, 3.0], [0, 64, 128, 255]),
        ([0.0, 1e6, 2e6, 5e6], [0, 51, 102, 255]),
        ([float("nan"), 0.0, float("inf"), 200.0], [0, 0, 255, 200]),
        ([7e4, 7e4, 7e4, 7e4], [0, 0, 0, 0]),
    ],
)
def test_float_tiff(values: list[float], expected: list[int], order: str, write_tiff: Writer, *, compressed: bool) -> None:
    """The smallest customary full scale that holds every value, or else the image's own ends; halves go to even."""
    samples = np.array(values, np.float32).reshape(2, 2, 1)
    image = opened(write_tiff(samples, 1, order=order, compressed=compressed, sample_format=3), Decode(color="gray"))
    assert image.ravel().tolist() == expected


@pytest.mark.parametrize(
    ("values", "dtype", "sample_format", "expected"),
    [
        ([0, 1, 100, 255], np.uint32, 1, [0, 1, 100, 255]),
        ([0, 257, 2570, 65535], np.uint32, 1, [0, 1, 10, 255]),
        ([0, 1 << 31, 3 << 30, (1 << 32) - 1], np.uint32, 1, [0, 128, 191, 255]),
        ([-100, 0, 100, 155], np.int32, 2, [0, 100, 200, 255]),
        ([-1000, -500, 0, 1000], np.int16, 2, [0, 64, 128, 255]),
    ],
)
def test_integer_tiff(values: list[int], dtype: Any, sample_format: int, expected: list[int], write_tiff: Writer) -> None:
    """32-bit and signed integers follow the rule of floats, without its full scale of 1."""
    samples = np.array(values, dtype).reshape(2, 2, 1)
    assert opened(write_tiff(samples, 1, sample_format=sample_format), Decode(color="gray")).ravel().tolist() == expected


@pytest.mark.parametrize(("magic", "channels"), [("5", 1), ("6", 3)])
@pytest.mark.parametrize("largest", [1, 15, 200, 255, 1023, 65535])
def test_netpbm(magic: str, channels: int, largest: int) -> None:
    """The largest value that the file states is its full scale, at one byte or two."""
    samples = RNG.integers(0, largest + 1, (5, 6, channels))
    body = samples.astype(">u2" if largest > 255 else np.uint8).tobytes()
    data = f"P{magic}\n# by hand\n6 5\n{largest}\n".encode() + body
    np.testing.assert_array_equal(opened(data), np.broadcast_to(to_8_bits(samples, largest), (5, 6, 3)))


@pytest.mark.parametrize(("magic", "channels"), [("2", 1), ("3", 3)])
@pytest.mark.parametrize("largest", [255, 1023])
def test_plain_netpbm(magic: str, channels: int, largest: int) -> None:
    """The text forms give the same values as the raw ones, within the step that Pillow rounds by."""
    samples = RNG.integers(0, largest + 1, (5, 6, channels))
    text = " ".join(str(value) for value in samples.ravel())
    image = opened(f"P{magic} 6 5 {largest}\n{text}\n".encode())
    assert np.abs(image - to_8_bits(samples, largest)).max() <= (0 if largest == 255 else 1)


@pytest.mark.parametrize(("magic", "channels"), [("f", 1), ("F", 3)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_pfm(magic: str, channels: int, order: str) -> None:
    """Floats from the lowest row up, grey or colour, in the byte order that the sign of the scale tells."""
    samples = RNG.random((4, 3, channels)).astype(np.float32)
    samples[0, 0], samples[3, 2] = 0, 1
    data = f"P{magic}\n3 4\n{'-1.0' if order == '<' else '1.0'}\n".encode() + samples[::-1].astype(order + "f4").tobytes()
    expected = np.broadcast_to(np.rint(samples.astype(np.float64) * 255), (4, 3, 3))
    np.testing.assert_array_equal(opened(data), expected)


def test_bilevel() -> None:
    """One bit is black or white, in a bitmap and in a TIFF of either photometry."""
    bits = RNG.integers(0, 2, (9, 17)).astype(bool)
    expected = np.repeat((bits * 255)[..., None], 3, axis=2)
    for image_format, options in (("PPM", {}), ("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "group4"}), ("BMP", {}), ("GIF", {})):
        buffer = io.BytesIO()
        Image.fromarray(bits).save(buffer, image_format, **options)
        np.testing.assert_array_equal(opened(buffer.getvalue()), expected)


def lab_of(colour: tuple[int, int, int]) -> list[int]:
    """Return the 8-bit CIE L*a*b* (D50) of an sRGB colour: IEC 61966-2-1, Bradford, CIE 15, TIFF 6.0 §23."""
    encoded = np.array(colour) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_d50 = [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
    ratio = np.array(to_d50) @ linear / [0.96422, 1.0, 0.82521]
    root = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    lightness, a, b = 116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])
    return [round(lightness * 2.55), round(a) & 255, round(b) & 255]


def test_lab_tiff(write_tiff: Writer) -> None:
    """L*a*b* values worked out from sRGB colours become those colours again."""
    colours = [
        (0, 0, 0),
        (255, 255, 255),
        (128, 128, 128),
        (150, 90, 90),
        (90, 150, 90),
        (90, 90, 150),
        (200, 150, 100),
        (60, 120, 160),
        (255, 255, 0),
    ]
    stored = np.array([lab_of(colour) for colour in colours], np.uint8).reshape(1, -1, 3)
    assert np.abs(opened(write_tiff(stored, 8))[0].astype(int) - colours).max() <= 6  # a and b are whole numbers in the file
    assert opened(write_tiff(stored, 8))[0, :2].tolist() == [[0, 0, 0], [255, 255, 255]]


def test_grey_of_colours(write_png: Writer) -> None:
    """0.299 R + 0.587 G + 0.114 B, after alpha; of a JPEG the luma it stores."""
    samples = RNG.integers(0, 256, (15, 16, 4))
    flat = over(samples[..., :3], samples[..., 3], 255)
    grey = opened(write_png(samples, 6, 8), Decode(color="gray", background=BACKGROUND))
    assert np.abs(grey[..., 0] - flat @ [0.299, 0.587, 0.114]).max() <= 0.51
    plain = np.full((16, 16, 3), (200, 30, 90), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(plain).save(buffer, "JPEG", quality=100)
    assert np.abs(opened(buffer.getvalue(), Decode(color="gray")) - np.array([200, 30, 90]) @ [0.299, 0.587, 0.114]).max() <= 1.5


def test_the_first_frame_as_it_is_shown() -> None:
    """A first frame smaller than the canvas lies at its place; the rest of the canvas is not a part of any frame."""
    frames = [Image.new("RGBA", (12, 8), colour) for colour in ((255, 0, 0, 255), (0, 0, 255, 255))]
    for image_format in ("GIF", "WEBP", "PNG"):
        buffer = io.BytesIO()
        frames[0].save(buffer, image_format, save_all=True, append_images=frames[1:], lossless=True)
        assert read_header(buffer.getvalue()).frames == 2
        assert np.abs(opened(buffer.getvalue()).astype(int) - [255, 0, 0]).max() <= 2
    screen = b"GIF89a" + struct.pack("<HHBBB", 8, 6, 0x80, 0, 0) + bytes([0, 0, 0, 255, 255, 255])
    control = b"\x21\xf9\x04\x01\0\0\0\0"  # index 0 is transparent
    lone_white_pixel = b"\x2c" + struct.pack("<HHHHB", 5, 4, 1, 1, 0) + bytes([2, 2, 0x4C, 0x01, 0])
    image = opened(screen + control + lone_white_pixel + b"\x3b")
    assert image[4, 5].tolist() == [255, 255, 255]
    image[4, 5] = BACKGROUND
    assert (image == BACKGROUND).all()


def test_wide_images_are_converted_in_bands(write_png: Writer) -> None:
    """A picture of several bands is what its parts are."""
    samples = RNG.integers(0, 256, (700, 2000, 4))
    image = opened(write_png(samples, 6, 8))
    alpha = samples[..., 3:] / 255.0
    assert np.abs(image - (samples[..., :3] * alpha + np.array(BACKGROUND) * (1 - alpha))).max() <= 0.5 + 1e-9
