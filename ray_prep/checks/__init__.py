"""Conditions on an unpublished build: each check looks at what would be published and says what is wrong, or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from ray_prep.errors import FILTERED_REASONS, CheckFailed, RejectBudgetExceeded
from ray_prep.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ray_prep.sections import Checks


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a build would publish, in the numbers that checks judge.

    Args:
        listed: Items on offer.
        accepted: Images that would be in the dataset.
        rejected_by_reason: The complete list of rejections, counted.
        examples: The first rejection of each reason, as a line for people.
        published: Images in the version before; 0 where there is none.
        dropped: Of those, how many would not be among the accepted any more.
        cross_split_duplicates: Images that have a twin in another split; None where nobody looked.
        classes: Images by class.
        published_classes: The same of the version before; empty where there is none to hold it against.
        mean: Of the training originals, by channel, in [0, 1]; empty where there are none.
        usual_mean: What it is held against; empty where there is nothing.
    """

    listed: int
    accepted: int
    rejected_by_reason: Mapping[str, int]
    examples: Mapping[str, str]
    published: int
    dropped: int
    cross_split_duplicates: int | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    published_classes: Mapping[str, int] = field(default_factory=dict)
    mean: Sequence[float] = ()
    usual_mean: Sequence[float] = ()


def max_rejected(checks: Checks, outcome: Outcome) -> str | None:
    """Refuse a build that rejects a larger share than the budget; what the user filtered is no fault."""
    faults = {reason: count for reason, count in outcome.rejected_by_reason.items() if reason not in FILTERED_REASONS}
    count = sum(faults.values())
    if count <= Fraction(str(checks.max_rejected)) * outcome.listed:  # as it is written: 0.29 of 100 are 29, and no float's 28.999…
        return None
    lines = [
        f"  {number} {reason}, such as {printable(outcome.examples[reason])}"
        for reason, number in sorted(faults.items(), key=lambda fault: -fault[1])
    ]
    return "\n".join(
        [
            f"checks.max_rejected: {count} of {outcome.listed} images were rejected ({count / outcome.listed:.2%}), "
            f"and the budget is {checks.max_rejected:.2%}",
            *lines,
            "Mend or exclude them, or raise checks.max_rejected.",
        ]
    )


def min_images(checks: Checks, outcome: Outcome) -> str | None:
    """Refuse a build with fewer images than the recipe asks for."""
    if outcome.accepted >= checks.min_images:
        return None
    left = ", ".join(f"{count} {reason}" for reason, count in outcome.rejected_by_reason.items())
    return f"checks.min_images: {outcome.accepted} images would be published, and {checks.min_images} are asked for" + (
        f" (rejected: {left})" if left else ""
    )


def max_drop(checks: Checks, outcome: Outcome) -> str | None:
    """Refuse a build that takes away more of what is published than the recipe allows."""
    dropped = outcome.dropped
    if outcome.published == 0 or dropped <= Fraction(str(checks.max_drop)) * outcome.published:
        return None
    return (
        f"checks.max_drop: {dropped} of {outcome.published} published images would go ({dropped / outcome.published:.1%}), "
        f"and {checks.max_drop:.1%} may; is the source complete? If so, raise checks.max_drop"
    )


def cross_split_duplicates(checks: Checks, outcome: Outcome) -> str | None:
    """Refuse a build that teaches and tests with the same image."""
    allowed, count = checks.cross_split_duplicates, outcome.cross_split_duplicates
    if allowed is None or count is None or count <= allowed:
        return None
    return (
        f"checks.cross_split_duplicates: {count} images have the same bytes as one in another split, and {allowed} may; "
        "set filter.duplicates to drop, or split by a column that keeps twins together"
    )


def max_class_shift(checks: Checks, outcome: Outcome) -> str | None:
    """Refuse a build in which a class has become much more, or less, of the whole than it was."""
    now, before = sum(outcome.classes.values()), sum(outcome.published_classes.values())
    if checks.max_class_shift is None or not now or not before:
        return None
    names = sorted({*outcome.classes, *outcome.published_classes})
    shares = {
        name: (Fraction(outcome.published_classes.get(name, 0), before), Fraction(outcome.classes.get(name, 0), now)) for name in names
    }
    name, (was, share) = max(shares.items(), key=lambda known: abs(known[1][1] - known[1][0]))
    if abs(share - was) <= Fraction(str(checks.max_class_shift)):
        return None
    who = f"the class {name!r}" if name else "images without a label"
    return (
        f"checks.max_class_shift: {who} would be {float(share):.1%} of all images and was {float(was):.1%}, "
        f"and shares may shift by {checks.max_class_shift:.1%}; is the source what it should be? If so, raise checks.max_class_shift"
    )


def max_mean_drift(checks: Checks, outcome: Outcome) -> str | None:
    """Refuse a build whose training pixels have become much brighter, or darker, than they were."""
    if checks.max_mean_drift is None or not outcome.mean or len(outcome.mean) != len(outcome.usual_mean):
        return None
    drifts = [abs(now - usual) for now, usual in zip(outcome.mean, outcome.usual_mean, strict=True)]
    channel = max(range(len(drifts)), key=drifts.__getitem__)
    if drifts[channel] <= checks.max_mean_drift:
        return None
    return (
        f"checks.max_mean_drift: the training images' mean would be {outcome.mean[channel]:.4f} in channel {channel} and was "
        f"{outcome.usual_mean[channel]:.4f}, and it may drift by {checks.max_mean_drift:g}; is the source what it should be? "
        "If so, raise checks.max_mean_drift, or start over with --rebuild"
    )


CHECKS: dict[str, Callable[[Checks, Outcome], str | None]] = {
    "max_rejected": max_rejected,
    "min_images": min_images,
    "max_drop": max_drop,
    "cross_split_duplicates": cross_split_duplicates,
    "max_class_shift": max_class_shift,
    "max_mean_drift": max_mean_drift,
}


def check(checks: Checks, outcome: Outcome) -> None:
    """Run every check.

    Raises:
        RejectBudgetExceeded: More images were rejected than the budget allows.
        CheckFailed: Another check found something.
    """
    for name, condition in CHECKS.items():
        wrong = condition(checks, outcome)
        if wrong is not None:
            raise (RejectBudgetExceeded if name == "max_rejected" else CheckFailed)(wrong)
