"""What a person reads on the terminal: a build as it goes, what came of it, why images were left out, the versions there are."""

from __future__ import annotations

import time
from shlex import quote
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ray_prep.dataset.log import no_dataset
from ray_prep.dataset.record import read_refusal
from ray_prep.dataset.table import history
from ray_prep.errors import REASONS, RecipeError
from ray_prep.printable import printable
from ray_prep.storage import absolute_uri, open_store

if TYPE_CHECKING:
    import pyarrow as pa

    from ray_prep.build_report import BuildReport
    from ray_prep.messages import Tick
    from ray_prep.storage import StorageOptions

_PLAIN_LINE_S = 10.0


def bytes_text(count: float) -> str:
    """Return `1.2 GB`: powers of 1000, as disks and clouds count."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def seconds_text(seconds: float) -> str:
    """Return `4.2 s`, `3 min 20 s` or `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02} min"


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Be silent from now on: rich would end the process, and a build does not need to be watched (`ray-prep build … 2>&1 | head`)."""
        self.quiet = True


class TerminalProgress:
    """Our progress line: one that moves on a terminal, a plain line every ten seconds elsewhere; all on standard error."""

    def __init__(self) -> None:
        self._console = _Terminal(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task: int | None = None
        self._stage = ""
        self._expected = self._done = self._rejected = self._source_bytes = 0
        self._started = self._written = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._end_bar()

    def stage(self, name: str) -> None:
        """Show which stage begins."""
        self._end_bar()
        self._stage = name
        if self._console.is_terminal:
            self._bar = Progress(SpinnerColumn(), TextColumn("{task.description}"), console=self._console, transient=True)
            self._bar.start()
            self._bar.add_task(name)

    def expect(self, items: int, units: int) -> None:
        """Begin to count."""
        self._end_bar()
        self._expected, self._done, self._rejected, self._source_bytes = items, 0, 0, 0
        self._started = self._written = time.monotonic()
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(compact=True),
                console=self._console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._stage, total=items or None, rate="")
        else:
            self._line(f"{self._stage}: {f'{items} images in ' if items else ''}{units} units")

    def tick(self, tick: Tick) -> None:
        """Count what is done."""
        self._done += tick.items
        self._rejected += tick.rejected
        self._source_bytes += tick.source_bytes
        now = time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=min(self._done, self._expected or self._done), rate=self._rate(now))  # type: ignore[arg-type]
        elif self._bar is None and now - self._written >= _PLAIN_LINE_S:
            self._written = now
            text = f"{self._stage}: {self._done} images, {self._rate(now)}"
            if self._done <= self._expected:  # units whose process died run again
                left = (self._expected - self._done) * (now - self._started) / max(1, self._done)
                text = f"{self._stage}: {self._done} of {self._expected} images, {self._rate(now)}, {seconds_text(left)} left"
            self._line(text)

    def warn(self, message: str) -> None:
        """Show a warning."""
        self._line(f"warning: {message}")

    def _rate(self, now: float) -> str:
        seconds = max(now - self._started, 1e-3)
        rejected = f", {self._rejected} rejected" if self._rejected else ""
        return f"{self._done / seconds:.0f} images/s, {bytes_text(self._source_bytes / seconds)}/s{rejected}"

    def _line(self, text: str) -> None:
        self._console.print(printable(text, kept="\n"), markup=False, soft_wrap=True)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None


def report_text(report: BuildReport) -> str:
    """Return what a build did, in a few lines."""
    lines = []
    if report.is_published:
        lines.append(f"{report.uri}: version {report.version} is published")
    else:
        lines.append(f"{report.uri}: nothing to do, version {report.version} is up to date")
    lines.append(
        f"  listed    {report.listed}: {report.unchanged} unchanged, {report.added} added, {report.changed} changed"
        + (f"; {report.removed} removed" if report.removed else "")
        + (f"; {sum(report.ignored.values())} other files ignored" if report.ignored else "")
    )
    splits = ", ".join(f"{name} {count}" for name, count in report.splits.items())
    lines.append(f"  accepted  {report.accepted}" + (f" ({splits})" if splits else ""))
    if report.rejected:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.rejected_by_reason.items())
        lines.append(f"  rejected  {report.rejected} ({reasons}); see: ray-prep rejects {quote(report.uri)}")
    lines.append(f"  stored    {report.rows} rows in {report.shards} shards, {bytes_text(report.bytes)}")
    rate = f", {report.images_per_second:.0f} images/s on the {report.engine} engine" if report.decoded else ""
    lines.append(f"  took      {seconds_text(report.seconds)}, {report.decoded} decoded{rate}")
    return "\n".join(lines)


def rejections_text(rejections: pa.Table, *, every: bool = False) -> str:
    """Return counts by reason with the first of each, or every rejection as a tab-separated line.

    Args:
        rejections: The complete list of one version.
        every: Whether each one is wanted; tabs, ends of lines and other control characters in it are escaped.
    """
    rows = sorted(rejections.to_pylist(), key=lambda row: (REASONS.index(row["reason"]), row["key"], row["uri"]))
    if every:
        names = ("reason", "key", "stage", "attempts", "uri", "message")
        return "\n".join(["\t".join(names), *("\t".join(printable(str(row[name])) for name in names) for row in rows)])
    if not rows:
        return "no image was rejected"
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["reason"]] = counts.get(row["reason"], 0) + 1
    width = max(map(len, counts))
    lines = [f"{len(rows)} rejected"]
    for reason, count in counts.items():
        first = next(row for row in rows if row["reason"] == reason)
        key, message = printable(first["key"]), printable(" ".join(first["message"].split()))
        lines += [f"  {reason:{width}}  {count:>6}  {key}", f"  {'':{width}}  {'':>6}  {message}"]
    if "missing" in counts:
        lines.append("what was missing and is back as it was listed: ray-prep build RECIPE --retry-rejected")
    return "\n".join(lines)


def refused_text(target: str, options: StorageOptions, *, every: bool = False) -> str:
    """Return the rejections of the last refused build, as `rejections_text` does.

    Args:
        target: The dataset, which need not be there yet.
        options: How it is reached.
        every: Whether each one is wanted.

    Raises:
        RecipeError: No build was refused since the last one published.
    """
    uri = absolute_uri(target)
    refusal = read_refusal(open_store(uri, options))
    if refusal is None:
        raise RecipeError(f"{uri}: no build was refused there since the last one published; without --refused: what the dataset leaves out")
    build_id, rejections = refusal
    told = rejections_text(rejections, every=every)
    return told if every else f"build {build_id} was refused, and nothing of it published\n{told}"


def log_text(target: str, options: StorageOptions) -> str:
    """Return the versions of a dataset, newest first.

    Raises:
        StorageError: There is no dataset, or storage is unreachable.
    """
    commits = history(target, options)
    if not commits:
        raise no_dataset(target)
    lines = [f"{'version':>7}  {'time (UTC)':19}  {'shards':>11}  build"]
    for commit in commits:
        build_id = commit.record.split("/")[-2] if commit.record else commit.operation.lower()
        lines.append(f"{commit.version:>7}  {commit.time:%Y-%m-%d %H:%M:%S}  {f'+{commit.added} -{commit.removed}':>11}  {build_id}")
    return "\n".join(lines)
