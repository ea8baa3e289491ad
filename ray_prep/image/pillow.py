"""Pillow, held at arm's length: one format at a time, quiet, and its exceptions turned into ours.

Plugins are called directly instead of through `Image.open`, which would try them all, hide their messages behind "cannot
identify", print memory addresses, and warn. Sizes are ours to check (`check_limits`), from the header and before any pixel;
Pillow's own limit of 178,956,970 pixels is never lifted and stays as a second one for TIFF, GIF and WebP.
"""

from __future__ import annotations

import ctypes
import logging
import re
import struct
import threading
import warnings
import zlib
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ray_prep.errors import DecodeError
from ray_prep.image import png
from ray_prep.image.layout import is_cut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.ImageFile import ImageFile

    from ray_prep.errors import Reason

PLUGINS: dict[str, type[ImageFile]] = {
    "avif": AvifImagePlugin.AvifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "ico": IcoImagePlugin.IcoImageFile,
    "jpeg": JpegImagePlugin.JpegImageFile,
    "jpeg2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "mpo": JpegImagePlugin.JpegImageFile,  # its first picture
    "png": PngImagePlugin.PngImageFile,
    "ppm": PpmImagePlugin.PpmImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
}

# What Pillow 13's plugins raise while they open and load bytes that make no picture. 200,000 mutants of real files raised the
# first five and DecompressionBombError; the others are what its own `Image.open` expects, or stand in its code. MemoryError is not
# among them: a machine without memory is not the image's fault.
FOREIGN: tuple[type[Exception], ...] = (
    OSError,
    SyntaxError,
    ValueError,
    RuntimeError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    struct.error,
    zlib.error,
)
# What converting a loaded image may raise (a palette that is none); anything else is a mistake of ours, and comes out as one.
CONVERSION: tuple[type[Exception], ...] = (OSError, ValueError)

_COLOR_MAP = 320  # TIFF 6.0 §8
_SAMPLE_FORMATS = {1: "unsigned", 2: "signed", 3: "floating-point"}  # §19
_TOO_FEW = "not enough image data"  # of text, whose numbers end too soon; other formats' decoders also say it of broken run lengths
_INFLATED = re.compile(r"Decompressed data too large|Too much memory used in text chunks", re.IGNORECASE)
_UNSUPPORTED = re.compile(
    r"unknown pixel mode|unknown data organization|not (?:yet )?supported|unsupported|cannot handle|not installed|unknown raw mode"
    r"|unknown bmp|no codec",
    re.IGNORECASE,
)
# Pillow says "unsupported" of these too, but no valid file has them.
_ABSURD = re.compile(r"Palette size|zTXt|iCCP|iTXt", re.IGNORECASE)
_ENDED = re.compile(r"file is truncated|truncated file|unexpected end|end of file|Reached EOF", re.IGNORECASE)
_ADDRESS = re.compile(r"<[^<>]*0x[0-9a-fA-F]+>|0x[0-9a-fA-F]{6,}")

# Pillow logs some refusals as errors, which Python prints where a program has set up no logging.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_lock = threading.Lock()
_inside: list[warnings.catch_warnings[None]] = []


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what Pillow's modules warn of (EXIF, TIFF tags, large images), and nothing else.

    `warnings.catch_warnings` saves and restores the filters of the whole process, so that threads undo one another's: here the
    first one in sets the filter and the last one out takes it away.
    """
    with _lock:
        scope = warnings.catch_warnings()
        if not _inside:
            scope.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
            _inside.append(scope)
        else:
            _inside.append(_inside[0])
    try:
        yield
    finally:
        with _lock:
            scope = _inside.pop()
            if not _inside:
                scope.__exit__(None, None, None)


@cache
def _hush_libtiff() -> None:
    """Take away libtiff's handlers, which write to the process's standard error past Python: hundreds of lines for one file.

    Pillow 13 installs none of its own. The library is found where it is loaded; where that cannot be read, it stays loud.
    """
    with suppress(OSError, AttributeError):
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
        for path in set(re.findall(r"\S+/libtiff[^/\s]*\.so[^/\s]*", mapped)):
            library = ctypes.CDLL(path)
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)


def open_image(image_format: str, data: bytes) -> ImageFile:
    """Return Pillow's image of one format, its header read and its pixels not.

    Raises:
        DecodeError: Pillow does not take it; the reason says why.
    """
    if image_format == "tiff":
        _hush_libtiff()
    if image_format == "png":
        data = png.without_broken_exif(data)
    with pillow_errors(image_format, data):
        return PLUGINS[image_format](BytesIO(data))


@contextmanager
def pillow_errors(image_format: str, data: bytes, kinds: tuple[type[Exception], ...] = FOREIGN) -> Iterator[None]:
    """Turn what Pillow raises inside into a DecodeError with the right reason.

    Args:
        image_format: As `recognise` names it.
        data: The whole file: whether it is complete tells `truncated` from `corrupt`.
        kinds: The exceptions that are the image's fault.
    """
    try:
        with quiet():
            yield
    except Image.DecompressionBombError as error:
        raise DecodeError("too_large", f"{image_format}: {_clean(error)}") from error
    except kinds as error:
        reason = _reason(image_format, data, error)
        is_unsaid = reason == "truncated" and not _ENDED.search(str(error))
        words = _clean(error)
        if reason != "truncated" and (missing := _missing_key(image_format, error)) is not None:
            words = _lacking(missing)
        raise DecodeError(reason, f"{image_format}: {words}{'; the file is not complete' if is_unsaid else ''}") from error


def _reason(image_format: str, data: bytes, error: BaseException) -> Reason:
    """Return why Pillow refused: its words first, then whether the file is complete."""
    words = str(error)
    if _INFLATED.search(words):
        return "too_large"
    if image_format == "tiff" and is_cut(image_format, data):  # what a cut directory lacks looks as if it were of another kind
        return "truncated"
    if _UNSUPPORTED.search(words) and not _ABSURD.search(words):
        return "unsupported"
    if (missing := _missing_key(image_format, error)) is not None:
        return "corrupt" if missing == _COLOR_MAP else "unsupported"
    if is_cut(image_format, data) or _ENDED.search(words) or (image_format == "ppm" and words == _TOO_FEW):
        return "truncated"
    return "corrupt"


def _missing_key(image_format: str, error: BaseException) -> object:
    """Return what Pillow looked up in vain in a TIFF: a tag it cannot do without, a compression or a layout of pixels it does not know."""
    return error.__cause__.args[0] if image_format == "tiff" and isinstance(error.__cause__, KeyError) else None


def _lacking(missing: object) -> str:
    """Return in words what was looked up in vain."""
    if missing == _COLOR_MAP:
        return "a palette picture without its ColorMap"
    if isinstance(missing, tuple):  # byte order, photometric interpretation, sample formats, fill order, bits, extras
        _, photometric, formats, _, bits, _ = missing
        kind = _SAMPLE_FORMATS.get(formats[0] if formats else 1, "unknown")
        return f"pixels of {len(bits)} x {max(bits)} bits ({kind}, photometric interpretation {photometric}), which are not decoded"
    return f"compression {missing}, which is not decoded"


def _clean(error: BaseException) -> str:
    """Return what a foreign exception says, on one line and without memory addresses."""
    words = _ADDRESS.sub("(object)", " ".join(str(error).split()))
    words = words.replace("decoder error -2", "its compressed data cannot be decoded")  # ImageFile.py has no words for this code
    return words[:300] or type(error).__name__
