"""What a build tells when it ends: the keys of `--json`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ray_prep.platform import library_versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ray_prep.base import Base
    from ray_prep.run import Run
    from ray_prep.survey import Survey
    from ray_prep.tally import Tally

# What the record keeps of a report.
RECORDED = (
    "build_id",
    "engine",
    "listed",
    "unchanged",
    "added",
    "changed",
    "removed",
    "accepted",
    "rejected",
    "rejected_new",
    "rejected_by_reason",
    "ignored",
    "rows",
    "shards",
    "bytes",
    "decoded",
    "copied_rows",
    "seconds",
    "images_per_second",
    "recipe_fingerprint",
    "versions",
)


@dataclass(frozen=True)
class BuildReport:
    """What a build did: the keys of `--json`, counts in images, rows, files, bytes and seconds.

    `listed = unchanged + added + changed = accepted + rejected`. `version` is that of the dataset now, whether this build made it or
    found nothing to do; `is_published` tells which. `run_seconds` go from the first unit begun to the last one finished, without what it
    takes to start an engine; `images_per_second` is meant of these.
    """

    build_id: str
    version: int
    engine: str
    listed: int
    unchanged: int
    added: int
    changed: int
    removed: int
    accepted: int
    rejected: int
    rejected_new: int
    rejected_by_reason: Mapping[str, int]
    ignored: Mapping[str, int]
    rows: int
    shards: int
    bytes: int
    decoded: int
    copied_rows: int
    seconds: float
    run_seconds: float
    images_per_second: float
    recipe_fingerprint: str
    versions: Mapping[str, str]
    is_published: bool = True
    uri: str = ""
    splits: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `--json` writes it."""
        return asdict(self)


def made_report(run: Run, found: Survey, tally: Tally, rejected_new: int, version: int) -> BuildReport:
    """Report a build that ran.

    Args:
        run: The build.
        found: What its source offers.
        tally: What its units made.
        rejected_new: Rejections that the version before does not have.
        version: The dataset's version.
    """
    return BuildReport(
        build_id=run.build_id,
        version=version,
        engine=run.engine.name if run.engine else "local",
        listed=found.listed,
        unchanged=found.unchanged,
        added=found.added,
        changed=found.changed,
        removed=found.removed,
        accepted=tally.accepted,
        rejected=tally.rejected,
        rejected_new=rejected_new,
        rejected_by_reason=dict(sorted(tally.rejected_by_reason.items())),
        ignored=dict(sorted((found.ignored + tally.ignored).items())),
        rows=tally.rows,
        shards=len(tally.shards),
        bytes=tally.stored_bytes,
        decoded=tally.decoded,
        copied_rows=tally.copied_rows,
        seconds=run.elapsed_s,
        run_seconds=round(run.run_seconds, 3),
        images_per_second=round(tally.decoded / run.run_seconds, 1) if run.run_seconds else 0.0,
        recipe_fingerprint=run.recipe.whole_fingerprint,
        versions=library_versions(),
        uri=run.recipe.output.uri,
        splits={split: sum(counts.values()) for split, counts in sorted(tally.counts.items())},
        warnings=tuple(run.warnings),
    )


def unchanged_report(run: Run, base: Base, found: Survey) -> BuildReport:
    """Report a build that found nothing to do: what is true of the published version, and no work."""
    record = base.record
    return BuildReport(
        **{name: getattr(record, name) for name in RECORDED if name not in {"build_id", "images_per_second", "seconds"}}
        | {
            "build_id": run.build_id,
            "listed": found.listed,
            "unchanged": found.unchanged,
            "added": 0,
            "changed": 0,
            "removed": 0,
            "rejected_new": 0,
            "decoded": 0,
            "copied_rows": 0,
            "ignored": dict(sorted((found.ignored + Counter(record.ignored_members)).items())),
        },
        version=base.version,
        seconds=run.elapsed_s,
        run_seconds=0.0,
        images_per_second=0.0,
        is_published=False,
        uri=run.recipe.output.uri,
        splits={split: sum(counts.values()) for split, counts in record.counts.items()},
        warnings=tuple(run.warnings),
    )
