"""What the bytes of a shard depend on beside recipe and images: library versions, the CPU's level, and how workers are set up."""

from __future__ import annotations

import platform as host
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

# x86-64-v3 as the psABI defines it; `abm` is how Linux spells lzcnt.
_V3_FLAGS = frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"})

_PACKAGES = ("albumentations", "numpy", "opencv-python-headless", "pillow", "pyarrow", "ray-prep")


def cpu_level() -> str:
    """Return `x86-64-v3`, `x86-64-v2` or `aarch64`: builds on one level make the same bytes.

    AVX-512 counts as v3: workers keep numpy from using it (see `worker_environment`).
    """
    machine = host.machine().lower()
    if machine in {"arm64", "aarch64"}:
        return "aarch64"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return "x86-64-v2"
    flags = next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), set[str]())
    return "x86-64-v3" if flags >= _V3_FLAGS else "x86-64-v2"


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that pixels and files come from, by package name."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout, or OpenCV came under another package's name
            continue
    return found


@cache
def made_with() -> dict[str, str]:
    """Return all that pixels and files come from beside recipe and images: library versions and the CPU's level; looked up once."""
    return {"cpu_level": cpu_level(), **library_versions()}


def worker_environment() -> dict[str, str]:
    """Return the environment variables a worker process must start with.

    One thread for the maths libraries (a worker owns one core); no update check by Albumentations; and none of numpy's AVX-512 loops, whose
    sums differ from AVX2 in the last bit. numpy reads its variable once, at import, and warns of names it does not know, so only those that
    this numpy found on this CPU are named.
    """
    found = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])
    wide = [name for name in found if name.startswith(("X86_V4", "AVX512"))]
    variables = {
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    if wide:
        variables["NPY_DISABLE_CPU_FEATURES"] = " ".join(wide)
    return variables
