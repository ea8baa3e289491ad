"""The entry point of a Ray job: `ray job submit … -- python jobs/build.py RECIPE [options of ray-prep build]`.

It joins the cluster that runs the job and ends with the build's exit code.
"""

from __future__ import annotations

import signal
import sys

from ray_prep.cli import run, stop_on_signal

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop_on_signal)
    sys.exit(run(["build", "--engine", "ray", *sys.argv[1:]]))
