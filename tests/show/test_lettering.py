from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from ray_prep.show import lettering
from ray_prep.show.lettering import Lettering

KEY = "flowers/some-long-folder/another_one/IMG_2024-07-01_12-33-59_final.jpeg"
TEXTS = ["plain text", KEY, "野花/été/жёлтый.jpg", "x" * 300, "tab\tand\nline", "\u202egpj.exe", "a" + "\u0301" * 5, "", " ", "野" * 80]
LETTERINGS = [Lettering(12), Lettering(14, is_bold=True), Lettering(26, is_bold=True)]


def _ink(letters: Lettering, text: str) -> np.ndarray:
    """Return which pixels of a wide page a line of text touches, drawn at x = 100."""
    page = Image.new("RGB", (300 + letters.width(text), 80), "white")
    letters.draw(ImageDraw.Draw(page), 100, 20, text, (0, 0, 0))
    return np.asarray(page).min(axis=2) < 200


@pytest.mark.parametrize("letters", LETTERINGS, ids=str)
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_nothing_is_drawn_outside_what_was_measured(letters: Lettering, text: str) -> None:
    """Ink stays within `width` of the text, one pixel of slant aside, and within its line."""
    drawn = _ink(letters, text)
    columns = np.flatnonzero(drawn.any(axis=0))
    rows = np.flatnonzero(drawn.any(axis=1))
    if len(columns):
        assert columns[0] >= 99
        assert columns[-1] <= 100 + letters.width(text) + 1
        assert rows[0] >= 19
        assert rows[-1] < 20 + letters.line_px + 2


@pytest.mark.parametrize("letters", LETTERINGS, ids=str)
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("width", [112, 212])
def test_every_line_fits(letters: Lettering, text: str, width: int) -> None:
    """However long the text, no line is wider than the space and there are no more lines than allowed."""
    for lines, limit in (
        (letters.wrap(text, width, 3), 3),
        (letters.wrap_middle(text, width, 2), 2),
        (letters.wrap_middle(text, width), 1),
    ):
        assert len(lines) <= limit
        assert all(letters.width(line) <= width for line in lines)
    assert letters.width(letters.fit(text, width)) <= width


def test_short_text_is_kept_as_it_is() -> None:
    """Nothing is cut that fits."""
    letters = Lettering(13)
    assert letters.fit("label: rose", 200) == "label: rose"
    assert letters.wrap_middle("rose/1.jpg", 200) == ["rose/1.jpg"]
    assert letters.wrap("one two", 200, 1) == ["one two"]
    assert letters.wrap("", 200, 3) == []


def test_ellipsis_is_where_it_was_asked_for() -> None:
    """`fit` and `wrap` keep the beginning, `wrap_middle` both ends."""
    letters = Lettering(13)
    assert letters.fit(KEY, 150).startswith("flowers/some")
    assert letters.fit(KEY, 150).endswith("…")
    (short,) = letters.wrap_middle(KEY, 150)
    assert short.startswith("flow")
    assert short.endswith("final.jpeg")
    assert short.count("…") == 1
    assert letters.wrap("word " * 100, 150, 2)[-1].endswith("…")


def test_lines_use_the_space_they_have() -> None:
    """One letter more would not have fitted."""
    letters = Lettering(13)
    cut = letters.fit(KEY, 150)
    assert letters.width(KEY[: len(cut)].rstrip() + "…") > 150


def test_lines_end_between_words_and_parts_of_a_path() -> None:
    """A number is never torn at its point or its sign."""
    letters = Lettering(12)
    for width in range(60, 220, 7):
        lines = letters.wrap("Rotate -11.95 · RandomBrightnessContrast 0.125, -0.083", width, 20)
        whole = " ".join(lines).split()
        assert {"-11.95", "0.125,", "-0.083"} <= set(whole)


def test_very_long_text_is_measured_quickly() -> None:
    """A key of a million characters costs no more than one of some thousand, and keeps its tail."""
    begin = time.perf_counter()
    (line,) = Lettering(13).wrap_middle("a/" * 500_000 + "end.jpg", 200)
    assert line.endswith("end.jpg")
    assert time.perf_counter() - begin < 2


@pytest.mark.parametrize(("letter", "escape"), [("\n", r"\n"), ("\u202e", r"\u202e"), ("\x00", r"\x00"), ("\ud800", r"\ud800")])
def test_what_would_mislead_is_escaped(letter: str, escape: str) -> None:
    """Controls, direction marks and lone surrogates are written as escapes: as wide as these are."""
    letters = Lettering(13)
    assert letters.width(f"a{letter}b") == letters.width(f"a{escape}b")
    assert np.array_equal(_ink(letters, f"a{letter}b"), _ink(letters, f"a{escape}b"))


def test_without_a_unicode_font_characters_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV before 5.0 brings no font: é is then written as its escape, and nothing fails."""
    monkeypatch.delattr(cv2, "FontFace", raising=False)
    lettering._face.cache_clear()
    try:
        letters = Lettering(13)
        assert letters.width("été") == letters.width(r"\xe9t\xe9")
    finally:
        lettering._face.cache_clear()


@pytest.mark.skipif(not hasattr(cv2, "FontFace"), reason="OpenCV before 5.0 brings no Unicode font")
def test_other_scripts_are_drawn() -> None:
    """Characters of other scripts are drawn as themselves: not as escapes, and not all as the same box."""
    letters = Lettering(15)
    assert letters.width("野花") < letters.width(r"\u91ce")
    assert not np.array_equal(_ink(letters, "野"), _ink(letters, "花"))
