"""Files become upright pictures or a DecodeError, whatever was done to them."""

from __future__ import annotations

import io
import os
import random
import re
import struct
import threading
import warnings
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from ray_prep.errors import DecodeError, LimitError, SampleError
from ray_prep.image import jpeg
from ray_prep.image.decode import Decode, decode
from ray_prep.image.header import Header, check_limits, read_header
from ray_prep.image.pillow import open_image, quiet

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Writer = Callable[..., bytes]
    Pixels = NDArray[np.uint8]


def scene(height: int = 48, width: int = 80) -> Pixels:
    """Return a picture whose four quarters differ, so that no turn or flip of it looks like another."""
    picture = np.zeros((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    picture[:top, :left], picture[:top, left:] = (230, 30, 30), (30, 220, 30)
    picture[top:, :left], picture[top:, left:] = (30, 30, 240), (240, 230, 30)
    return picture


# How a picture must be stored for orientation 1..8 to show it upright (CIPA DC-008, table of §4.6.5).
STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, 1),
    7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
    8: lambda p: np.rot90(p, -1),
}


def saved(image_format: str, pixels: Any, **options: Any) -> bytes:
    """Return a file of the pixels as Pillow writes it."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, image_format, **options)
    return buffer.getvalue()


def opened(data: bytes, config: Decode | None = None, at_least: tuple[int, int] | None = None) -> Pixels:
    """Return the decoded picture."""
    return decode(data, read_header(data), config or Decode(), at_least)


def files(stored: Pixels, orientation: int, write_exif: Writer, write_png: Writer, write_tiff: Writer) -> dict[str, bytes]:
    """Return the stored pixels with an orientation in every format that carries one."""
    exif = b"Exif\0\0" + write_exif(orientation)
    xmp = f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()
    grey = np.ascontiguousarray(stored[..., :1]).astype(np.uint16) * 257
    return {
        "JPEG": saved("JPEG", stored, quality=95, exif=exif),
        "MPO": saved("MPO", stored, quality=95, exif=exif, save_all=True, append_images=[Image.fromarray(scene())]),
        "PNG": write_png(stored, 2, 8, before=[(b"eXIf", exif[6:])]),
        "PNG, exif last": write_png(stored, 2, 8, after=[(b"eXIf", exif[6:])]),
        "WebP": saved("WEBP", stored, lossless=True, exif=exif),
        "WebP, xmp": saved("WEBP", stored, lossless=True, xmp=xmp),
        "AVIF": saved("AVIF", stored, quality=90, exif=exif),
        "TIFF": write_tiff(stored, 2, orientation=orientation),
        "TIFF, packed": write_tiff(stored, 2, orientation=orientation, compressed=True),
        "TIFF, 16 bits": write_tiff(stored.astype(np.uint16) * 257, 2, orientation=orientation, order=">"),
        "TIFF, 16 bits grey": write_tiff(grey, 1, orientation=orientation),
    }


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once_in_every_format(orientation: int, write_exif: Writer, write_png: Writer, write_tiff: Writer) -> None:
    """The picture comes out upright, in colour and in grey, whoever decodes it."""
    stored = np.ascontiguousarray(STORED[orientation](scene()))
    for name, data in files(stored, orientation, write_exif, write_png, write_tiff).items():
        header = read_header(data)
        assert (header.orientation, header.height, header.width) == (orientation, *stored.shape[:2]), name
        expected = scene() if "grey" not in name else np.repeat(scene()[..., :1], 3, axis=2)
        image = opened(data)
        assert image.shape == expected.shape, name
        assert image.flags.c_contiguous, name
        assert np.abs(image.astype(int) - expected).mean() < (4 if name in {"JPEG", "MPO", "AVIF"} else 1e-9), name
        grey = opened(data, Decode(color="gray"))
        assert grey.shape == (48, 80, 1), name
        assert np.abs(grey[..., 0] - expected @ [0.299, 0.587, 0.114]).mean() < 4, name


@pytest.mark.parametrize("orientation", [1, 5])
@pytest.mark.parametrize("color", ["rgb", "gray"])
@pytest.mark.parametrize(
    ("at_least", "expected"),
    [
        (None, (203, 307)),
        ((102, 154), (102, 154)),
        ((102, 155), (203, 307)),
        ((51, 77), (51, 77)),
        ((26, 39), (26, 39)),
        ((1, 1), (26, 39)),
    ],
)
def test_scaled_decoding_keeps_at_least_what_is_asked(
    at_least: tuple[int, int] | None, expected: tuple[int, int], color: Any, orientation: int, write_exif: Writer
) -> None:
    """Sizes are ceil(side / n) of the upright picture for the largest n of 8, 4, 2 that is allowed; `exact` never scales."""
    upright = cv2.resize(scene(), (307, 203), interpolation=cv2.INTER_LINEAR)
    data = saved("JPEG", STORED[orientation](upright), quality=95, exif=b"Exif\0\0" + write_exif(orientation))
    image = opened(data, Decode(color=color), at_least)
    assert image.shape == (*expected, 3 if color == "rgb" else 1)
    whole = opened(data, Decode(color=color))
    small = cv2.resize(whole, expected[::-1], interpolation=cv2.INTER_AREA).reshape(image.shape)
    assert np.abs(image.astype(int) - small).mean() < 3
    assert opened(data, Decode(color=color, jpeg_scaling="exact"), at_least).shape[:2] == (203, 307)


@pytest.mark.parametrize(
    ("orientation", "part_filled"),  # which sides of the upright picture, if no multiple of n, forbid n
    [(1, ""), (2, "width"), (3, "height width"), (4, "height"), (5, ""), (6, "width"), (7, "height width"), (8, "height")],
)
def test_a_scaled_picture_begins_at_its_first_pixel(orientation: int, part_filled: str, write_exif: Writer) -> None:
    """A line that is filled in part only may end the picture, never begin it: such a reduction is left out."""
    for height, width in ((208, 304), (204, 304), (208, 308)):
        upright = cv2.resize(scene(), (width, height), interpolation=cv2.INTER_LINEAR)
        data = saved("JPEG", STORED[orientation](upright), quality=95, exif=b"Exif\0\0" + write_exif(orientation))
        is_held_back = ("height" in part_filled and height % 8 != 0) or ("width" in part_filled and width % 8 != 0)
        denominator = 4 if is_held_back else 8
        assert opened(data, Decode(), (1, 1)).shape[:2] == (-(-height // denominator), -(-width // denominator))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2},
        {"quality": 5},
        {"restart_marker_rows": 1},
        {"optimize": True},
        {"keep_rgb": True},
    ],
)
def test_opencv_and_pillow_see_the_same_jpeg(options: dict[str, Any]) -> None:
    """Bit for bit, so that it does not matter which of the two decodes."""
    pixels = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (61, 93, 3)).astype(np.uint8), (5, 5), 0)
    data = saved("JPEG", pixels, **options)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(opened(data), np.asarray(image))


def test_grey_jpeg() -> None:
    """One component makes three equal channels, or one."""
    pixels = np.arange(64 * 64).reshape(64, 64).astype(np.uint8)
    data = saved("JPEG", pixels, quality=100)
    image = opened(data)
    assert np.array_equal(image, np.repeat(opened(data, Decode(color="gray")), 3, axis=2))
    assert np.abs(image[..., 0].astype(int) - pixels).mean() < 2


def lossless_jpeg(samples: NDArray[np.uint8]) -> bytes:
    """Return a lossless grey JPEG (T.81 annex H): predictor 1, one table of four-bit codes."""
    bits = ""
    for (y, x), value in np.ndenumerate(samples):
        left = 128 if x == y == 0 else samples[y - 1, x] if x == 0 else samples[y, x - 1]
        difference = int(value) - int(left)
        size = abs(difference).bit_length()
        bits += f"{size:04b}"
        if size:
            bits += format(difference if difference > 0 else difference + (1 << size) - 1, f"0{size}b")
    bits += "1" * (-len(bits) % 8)
    body = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    table = bytes([0, 0, 0, 0, 9]) + bytes(12) + bytes(range(9))
    frame = struct.pack(">BHHB", 8, *samples.shape, 1) + b"\x01\x11\0"
    head = b"\xff\xc3" + struct.pack(">H", 2 + len(frame)) + frame + b"\xff\xc4" + struct.pack(">H", 2 + len(table)) + table
    return b"\xff\xd8" + head + b"\xff\xda\0\x08\x01\x01\0\x01\0\0" + body + b"\xff\xd9"


def test_what_opencv_refuses_pillow_may_read() -> None:
    """A lossless JPEG comes out exactly."""
    samples = np.random.default_rng(2).integers(90, 150, (9, 14)).astype(np.uint8)
    np.testing.assert_array_equal(opened(lossless_jpeg(samples), Decode(color="gray"))[..., 0], samples)


def test_garbage_behind_a_jpeg_does_no_harm() -> None:
    """Whatever follows the end of the image is no part of it."""
    data = saved("JPEG", scene())
    for tail in (b"\0" * 100, b"garbage", os.urandom(5000).replace(b"\xff\xd9", b"")):
        np.testing.assert_array_equal(opened(data + tail), opened(data))


def test_garbage_before_a_jpeg_is_no_image() -> None:
    """A file is what it begins with."""
    with pytest.raises(DecodeError) as caught:
        opened(b"garbage" + saved("JPEG", scene()))
    assert caught.value.reason == "not_an_image"


NOISE = np.random.default_rng(4).integers(0, 256, (96, 128, 3)).astype(np.uint8)
WHOLE: dict[str, bytes] = {
    "jpeg": saved("JPEG", NOISE),
    "jpeg progressive": saved("JPEG", NOISE, progressive=True),
    "jpeg large": saved("JPEG", np.tile(NOISE, (5, 5, 1))),
    "png": saved("PNG", NOISE),
    "webp": saved("WEBP", NOISE),
    "webp lossless": saved("WEBP", NOISE, lossless=True),
    "tiff": saved("TIFF", NOISE),
    "tiff packed": saved("TIFF", NOISE, compression="tiff_lzw"),
    "bmp": saved("BMP", NOISE),
    "ppm": saved("PPM", NOISE),
    "gif": saved("GIF", NOISE[..., 0]),
    "avif": saved("AVIF", NOISE),
    "jpeg2000": saved("JPEG2000", NOISE),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_at_every_tenth_is_truncated(name: str) -> None:
    """Never a picture with a grey rest, never another reason."""
    data = WHOLE[name]
    for tenth in range(1, 10):
        part = data[: len(data) * tenth // 10]
        with pytest.raises(DecodeError) as caught:
            opened(part)
        assert caught.value.reason == "truncated", (tenth, caught.value.message)


@pytest.mark.parametrize("name", ["jpeg", "jpeg large", "jpeg progressive"])
def test_a_jpeg_half_written_into_a_full_file_is_truncated(name: str) -> None:
    """A download that reserved its room leaves zeros."""
    data = WHOLE[name]
    for tenth in range(3, 10):
        with pytest.raises(DecodeError) as caught:
            opened(data[: len(data) * tenth // 10].ljust(len(data), b"\0"))
        assert caught.value.reason == "truncated"


def test_a_damaged_png_is_corrupt() -> None:
    """All bytes are there, but not the right ones."""
    data = bytearray(WHOLE["png"])
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    with pytest.raises(DecodeError) as caught:
        opened(bytes(data))
    assert caught.value.reason == "corrupt"


def test_an_unknown_tiff_compression_is_unsupported(write_tiff: Writer) -> None:
    """A valid file of a kind that cannot be read is not called corrupt."""
    data = write_tiff(NOISE, 2).replace(struct.pack("<HHIHH", 259, 3, 1, 1, 0), struct.pack("<HHIHH", 259, 3, 1, 34712, 0))
    with pytest.raises(DecodeError) as caught:
        opened(data)
    assert caught.value.reason == "unsupported"


def mutant(rng: random.Random, data: bytes) -> bytes:
    """Return the file with bits flipped, bytes cut out, another file's bytes put in, or its header exaggerated."""
    changed = bytearray(data)
    kind = rng.randrange(4)
    if kind == 0:
        for _ in range(rng.choice((1, 2, 8, 40))):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        at = rng.randrange(len(changed))
        del changed[at : at + rng.randrange(1, 64)]
    elif kind == 2:
        other = rng.choice(list(WHOLE.values()))
        at, start = rng.randrange(len(changed)), rng.randrange(len(other))
        changed[at : at + rng.randrange(1, 200)] = other[start : start + rng.randrange(1, 200)]
    else:
        at = rng.randrange(min(len(changed), 100))
        changed[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"))
    return bytes(changed)


def test_mutants_end_as_a_picture_or_a_rejection() -> None:
    """Of Pillow's formats, in this process; those of OpenCV's are tried in one of their own, with the corpus."""
    rng = random.Random(9)
    seeds = [data for name, data in WHOLE.items() if not name.startswith("jpeg")] + [WHOLE["jpeg2000"]]
    config = Decode(max_pixels=1_000_000)
    pictures, messages = 0, []
    for _ in range(400):
        data = mutant(rng, rng.choice(seeds))
        try:
            header = read_header(data)
            if header.components:
                continue
            image = decode(data, header, config)
        except SampleError as error:
            messages.append(error.message)
        else:
            pictures += 1
            assert image.shape == (*header.oriented_size, 3)
    assert 20 < pictures < 380
    assert all(messages)
    assert not [message for message in messages if re.search(r"0x[0-9a-f]{6,}|object at|/tmp", message)]


def test_limits_hold_within_decode() -> None:
    """A caller that forgot to check loses nothing."""
    data = saved("PNG", scene())
    with pytest.raises(LimitError) as caught:
        opened(data, Decode(max_pixels=48 * 80 - 1))
    assert caught.value.reason == "too_large"
    assert opened(data, Decode(max_pixels=48 * 80)).shape == (48, 80, 3)


def test_a_header_that_speaks_of_another_file_is_corrupt() -> None:
    """Pixels of another size than the checked one are never handed out."""
    for image_format in ("PNG", "TIFF", "WEBP", "JPEG"):
        data = saved(image_format, scene())
        header = read_header(data)
        wrong = Header(header.format, 7, 9, components=header.components, process=header.process, body=header.body)
        with pytest.raises(DecodeError) as caught:
            decode(data, wrong, Decode())
        assert caught.value.reason == "corrupt"


def test_a_tiff_is_turned_as_its_header_says(write_tiff: Writer) -> None:
    """Pillow turns by 6.0 as by 6: a header that knew nothing of it had the picture squeezed into the stored sides."""
    stored = np.ascontiguousarray(STORED[6](scene()))
    six = struct.unpack("<I", struct.pack("<f", 6.0))
    data = write_tiff(stored, 2, more_tags=[(274, 11, six)])
    assert read_header(data).oriented_size == scene().shape[:2]
    np.testing.assert_array_equal(opened(data), scene())


@pytest.mark.parametrize("damage", [lambda data: data[:-2], lambda data: data[:-2] + b"xx" + data[-2:]])
def test_grey_of_a_jpeg_is_its_luma_whoever_decodes_it(damage: Callable[[bytes], bytes]) -> None:
    """What OpenCV leaves to Pillow (no end, a warning of libjpeg's) has the same grey as the whole file."""
    data = saved("JPEG", np.random.default_rng(1).integers(0, 256, (40, 56, 3), np.uint8), quality=60)
    gray = Decode(color="gray")
    np.testing.assert_array_equal(opened(damage(data), gray), opened(data, gray))


def test_a_jpeg_of_endless_scans_is_too_large(segment: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scan of a progressive JPEG walks over the whole picture, and a large one is walked over less often; an ordinary one opens."""
    data = saved("JPEG", scene(), progressive=True)
    body = read_header(data).body
    assert jpeg.scans(data, body) < 20
    with pytest.raises(DecodeError) as caught:
        opened(data[:-2] + segment(0xDA, b"\x01\x01\0\0\0\0") * 300 + data[-2:])
    assert caught.value.reason == "too_large"
    monkeypatch.setattr("ray_prep.image.decode._MOST_SCANNED_PIXELS", 1)
    opened(data)
    with pytest.raises(DecodeError, match="16 are decoded at the most"):
        opened(data[:-2] + segment(0xDA, b"\x01\x01\0\0\0\0") * 20 + data[-2:])


def test_views_decode_as_bytes_do() -> None:
    """A view into a larger buffer is as good as bytes."""
    for image_format in ("JPEG", "PNG", "PPM"):
        data = saved(image_format, scene())
        view = memoryview(b"xx" + data + b"yy")[2:-2]
        np.testing.assert_array_equal(decode(view, read_header(view), Decode()), opened(data))
    cut = memoryview(saved("JPEG", np.tile(NOISE, (3, 3, 1))))[:-200]
    with pytest.raises(DecodeError):
        decode(cut, read_header(cut), Decode())


def test_decode_is_a_section_of_the_recipe() -> None:
    """Pydantic fills the defaults, and refuses what makes no sense."""
    adapter = TypeAdapter(Decode)
    assert adapter.validate_python({}) == Decode("rgb", (255, 255, 255), 100_000_000, "auto")
    assert adapter.validate_python({"background": [0, 10, 20], "color": "gray"}).background == (0, 10, 20)
    for bad in ({"color": "bgr"}, {"background": [0, 0, 256]}, {"max_pixels": 0}, {"jpeg_scaling": "fast"}):
        with pytest.raises(ValidationError):
            adapter.validate_python(bad)


def test_silence_ends_with_the_last_thread_out() -> None:
    """Pillow's modules are quiet while anybody decodes; others are never, and the filters come back."""
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with quiet():
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=stay)
    thread.start()
    assert inside.wait(5)
    with quiet():
        warnings.warn_explicit("from Pillow", UserWarning, "x.py", 1, module="PIL.TiffImagePlugin")
        with pytest.raises(UserWarning, match="from elsewhere"):
            warnings.warn_explicit("from elsewhere", UserWarning, "y.py", 1, module="elsewhere")
    warnings.warn_explicit("from Pillow", UserWarning, "x.py", 1, module="PIL.TiffImagePlugin")
    leave.set()
    thread.join()
    assert list(warnings.filters) == before


def test_memory_errors_are_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without memory fails the build; it does not reject the image."""

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile._open", fail)
    with pytest.raises(MemoryError):
        open_image("png", saved("PNG", scene()))


def test_limits_and_decoding_agree_on_what_is_upright(write_exif: Writer) -> None:
    """`oriented_size` is the shape that decode returns."""
    data = saved("JPEG", scene(), exif=b"Exif\0\0" + write_exif(6))
    header = read_header(data)
    check_limits(header, max_pixels=10_000, min_side=48, max_aspect=2)
    assert opened(data).shape[:2] == header.oriented_size == (80, 48)


@pytest.mark.parametrize("depth", [1, 7, 9, 10, 16])
def test_depths_of_jpeg_2000_that_pillow_gets_wrong_are_refused(depth: int) -> None:
    """Pillow 13 makes black of white there; grey of 16 bits it reads right."""
    data = bytearray(WHOLE["jpeg2000"])
    start = data.index(b"\xff\x4f\xff\x51") + 42
    data[start : start + 9 : 3] = bytes([depth - 1]) * 3
    with pytest.raises(DecodeError, match=f"JPEG 2000 of {depth} bits a channel") as caught:
        decode(bytes(data), read_header(bytes(data)), Decode())
    assert caught.value.reason == "unsupported"
    deep = io.BytesIO()
    Image.fromarray(np.full((8, 8), 65535, np.uint16)).save(deep, "JPEG2000")
    assert decode(deep.getvalue(), read_header(deep.getvalue()), Decode(color="gray")).min() == 255
