"""The file that `--json` names: what a command has found or done, for a program."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ray_prep.errors import RecipeError

if TYPE_CHECKING:
    from pathlib import Path


def check_json_file(path: Path | None) -> None:
    """Refuse a place that cannot be written before a build of hours, not after; what an earlier run left there is not this one's.

    Raises:
        RecipeError: There is no such folder, or it is one.
    """
    if path is None:
        return
    if not path.parent.is_dir():
        raise RecipeError(f"--json {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise RecipeError(f"--json {path}: is a folder; name a file")
    if path.suffix == ".json":
        path.unlink(missing_ok=True)


def write_json_file(path: Path | None, data: dict[str, Any]) -> None:
    """Write it, if one is wanted."""
    if path is not None:
        path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
