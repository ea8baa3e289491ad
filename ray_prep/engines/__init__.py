"""Who runs the units: this machine's processes, or Ray. Each engine runs the same `run_unit` and so makes the same bytes."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Protocol

from ray_prep.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ray_prep.messages import Failure, Tick, UnitRef
    from ray_prep.receipt import Receipt
    from ray_prep.work import Work


# `local` and `auto` are Ray's own words.
_ADDRESS = re.compile(r"[^\s:/]+:\d+|\[[0-9A-Fa-f:.%]+\]:\d+|auto|local")
# Ray Data 2.60 ends in an AttributeError there.
THROUGH_CLIENT = "Ray Data does not run through Ray Client; build on a machine of the cluster (--address HOST:6379), or submit a job"


class Engine(Protocol):
    """Runs units."""

    @property
    def name(self) -> str:
        """As the recipe's author calls it."""
        ...

    def run(self, work: Work, refs: Iterable[UnitRef], notify: Callable[[Tick], None]) -> Iterator[Receipt | Failure]:
        """Run every unit once, in any order, and yield what became of each; leaving the loop ends what still runs."""
        ...

    def caution(self) -> str | None:
        """Return what a person should know before units run, and no reason to stop; None for nothing."""
        ...

    def close(self) -> None:
        """Let go of what was started."""


def _local(_address: str | None, workers: int | None) -> Engine:
    from ray_prep.engines.local import Local  # noqa: PLC0415  each engine's libraries are loaded for it alone

    return Local(len(os.sched_getaffinity(0)) if workers is None else workers)


def _ray(address: str | None, workers: int | None) -> Engine:
    from ray_prep.engines.ray_data import RayData  # noqa: PLC0415  Ray takes seconds to import

    return RayData(address, workers)


ENGINES: dict[str, Callable[[str | None, int | None], Engine]] = {"local": _local, "ray": _ray}


def choose_engine(name: str, address: str | None = None, workers: int | None = None) -> str:
    """Return the engine that is meant, and start nothing.

    Args:
        name: `local`, `ray`, or `auto`: Ray where an address is given or a cluster surrounds this process, else local.
        address: A Ray cluster's address.
        workers: Units at a time; None for one a core, 0 for none beside this process (local only).

    Raises:
        RecipeError: There is no such engine, or it cannot be had with these arguments.
    """
    if name == "auto":
        surrounded = os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_JOB_ID")
        name = "ray" if address or surrounded else "local"
    if name not in ENGINES:
        raise RecipeError(f"--engine {name}: there is no such engine{did_you_mean(name, ENGINES)}; there are auto, {', '.join(ENGINES)}")
    if workers is not None and workers < 0:
        raise RecipeError(f"--workers {workers}: should be 0 (in this process) or more")
    if name == "local" and address:
        raise RecipeError(f"--address {address}: is a Ray cluster's, and the engine is local; leave one of them out")
    surrounding = os.environ.get("RAY_ADDRESS") or None if name == "ray" else None
    place, told = ("--address ", address) if address is not None else ("RAY_ADDRESS=", surrounding)
    if told is not None and not _ADDRESS.fullmatch(told):
        if told.startswith("ray://"):
            raise RecipeError(f"{place}{told}: {THROUGH_CLIENT}")
        hint = "; that is where jobs are submitted (ray job submit --address …)" if told.startswith(("http://", "https://")) else ""
        raise RecipeError(f"{place}{told}: a cluster's is HOST:PORT (6379 as a rule) or auto{hint}")
    if name == "ray" and workers == 0:
        raise RecipeError("--workers 0: runs in this process, which Ray cannot; use --engine local")
    return name


def open_engine(name: str, address: str | None = None, workers: int | None = None) -> Engine:
    """Start an engine; the arguments are those of `choose_engine`.

    Raises:
        RecipeError: As there.
        UnitsFailed: No Ray answers.
    """
    return ENGINES[choose_engine(name, address, workers)](address, workers)
