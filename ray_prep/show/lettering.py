"""Text on a picture: measured before it is drawn, so that none overflows, in any script."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from PIL import Image, ImageFont

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import ImageDraw

Color = tuple[int, int, int]
_ELLIPSIS = "…"
_MAX_LETTERS = 4000  # nobody reads more on a picture, and measuring it would take seconds
# Pieces that a line may end after: words, and the parts of a path or of a name in it; -11.9 is one piece.
_PIECES = re.compile(r"\s+|-?[^\s/_-]+[/_-]*|[/_-]+")
_MISSING = "\U0010fffd"  # a noncharacter's neighbour in a private plane: no font draws it
_Face = Literal["plain", "unicode"]


@dataclass(frozen=True, slots=True)
class Lettering:
    """One size and weight of text.

    ASCII and a few signs (`· … ° ±`) are in the font that Pillow carries. The rest is drawn in the Unicode font that
    OpenCV carries since 5.0; with an older OpenCV, and for what no font has, the character's escape is written instead.

    Args:
        size_px: Nominal height of the letters, pixels.
        is_bold: Whether strokes are thickened.
    """

    size_px: int
    is_bold: bool = False

    @property
    def line_px(self) -> int:
        """Distance from one line to the next, pixels."""
        return round(self.size_px * 1.4)

    def width(self, text: str) -> int:
        """Return the width of `text` on one line, pixels."""
        face, shown = _shown(text)
        if face == "unicode":
            return _unicode_mask(shown, self.size_px, self._weight).advance
        return int(np.ceil(_plain_font(self.size_px).getlength(shown) + 2 * self._stroke * len(shown)))

    def fit(self, text: str, width: int) -> str:
        """Return `text`, its end replaced by an ellipsis where it is wider than `width` pixels."""
        text = text[:_MAX_LETTERS]
        return _shortest(text, lambda kept: _head(text, kept), lambda cut: self.width(cut) <= width)

    def wrap(self, text: str, width: int, lines: int) -> list[str]:
        """Return `text` on at most `lines` lines of `width` pixels, an ellipsis at the end where it is too long.

        Args:
            text: White space of any kind counts as one space.
            width: Pixels; not less than one letter's.
            lines: At least 1.
        """
        text = text[:_MAX_LETTERS]
        return self._lines(_shortest(text, lambda kept: _head(text, kept), lambda cut: len(self._lines(cut, width, lines)) <= lines), width)

    def wrap_middle(self, text: str, width: int, lines: int = 1) -> list[str]:
        """Return `text` on at most `lines` lines of `width` pixels, an ellipsis in its middle where it is too long.

        Args:
            text: White space of any kind counts as one space.
            width: Pixels; not less than one letter's.
            lines: At least 1.
        """
        text = text if len(text) <= _MAX_LETTERS else text[: _MAX_LETTERS // 2] + text[-_MAX_LETTERS // 2 :]
        return self._lines(_shortest(text, lambda kept: _ends(text, kept), lambda cut: len(self._lines(cut, width, lines)) <= lines), width)

    def draw(self, canvas: ImageDraw.ImageDraw, x: int, y: int, text: str, color: Color) -> None:
        """Draw one line of text.

        Args:
            canvas: What to draw on; RGB.
            x: Left edge, pixels.
            y: Top of the line, pixels.
            text: What to write.
            color: Red, green, blue.
        """
        baseline = y + round(self.size_px * 1.05)
        face, shown = _shown(text)
        if face == "unicode":
            ink = _unicode_mask(shown, self.size_px, self._weight)
            canvas.bitmap((x, baseline - ink.above), Image.fromarray(ink.mask), fill=color)
        elif self.is_bold:
            # Letter by letter, each as much further as its strokes are thicker: they would touch otherwise.
            font = _plain_font(self.size_px)
            for index, letter in enumerate(shown):
                place = x + font.getlength(shown[:index]) + 2 * self._stroke * index
                canvas.text((place, baseline), letter, font=font, fill=color, anchor="ls", stroke_width=self._stroke)
        else:
            canvas.text((x, baseline), shown, font=_plain_font(self.size_px), fill=color, anchor="ls")

    @property
    def _stroke(self) -> float:
        """What bold adds around each letter, pixels; Pillow's font has one weight only."""
        return self.size_px / 56 if self.is_bold else 0.0

    @property
    def _weight(self) -> int:
        """OpenCV's number for the thickness of strokes."""
        return 600 if self.is_bold else 400

    def _lines(self, text: str, width: int, enough: int = _MAX_LETTERS) -> list[str]:
        """Return the lines of `text`, a piece wider than a line cut where the line ends; no more after `enough` are full."""
        lines, line = [], ""
        for piece in _PIECES.findall(" ".join(text.split())):
            if self.width((line + piece).rstrip()) <= width:
                line += piece
                continue
            if line.strip():
                lines.append(line.rstrip())
            line = piece.lstrip()
            while len(lines) <= enough and (kept := self._letters_within(line, width)) < len(line):
                lines.append(line[:kept])
                line = line[kept:]
            if len(lines) > enough:
                return lines
        return [*lines, line.rstrip()] if line.strip() else lines

    def _letters_within(self, line: str, width: int) -> int:
        """Return how many letters of `line` fit, at least one: one that is wider than the line stands alone."""
        if self.width(line) <= width:
            return len(line)
        return max(1, _largest(len(line), lambda count: self.width(line[:count]) <= width))


def _head(text: str, kept: int) -> str:
    return text[:kept].rstrip() + _ELLIPSIS


def _ends(text: str, kept: int) -> str:
    """Return both ends; the tail keeps more, since names end in what tells them apart."""
    head = kept * 2 // 5
    return text[:head] + _ELLIPSIS + text[len(text) - (kept - head) :]


def _shortest(text: str, cut: Callable[[int], str], fits: Callable[[str], bool]) -> str:
    """Return `text` where it fits, else the longest cut of it that does."""
    return text if fits(text) else cut(_largest(len(text) - 1, lambda kept: fits(cut(kept))))


def _largest(limit: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number up to `limit` that fits, by bisection; 0 where none does."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


@lru_cache(maxsize=256)
def _shown(text: str) -> tuple[_Face, str]:
    """Return the one font that a line is drawn in, and the line with escapes for what cannot be drawn."""
    faces = [_face(letter) for letter in text]
    shown = "".join(letter if face else _escape(letter) for letter, face in zip(text, faces, strict=True))
    return "unicode" if "unicode" in faces else "plain", shown


def _escape(letter: str) -> str:
    """Return the escape of a character, as Python writes it, in ASCII."""
    return letter.encode("unicode_escape").decode("ascii")


@lru_cache(maxsize=4096)
def _face(letter: str) -> _Face | None:
    """Return the font that has the character; None where none has, or where drawing it would mislead (controls, direction marks)."""
    if not letter.isprintable():
        return None
    font = _plain_font(15)
    if letter == " " or bytes(font.getmask(letter)) != bytes(font.getmask(_MISSING)):
        return "plain"
    if not hasattr(cv2, "FontFace"):
        return None
    drawn, absent = (_unicode_mask(text, 15, 400).mask for text in (letter, _MISSING))
    return None if np.array_equal(drawn, absent) else "unicode"


@lru_cache(maxsize=64)
def _plain_font(size_px: int) -> Any:
    return ImageFont.load_default(size=size_px)


@lru_cache(maxsize=1)
def _unicode_font() -> Any:
    return cv2.FontFace("sans")


@dataclass(frozen=True, slots=True, eq=False)
class _Ink:
    """One line drawn in the Unicode font: how much ink each pixel gets (0 … 255), rows above the baseline, pixels to the next letter."""

    mask: np.ndarray[Any, np.dtype[np.uint8]]
    above: int
    advance: int


@lru_cache(maxsize=512)
def _unicode_mask(line: str, size_px: int, weight: int) -> _Ink:
    """Return `line` drawn in the Unicode font."""
    above, below = round(size_px * 1.2), round(size_px * 0.5)
    face = _unicode_font()
    (advance, _), _ = cv2.putText(np.zeros((1, 1), np.uint8), line, (0, 0), 255, face, size_px, weight)
    mask = np.zeros((above + below, max(1, int(advance) + 1)), np.uint8)
    cv2.putText(mask, line, (0, above), 255, face, size_px, weight)
    return _Ink(mask, above, int(advance))
