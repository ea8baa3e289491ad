from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from ray_prep.errors import RecipeError, StorageError
from ray_prep.show.sheet import MAX_WIDTH_PX, SheetCell, SheetRejection, SheetRow, render_sheet, write_picture

if TYPE_CHECKING:
    from pathlib import Path

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

MARGIN, GUTTER, KEY_WIDTH, TILE = 36, 16, 212, 256
PAGE = (251, 250, 248)
FIRST = MARGIN + KEY_WIDTH + GUTTER
LONG = "W" * 150 + " " + "wide words and more of them " * 12


def _photo(height: int, width: int, channels: int = 3, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def _contains(sheet: np.ndarray, picture: np.ndarray) -> bool:
    """Return whether the picture stands somewhere on the sheet, pixel for pixel."""
    height, width = picture.shape[:2]
    for y, x in np.argwhere((sheet[: 1 - height or None, : 1 - width or None] == picture[0, 0]).all(axis=2)):
        if np.array_equal(sheet[y : y + height, x : x + width], picture):
            return True
    return False


def _full_row(key: str = "a/b.jpg", cells: int = 3) -> SheetRow:
    return SheetRow(key, ("label: a", "split: train"), [SheetCell(_photo(200, 220, seed=index)) for index in range(cells)])


def test_pictures_of_a_tile_or_less_are_shown_pixel_for_pixel() -> None:
    """What trains the model is what one sees: 224 x 224 is not resampled on the sheet."""
    row = _full_row()
    sheet = render_sheet("flowers", [row])
    assert sheet.dtype == np.uint8
    assert all(_contains(sheet, cell.image) for cell in row.cells if isinstance(cell, SheetCell))


def test_rendering_is_pure() -> None:
    """The same rows give the same picture, and no picture that was handed in is changed."""
    row = _full_row()
    before = [cell.image.copy() for cell in row.cells if isinstance(cell, SheetCell)]
    assert np.array_equal(render_sheet("flowers", [row]), render_sheet("flowers", [row]))
    assert all(np.array_equal(cell.image, kept) for cell, kept in zip(row.cells, before, strict=True) if isinstance(cell, SheetCell))


@pytest.mark.parametrize("text", [LONG, "野花" * 100, "-", "a/" * 120, "\n" * 50 + "x" * 500])
def test_no_text_leaves_its_column(text: str) -> None:
    """Margins and the gutters between columns stay empty, whatever the keys, captions, headings and messages are."""
    image = _photo(40, 40)
    cells = [SheetCell(image, text, text, value_range=(0, 254)) for _ in range(3)]
    rows = [SheetRow(text, (text, text), cells), SheetRow(text, (text,), [*cells[:2], SheetRejection(text, text, image)])]
    sheet = render_sheet(text, rows, columns=(text, text, text), facts=(text, text), legend=(text,))
    height, width = sheet.shape[:2]
    empty = np.ones(width, bool)
    empty[MARGIN - 1 : width - MARGIN + 1] = False
    for strip in (sheet[:, empty], sheet[: MARGIN - 2], sheet[height - MARGIN + 8 :]):
        assert (strip == PAGE).all()
    # Gutters: below the header, and apart from the rules that cross the page.
    rules = (sheet[:, MARGIN : width - MARGIN] == (224, 222, 216)).all(axis=(1, 2))
    top, bottom = (int(place) for place in np.flatnonzero(rules)[[0, -1]])
    inner = sheet[top:bottom][~rules[top:bottom]]
    for column in range(3):
        left = FIRST + column * (TILE + GUTTER)
        assert (inner[:, left - GUTTER + 3 : left - 2] == PAGE).all(), f"something is drawn left of column {column}"


@pytest.mark.parametrize("columns", [1, 5, 7, 8, 12, 16, 17, 40])
def test_the_sheet_is_never_wider_than_a_screen(columns: int) -> None:
    """Tiles get smaller, then columns are left out; the page stays within its largest width."""
    sheet = render_sheet("many", [_full_row(cells=columns)], columns=[f"copy {index}" for index in range(columns)])
    assert sheet.shape[1] <= MAX_WIDTH_PX


def test_columns_left_out_are_counted() -> None:
    """Nothing is lost silently: the footer grows by a sentence where pictures were left out."""
    fits, too_many = (render_sheet("many", [_full_row(cells=count)]) for count in (16, 17))
    footer = slice(-60, None)
    assert not np.array_equal(fits[footer], too_many[footer])


@pytest.mark.parametrize("cells", [1, 3, 40])
def test_a_rejection_is_always_shown(cells: int) -> None:
    """The reason stands on the sheet in its colour, even where the row is longer than the sheet is wide."""
    row = SheetRow("bad.jpg", (), [*_full_row(cells=cells - 1).cells, SheetRejection("truncated", "ends after 12 bytes")])
    sheet = render_sheet("bad", [row])
    assert (sheet == (252, 239, 236)).all(axis=2).sum() > 2000
    assert (sheet == (168, 44, 32)).all(axis=2).any()


def test_a_rejection_shows_how_far_it_got() -> None:
    """A thumbnail lies in the panel where there is a picture."""
    picture = _photo(60, 90)
    row = SheetRow("bad.jpg", (), [SheetRejection("too_small", "60 x 90", picture)])
    assert _contains(render_sheet("bad", [row]), picture)


def test_rows_do_not_overlap() -> None:
    """Each row is drawn below the one before: a sheet of two rows is as high as both."""
    one, other = _full_row("one"), SheetRow("other", ("x",) * 30, [SheetCell(_photo(1, 1))])
    empty = render_sheet("t", []).shape[0]
    heights = [render_sheet("t", [row]).shape[0] - empty for row in (one, other)]
    assert render_sheet("t", [one, other]).shape[0] - empty == sum(heights)
    assert heights[1] > 30 * 13


@pytest.mark.parametrize(
    "image",
    [
        _photo(1, 1),
        _photo(4000, 30),
        _photo(30, 4000, 1),
        _photo(600, 20)[:, ::-1],
        _photo(64, 64).astype(np.float32) / 255,
        np.full((8, 8, 1), np.nan, np.float32),
        np.arange(300, dtype=np.uint16).reshape(10, 10, 3) * 200,
    ],
    ids=["1x1", "4000x30", "30x4000 grey", "a view", "float", "nan", "uint16"],
)
def test_pictures_of_all_kinds(image: np.ndarray) -> None:
    """Every picture of a chain can be shown, and leaves a mark on the sheet."""
    sheet = render_sheet("kinds", [SheetRow("k", (), [SheetCell(image)])])
    tile = sheet[:, FIRST : FIRST + TILE].reshape(-1, 3)
    assert len(np.unique(tile, axis=0)) > 20


def test_captions_default_to_size_and_dtype() -> None:
    """Without a caption the sheet writes the picture's own shape, height first."""
    image = _photo(50, 70)
    assert np.array_equal(
        render_sheet("t", [SheetRow("k", (), [SheetCell(image)])]),
        render_sheet("t", [SheetRow("k", (), [SheetCell(image, "50 x 70 x 3 · uint8")])]),
    )


def test_write_picture_round_trip(tmp_path: Path) -> None:
    """The file holds the very pixels; folders on the way are made."""
    sheet = render_sheet("flowers", [_full_row()])
    path = tmp_path / "new" / "sheet.png"
    write_picture(path, sheet)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), sheet)


def test_write_picture_where_it_cannot_be(tmp_path: Path) -> None:
    """A place that cannot be written is a storage error that names it."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"sheet\.png: the picture cannot be written there"):
        write_picture(tmp_path / "file" / "sheet.png", _photo(4, 4))


@pytest.mark.parametrize(("name", "kind"), [("s.png", "PNG"), ("s.PNG", "PNG"), ("s.jpg", "JPEG"), ("s.jpeg", "JPEG"), ("s.webp", "WEBP")])
def test_a_sheet_is_what_its_name_says(tmp_path: Path, name: str, kind: str) -> None:
    """The suffix names the format, in whatever case."""
    page = np.full((40, 60, 3), PAGE, np.uint8)
    write_picture(tmp_path / name, page)
    with Image.open(tmp_path / name) as sheet:
        assert sheet.format == kind
        assert np.abs(np.asarray(sheet.convert("RGB")).astype(int) - page).max() <= 3


@pytest.mark.parametrize("name", ["s.gif", "s", "s.png.txt"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    """A name that asks for no format we write, and a sheet that a format cannot hold, are told before anything is written."""
    with pytest.raises(RecipeError, match=r"a sheet is written as \.png, \.jpg, \.jpeg, \.webp, and the name ends in"):
        write_picture(tmp_path / name, _photo(4, 4))
    with pytest.raises(RecipeError, match=r"WEBP holds no side above 16,383, and the sheet is 16384 x 4; write a \.png, or fewer images"):
        write_picture(tmp_path / "s.webp", np.zeros((16384, 4, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []
