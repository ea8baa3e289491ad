"""Whatever a file is called, a terminal prints it as a name."""

from __future__ import annotations

import pytest

from ray_prep.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat/größe 1.jpg", "cat/größe 1.jpg"),
        ("家族👨\u200d👩.jpg", "家族👨\u200d👩.jpg"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\tb\r\nc", "a\\tb\\r\\nc"),
        ("\x9bx\x7f\x00", "\\x9bx\\x7f\\x00"),
        ("gpj.\u202ea", "gpj.\\u202ea"),
        ("a\u2028b\udcff", "a\\u2028b\\udcff"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    """Escape sequences, ends of lines, what turns the direction of writing, and halves of characters; all other text stays."""
    assert printable(text) == shown
    shown.encode()


def test_ends_of_lines_may_stay() -> None:
    """In a text of lines."""
    assert printable("a\nb\tc\x07", kept="\n") == "a\nb\\tc\\x07"
