"""How a process that works on pictures is set up: one thread, and the same arithmetic everywhere."""

from __future__ import annotations

import sys
from contextlib import suppress

import cv2
import pyarrow as pa
from PIL import AvifImagePlugin

from ray_prep.image.allocation import keep_large_buffers


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
        sys.modules["pandas"] = None  # type: ignore[assignment]  # how Python is told that an import fails
        pa.array([0])
        del sys.modules["pandas"]
