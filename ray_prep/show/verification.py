"""`ray-prep verify`: whether a version is whole, and whether some of its rows come out the same again; and what to say of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ray_prep.dataset.log import WAY_OUT
from ray_prep.dataset.verify import verify
from ray_prep.errors import RayPrepError, RecipeError, StorageError
from ray_prep.messages import Tick
from ray_prep.recipe import Recipe
from ray_prep.reproduction import Reproduction, reproduce
from ray_prep.show.report import bytes_text

if TYPE_CHECKING:
    from ray_prep.dataset.finding import Finding, Verification
    from ray_prep.dataset.record import Record
    from ray_prep.dataset.shard_check import ShardCheck
    from ray_prep.progress import Progress
    from ray_prep.storage import StorageOptions

_FINDINGS_SHOWN = 20
_NOTES_SHOWN = 5


@dataclass(frozen=True)
class Verdict:
    """What a version was found to be.

    Args:
        checked: What stands on disk, against itself.
        again: Rows made again from their sources; None where that was not asked for, or there is nothing to make them by.
        stopped: Why they could not be made again; what was checked holds all the same.
    """

    checked: Verification
    again: Reproduction | None
    stopped: RayPrepError | None = None

    @property
    def findings(self) -> list[Finding]:
        """All that is wrong."""
        return [*self.checked.findings, *(self.again.findings if self.again else ())]

    @property
    def exit_code(self) -> int:
        """1 where something is wrong; the error's where rows could not be made again."""
        return 1 if self.findings else self.stopped.exit_code if self.stopped else 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `--json` writes it."""
        checked = self.checked
        return {
            "uri": checked.uri,
            "version": checked.version,
            "shards": checked.shards,
            "bytes": checked.bytes,
            "rows": checked.rows,
            "decoded": checked.decoded,
            "rejections": checked.rejections,
            "made_again": self.again.rows if self.again else 0,
            "findings": [asdict(finding) for finding in self.findings],
            "notes": self.again.notes if self.again else [],
            "stopped": str(self.stopped) if self.stopped else None,
        }


def verification(target: str, version: int | None, sample: int, rebuild: int, options: StorageOptions, progress: Progress) -> Verdict:
    """Check a version of a dataset.

    Args:
        target: The dataset.
        version: None takes the newest.
        sample: So many images are decoded.
        rebuild: So many rows are made again from their sources.
        options: How the dataset is reached.
        progress: Who watches.

    Raises:
        RecipeError: There is no such version.
        StorageError: There is no dataset, or storage is unreachable.
    """
    progress.stage("verifying")

    def notify(check: ShardCheck) -> None:
        progress.tick(Tick(check.rows, source_bytes=check.size_bytes))

    checked = verify(target, options, version, sample=sample, has_stored_sums=_has_stored_sums, expect=progress.expect, notify=notify)
    again = stopped = None
    if rebuild and checked.snapshot is not None and checked.record is not None:
        progress.stage("making again")
        damaged = {finding.place for finding in checked.findings}
        try:
            again = reproduce(checked.snapshot, checked.record, options, rebuild, damaged)
        except (RecipeError, StorageError) as error:  # hours of checking are not lost for a module or a source that is elsewhere
            stopped = error
    return Verdict(checked, again, stopped)


def _has_stored_sums(record: Record) -> bool:
    """Return whether no float step stands between the pixels that are counted and those that are stored."""
    try:
        recipe = Recipe.parse(dict(record.recipe))
    except RecipeError:  # a `python` step that lies elsewhere, or a later ray_prep's recipe
        return False
    steps = recipe.preprocess + recipe.finish
    return steps.first_float(recipe.start) == len(steps.steps)


def verification_text(verdict: Verdict) -> str:
    """Return what was checked, and the first twenty things that are wrong."""
    checked, again = verdict.checked, verdict.again
    findings = verdict.findings
    name = checked.uri if checked.version is None else f"{checked.uri}, version {checked.version}"
    said = f"{len(findings)} {'thing is' if len(findings) == 1 else 'things are'} wrong" if findings else "all is well"
    lines = [
        f"{name}: {said}",
        f"  checked   {checked.shards} files, {bytes_text(checked.bytes)}: size, sha256, footer, columns; "
        f"{checked.rows} rows: keys, counts; {checked.decoded} images decoded; {checked.rejections} rejections",
    ]
    if again is not None:
        lines.append(f"  made      {again.rows} rows of {again.items} images again from their sources, and compared them byte for byte")
        lines += [f"  note      {note}" for note in again.notes[:_NOTES_SHOWN]]
        if len(again.notes) > _NOTES_SHOWN:
            lines.append(f"  note      and {len(again.notes) - _NOTES_SHOWN} more; --json FILE has all")
    if verdict.stopped is not None:
        lines.append(f"  made      nothing again from its source: {verdict.stopped}")
    lines += [f"  {finding.place}: {finding.what}" for finding in findings[:_FINDINGS_SHOWN]]
    if len(findings) > _FINDINGS_SHOWN:
        lines.append(f"  and {len(findings) - _FINDINGS_SHOWN} more; --json FILE has all")
    if checked.findings:
        lines.append(f"  next      {WAY_OUT if checked.version is None else 'ray-prep build RECIPE --rebuild makes the dataset anew'}")
    return "\n".join(lines)
