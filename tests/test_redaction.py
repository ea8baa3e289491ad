"""Secrets reach no message, whoever wrote them where."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from ray_prep.cli import run
from ray_prep.errors import Damaged, RecipeError
from ray_prep.recipe import Recipe
from ray_prep.redaction import clean_uri, redact

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/data/photos", "/data/photos"),
        ("https://user:pass@host/a.jpg", "https://host/a.jpg"),
        ("https://host/a.jpg?X-Amz-Signature=1&X-Amz-Credential=2&size=3", "https://host/a.jpg?size=3"),
        ("https://h.blob.core.windows.net/c/a.jpg?sv=1&sig=abc", "https://h.blob.core.windows.net/c/a.jpg?sv=1"),
        ("https://host/a.jpg?Signature=a&AWSAccessKeyId=b", "https://host/a.jpg"),
        ("https://host/a.jpg?token=x#top", "https://host/a.jpg#top"),
        ("https://host/a@b.jpg", "https://host/a@b.jpg"),
        ("s3://key:secret@bucket/a", "s3://bucket/a"),
        ("s3://key:sec/ret@bucket/a", "s3://bucket/a"),
        ("http://host:8080/a@b.jpg", "http://host:8080/a@b.jpg"),
        ("http://host:/a@b.jpg", "http://host:/a@b.jpg"),
        ("http://[::1]/a@b.jpg", "http://[::1]/a@b.jpg"),
        ("http://[::1]:80/a@b.jpg", "http://[::1]:80/a@b.jpg"),
        ("s3://bucket/q?x=1&y.jpg", "s3://bucket/q?x=1&y.jpg"),
        ("abfss://container@account.dfs.core.windows.net/a", "abfss://container@account.dfs.core.windows.net/a"),
    ],
)
def test_secrets_are_cut_from_uris(given: str, kept: str) -> None:
    """Userinfo and signature parameters go; everything else stays as it is written."""
    assert clean_uri(given) == kept


def test_secrets_are_cut_from_any_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uris within a message, named keys, and what the environment holds."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    text = "GET https://u:p@host/x?X-Amz-Signature=abc&a=1 failed; secret_access_key: hidden; signed with wJalrXUtnFEMI; token=zzz"
    assert redact(text) == "GET https://host/x?a=1 failed; secret_access_key: …; signed with …; token=…"
    assert redact("s3:/key:hidden@bucket/x.yaml: no file; file:///key:hidden@host/x") == "s3:/bucket/x.yaml: no file; file:///host/x"
    assert redact("/data/a:b@c/d.jpg and s3://bucket/a@b.jpg") == "/data/a:b@c/d.jpg and s3://bucket/a@b.jpg"
    given = "{'access_key_id': 'AKIA1', 'secret_access_key': 'hidden', 'n': 1}"
    assert redact(given) == "{'access_key_id': '…', 'secret_access_key': '…', 'n': 1}"
    assert redact("key=x;secret=hidden;password=hidden") == "key=x;secret=…;password=…"


def test_a_long_word_takes_no_longer_than_others() -> None:
    """A value of a megabyte in a recipe is no reason to wait: ten times the text takes some ten times as long, and not a hundred."""

    def seconds(count: int) -> float:
        begin = time.perf_counter()
        redact("a" * count)
        return time.perf_counter() - begin

    assert min(seconds(100_000) for _ in range(3)) < 40 * min(seconds(10_000) for _ in range(9))


@pytest.mark.parametrize(
    "text", ["recipe.storage_options.token: unknown key", "/data/token=5/a b.jpg: not there", "Unexpected token : foo", "the signature: 3"]
)
def test_our_own_words_stay(text: str) -> None:
    """A field may be called `token`, and so may a folder: only a uri's secrets are cut from what we say ourselves."""
    assert str(RecipeError(text)) == text


def test_errors_have_no_secrets() -> None:
    """Neither by their text nor by how it is made: a mistake of whoever raises them shows nothing."""
    assert str(RecipeError("s3://key:hidden@bucket: is wrong")) == "s3://bucket: is wrong"
    assert "hidden" not in str(Damaged("s3://key:hidden@bucket/x", "is gone"))


@pytest.mark.parametrize(
    "source",
    [
        {"uri": "file://key:hidden@host/x"},
        "s3://key:hidden@bucket",
        ["s3://key:hidden@bucket"],
        {"uri": ["s3://key:" + 20 * "hidden" + "@bucket"]},
        {"uri": "/x", "https://key:hidden@host": 1},
        {"uri": "/x", "layout": "s3://key:hidden@bucket"},
    ],
)
def test_a_wrong_recipe_is_told_without_its_secrets(source: object, tmp_path: Path) -> None:
    """What was given is repeated, as far as anybody may see it."""
    with pytest.raises(RecipeError) as caught:
        Recipe.parse({"name": "x", "source": source, "output": {"uri": str(tmp_path / "out")}}).source.items({})  # type: ignore[arg-type]
    assert "source" in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("arguments", [["s3://key:hidden@bucket/x.yaml"], ["x.yaml", "--json", "https://key:hidden@host/x.json"]])
def test_arguments_are_told_without_their_secrets(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A uri where a path is wanted, too."""
    assert run(["build", *arguments]) in (2, 3)
    err = capsys.readouterr().err
    assert err
    assert "hidden" not in err
