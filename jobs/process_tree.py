"""A command measured with everything it starts: wall time, CPU time, memory. Linux only.

This process makes itself the reaper of its descendants, so that daemons which outlive the command (Ray's) come back here and are
waited for. CPU time is the larger of two counts: what the kernel adds up for reaped processes (exact, but blind to those whose
parent lets the kernel discard them, as some of Ray's), and the last reading of each process, five times a second (blind to its last
0.2 s). Memory is resident memory, shared pages counted once for every process that maps them: the peak that the kernel keeps for
each process, as last read, and the largest sum over all that was seen.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

SAMPLE_S = 0.2
_GRACE_S = 15.0
_PR_SET_CHILD_SUBREAPER = 36
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a command cost, its descendants included.

    Args:
        exit_code: As the shell has it; negative for a signal.
        wall_s: From its start to its end; daemons that stop afterwards do not count.
        cpu_s: User and system time of all processes.
        largest_bytes: Peak resident memory of the largest process.
        largest_name: That process's name.
        sum_bytes: Peak of the sum over all processes, sampled.
        survivors: Processes that had to be stopped because they stayed.
    """

    exit_code: int
    wall_s: float
    cpu_s: float
    largest_bytes: int
    largest_name: str
    sum_bytes: int
    survivors: int


@dataclass(slots=True)
class _Readings:
    """What was seen of the processes below this one so far, by process id and start time."""

    cpu_s: dict[tuple[int, int], float] = field(default_factory=dict)
    peak_bytes: dict[tuple[int, int], tuple[int, str]] = field(default_factory=dict)
    sum_bytes: int = 0


def measure(command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path) -> Measurement:
    """Run a command to its end and return what it cost; nothing it started is left running.

    Args:
        command: Program and arguments.
        log: Takes its output and errors.
        environment: All environment variables.
        folder: Its working directory.
    """
    _become_reaper()
    readings, stop = _Readings(), threading.Event()
    before = _reaped_cpu_s()
    with log.open("wb") as output:
        begin = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=dict(environment), cwd=folder)
        sampler = threading.Thread(target=_sample, args=(readings, stop), daemon=True)
        sampler.start()
        try:
            exit_code = process.wait()
            wall_s = time.monotonic() - begin
        finally:
            survivors = _clear_up()
            stop.set()
            sampler.join()
    largest_bytes, largest_name = max(readings.peak_bytes.values(), default=(0, ""))
    cpu_s = max(_reaped_cpu_s() - before, sum(readings.cpu_s.values()))
    return Measurement(exit_code, wall_s, cpu_s, largest_bytes, largest_name, readings.sum_bytes, survivors)


def _become_reaper() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def _reaped_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _clear_up() -> int:
    """Wait for what the command left, stop what does not go by itself, and return how many these were."""
    stopped: set[int] = set()
    deadline = time.monotonic() + _GRACE_S
    while True:
        _reap()
        left = [pid for pid, _, _, _, _ in _descendants()]
        if not left:
            return len(stopped)
        if time.monotonic() > deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if pid in stopped else signal.SIGTERM)
            stopped.update(left)
            deadline = time.monotonic() + 2
        time.sleep(0.05)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _sample(readings: _Readings, stop: threading.Event) -> None:
    while not stop.wait(SAMPLE_S):
        total = 0
        for pid, started, cpu_s, resident_bytes, name in _descendants():
            total += resident_bytes
            readings.cpu_s[pid, started] = cpu_s
            peak = max(_peak_bytes(pid), resident_bytes)
            readings.peak_bytes[pid, started] = max(readings.peak_bytes.get((pid, started), (0, name)), (peak, name))
        readings.sum_bytes = max(readings.sum_bytes, total)


def _descendants() -> Iterator[tuple[int, int, float, int, str]]:
    """Yield each process below this one: id, start time, CPU seconds, resident bytes, name (see `man 5 proc_pid_stat`)."""
    rows: dict[int, tuple[int, int, float, int, str]] = {}
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            with open(f"/proc/{entry.name}/stat", encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:  # it ended meanwhile
            continue
        name = text[text.index("(") + 1 : text.rindex(")")]
        fields = text[text.rindex(")") + 2 :].split()
        pid, parent = int(entry.name), int(fields[1])
        cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        rows[pid] = (pid, int(fields[19]), cpu_s, int(fields[21]) * _PAGE_BYTES, name)
        children.setdefault(parent, []).append(pid)
    pending = list(children.get(os.getpid(), ()))
    while pending:
        pid = pending.pop()
        pending += children.get(pid, ())
        yield rows[pid]


def _peak_bytes(pid: int) -> int:
    """Return the largest resident memory the process ever had; 0 where it has ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0
