"""A contact sheet: one row an image, one column a stage, drawn on one picture."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from ray_prep.errors import RecipeError, StorageError
from ray_prep.image.encode import LONGEST_SIDES
from ray_prep.show.lettering import Color, Lettering
from ray_prep.show.thumbnail import Pixels, Rgb, fit, to_rgb

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_WIDTH_PX = 2400
_MIN_WIDTH_PX = 860
_MARGIN_PX = 36
_GUTTER_PX = 16
_KEY_WIDTH_PX = 212
_TILE_PX = 256
_MIN_TILE_PX = 112
_ROW_PADDING_PX = 18
_CAPTION_GAP_PX = 7
_PANEL_PADDING_PX = 14
_REJECTION_WIDTH_PX = 560
_MAX_COLUMNS = (MAX_WIDTH_PX - 2 * _MARGIN_PX - _KEY_WIDTH_PX) // (_MIN_TILE_PX + _GUTTER_PX)

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
# Letters are legible at these, and colours of small things not smeared.
_SAVED_AS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 4},
    "JPEG": {"quality": 92, "subsampling": "4:4:4"},
    "WEBP": {"quality": 92},
}

_PAGE: Color = (251, 250, 248)
_TILE: Color = (240, 239, 235)
_EDGE: Color = (206, 203, 196)
_RULE: Color = (224, 222, 216)
_INK: Color = (33, 35, 38)
_SOFT: Color = (88, 92, 98)
_FAINT: Color = (128, 131, 136)
_ALARM: Color = (168, 44, 32)
_ALARM_TILE: Color = (252, 239, 236)
_ALARM_EDGE: Color = (235, 196, 189)

_TITLE = Lettering(26, is_bold=True)
_FACT = Lettering(14)
_HEADING = Lettering(13, is_bold=True)
_KEY = Lettering(14, is_bold=True)
_LINE = Lettering(13)
_CAPTION = Lettering(13)
_SMALL = Lettering(12)
_REASON = Lettering(16, is_bold=True)


@dataclass(frozen=True, slots=True, eq=False)
class SheetCell:
    """One picture on the sheet.

    Args:
        image: Shape (H, W, 1 or 3); uint8, or float with the range below.
        caption: First line below it; None for its size and dtype.
        sub_caption: Smaller lines below that: what was applied. At most five are shown.
        value_range: What is black and white, after mean and std are undone; None as in `thumbnail.to_rgb`.
        mean: What `normalize` subtracted; empty where nothing was.
        std: What `normalize` divided by; empty where nothing was.
    """

    image: Pixels
    caption: str | None = None
    sub_caption: str = ""
    value_range: tuple[float, float] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class SheetRejection:
    """What stands where an item's pictures end: why it was rejected. It takes the rest of the row.

    Args:
        reason: The closed code.
        message: What a person should read.
        image: As far as it got, shape (H, W, 1 or 3) uint8; None where there is no picture.
    """

    reason: str
    message: str
    image: Pixels | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SheetRow:
    """One item and its pictures, from left to right.

    Args:
        key: The item's key; shortened in the middle where it is long.
        lines: What else is known of it: label, split, size in bytes … one line each.
        cells: A picture a stage; a rejection is the last.
    """

    key: str
    lines: Sequence[str] = ()
    cells: Sequence[SheetCell | SheetRejection] = ()


_Line = tuple[Lettering, Color, str]


@dataclass(frozen=True, slots=True, eq=False)
class _Tile:
    """A cell, measured: its picture at the size it is drawn, the lines that go with it, and the width it takes."""

    image: Rgb | None
    lines: list[_Line]
    width: int
    is_rejection: bool

    @property
    def image_height(self) -> int:
        return 0 if self.image is None else int(self.image.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """A row, measured: what is drawn, the height of its tiles, and of all."""

    lines: list[_Line]
    tiles: list[_Tile]
    tile_height: int
    height: int


def render_sheet(
    title: str,
    rows: Sequence[SheetRow],
    *,
    columns: Sequence[str] = (),
    facts: Sequence[str] = (),
    legend: Sequence[str] = (),
) -> Rgb:
    """Return the contact sheet as one picture, at most 2400 pixels wide and as high as its rows need.

    Shape: -> (H, W, 3).   Dtype: uint8.   Range: [0, 255].   Random: no.   Targets: image.

    Args:
        title: The recipe's name.
        rows: The items; a row's cells beyond the widest possible sheet are counted in the footer, not drawn.
        columns: A heading for each column: original, after preprocess …; missing ones stay empty.
        facts: What belongs below the title: fingerprint, counts.
        legend: What a reader should know, added to what the sheet itself has to say.
    """
    count = max(1, min(_MAX_COLUMNS, max((len(row.cells) for row in rows), default=1)))
    space = MAX_WIDTH_PX - 2 * _MARGIN_PX - _KEY_WIDTH_PX - count * _GUTTER_PX
    tile_px = min(_TILE_PX, space // count)
    width = max(_MIN_WIDTH_PX, 2 * _MARGIN_PX + _KEY_WIDTH_PX + count * (_GUTTER_PX + tile_px))
    right = width - _MARGIN_PX

    head = _header(title, facts, right - _MARGIN_PX)
    blocks = [_measure(row, tile_px, count, right) for row in rows]
    foot = _footer(rows, legend, right - _MARGIN_PX, count)
    headings_px = _HEADING.line_px + 8 if columns else 0
    height = 2 * _MARGIN_PX + _height(head) + 22 + headings_px + sum(block.height for block in blocks) + 14 + _height(foot)

    page = Image.new("RGB", (width, height), _PAGE)
    canvas = ImageDraw.Draw(page)
    y = _write(canvas, _MARGIN_PX, _MARGIN_PX, head) + 22
    for index, heading in enumerate(columns[:count]):
        _HEADING.draw(canvas, _column_x(index, tile_px), y, _HEADING.fit(heading, tile_px), _SOFT)
    y += headings_px
    for block in blocks:
        canvas.line((_MARGIN_PX, y, right - 1, y), fill=_RULE)
        _draw_row(page, canvas, block, y + _ROW_PADDING_PX, tile_px)
        y += block.height
    canvas.line((_MARGIN_PX, y, right - 1, y), fill=_RULE)
    _write(canvas, _MARGIN_PX, y + 14, foot)
    return np.array(page, np.uint8)


def picture_format(path: str | Path) -> str:
    """Return Pillow's name of the format that a file's name asks for.

    Raises:
        RecipeError: It asks for none that a sheet is written in.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        msg = f"-o {path}: a sheet is written as {', '.join(_FORMATS)}, and the name ends in {suffix or 'none of these'}"
        raise RecipeError(msg)
    return _FORMATS[suffix]


def write_picture(path: str | Path, image: Rgb) -> None:
    """Write a picture in the format that its name asks for; folders on the way are made.

    Args:
        path: Where; whatever is there is replaced.
        image: Shape (H, W, 3), red, green, blue.

    Raises:
        RecipeError: The name asks for no such format, or for one that holds no picture of this size.
        StorageError: It cannot be written there.
    """
    kind = picture_format(path)
    longest = LONGEST_SIDES[kind.lower()]
    if max(image.shape[:2]) > longest:
        size = f"{image.shape[0]} x {image.shape[1]}"
        raise RecipeError(f"-o {path}: {kind} holds no side above {longest:,}, and the sheet is {size}; write a .png, or fewer images")
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, kind, **_SAVED_AS[kind])
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(encoded.getvalue())
    except OSError as error:
        msg = f"{path}: the picture cannot be written there: {error.strerror or error}"
        raise StorageError(msg) from error


def _header(title: str, facts: Sequence[str], width: int) -> list[_Line]:
    lines = [(_TITLE, _INK, text) for text in _TITLE.wrap_middle(title, width)]
    return lines + [(_FACT, _SOFT, text) for text in _FACT.wrap(" · ".join(facts), width, 4)]


def _footer(rows: Sequence[SheetRow], legend: Sequence[str], width: int, count: int) -> list[_Line]:
    said = ["Sizes are height x width x channels.", "Pictures larger than a tile are shown smaller."]
    left_out = sum(max(0, len(row.cells) - count) for row in rows)
    if left_out:
        said.append(f"{left_out} pictures beyond column {count} are left out.")
    return [(_SMALL, _FAINT, line) for line in _SMALL.wrap(" ".join([*said, *legend]), width, 8)]


def _measure(row: SheetRow, tile_px: int, count: int, right: int) -> _Block:
    """Return everything a row draws, cut and wrapped to the space there is."""
    lines: list[_Line] = [(_KEY, _INK, text) for text in _KEY.wrap_middle(row.key, _KEY_WIDTH_PX, 3)]
    lines += [(_LINE, _SOFT, text) for line in row.lines for text in _LINE.wrap(line, _KEY_WIDTH_PX, 2)]
    cells = list(row.cells[:count])
    if len(row.cells) > count and isinstance(row.cells[-1], SheetRejection):
        cells[-1] = row.cells[-1]  # a column may be left out, the reason may not
    tiles = []
    for index, cell in enumerate(cells):
        if isinstance(cell, SheetRejection):
            tiles.append(_rejection(cell, min(right - _column_x(index, tile_px), max(tile_px, _REJECTION_WIDTH_PX))))
            break
        tiles.append(_tile(cell, tile_px))
    tile_height = max([_MIN_TILE_PX, *(tile.image_height for tile in tiles)])
    panels = [_height(tile.lines) + 2 * _PANEL_PADDING_PX for tile in tiles if tile.is_rejection]
    panels += [tile.image_height + 2 * _PANEL_PADDING_PX for tile in tiles if tile.is_rejection]
    tile_height = max([tile_height, *panels])
    below = max((_height(tile.lines) + _CAPTION_GAP_PX for tile in tiles if not tile.is_rejection), default=0)
    return _Block(lines, tiles, tile_height, max(tile_height + below, _height(lines)) + 2 * _ROW_PADDING_PX)


def _tile(cell: SheetCell, tile_px: int) -> _Tile:
    picture, tone = to_rgb(cell.image, cell.value_range, cell.mean, cell.std)
    picture, scale = fit(picture, tile_px, tile_px)
    caption = cell.caption
    if caption is None:
        caption = f"{' x '.join(str(side) for side in cell.image.shape)} · {cell.image.dtype}"
    lines: list[_Line] = [(_CAPTION, _INK, text) for text in _CAPTION.wrap(caption, tile_px, 2)]
    lines += [(_SMALL, _SOFT, text) for text in _SMALL.wrap(cell.sub_caption, tile_px, 5)]
    lines += [(_SMALL, _FAINT, text) for text in _SMALL.wrap(" · ".join(filter(None, (tone, scale))), tile_px, 2)]
    return _Tile(picture, lines, tile_px, is_rejection=False)


def _rejection(cell: SheetRejection, width: int) -> _Tile:
    picture = None
    if cell.image is not None:
        side = min(_MIN_TILE_PX, width // 3)
        picture, _ = fit(to_rgb(cell.image)[0], side, side)
    inner = width - 2 * _PANEL_PADDING_PX - (0 if picture is None else picture.shape[1] + _PANEL_PADDING_PX)
    lines: list[_Line] = [(_SMALL, _ALARM, "rejected"), (_REASON, _ALARM, _REASON.fit(cell.reason, inner))]
    lines += [(_LINE, _INK, text) for text in _LINE.wrap(cell.message, inner, 8)]
    return _Tile(picture, lines, width, is_rejection=True)


def _draw_row(page: Image.Image, canvas: ImageDraw.ImageDraw, block: _Block, y: int, tile_px: int) -> None:
    _write(canvas, _MARGIN_PX, y, block.lines)
    for index, tile in enumerate(block.tiles):
        x = _column_x(index, tile_px)
        box = (x, y, x + tile.width - 1, y + block.tile_height - 1)
        if tile.is_rejection:
            canvas.rectangle(box, fill=_ALARM_TILE, outline=_ALARM_EDGE)
            text_x = x + _PANEL_PADDING_PX
            if tile.image is not None:
                _paste(page, canvas, tile.image, text_x, y + _PANEL_PADDING_PX)
                text_x += tile.image.shape[1] + _PANEL_PADDING_PX
            _write(canvas, text_x, y + _PANEL_PADDING_PX, tile.lines)
        elif tile.image is not None:
            canvas.rectangle(box, fill=_TILE)
            height, width = tile.image.shape[:2]
            _paste(page, canvas, tile.image, x + (tile.width - width) // 2, y + (block.tile_height - height) // 2)
            _write(canvas, x, y + block.tile_height + _CAPTION_GAP_PX, tile.lines)


def _paste(page: Image.Image, canvas: ImageDraw.ImageDraw, image: Rgb, x: int, y: int) -> None:
    """Draw a picture and a hair line around it, so that a white one has an edge too."""
    height, width = image.shape[:2]
    page.paste(Image.fromarray(image), (x, y))
    canvas.rectangle((x - 1, y - 1, x + width, y + height), outline=_EDGE)


def _write(canvas: ImageDraw.ImageDraw, x: int, y: int, lines: Sequence[_Line]) -> int:
    """Draw lines below each other and return where the next one would begin."""
    for lettering, color, text in lines:
        lettering.draw(canvas, x, y, text, color)
        y += lettering.line_px
    return y


def _height(lines: Sequence[_Line]) -> int:
    return sum(lettering.line_px for lettering, _, _ in lines)


def _column_x(index: int, tile_px: int) -> int:
    """Return the left edge of a column."""
    return _MARGIN_PX + _KEY_WIDTH_PX + _GUTTER_PX + index * (tile_px + _GUTTER_PX)
