"""How a process that works on pictures is set up: one thread, and the same arithmetic everywhere."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING

import cv2
import pyarrow as pa
from PIL import AvifImagePlugin

from ray_prep.image.allocation import keep_large_buffers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


def settle_process() -> None:
    """Make this process compute like every other worker.

    One thread in OpenCV, Arrow and Pillow's AVIF decoder, as a worker owns one core; no IPP in OpenCV, which chooses its arithmetic by
    CPU (4.x and 5.0: INTER_CUBIC differs between machines); large buffers kept instead of mapped anew for each picture.
    """
    cv2.setNumThreads(0)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    with suppress(AttributeError):  # builds without IPP have no such module
        cv2.ipp.setUseIPP(False)
    pa.set_cpu_count(1)
    keep_large_buffers()


def spare_pandas() -> None:
    """Keep Arrow from importing pandas, which takes half a second and 60 MB, to look whether a list of ours belongs to it.

    For worker processes alone: Arrow (26) decides once, at its first list, whether there is a pandas; a `python` step may still import it.
    """
    if "pandas" not in sys.modules:
        refusal = _NoPandas()
        sys.meta_path.insert(0, refusal)
        pa.array([0])
        sys.meta_path.remove(refusal)


class _NoPandas(MetaPathFinder):
    """Finds every module where it is, but says that there is no pandas."""

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> None:
        if name == "pandas":
            msg = "kept from being imported by Arrow"
            raise ImportError(msg)
