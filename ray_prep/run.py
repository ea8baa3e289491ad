"""One build on its way: what it was asked for, the engine it runs units on, and which of them are done already."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ray_prep.engines import open_engine
from ray_prep.errors import UnitsFailed
from ray_prep.messages import Failure, UnitRef
from ray_prep.plan import attempts_to_add
from ray_prep.storage import Stores, is_web

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import ExitStack

    from ray_prep.engines import Engine
    from ray_prep.messages import UnitKind
    from ray_prep.plan import PlanFiles, Receipts, Unit
    from ray_prep.progress import Progress
    from ray_prep.receipt import Receipt
    from ray_prep.recipe import Recipe
    from ray_prep.work import Work

_FAILURES_SHOWN = 3


@dataclass
class Run:
    """One build on its way.

    Args:
        recipe: What is built.
        engine_name: Who is to run the units: local, ray, or auto.
        address: A Ray cluster's address.
        workers: Units at a time; None for one a core.
        limit: How many items are taken; None for all.
        retry_rejected: Whether rejected items are tried again.
        rebuild: Whether all is made anew.
        progress: Who watches.
        stack: What is closed when the build ends.
        published: The version that it has committed.
        has_begun: Whether units were handed to the engine.
        units_done: Of them, those whose receipts came back.
    """

    recipe: Recipe
    engine_name: str
    address: str | None
    workers: int | None
    limit: int | None
    retry_rejected: bool
    rebuild: bool
    progress: Progress
    stack: ExitStack
    build_id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}")
    run_seconds: float = 0.0
    has_begun: bool = False
    units_done: int = 0
    published: int | None = None
    engine: Engine | None = None
    warnings: list[str] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the build began."""
        return round(time.monotonic() - self._started, 3)

    @property
    def kept(self) -> str:
        """What to tell of units that are done when the build ends before it publishes."""
        if not self.has_begun:
            return ""
        if self.rebuild:
            return "; with --rebuild the same command makes all anew"
        # Ray passes receipts on in its own time: units may be done of which this process has not heard.
        known = {0: "what is done is", 1: "the unit that is done is"}
        done = known.get(self.units_done, f"the {self.units_done} units that are done are")
        return f"; {done} kept, the same command goes on from there"

    def warn(self, message: str) -> None:
        """Tell a person, and keep it for the report."""
        self.warnings.append(message)
        self.progress.warn(message)

    def open_engine(self) -> Engine:
        """Return the engine, started if it was not."""
        if self.engine is None:
            self.engine = open_engine(self.engine_name, self.address, self.workers)
            self.stack.callback(self.engine.close)
        return self.engine

    def find(
        self, work: Work, units: Iterable[Unit], kind: UnitKind, plan: PlanFiles, receipts: Receipts
    ) -> tuple[list[Receipt], list[UnitRef]]:
        """Tell units that left a receipt from those to run, the largest first.

        The web servers that units to run fetch from are asked here, once each, whether they answer: a worker that meets a dead one insists
        for a quarter of an hour, and every worker would. (Object stores and local disks were heard when the source was listed.)

        Raises:
            StorageError: One does not answer.
        """
        stores = Stores(self.recipe.source.storage_options)
        done: list[Receipt] = []
        refs: list[UnitRef] = []
        for unit in units:
            receipt = None if self.rebuild else receipts.find(unit.unit_id)
            lists_files = self.recipe.source.lists_files
            attempts = attempts_to_add(receipt, lists_files=lists_files, retry_rejected=self.retry_rejected) if receipt else 0
            if receipt and attempts is None:
                done.append(receipt)
            else:
                stores.greet(item.uri for item in unit.items if is_web(item.uri))
                refs += plan.add(kind, unit, attempts or 0)
        refs += plan.flush()
        refs.sort(key=lambda ref: (-ref.rows * work.recipe.rows_per_item(ref.split), ref.unit_id))
        return done, refs

    def run_units(self, work: Work, refs: list[UnitRef]) -> Iterator[Receipt]:
        """Run units and yield their receipts; all of them, or an error after the last."""
        if not refs:
            return
        engine = self.open_engine()
        if said := engine.caution():
            self.warn(said)
        self.has_begun = True
        # How many images a container holds is known when it has been read.
        self.progress.expect(0 if work.recipe.source.is_container else sum(ref.rows for ref in refs), len(refs))
        first_s = last_s = time.monotonic()
        is_running = False
        missing = {ref.unit_id for ref in refs}
        failures: list[Failure] = []
        for outcome in engine.run(work, refs, self.progress.tick):
            if isinstance(outcome, Failure):
                if outcome.error.exit_code != UnitsFailed.exit_code:
                    raise outcome.error  # storage or recipe: the other units would meet the same
                failures.append(outcome)
                if len(failures) >= _FAILURES_SHOWN:
                    break
            elif outcome.unit_id in missing:
                missing.discard(outcome.unit_id)
                self.units_done += 1
                last_s = time.monotonic()
                first_s = min(first_s, last_s - outcome.seconds) if is_running else last_s - outcome.seconds
                is_running = True
                yield outcome
        self.run_seconds += last_s - first_s
        if failures:
            traces = "\n".join(failure.trace for failure in failures if failure.trace)
            raise UnitsFailed("\n".join(str(failure.error) for failure in failures)) from (RuntimeError(traces) if traces else None)
        if missing:  # the engine's stream is never the proof
            raise UnitsFailed(f"{len(missing)} of {len(refs)} units did not come back; the same command goes on from there")
