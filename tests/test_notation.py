"""A recipe's text becomes plain data, or an error that says where, and quotes nothing that may be secret."""

from __future__ import annotations

import pytest

from ray_prep.errors import RecipeError
from ray_prep.notation import quoted, read_yaml


def _refused(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read_yaml(text, "r.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1\nname: x\nseed: 2\n", "r.yaml: seed: stands there twice, in lines 1 and 3; keep one of them"),
        ("augment:\n  copies: 1\n  'copies': 2\n", "r.yaml: augment.copies: stands there twice, in lines 2 and 3; keep one of them"),
        ("a:\n- b: 1\n- c: {d: 1, e: [1, {f: 1, f: 2}]}\n", "r.yaml: a[1].c.e[1].f: stands there twice, in line 3; keep one of them"),
        ("x: {1: a, '1': b}", "r.yaml: x.1: stands there twice, in line 1; keep one of them"),
    ],
)
def test_a_key_that_comes_twice(text: str, said: str) -> None:
    """At any depth, also in lists: key, path and both lines are named."""
    assert _refused(text) == said


def test_keys_are_texts_as_they_are_written() -> None:
    """A split may be called `yes`, a column `no` or 2024-01-01; values are what YAML makes of them."""
    text = "split: {yes: 0.5, no: 0.5}\ncolumns: {off: int32, 2024-01-01: string, 0x10: x, ~: y, 1e3: 1e3}\n'on': on\n"
    assert read_yaml(text, "r.yaml") == {
        "split": {"yes": 0.5, "no": 0.5},
        "columns": {"off": "int32", "2024-01-01": "string", "0x10": "x", "~": "y", "1e3": "1e3"},
        "on": True,
    }


def test_globs_need_quotes() -> None:
    """YAML takes `**/*.png` for an alias."""
    assert "a text that begins with * has to be in quotes" in _refused("include: [**/*.png]")


@pytest.mark.parametrize(
    "text", ["/a/b", "/a #b", "/k: v", "*", "{date}", "yes", "1", "a\nb", "ü", "'", '"x"', " a ", "", "@", "- a", "~", "2024-13-01", "\a"]
)
def test_a_text_is_read_back(text: str) -> None:
    """With quotes where it needs them."""
    assert read_yaml(f"key: {quoted(text)}", "r.yaml") == {"key": text}
    assert quoted("/data/my pictures") == "/data/my pictures"


def test_anchors_and_merge_keys() -> None:
    """A mapping's own keys go before those that it merges, and mappings in a list go in turn: no key comes twice by that."""
    text = """
    base: &base {a: 1, b: 2}
    outer:
      inner: &inner {<<: *base, b: 3, c: 4}
    other: {<<: [*inner, *base], c: 5}
    same: *inner
    """
    inner = {"a": 1, "b": 3, "c": 4}
    assert read_yaml(text, "r.yaml") == {
        "base": {"a": 1, "b": 2},
        "outer": {"inner": inner},
        "other": {**inner, "c": 5},
        "same": inner,
    }
    assert read_yaml("", "r.yaml") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'storage_options: {secret: "hunter2 ',
            "not YAML: line 1, column 36: while scanning a quoted scalar, found unexpected end of stream",
        ),
        (
            "a: 1\nsecret: [hunter2\nb: 2\n",
            "not YAML: line 3, column 2: while parsing a flow sequence, expected ',' or ']', but got ':' (begun",
        ),
        ("secret: hunter2: x\n", "not YAML: line 1, column 16: mapping values are not allowed here"),
        ("secret: *hunter2\n", "not YAML: line 1, column 9: found undefined alias"),
        ("secret: !hunter2 x\n", "not YAML: line 1, column 9: could not determine a constructor for the tag"),
        ("a: &hunter2 1\nb: &hunter2 1\n", "found duplicate anchor"),
        ("secret: @hunter2\n", "found character '@' that cannot start any token"),
        ("\tsecret: hunter2\n", "found character '\\t' that cannot start any token"),
        ("a: 1\nsecret: hunter2\a\n", "not YAML: line 2, column 16: special characters are not allowed"),
        ("secret: !!int hunter2\n", "not YAML: line 1, column 9: there is no such date, time or number"),
        ("secret: 2024-13-01\n", "not YAML: line 1, column 9: there is no such date, time or number"),
        ("a: 1\n---\nsecret: hunter2\n", "expected a single document in the stream, but found another document"),
        ("[" * 1000, "not YAML: it is nested too deeply"),
    ],
)
def test_what_is_wrong_is_told_without_the_text(text: str, said: str) -> None:
    """Line, column and the problem; never what stands there."""
    message = _refused(text)
    assert said in message
    assert "hunter2" not in message
    assert len(message.splitlines()) == 1
