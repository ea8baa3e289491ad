"""What to type in another tool to read one version of a dataset: `ray-prep files --format`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from ray_prep.errors import RecipeError, did_you_mean
from ray_prep.storage import scheme_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray_prep.dataset.dataset import Dataset

Format = Literal["paths", "duckdb", "polars", "hf"]
FORMATS: tuple[Format, ...] = get_args(Format)


def file_calls(dataset: Dataset, format: str = "paths") -> str:
    """Return text that reads exactly this version: its own files by name, never the folder, where older ones may lie beside them.

    `split` is not in the files; each call adds it. Credentials are not part of the text: the tools find them as ray_prep does.

    Args:
        dataset: What `open` gave.
        format: `paths` (a file a line), `duckdb` (SQL), `polars` or `hf` (Python).

    Raises:
        RecipeError: There is no such format.
    """
    if format not in _CALLS:
        msg = f"format: there is no {format!r}{did_you_mean(format, _CALLS)}; there are {', '.join(_CALLS)}"
        raise RecipeError(msg)
    return _CALLS[format](dataset)


def _paths(dataset: Dataset) -> str:
    return "".join(f"{file}\n" for file in dataset.files)


def _duckdb(dataset: Dataset) -> str:
    columns = ", ".join(_sql_name(name) for name in dataset.schema.names)
    parts = []
    for split, files in _by_split(dataset).items():
        rows = f"SELECT *, {_sql(split)} AS split\n  FROM read_parquet([\n{_lines(files, _sql_file)}  ], hive_partitioning = false)"
        parts.append(f"SELECT {columns}\nFROM ({rows})\n")
    return _duckdb_secret(dataset) + "UNION ALL\n".join(parts) + ";\n"


def _duckdb_secret(dataset: Dataset) -> str:
    if scheme_of(dataset.uri) != "s3":
        return ""
    options = dataset.options
    bucket = dataset.uri.split("/")[2]
    keys = ["TYPE s3", "PROVIDER config" if options.anonymous else "PROVIDER credential_chain"]
    if options.profile:
        keys += [f"PROFILE {_sql(options.profile)}"]
    if options.region:
        keys += [f"REGION {_sql(options.region)}"]
    if options.endpoint:
        scheme, _, host = options.endpoint.partition("://")
        keys += [f"ENDPOINT {_sql(host.rstrip('/'))}", "URL_STYLE 'path'", f"USE_SSL {'true' if scheme == 'https' else 'false'}"]
    keys += [f"SCOPE {_sql(f's3://{bucket}')}"]
    return f"INSTALL httpfs; LOAD httpfs; INSTALL aws; LOAD aws;\nCREATE OR REPLACE SECRET ray_prep ({', '.join(keys)});\n"


def _polars(dataset: Dataset) -> str:
    options = dataset.options
    given = {
        "aws_endpoint_url": options.endpoint,
        "aws_region": options.region,
        "aws_profile": options.profile,
        "aws_skip_signature": "true" if options.anonymous else None,
        "aws_allow_http": "true" if options.allow_http else None,
    }
    keys = {name: value for name, value in given.items() if value} if scheme_of(dataset.uri) == "s3" else {}
    how = "glob=False, hive_partitioning=False" + (f", storage_options={keys!r}" if keys else "")
    parts = [
        f"        pl.scan_parquet([\n{_lines(files, repr, 12)}        ], {how}).with_columns(split=pl.lit({split!r})),\n"
        for split, files in _by_split(dataset).items()
    ]
    return f"import polars as pl\n\nrows = pl.concat(\n    [\n{''.join(parts)}    ]\n).select({dataset.schema.names!r})\n"


def _hf(dataset: Dataset) -> str:
    options = dataset.options
    client = {name: value for name, value in (("endpoint_url", options.endpoint), ("region_name", options.region)) if value}
    given = {"client_kwargs": client, "profile": options.profile, "anon": options.anonymous}
    keys = {name: value for name, value in given.items() if value} if scheme_of(dataset.uri) == "s3" else {}
    names: dict[str, list[str]] = {}
    for split, files in _by_split(dataset).items():
        name = split.replace("-", "_")  # Hugging Face takes letters, digits and _ in the name of a split
        while name in names:
            name += "_"
        names[name] = files
    parts = [f"        {name!r}: [\n{_lines(files, lambda file: repr(_unglobbed(file)), 12)}        ],\n" for name, files in names.items()]
    more = f"    storage_options={keys!r},\n" if keys else ""
    return f'import datasets\n\nrows = datasets.load_dataset(\n    "parquet",\n    data_files={{\n{"".join(parts)}    }},\n{more})\n'


def _by_split(dataset: Dataset) -> dict[str, list[str]]:
    files: dict[str, list[str]] = {}
    for shard in dataset.shards:
        files.setdefault(shard.split, []).append(dataset.store.uri_of(shard.path))
    if not files:
        msg = f"{dataset.uri}: version {dataset.version} has no files to read"
        raise RecipeError(msg)
    return files


def _lines(files: list[str], quoted: Callable[[str], str], indent: int = 4) -> str:
    return "".join(f"{' ' * indent}{quoted(file)},\n" for file in files[:-1]) + f"{' ' * indent}{quoted(files[-1])}\n"


def _sql(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _sql_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _sql_file(file: str) -> str:
    return _sql(_unglobbed(file))


def _unglobbed(file: str) -> str:
    """Return a path as a pattern that means itself and nothing else."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in file)


_CALLS: dict[str, Callable[[Dataset], str]] = {"paths": _paths, "duckdb": _duckdb, "polars": _polars, "hf": _hf}
