"""Text as a terminal can take it: names and messages may hold whatever a file's bytes hold."""

from __future__ import annotations

import re

# Control characters, what turns the direction of writing, what other readers take for the end of a line, and halves of characters.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_NAMED = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}


def printable(text: str, *, kept: str = "") -> str:
    r"""Return a text with its control characters escaped as Python writes them: `\x1b`, `\n`, `\udcff`.

    Args:
        text: Of a file's name, a manifest or a foreign library's message.
        kept: Those that stay: the ends of lines of what is a text of lines.
    """
    return _CONTROL.sub(lambda match: match[0] if match[0] in kept else _escaped(match[0]), text)


def _escaped(character: str) -> str:
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
