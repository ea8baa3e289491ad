"""The file that `--json` names: what a command has found or done, for a program; `-` is standard output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ray_prep.errors import RecipeError

STANDARD_OUTPUT = Path("-")


def check_json_file(path: Path | None) -> None:
    """Refuse a place that cannot be written before a build of hours, not after; what an earlier run left there is not this one's.

    Raises:
        RecipeError: There is no such folder, or it is one.
    """
    if path is None or path == STANDARD_OUTPUT:
        return
    if not path.parent.is_dir():
        raise RecipeError(f"--json {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise RecipeError(f"--json {path}: is a folder; name a file")
    if path.suffix == ".json":
        path.unlink(missing_ok=True)


def json_text(data: dict[str, Any]) -> str:
    """Return what stands in it."""
    return json.dumps(data, indent=2)


def write_json_file(path: Path, data: dict[str, Any]) -> None:
    """Write it."""
    path.write_text(json_text(data) + "\n", encoding="utf-8")
