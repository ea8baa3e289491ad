"""Headers are read without pixels, and limits hold before any is allocated."""

from __future__ import annotations

import io
import random
import struct
import time
import tracemalloc
import warnings
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from ray_prep.errors import DecodeError, LimitError, SampleError
from ray_prep.image.decode import Decode, decode
from ray_prep.image.header import Header, check_limits, read_header

if TYPE_CHECKING:
    from collections.abc import Callable

PIXELS = np.random.default_rng(3).integers(0, 256, (12, 20, 3)).astype(np.uint8)


def saved(image_format: str, pixels: Any = PIXELS, **options: Any) -> bytes:
    """Return a file of the pixels as Pillow writes it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()


JPEG = saved("JPEG")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM", "GIF", "AVIF", "ICO", "JPEG2000"])
def test_size_and_format_of_every_format(image_format: str) -> None:
    """Height comes before width; the format is Pillow's name in lower case; a view of the bytes does as well as bytes."""
    data = saved(image_format, sizes=[(20, 12)]) if image_format == "ICO" else saved(image_format)
    header = read_header(data)
    assert (header.format, header.height, header.width) == (image_format.lower(), 12, 20)
    assert (header.orientation, header.frames) == (1, 1)
    assert read_header(memoryview(data)) == header


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_orientation(
    order: str, kind: int, orientation: int, write_exif: Callable[..., bytes], insert: Callable[..., bytes], segment: Callable[..., bytes]
) -> None:
    """Either byte order, SHORT or LONG; five to eight swap the sides."""
    data = insert(JPEG, segment(0xE1, b"Exif\0\0" + write_exif(orientation, order, kind)))
    header = read_header(data)
    assert header.orientation == orientation
    assert (header.height, header.width) == (12, 20)
    assert header.oriented_size == ((20, 12) if orientation >= 5 else (12, 20))


def test_a_broken_exif_costs_the_orientation_only(
    write_exif: Callable[..., bytes], insert: Callable[..., bytes], segment: Callable[..., bytes]
) -> None:
    """Whatever stands in the block, the image keeps its size and its orientation is 1..8."""
    block = write_exif(6)
    broken = [b"", b"II", b"XX*\0" + block[4:], block[:4] + b"\xff\xff\xff\x7f" + block[8:], block[:8] + b"\xff\xff" + block[10:]]
    broken += [block[:cut] for cut in range(len(block))]
    rng = random.Random(5)
    for _ in range(300):
        changed = bytearray(block)
        for _ in range(3):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        broken.append(bytes(changed))
    for bad in broken:
        header = read_header(insert(JPEG, segment(0xE1, b"Exif\0\0" + bad)))
        assert (header.height, header.width) == (12, 20)
        assert 1 <= header.orientation <= 8
    assert [read_header(insert(JPEG, segment(0xE1, b"Exif\0\0" + write_exif(value)))).orientation for value in (0, 9, 65535)] == [1, 1, 1]


def test_xmp_speaks_where_exif_is_silent(
    write_exif: Callable[..., bytes], insert: Callable[..., bytes], segment: Callable[..., bytes]
) -> None:
    """EXIF wins; without it the XMP packet is asked, in either notation."""
    for text in (b'<rdf:Description tiff:Orientation="6">', b"<tiff:Orientation>6</tiff:Orientation>"):
        packet = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x>" + text + b"</x>")
        assert read_header(insert(JPEG, packet)).orientation == 6
        assert read_header(insert(JPEG, packet, segment(0xE1, b"Exif\0\0" + write_exif(3)))).orientation == 3
    assert read_header(insert(JPEG, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0nothing"))).orientation == 1


def test_bytes_between_jpeg_segments_are_skipped(segment: Callable[..., bytes]) -> None:
    """Padding, stray bytes and lone markers lie between segments of real files; decoders walk over them, and so do we."""
    for junk in (b"\xff\xff\xff", b"\0\0junk", b"\xff\xd3", segment(0xFE, b"\xff\xc0\0\x11\x08\0\x01\0\x01\x03"), b"\xff\0"):
        data = JPEG[:20] + junk + JPEG[20:]  # behind the JFIF segment
        header = read_header(data)
        assert (header.height, header.width) == (12, 20)
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (20, 12)


def frame(process: int, precision: int, height: int, width: int, components: int, tail: bytes = b"") -> bytes:
    """Return the beginning of a JPEG up to its frame header, and a tail."""
    body = struct.pack(">BHHB", precision, height, width, components) + b"\x01\x11\0" * components
    return b"\xff\xd8\xff" + bytes([process]) + struct.pack(">H", 2 + len(body)) + body + tail


@pytest.mark.parametrize(
    ("data", "reason", "said"),
    [
        (frame(0xC1, 12, 8, 8, 1), "unsupported", "12 bits"),
        (frame(0xC0, 0, 8, 8, 1), "corrupt", "0 bits"),
        (frame(0xC5, 8, 8, 8, 1), "unsupported", "hierarchical"),
        (frame(0xDE, 8, 8, 8, 1), "unsupported", "hierarchical"),
        (frame(0xCB, 8, 8, 8, 1), "unsupported", "lossless"),
        (frame(0xF7, 8, 8, 8, 1), "unsupported", "JPEG-LS"),
        (frame(0xC0, 8, 8, 8, 2), "unsupported", "2 components"),
        (frame(0xC0, 8, 8, 8, 7), "corrupt", "7 components"),
        (frame(0xC0, 8, 0, 8, 1, b"\xff\xdc\0\x04\0\x08"), "unsupported", "DNL"),
        (frame(0xC0, 8, 0, 8, 1), "corrupt", "0x8"),
        (b"\xff\xd8\xff\xda\0\x02", "corrupt", "0xda"),
        (b"\xff\xd8\xff\xdb\0\x01aa", "corrupt", "length of 1"),
        (b"\xff\xd8aaaa", "corrupt", "no JPEG marker"),
        (b"\xff\xd8\xff\xe0\xff\xffaa", "truncated", "before its frame header"),
    ],
)
def test_jpegs_that_cannot_be_decoded_say_why(data: bytes, reason: str, said: str) -> None:
    """A kind that no decoder here knows is unsupported; nonsense is corrupt; a file that ends is truncated."""
    with pytest.raises(DecodeError) as caught:
        read_header(data)
    assert (caught.value.reason, said in caught.value.message) == (reason, True), caught.value.message


def test_a_jpeg_cut_within_its_header_is_truncated() -> None:
    """At every byte before the end of the frame header."""
    for cut in range(2, read_header(JPEG).body - 10):
        with pytest.raises(DecodeError) as caught:
            read_header(JPEG[:cut])
        assert caught.value.reason == "truncated"


def test_pictures_of_an_mpo_are_counted(insert: Callable[..., bytes], segment: Callable[..., bytes]) -> None:
    """An MPO says so and holds several; a gain map (Ultra HDR) or a broken index leaves a JPEG."""
    other = Image.fromarray(PIXELS[::-1])
    data = saved("MPO", save_all=True, append_images=[other, other])
    assert (read_header(data).format, read_header(data).frames) == ("mpo", 3)
    for bad in (b"MPF\0", b"MPF\0II*\0\xff\xff\0\0", b"MPF\0XX*\0" + bytes(40)):
        assert (read_header(insert(JPEG, segment(0xE2, bad))).format) == "jpeg"
    gain_map = segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x hdrgm:Version="1.0"/>')
    assert (read_header(insert(data, gain_map)).format, read_header(insert(data, gain_map)).frames) == ("jpeg", 1)


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_frames_are_counted(image_format: str) -> None:
    """Frames of animations and pages of TIFFs, without decoding them."""
    frames = [Image.fromarray(np.roll(PIXELS, shift, axis=1)) for shift in (3, 6)]
    assert read_header(saved(image_format, save_all=True, append_images=frames)).frames == 3


def test_pages_of_a_tiff_that_point_in_a_circle_are_counted_once(write_tiff: Callable[..., bytes]) -> None:
    """A directory chain that returns to itself ends there."""
    data = bytearray(write_tiff(PIXELS, 2))
    (directory,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    struct.pack_into("<I", data, directory + 2 + 12 * entries, directory)
    assert read_header(bytes(data)).frames == 1


def bombs(write_png: Callable[..., bytes], write_tiff: Callable[..., bytes]) -> dict[str, bytes]:
    """Return small files that state enormous pictures, one a format."""
    png = bytearray(write_png(PIXELS, 2, 8))
    struct.pack_into(">II", png, 16, 1 << 16, 1 << 16)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    gif = bytearray(saved("GIF"))
    struct.pack_into("<HH", gif, 6, 65535, 65535)
    bmp = bytearray(saved("BMP"))
    struct.pack_into("<ii", bmp, 18, 1 << 20, 1 << 20)
    webp = bytearray(saved("WEBP"))
    struct.pack_into("<HH", webp, 26, 16383, 16383)
    extended = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff"
    tiled = write_tiff(PIXELS, 2, more_tags=[(322, 4, [1 << 15]), (323, 4, [1 << 15])])
    tiff = write_tiff(PIXELS, 2).replace(struct.pack("<HHIHH", 256, 3, 1, 20, 0), struct.pack("<HHIHH", 256, 3, 1, 65535, 0))
    tiff = tiff.replace(struct.pack("<HHIHH", 257, 3, 1, 12, 0), struct.pack("<HHIHH", 257, 3, 1, 65535, 0))
    ico = b"\0\0\x01\0\x01\0\x10\x10\x02\0\x01\0\x01\0\xb0\0\0\0\x16\0\0\0" + struct.pack("<IiiHHI", 40, 65535, 65535, 1, 1, 0) + bytes(200)
    return {
        "png": bytes(png),
        "gif": bytes(gif),
        "bmp": bytes(bmp),
        "webp": bytes(webp),
        "webp canvas": extended + bytes(20),
        "tiff": tiff,
        "tiff tile": tiled,
        "ico": ico,
        "jpeg": frame(0xC0, 8, 65500, 65500, 3),
        "ppm": b"P6\n99999999 99999999\n255\n",
    }


def test_bombs_are_too_large_without_allocation(write_png: Callable[..., bytes], write_tiff: Callable[..., bytes]) -> None:
    """The header alone decides; next to nothing is allocated for it."""
    for name, data in bombs(write_png, write_tiff).items():
        tracemalloc.start()
        with pytest.raises(SampleError) as caught:
            check_limits(read_header(data), max_pixels=100_000_000)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert caught.value.reason == "too_large", (name, caught.value.message)
        assert peak < 2_000_000, name


def test_a_text_chunk_that_inflates_without_end_is_too_large(write_png: Callable[..., bytes]) -> None:
    """A compressed text may not take the memory that pixels are denied."""
    bomb = b"Comment\0\0" + zlib.compress(bytes(50_000_000))
    with pytest.raises(DecodeError) as caught:
        read_header(write_png(PIXELS, 2, 8, before=[(b"zTXt", bomb)]))
    assert caught.value.reason == "too_large"


def test_limits() -> None:
    """Each limit speaks of the upright picture and holds at its very edge; the message says what was given and asked."""
    header = Header("png", 30, 100, orientation=6)
    check_limits(header, max_pixels=3000, min_side=30, max_aspect=100 / 30)
    check_limits(Header("png", 100, 115), max_pixels=20_000, max_aspect=1.15)  # 1.15 * 100 is a little below 115
    for limits, reason, said in (
        ({"max_pixels": 2999}, "too_large", "100x30"),
        ({"max_pixels": 3000, "min_side": 31}, "too_small", "filter.min_side asks for 31"),
        ({"max_pixels": 3000, "max_aspect": 3.3}, "aspect", "3.33"),
    ):
        with pytest.raises(LimitError) as caught:
            check_limits(header, **limits)  # type: ignore[arg-type]
        assert caught.value.reason == reason
        assert said in caught.value.message


def test_pillow_warns_nobody(write_tiff: Callable[..., bytes]) -> None:
    """What Pillow warns of while it reads is not the user's to see, and filters are as before afterwards."""
    data = bytearray(write_tiff(PIXELS, 2, more_tags=[(33550, 4, [1, 2, 3, 4])]))
    at = data.index(struct.pack("<HHI", 33550, 4, 4))
    struct.pack_into("<I", data, at + 8, len(data) + 100)  # a tag that lies beyond the file
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        header = read_header(bytes(data))
    assert (header.height, seen) == (12, [])
    assert list(warnings.filters) == before


def test_camera_raw_in_tiff_clothes_is_unsupported(write_tiff: Callable[..., bytes]) -> None:
    """The first picture of a DNG is a thumbnail: taking it for the image would be silent loss."""
    with pytest.raises(DecodeError) as caught:
        read_header(write_tiff(PIXELS, 2, more_tags=[(50706, 4, [0x00000401])]))
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize("place", [b"\xff\xc4", b"\xff\xda"])  # behind the frame header, before the scan
def test_jpeg_orientation_behind_the_frame_header(place: bytes, write_exif: Callable[..., bytes], segment: Callable[..., bytes]) -> None:
    """Pillow and OpenCV read EXIF up to the first scan; what stands before the frame header comes first."""
    at = JPEG.index(place)
    exif = segment(0xE1, b"Exif\0\0" + write_exif(6))
    late = JPEG[:at] + exif + JPEG[at:]
    assert read_header(late).orientation == 6
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<a tiff:Orientation='3'/>")
    assert read_header(JPEG[:at] + xmp + JPEG[at:]).orientation == 3
    assert read_header(late[:2] + segment(0xE1, b"Exif\0\0" + write_exif(8)) + late[2:]).orientation == 8
    assert read_header(late[:2] + xmp + late[2:]).orientation == 6


@pytest.mark.parametrize("marker", [0xE0, 0xE1, 0xEE, 0xFE])
@pytest.mark.parametrize("length", [0, 1])
def test_a_segment_shorter_than_its_length_is_skipped(marker: int, length: int) -> None:
    """As libjpeg does with application segments and comments: the picture is whole."""
    data = JPEG[:2] + bytes([0xFF, marker, 0, length]) + JPEG[2:]
    header = read_header(data)
    assert np.array_equal(decode(data, header, Decode()), decode(JPEG, header, Decode()))


@pytest.mark.parametrize(
    ("kind", "values", "prefix", "orientation"),
    [
        ("HH", (6, 3), b"", 6),  # of two values the first counts
        ("HHHH", (6, 3, 3, 3), b"", 6),  # which stand elsewhere
        ("h", (6,), b"", 6),
        ("i", (6,), b"", 6),
        ("H", (6,), b"Exif\0\0", 6),  # the heading comes twice
        ("b", (6,), b"", 6),
        ("B", (6,), b"", 1),  # no whole number as the standard has it
    ],
)
def test_exif_orientation_in_unusual_clothes(
    kind: str, values: tuple[int, ...], prefix: bytes, orientation: int, insert: Callable[..., bytes], segment: Callable[..., bytes]
) -> None:
    """What Pillow applies is applied."""
    packed = struct.pack("<" + kind, *values)
    number = {"H": 3, "h": 8, "i": 9, "b": 6, "B": 1}[kind[0]]
    value = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", 26)
    outside = packed if len(packed) > 4 else b""
    block = b"II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, number, len(values)) + value + bytes(4) + outside
    data = insert(JPEG, segment(0xE1, b"Exif\0\0" + prefix + block))
    assert read_header(data).orientation == orientation
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
        assert image.getexif().get(0x0112, 1) in (orientation, bytes([6]))


@pytest.mark.parametrize(
    ("entries", "orientation"),
    [
        ([(3, 6), (3, 3)], 6),
        ([(3, 6), (2, 51)], 6),
        ([(99, 3), (3, 6)], 6),  # a type that nobody knows
        ([(13, 6)], 6),
        ([(99, 3)], 1),
    ],
)
def test_of_several_entries_the_first_that_can_be_read_counts(
    entries: list[tuple[int, int]], orientation: int, insert: Callable[..., bytes], segment: Callable[..., bytes]
) -> None:
    """As in Pillow and OpenCV."""
    block = (
        b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(struct.pack("<HHII", 0x0112, kind, 1, value) for kind, value in entries)
    )
    data = insert(JPEG, segment(0xE1, b"Exif\0\0" + block + bytes(4)))
    assert read_header(data).orientation == orientation
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
        assert image.getexif().get(0x0112, 1) == orientation


def test_webp_orientation_as_the_flags_announce_it(write_exif: Callable[..., bytes]) -> None:
    """libwebp, and Pillow with it, leaves out an EXIF chunk that is not announced, or ends beyond the file."""
    told = saved("WEBP", exif=b"Exif\0\0" + write_exif(6))
    at = told.index(b"EXIF")
    unannounced = told[:20] + bytes([told[20] & ~0x08]) + told[21:]
    endless = told[: at + 4] + b"\xfe\xff\xff\xff" + told[at + 8 :]
    for data, orientation in ((told, 6), (unannounced, 1), (endless, 1)):
        assert read_header(data).orientation == orientation
    with Image.open(io.BytesIO(unannounced)) as image:
        assert image.getexif().get(0x0112, 1) == 1


def test_png_orientation_wherever_it_stands(write_png: Callable[..., bytes], write_exif: Callable[..., bytes]) -> None:
    """The eXIf chunk may stand before or behind the pixels; ImageMagick writes it as text."""
    exif = write_exif(6, ">")
    text = b"Raw profile type exif\0\nexif\n" + f"{len(exif) + 6:8d}\n".encode() + (b"Exif\0\0" + exif).hex().encode() + b"\n"
    assert read_header(write_png(PIXELS, 2, 8, before=[(b"eXIf", exif)])).orientation == 6
    assert read_header(write_png(PIXELS, 2, 8, after=[(b"eXIf", exif)])).orientation == 6
    assert read_header(write_png(PIXELS, 2, 8, before=[(b"tEXt", text)])).orientation == 6
    assert read_header(write_png(PIXELS, 2, 8, before=[(b"eXIf", b"broken")])).orientation == 1
    assert read_header(write_png(PIXELS, 2, 8, before=[(b"eXIf", b"Exif\0\0" + exif)])).orientation == 6
    deflated = b"Raw profile type exif\0\0" + zlib.compress(text.partition(b"\0")[2])
    packet = b"<a tiff:Orientation='8'/>"
    for place in ("before", "after"):
        assert read_header(write_png(PIXELS, 2, 8, **{place: [(b"tEXt", text)]})).orientation == 6
        assert read_header(write_png(PIXELS, 2, 8, **{place: [(b"zTXt", deflated)]})).orientation == 6
        for xmp in (b"\0\0\0\0" + packet, b"\1\0\0\0" + zlib.compress(packet)):
            data = write_png(PIXELS, 2, 8, **{place: [(b"iTXt", b"XML:com.adobe.xmp\0" + xmp)]})
            assert read_header(data).orientation == 8
    bomb = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(50 << 20) + packet)
    tracemalloc.start()
    assert read_header(write_png(PIXELS, 2, 8, after=[(b"iTXt", bomb)])).orientation == 1
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_a_png_that_decoders_read_differently_is_corrupt(write_png: Callable[..., bytes]) -> None:
    """The header is the first chunk and comes once, and a palette picture has its palette; Pillow would read on."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    whole = write_png(PIXELS, 2, 8)
    header = whole[8:33]
    palette = whole[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 12, 8, 3, 0, 0, 0)) + whole[33:]
    for data, said in (
        (whole[:8] + chunk(b"gAMA", bytes(4)) + whole[8:], "first chunk"),
        (whole[:33] + header + whole[33:], "comes twice"),
        (palette, "without a palette"),
    ):
        with pytest.raises(DecodeError, match=said) as caught:
            read_header(data)
        assert caught.value.reason == "corrupt"


def test_a_netpbm_header_is_read_in_time_that_grows_with_it() -> None:
    """White space that can be read in two ways takes time without end to fail."""
    begin = time.monotonic()
    for data in (b"P5 1" + b" " * 60_000 + b"x", b"P6 2 2" + b"\n" * 60_000 + b"z", b"P1 12" + b" " * 40 + b"total", b"P5" + b"#" * 60_000):
        with pytest.raises(DecodeError):
            read_header(data)
    assert time.monotonic() - begin < 5
    assert read_header(b"P5 # a\n#b\n \t3#c\n2 255\n" + bytes(6)).width == 3


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "jpeg", "tiff_deflate"])
def test_a_cut_tiff_is_truncated(compression: str | None) -> None:
    """Wherever it is cut: what its directory lacks is no reason to call it of an unsupported kind."""
    whole = saved("TIFF", **({"compression": compression} if compression else {}))
    for size in range(9, len(whole), 7):
        with pytest.raises(DecodeError) as caught:
            decode(whole[:size], read_header(whole[:size]), Decode())
        assert caught.value.reason == "truncated", (size, caught.value.message)


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_a_cut_netpbm_of_text_is_truncated(kind: int) -> None:
    """Numbers that are no numbers are corrupt; numbers that are not there were cut off."""
    head = f"P{kind} 4 2 ".encode() + (b"" if kind == 1 else b"255 ")
    numbers = b"1 0 " * (8 if kind == 3 else 2)
    for data, reason in ((head + numbers[:-4], "truncated"), (head + b"1 x " + numbers, "corrupt"), (head, "truncated")):
        with pytest.raises(DecodeError) as caught:
            decode(data, read_header(data), Decode())
        assert caught.value.reason == reason, (data, caught.value.message)


def test_what_a_tiff_lacks_is_named(write_tiff: Callable[..., bytes]) -> None:
    """Not by the number of a tag alone."""
    plain, other = (struct.pack("<HHIHH", 259, 3, 1, number, 0) for number in (1, 34712))
    for data, reason, said in (
        (write_tiff(PIXELS[..., :1], 3), "corrupt", "a palette picture without its ColorMap"),
        (write_tiff(PIXELS, 2).replace(plain, other), "unsupported", "compression 34712, which is not decoded"),
        (write_tiff(PIXELS / 255.0, 2, sample_format=3), "unsupported", r"pixels of 3 x 64 bits \(floating-point, photo"),
    ):
        with pytest.raises(DecodeError, match=said) as caught:
            decode(data, read_header(data), Decode())
        assert caught.value.reason == reason


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_damaged_exif_chunk_costs_a_png_its_orientation_only(
    write_png: Callable[..., bytes], write_exif: Callable[..., bytes], place: str
) -> None:
    """Its check sum is wrong; Pillow would refuse the file."""
    whole = write_png(PIXELS, 2, 8, **{place: [(b"eXIf", write_exif(6))]})
    at = whole.index(b"eXIf")
    damaged = whole[: at + 12] + bytes([whole[at + 12] ^ 1]) + whole[at + 13 :]
    header = read_header(damaged)
    assert header.orientation == 1
    assert np.array_equal(decode(damaged, header, Decode()), decode(whole, header, Decode()))
