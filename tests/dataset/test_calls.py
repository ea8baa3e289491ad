from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ray_prep.dataset.calls import FORMATS, file_calls
from ray_prep.dataset.dataset import Dataset
from ray_prep.dataset.reader import open as open_dataset
from ray_prep.dataset.table import commit
from ray_prep.errors import RecipeError
from ray_prep.storage import StorageOptions

# Runs in CI, not on every save.
pytestmark = pytest.mark.slow

Make = Callable[..., Any]
# What globs, hive partitioning, SQL and Python each make something of.
NAMES = pytest.mark.parametrize("name", ["table", "a=1", "b[1]*?", 'it\'s "q"', "größe #%"])


@pytest.fixture
def opened(a_table: Make, name: str) -> Dataset:
    """A table of two splits of which one shard was replaced, with the old one still beside it."""
    made = a_table(name=name)
    dataset = open_dataset(made.uri)
    if dataset.version == 0:
        commit(made.uri, StorageOptions(), made.schema, 0, [], [made.shards[1].path], "_ray_prep/builds/b1/record.json")
        dataset = open_dataset(made.uri)
    return dataset


def expected(dataset: Dataset) -> list[dict[str, Any]]:
    """Return the rows in the order of their keys."""
    return sorted(dataset.to_arrow().to_pylist(), key=lambda row: row["key"])


@NAMES
def test_paths_are_the_versions_files(opened: Dataset) -> None:
    """A file a line, none of an older version."""
    lines = file_calls(opened).splitlines()
    assert lines == opened.files
    assert len(lines) == 2
    assert all(Path(line).is_file() for line in lines)


@NAMES
def test_the_call_for_duckdb_runs(opened: Dataset) -> None:
    """Every column of every row of this version, the split as text."""
    duckdb = pytest.importorskip("duckdb")
    rows = duckdb.connect().sql(file_calls(opened, "duckdb"))
    assert rows.columns == opened.schema.names
    assert sorted((dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()), key=lambda row: row["key"]) == expected(opened)


@NAMES
def test_the_call_for_polars_runs(opened: Dataset) -> None:
    """Every column of every row of this version."""
    pytest.importorskip("polars")
    names: dict[str, Any] = {}
    exec(file_calls(opened, "polars"), names)
    assert names["rows"].sort("key").collect().to_dicts() == expected(opened)


@pytest.mark.parametrize("name", ["table", "b[1]*?"])
def test_the_call_for_hugging_face_runs(opened: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A split each, and the rows of this version."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    names: dict[str, Any] = {}
    exec(file_calls(opened, "hf"), names)
    rows = [{**row, "split": split} for split, part in names["rows"].items() for row in part]
    assert sorted(rows, key=lambda row: row["key"]) == expected(opened)


@pytest.mark.parametrize("name", ["table"])
def test_calls_for_a_store_say_how_it_is_reached_and_hold_no_secret(opened: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe's keys in each tool's words; credentials stay in the environment; splits that Hugging Face would confuse stay apart."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecretkey")
    shards = tuple(replace(shard, split=split) for shard, split in zip(opened.shards, ("a-b", "a_b"), strict=True))
    options = StorageOptions(endpoint="http://store:9000", region="eu-1", allow_http=True)
    dataset = replace(opened, uri="s3://bucket/data", options=options, shards=shards)
    texts = {format: file_calls(dataset, format) for format in FORMATS}
    for format, text in texts.items():
        assert "s3://bucket/data/split=" in text
        assert "AKID" not in text
        assert "secretkey" not in text
        if format in {"polars", "hf"}:
            compile(text, format, "exec")
    assert "ENDPOINT 'store:9000', URL_STYLE 'path', USE_SSL false" in texts["duckdb"]
    assert "PROVIDER credential_chain" in texts["duckdb"]
    assert "'aws_endpoint_url': 'http://store:9000'" in texts["polars"]
    assert "'endpoint_url': 'http://store:9000'" in texts["hf"]
    assert "'a_b': [" in texts["hf"]
    assert "'a_b_': [" in texts["hf"]


@pytest.mark.parametrize("name", ["table"])
def test_an_unknown_format_and_an_empty_version_are_refused(opened: Dataset) -> None:
    """With what there is."""
    with pytest.raises(RecipeError, match="no 'polar'; did you mean 'polars'"):
        file_calls(opened, "polar")
    with pytest.raises(RecipeError, match="has no files"):
        file_calls(replace(opened, shards=()), "duckdb")
    assert file_calls(replace(opened, shards=())) == ""
