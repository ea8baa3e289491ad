"""What a file says of its picture before any pixel is touched, and the limits it is held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray_prep.errors import DecodeError, LimitError
from ray_prep.image import jpeg, layout, png
from ray_prep.image.exif import exif_orientation, xmp_orientation
from ray_prep.image.netpbm import read_netpbm
from ray_prep.image.pillow import open_image, pillow_errors
from ray_prep.image.signature import recognise

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_TILE_WIDTH, _TILE_LENGTH, _ORIENTATION, _DNG_VERSION, _XMP = 322, 323, 274, 50706, 700  # TIFF 6.0 §15, DNG 1.7


@dataclass(frozen=True, slots=True)
class Header:
    """A file's own statement of its picture.

    Args:
        format: Lower-case Pillow name, from the first bytes: jpeg, mpo, png, webp, tiff, bmp, ppm, gif, avif, ico, jpeg2000.
        height: As stored, before EXIF, pixels.
        width: As stored, before EXIF, pixels.
        orientation: 1..8 as in EXIF; 1 where the file names none, or a broken one.
        frames: Frames of an animation, pages of a TIFF, pictures of an MPO.
        largest_tile: Pixels of the largest piece that a decoder holds beside the picture; 0 where there are no tiles.
        components: Components of a JPEG; 0 for other formats.
        process: Marker of a JPEG's frame header (0xC0 baseline, 0xC2 progressive …); 0 for other formats.
        body: Where a JPEG's frame header ends, bytes; 0 for other formats.
    """

    format: str
    height: int
    width: int
    orientation: int = 1
    frames: int = 1
    largest_tile: int = 0
    components: int = 0
    process: int = 0
    body: int = 0

    @property
    def oriented_size(self) -> tuple[int, int]:
        """(height, width) of the picture once it is turned upright, pixels."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def read_header(data: bytes | memoryview) -> Header:
    """Read the header of an image; its format comes from the first bytes, and no pixel is allocated.

    A broken EXIF block costs the orientation, never the image.

    Args:
        data: The whole file.

    Raises:
        DecodeError: `empty`, `not_an_image`, `unsupported`, `truncated` or `corrupt`; `too_large` where a text chunk is a bomb.
    """
    if not isinstance(data, bytes):
        data = bytes(data)
    image_format = recognise(data)
    if image_format == "jpeg":
        height, width, orientation, pictures, components, process, body = jpeg.read_frame(data)
        return Header("mpo" if pictures > 1 else "jpeg", height, width, orientation, pictures, 0, components, process, body)
    if image_format == "webp":
        return Header(image_format, *layout.webp_canvas(data))
    if image_format == "ico":
        return Header(image_format, *layout.ico_canvas(data))
    if image_format == "ppm":
        netpbm = read_netpbm(data)
        return Header(image_format, netpbm.height, netpbm.width)
    if image_format == "png":
        png.check_png(data)
    image = open_image(image_format, data)
    if image_format == "tiff":
        return _tiff_header(data, image)
    frames = layout.gif_frames(data) if image_format == "gif" else int(getattr(image, "n_frames", 1))
    orientation = (png.stated_orientation(data) or 1) if image_format == "png" else _orientation(image)
    return Header(image_format, image.height, image.width, orientation, frames)


def _tiff_header(data: bytes, image: Any) -> Header:
    """Read the first directory of a TIFF; Pillow has already swapped the sides of a turned one, and will turn its pixels."""
    tags = image.tag_v2
    if _DNG_VERSION in tags or data[8:10] == b"CR":
        raise DecodeError("unsupported", "a camera raw file (DNG, CR2), which is not decoded; develop it to TIFF or JPEG")
    width, height = image._tile_size
    with pillow_errors("tiff", data):
        orientation = tags.get(_ORIENTATION)
        if orientation is None and isinstance(packet := tags.get(_XMP), bytes):
            orientation = xmp_orientation(packet)
        tile = tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_LENGTH, 0)
    # By Pillow's own comparison: it turns by 6.0 and by the ratio 6/1, too.
    upright = next((known for known in range(1, 9) if known == orientation), 1)
    return Header("tiff", height, width, upright, layout.tiff_pages(data), tile if isinstance(tile, int) else 0)


def _orientation(image: ImageFile) -> int:
    """Return the orientation from what Pillow found while opening: EXIF, or XMP."""
    block, packet = image.info.get("exif"), image.info.get("xmp")
    found = exif_orientation(block, 0, len(block)) if isinstance(block, bytes) else None
    if found is None and packet:
        found = xmp_orientation(packet.encode("utf-8", "replace") if isinstance(packet, str) else packet)
    return found or 1


def check_limits(header: Header, *, max_pixels: int, min_side: int | None = None, max_aspect: float | None = None) -> None:
    """Hold a header to the limits of the recipe, before any pixel is allocated.

    Args:
        header: What `read_header` found.
        max_pixels: Largest height x width, of the picture and of any tile it is decoded by.
        min_side: Smallest shorter side, pixels; None where there is no limit.
        max_aspect: Largest ratio of the longer to the shorter side; None where there is no limit.

    Raises:
        LimitError: `too_large`, `too_small` or `aspect`.
    """
    height, width = header.oriented_size
    if height * width > max_pixels:
        message = f"{height}x{width} (height x width) = {height * width:,} pixels; decode.max_pixels allows {max_pixels:,}"
        raise LimitError("too_large", message)
    if header.largest_tile > max_pixels:
        raise LimitError("too_large", f"a tile of {header.largest_tile:,} pixels; decode.max_pixels allows {max_pixels:,}")
    shorter, longer = (height, width) if height < width else (width, height)
    if min_side is not None and shorter < min_side:
        raise LimitError("too_small", f"{height}x{width} (height x width); filter.min_side asks for {min_side} or more")
    if max_aspect is not None and longer / shorter > max_aspect:
        message = f"{height}x{width} (height x width), a ratio of {longer / shorter:.2f}; filter.max_aspect allows {max_aspect:g}"
        raise LimitError("aspect", message)
