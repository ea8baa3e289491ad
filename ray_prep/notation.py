"""YAML as recipes are written in it: plain data, no key twice, and errors that quote nothing of the text, which may hold a secret."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from ray_prep.errors import RecipeError

# What a message of PyYAML may quote: the name of a token, or one character.
_HARMLESS = re.compile(r"'(?:<[a-z ]+>|\\?.|\\x[0-9a-f]{2})'")

# A glob without quotes.
_HINTS = {"while scanning an alias": "; a text that begins with * has to be in quotes"}


def read_yaml(text: str, place: str) -> Any:
    """Return the plain data that a text holds.

    Args:
        text: YAML.
        place: Where it stands, for messages.

    Raises:
        RecipeError: It is no YAML, or a mapping in it has a key twice, of which YAML's readers silently take the last.
    """
    try:
        # Of the safe loader's kind: it makes plain data alone.
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        raise RecipeError(f"{place}: {_told(error)}") from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        where = f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"
        raise RecipeError(f"{place}: not YAML: {where}: {error.reason}") from None
    except RecursionError:
        raise RecipeError(f"{place}: not YAML: it is nested too deeply") from None


def quoted(text: str) -> str:
    """Return a text as it stands behind a key: in quotes where YAML would read something else without."""
    try:
        is_plain = read_yaml(f"key: {text}", "") == {"key": text}
    except RecipeError:
        is_plain = False
    return text if is_plain else json.dumps(text)


class _KeyTwiceError(yaml.MarkedYAMLError):
    """A mapping has a key twice."""


class _Loader(yaml.SafeLoader):
    """The safe loader, which tells keys that come twice, and where values are that cannot be made."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._places: list[str] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node, knowing on the way where it stands."""
        place = f"[{index}]" if isinstance(index, int) else f".{index.value}" if isinstance(index, yaml.ScalarNode) else ""
        self._places.append(place)
        try:
            return super().compose_node(parent, index)
        finally:
            self._places.pop()

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping of keys that come once each; here, before merge keys (`<<`) bring others that its own go before."""
        node = super().compose_mapping_node(anchor)
        first: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            # By their text: `1` and `"1"` are one key once they are texts, as all of a recipe's are.
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.style is None:  # keys are texts: `yes`, `no` and `2024-01-01` too, as they are written
                key.tag = "tag:yaml.org,2002:str"
            if key.value in first:
                place = f"{''.join(self._places)}.{key.value}".lstrip(".")
                lines = dict.fromkeys((first[key.value].start_mark.line + 1, key.start_mark.line + 1))
                where = f"line{'s' if len(lines) > 1 else ''} {' and '.join(map(str, lines))}"
                raise _KeyTwiceError(problem=f"{place}: stands there twice, in {where}; keep one of them")
            first[key.value] = key
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002  PyYAML's signature
        """Make the object of a node; `2024-13-01` looks like a date and is none."""
        try:
            return super().construct_object(node, deep=deep)
        except ValueError:
            raise yaml.constructor.ConstructorError(None, None, "there is no such date, time or number", node.start_mark) from None


def _told(error: yaml.MarkedYAMLError) -> str:
    if isinstance(error, _KeyTwiceError):
        return str(error.problem)
    said = ", ".join(_harmless(text) for text in (error.context, error.problem) if text)
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    begun = error.context_mark
    since = f" (begun in line {begun.line + 1})" if begun and mark and begun.line != mark.line else ""
    return f"not YAML: {where}{said}{since}{_HINTS.get(error.context or '', '')}"


def _harmless(text: str) -> str:
    """Return a message of PyYAML up to where it quotes more of the text than a character: a tag's or an anchor's name."""
    if "'" in _HARMLESS.sub("", text):
        text = text.partition("'")[0]
    return " ".join(text.split())
