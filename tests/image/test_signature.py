"""What the first bytes say."""

from __future__ import annotations

import pytest

from ray_prep.errors import DecodeError
from ray_prep.image.signature import recognise


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"GIF89a", "gif"),
        (b"II*\0\x08\0\0\0", "tiff"),
        (b"II+\0\x08\0\0\0", "tiff"),
        (b"BM\x46\0\0\0", "bmp"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "webp"),
        (b"BM" + bytes(12) + b"\x28\0\0\0", "bmp"),
        (b"P6\n3 2\n255\n", "ppm"),
        (b"P5 # a comment\n3 2 255\n", "ppm"),
        (b"Pf\n3 2\n-1.0\n", "ppm"),
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1miaf", "avif"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "avif"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg2000"),
        (b"\0\0\x01\0\x01\0", "ico"),
    ],
)
def test_an_image_is_known_by_its_first_bytes(data: bytes, name: str) -> None:
    """Names are Pillow's, lower-case."""
    assert recognise(data) == name


@pytest.mark.parametrize(
    ("data", "reason", "said"),
    [
        (b"", "empty", "no bytes"),
        (b"<!DOCTYPE html><html>404</html>", "not_an_image", "HTML"),
        (b"\n  <html><body>", "not_an_image", "HTML"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg">', "not_an_image", "SVG"),
        (b'\xef\xbb\xbf<?xml version="1.0"?><a/>', "not_an_image", "XML"),
        (b"%PDF-1.7", "not_an_image", "PDF"),
        (b"\xff", "not_an_image", "ff, are those of no known image format"),
        (b"\0\0\0\x1cftyp", "truncated", "ISO media"),
        (b"Access denied", "not_an_image", "text"),
        ("nicht gefunden: größer".encode(), "not_an_image", "text"),
        (b"BMW is a brand of cars", "not_an_image", "text"),
        (b"BMW", "not_an_image", "text"),
        (b"P3 is a format", "not_an_image", "text"),
        (b"PK\x03\x04", "not_an_image", "zip"),
        (b"RIFF\x10\0\0\0AVI LIST", "not_an_image", "RIFF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isom", "not_an_image", "isom"),
        (b"version https://git-lfs.github.com/spec/v1", "not_an_image", "LFS"),
        (bytes(5000), "not_an_image", "zero bytes"),
        (bytes(range(7, 200)), "not_an_image", "no known image format"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "unsupported", "HEIC"),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01", "unsupported", "Canon"),
        (b"\xff\x0a\0\0", "unsupported", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "unsupported", "JPEG XL"),
        (b"8BPS\0\x01", "unsupported", "Photoshop"),
        (b"MM\0+\0\x08\0\0" + bytes(20), "unsupported", "big-endian BigTIFF"),
        (b"\x0a\x05\x01\x08" + bytes(20), "unsupported", "PCX"),
        (b"/* XPM */\nstatic char *x[] = {", "unsupported", "XPM"),
        (b"#define x_width 16\n#define x_height 7\n", "unsupported", "X bitmap"),
        (b"\x01\0\0\0" + bytes(36) + b" EMF" + bytes(9), "unsupported", "metafile"),
        (b"FUJIFILMCCD-RAW 0201", "unsupported", "Fujifilm"),
        (bytes(128) + b"DICM", "unsupported", "DICOM"),
        (b"\0\0\x02\0" + bytes(8) + b"\x40\0\x30\0\x18\0", "unsupported", "Targa"),
        (b"\0\0\x0a\0" + bytes(8) + b"\x40\0\x30\0\x18\0", "unsupported", "Targa"),
        (b"\0\0\x02\0\x01\0\x20\x20", "unsupported", "Windows cursor"),
        (b"\x89PNG", "truncated", "png"),
        (b"GIF8", "truncated", "gif"),
        (b"RIFF\x10\0\0", "truncated", "webp"),
    ],
)
def test_what_is_no_image_is_told_apart(data: bytes, reason: str, said: str) -> None:
    """Empty, no image, an image of a kind that is not decoded, and one cut within its signature are four things."""
    with pytest.raises(DecodeError) as caught:
        recognise(data)
    assert caught.value.reason == reason
    assert said in caught.value.message
