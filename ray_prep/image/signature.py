"""What the first bytes of a file say it is: the extension is never asked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ray_prep.errors import DecodeError

if TYPE_CHECKING:
    from ray_prep.errors import Reason

_DECODED: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"\x00\x00\x01\x00", "ico"),
)

# Pictures, but not ones this library decodes.
_UNSUPPORTED: tuple[tuple[bytes, str], ...] = (
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (b"8BPS", "a Photoshop document"),
    (b"MM\x00+", "a big-endian BigTIFF"),
    (b"II\xbc", "a JPEG XR image"),
    (b"IIU\x00", "a Panasonic camera raw file"),
    (b"IIRO", "an Olympus camera raw file"),
    (b"IIRS", "an Olympus camera raw file"),
    (b"MMOR", "an Olympus camera raw file"),
    (b"FUJIFILMCCD-RAW", "a Fujifilm camera raw file"),
    (b"FOVb", "a Sigma camera raw file"),
    (b"\x00MRM", "a Minolta camera raw file"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"#?RGBE", "a Radiance HDR image"),
    (b"DDS ", "a DirectDraw surface"),
    (b"gimp xcf", "a GIMP document"),
    (b"icns", "an Apple icon"),
    (b"qoif", "a QOI image"),
    (b"BPG\xfb", "a BPG image"),
    (b"FLIF", "a FLIF image"),
    (b"farbfeld", "a farbfeld image"),
    (b"\x01\xda", "an SGI image"),
    (b"\x59\xa6\x6a\x95", "a Sun raster image"),
    (b"SIMPLE  =", "a FITS image"),
    (b"\xab\x4b\x54\x58\x20", "a Khronos texture"),
    (b"\x00\x00\x02\x00\x00\x00", "a Targa image"),  # a cursor file holds a cursor at least
    (b"\x00\x00\x0a\x00\x00\x00", "a Targa image"),
    (b"\x00\x00\x02\x00", "a Windows cursor"),
    (b"AT&TFORM", "a DjVu document"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile"),
    (b"P7\n", "a PAM image"),
    *((b"\x0a" + bytes([version, 1]), "a PCX image") for version in (0, 2, 3, 4, 5)),
    (b"/* XPM */", "an XPM image"),
    (b"DanM", "a Microsoft Paint image"),
    (b"LinS", "a Microsoft Paint image"),
)

# What often lies under an image's name; only the message differs.
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
    (b"BZh", "bzip2-compressed data"),
    (b"\xfd7zXZ", "xz-compressed data"),
    (b"RIFF", "a RIFF file that holds no WebP"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"ID3", "an MP3 file"),
    (b"OggS", "an Ogg file"),
    (b"PAR1", "a Parquet file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x7fELF", "a program"),
    (b"version https://git-lfs", "a Git LFS pointer: the image itself was not downloaded"),
)

_NETPBM = re.compile(rb"P[1-6fF][ \t\r\n]+[\d#]")
_XBM = re.compile(rb"\s*#define[ \t]+\w+_width[ \t]+\d")
_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<", re.ASCII)
_SVG = re.compile(rb"<svg[\s>]", re.IGNORECASE)
_HTML = re.compile(rb"<(?:!doctype html|html|head|body|script|title)", re.IGNORECASE)
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"mif2", b"miaf"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_LONGEST = 12


def recognise(data: bytes) -> str:
    """Return the format that the first bytes announce: a lower-case Pillow name.

    Args:
        data: The whole file.

    Raises:
        DecodeError: `empty`, `not_an_image`, `unsupported`, or `truncated` within the signature itself.
    """
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if not data:
        raise DecodeError("empty", "the file holds no bytes")
    for magic, name in _DECODED:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return _iso_media(data)
    if data[:2] == b"BM" and (int.from_bytes(data[14:18], "little") in _BMP_HEADERS or (len(data) < 18 and not _is_text(data[2:]))):
        return "bmp"
    if _NETPBM.match(data):
        return "ppm"
    reason, message = _refusal(data)
    raise DecodeError(reason, message)


def _iso_media(data: bytes) -> str:
    """Return `avif` where a box of file types names it (ISO/IEC 14496-12 §4.3); refuse what else uses such boxes."""
    size = min(int.from_bytes(data[:4], "big"), 4096)
    major = data[8:12]
    if len(major) < 4:
        raise DecodeError("truncated", f"{len(data)} bytes: the file ends within the signature of an ISO media file (AVIF, HEIC, video)")
    brands = {major, *(data[at : at + 4] for at in range(16, size, 4))}
    if major in _AVIF_BRANDS or (major in _HEIF_BRANDS and brands & _AVIF_BRANDS):
        return "avif"
    if brands & _HEIF_BRANDS:
        raise DecodeError("unsupported", "a HEIF/HEIC image, which is not decoded; convert it to JPEG, PNG or AVIF")
    if major == b"crx ":
        raise DecodeError("unsupported", "a Canon camera raw file, which is not decoded; develop it to TIFF or JPEG")
    raise DecodeError("not_an_image", f"no image: an ISO media file (a video?) of brand {major.decode('latin-1')!r}")


def _refusal(data: bytes) -> tuple[Reason, str]:
    """Return the reason and the message for bytes that begin like nothing that is decoded."""
    for magic, what in _UNSUPPORTED:
        if data.startswith(magic):
            return "unsupported", f"{what}, which is not decoded; convert it to PNG, JPEG or TIFF"
    if data[40:44] == b" EMF" and data[:4] == b"\x01\0\0\0":
        return "unsupported", "a Windows metafile, which is not decoded; convert it to PNG, JPEG or TIFF"
    if _XBM.match(data):
        return "unsupported", "an X bitmap, which is not decoded; convert it to PNG, JPEG or TIFF"
    if data[128:132] == b"DICM":
        return "unsupported", "a DICOM file, which is not decoded; convert it to PNG or TIFF"
    if 2 <= len(data) < _LONGEST:
        for magic, name in (*_DECODED, (b"RIFF", "webp")):
            if magic.startswith(data) or (name == "webp" and data.startswith(magic)):
                return "truncated", f"{len(data)} bytes: the file ends within the signature of a {name} image"
    for magic, what in _OTHERS:
        if data.startswith(magic):
            return "not_an_image", f"no image: {what}"
    head = data[:1024]
    if _MARKUP.match(head):
        if _SVG.search(head):
            return "not_an_image", "no image of pixels: an SVG drawing"
        return "not_an_image", "no image: an HTML page" if _HTML.search(head) else "no image: XML or other markup"
    if not head.strip(b"\x00"):
        return "not_an_image", "no image: the file begins with nothing but zero bytes"
    if _is_text(head):
        return "not_an_image", f"no image: text that begins {head[:24].decode('utf-8', 'replace')!r}"
    return "not_an_image", f"no image: the first bytes, {head[:8].hex(' ')}, are those of no known image format"


def _is_text(head: bytes) -> bool:
    """Return whether these bytes are text: UTF-8 (perhaps cut within a character) without control characters."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode("utf-8")
    return bool(text) and all(char.isprintable() or char in "\r\n\t\f" for char in text)
