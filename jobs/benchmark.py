"""How fast ray_prep is, beside the least and the usual way to do the same: `python jobs/benchmark.py photos`.

Four commands turn the same 500 x 375 JPEG files into 224 x 224 RGB pixels in Parquet (short side 256 by INTER_AREA, centre crop):

    bare        one process a core, OpenCV and pyarrow, no framework (jobs/bare_loop.py)
    local, ray  `ray-prep build` with either engine
    ray-data    Ray Data alone: read_images -> map -> write_parquet (jobs/plain_ray_data.py)

Each is started anew as a whole command, all of them in turn in every run, in another order each time; ratios are taken within a run.
`ray` and `ray-data` each start a local Ray of their own; with `--cluster` they join one that is there, as a job on a cluster does.
A build's shards are on disk when it ends; with `--fsync` the bare loop's files are, too, and not only in the page cache.
`whole` counts from the start of the command to its end; `running` leaves out what comes before the first image and after the last
file: it is what a build of millions of images tends to. How CPU time and memory are measured: jobs/process_tree.py.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
from photo_collection import mean_bytes, photo_collection
from process_tree import Measurement, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_JOBS = Path(__file__).resolve().parent
_REPOSITORY = _JOBS.parent
_CLUSTER_START_S = 12.0
CONTENDERS = ("bare", "local", "ray", "ray-data")


@dataclass(frozen=True, slots=True)
class Result:
    """One command of one run.

    Args:
        images: How many it was given.
        measured: What it cost.
        run_s: Seconds of its running part; None where it does not tell.
    """

    images: int
    measured: Measurement
    run_s: float | None

    @property
    def whole_rate(self) -> float:
        """Images a second, from the start of the command to its end."""
        return self.images / self.measured.wall_s

    @property
    def running_rate(self) -> float:
        """Images a second of the running part; not a number where it is unknown."""
        return self.images / self.run_s if self.run_s else float("nan")

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds an image, start-up included."""
        return self.measured.cpu_s * 1000 / self.images


def main() -> int:
    """Read the arguments, run the benchmark, print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=["photos"])
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes; all cores by default")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "ray_prep-benchmark", help="photos are kept there")
    parser.add_argument("--cluster", action="store_true", help="start one Ray for all commands, which they join")
    parser.add_argument("--fsync", action="store_true", help="have the bare loop end with its files on disk, as a build does")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME", help=", ".join(CONTENDERS))
    given = parser.parse_args()
    folder = given.folder.resolve()
    photos = photo_collection(folder, given.images, given.workers)
    _say(f"{given.images} photos of {mean_bytes(photos) / 1000:.0f} kB, {given.workers} workers, {given.runs} runs\n")
    names = [name for name in CONTENDERS if name in given.only]
    results: dict[str, list[Result]] = {name: [] for name in names}
    with cluster(given.workers, folder) if given.cluster else nullcontext() as address:
        for run in range(given.runs):
            turn = run % len(names)
            for name in names[turn:] + names[:turn]:
                result = contend(name, photos, folder / "out", given.images, given.workers, address, fsync=given.fsync)
                results[name].append(result)
                _say(f"run {run + 1}  {name:<9} {result.measured.wall_s:6.1f} s  {result.whole_rate:6.0f} images/s\n")
    _say("\n" + table(results) + ("\n" + ratios(results) if len(names) > 1 else ""))
    return 0


@contextmanager
def cluster(workers: int, folder: Path) -> Iterator[str]:
    """Run a Ray of one node while the context lasts, and yield its address; CPU time of its workers is not any command's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--include-dashboard=false"]
    command += [f"--num-cpus={workers}", f"--port={port}", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # one for all commands
    # Started by a shell that ends at once, it is no descendant of ours, and `measure` neither counts nor stops it.
    script = 'setsid "$@" >"$0" 2>&1 & echo $!'
    started = subprocess.run(["sh", "-c", script, str(folder / "cluster.txt"), *command], stdout=subprocess.PIPE, check=True)
    head = int(started.stdout)
    try:
        time.sleep(_CLUSTER_START_S)
        yield f"127.0.0.1:{port}"
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(head, number)
                time.sleep(3)


def contend(name: str, photos: Path, folder: Path, images: int, workers: int, address: str | None = None, *, fsync: bool = False) -> Result:
    """Run one command on an empty folder, prove that it did the work, and return what it cost.

    Args:
        name: The command.
        photos: What it is given.
        folder: Where it works; it is emptied.
        images: How many files there are.
        workers: Processes.
        address: A cluster that Ray's commands join; None: they start their own.
        fsync: Whether the bare loop ends with its files on disk.

    Raises:
        SystemExit: It failed, or left another number of rows than images; its last lines are shown.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    target, report, log = folder / "target", folder / "report.json", folder / "log.txt"
    command = _command(name, photos, target, report, workers)
    command += ["--fsync"] if fsync and name == "bare" else []
    for photo in os.scandir(photos):  # the page cache is warm for everybody
        Path(photo.path).read_bytes()
    os.sync()  # what the one before wrote is on disk
    search_path = os.pathsep.join([str(_REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": search_path, "RAY_USAGE_STATS_ENABLED": "0"}
    if address and name in ("ray", "ray-data"):
        environment["RAY_ADDRESS"] = address
    measured = measure(command, log, environment, _REPOSITORY)
    if measured.exit_code != 0:
        sys.exit(f"{name} ended with {measured.exit_code}:\n{log.read_text(errors='replace')[-2000:]}")
    rows = sum(pq.read_metadata(path).num_rows for path in target.rglob("*.parquet") if "_ray_prep" not in path.parts)
    if rows != images:
        sys.exit(f"{name} left {rows} rows of {images} images:\n{log.read_text(errors='replace')[-2000:]}")
    told = json.loads(report.read_text(encoding="utf-8"))
    shutil.rmtree(folder)
    return Result(images, measured, told.get("run_seconds"))


def _command(name: str, photos: Path, target: Path, report: Path, workers: int) -> list[str]:
    if name in ("bare", "ray-data"):
        script = _JOBS / ("bare_loop.py" if name == "bare" else "plain_ray_data.py")
        return [sys.executable, str(script), str(photos), str(target), "--workers", str(workers), "--json", str(report)]
    recipe = target.with_name("recipe.yaml")
    recipe.write_text(  # JSON is YAML
        json.dumps(
            {
                "name": "benchmark",
                "source": {"uri": str(photos), "layout": "files"},
                "preprocess": [{"resize": {"short_side": 256, "interpolation": "area"}}],
                "finish": [{"center_crop": {"height": 224, "width": 224}}],
                "output": {"uri": str(target)},
            }
        ),
        encoding="utf-8",
    )
    build = [sys.executable, "-m", "ray_prep.cli", "build", str(recipe)]
    return [*build, "--engine", name, "--workers", str(workers), "--json", str(report)]


def table(results: dict[str, list[Result]]) -> str:
    """Return one line a command: the smallest, middle and largest of its runs."""
    columns: tuple[tuple[str, Callable[[Result], float], str], ...] = (
        ("wall s", lambda result: result.measured.wall_s, ".1f"),
        ("images/s whole", lambda result: result.whole_rate, ".0f"),
        ("images/s running", lambda result: result.running_rate, ".0f"),
        ("CPU ms/image", lambda result: result.cpu_ms, ".2f"),
    )
    lines = [
        f"{'min / median / max':<20}" + "".join(f"{heading:>24}" for heading, _, _ in columns) + f"{'largest process MB':>30}{'sum MB':>9}"
    ]
    for name, runs in results.items():
        cells = "".join(f"{_spread([number(run) for run in runs], form):>24}" for _, number, form in columns)
        largest = max((run.measured for run in runs), key=lambda measured: measured.largest_bytes)
        biggest = f"{largest.largest_bytes / 1e6:.0f} ({largest.largest_name})"
        lines.append(f"{name:<20}{cells}{biggest:>30}{max(run.measured.sum_bytes for run in runs) / 1e6:>9.0f}")
        survivors = sum(run.measured.survivors for run in runs)
        if survivors:
            lines.append(f"{'':<20}{survivors} processes had to be stopped after it")
    return "\n".join(lines) + "\n"


def ratios(results: dict[str, list[Result]]) -> str:
    """Return how many times as fast each command was as the two it is compared with, run by run."""
    lines = [f"{'times as fast, min / median / max':<36}{'whole command':>24}{'running part':>24}"]
    for reference in ("bare", "ray-data"):
        for name in results:
            if name == reference or reference not in results:
                continue
            pairs = list(zip(results[name], results[reference], strict=True))
            whole = _spread([one.whole_rate / other.whole_rate for one, other in pairs], ".2f")
            running = _spread([one.running_rate / other.running_rate for one, other in pairs], ".2f")
            lines.append(f"{name + ' / ' + reference:<36}{whole:>24}{running:>24}")
    return "\n".join(lines) + "\n"


def _spread(numbers: Sequence[float], form: str) -> str:
    if any(isnan(number) for number in numbers):
        return "-"
    return " / ".join(format(number, form) for number in (min(numbers), median(numbers), max(numbers)))


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
