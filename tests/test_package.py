"""The surface: what `import ray_prep` shows and costs, and how its modules are kept."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ray_prep

ROOT = Path(ray_prep.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
HEAVY = ("numpy", "pyarrow", "cv2", "ray", "albumentations", "deltalake", "pydantic", "PIL", "torch", "obstore", "s3fs", "fsspec", "polars")
# One story told in order; they must not grow.
FORBIDDEN = ("util", "helper", "common", "manager", "handler", "core", "misc", "processor")


def test_every_public_name_is_there() -> None:
    """`__all__` is complete and sorted, and each of its names can be had."""
    assert sorted(ray_prep.__all__) == ray_prep.__all__
    for name in ray_prep.__all__:
        assert getattr(ray_prep, name).__name__ == name
    assert set(ray_prep.__all__) <= set(dir(ray_prep))
    assert {"Recipe", "build", "open", "BuildReport", "Dataset", "RayPrepError"} <= set(ray_prep.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ray_prep.nothing


def test_build_stays_the_function() -> None:
    """Importing the module of the same name does not hide the function."""
    import ray_prep.build

    assert callable(ray_prep.build)
    assert ray_prep.open is not open


def test_importing_is_light() -> None:
    """`import ray_prep` loads nothing heavy, starts nothing, and costs little CPU."""
    program = (
        "import sys, time, threading; began = time.process_time(); import ray_prep; spent = time.process_time() - began;"
        f"print(spent, threading.active_count(), *[name for name in {HEAVY} if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment).stdout.split()
    assert float(output[0]) < 0.3
    assert output[1:] == ["1"]


@pytest.mark.slow
def test_a_recipe_is_loaded_without_ray() -> None:
    """Neither recipes nor builds nor readers import Ray or torch."""
    program = "import sys, ray_prep; ray_prep.Recipe, ray_prep.build, ray_prep.open; print(*{'ray', 'torch'} & sys.modules.keys())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent), "NO_ALBUMENTATIONS_UPDATE": "1"}
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment).stdout.split() == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_small_named_and_described(path: Path) -> None:
    """At most 350 lines, a docstring, a name of the field; imports are absolute; `except Exception` gives its reason."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 350
    assert ast.get_docstring(tree)
    assert not [word for word in FORBIDDEN if word in path.stem.split("_") or f"{word}s" in path.stem.split("_")]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
    for line in text.splitlines():
        if line.lstrip().startswith("except Exception"):
            assert "noqa: BLE001  " in line or path.name in {"cli.py", "python_step.py", "table.py"}, line


def test_every_module_has_its_place() -> None:
    """Each module at the root stands in the layers that import-linter enforces, and no layer is empty."""
    import tomllib

    file = ROOT.parent / "pyproject.toml"
    if not file.exists():
        pytest.skip("installed without its source")
    contracts = tomllib.loads(file.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    placed = [name.strip() for layer in layers for name in layer.split("|")]
    here = {
        path.stem if path.is_file() else path.name for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert sorted(placed) == sorted(here - {"__init__"})
