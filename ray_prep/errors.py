"""Everything that can go wrong, as one tree.

RayPrepError                        what a command ends with; carries the exit code
├── RecipeError             exit 2  the recipe or the arguments are wrong; raised before any work
├── StorageError            exit 3  storage is unreachable, refuses, or holds nothing there
│   └── Damaged             exit 3  a file of the dataset is gone, or not what was published
├── BuildError
│   ├── RejectBudgetExceeded  exit 1  more images were rejected than the recipe allows
│   ├── CheckFailed           exit 1  a check refused the unpublished build
│   ├── Conflict              exit 4  somebody else published first
│   ├── UnitsFailed           exit 4  units did not finish; the same command again may
│   └── Interrupted           exit 4  Ctrl-C or a termination signal; nothing was published
└── SampleError                     one image is at fault; becomes a Rejection, never an exit
    ├── DecodeError                 its bytes do not make a picture
    ├── FetchError                  its bytes are not where its source says
    ├── LimitError                  it is outside a limit of the recipe
    ├── TransformError              a step could not be applied to it
    └── ProcessDied                 it took the process that worked on it along

Anything else that is raised (memory, bugs) fails the build.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from ray_prep.redaction import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable

Reason = Literal[
    "missing",
    "not_an_image",
    "empty",
    "truncated",
    "corrupt",
    "unsupported",
    "too_large",
    "too_small",
    "aspect",
    "score",
    "duplicate",
    "duplicate_key",
    "annotation_invalid",
    "transform_failed",
    "crashed",
    "timed_out",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

# What the user filtered away is no fault: these never count against `checks.max_rejected`.
FILTERED_REASONS: frozenset[Reason] = frozenset({"too_small", "aspect", "score", "duplicate"})
# What may be the machine's fault is tried again by later builds, so often in all.
RETRIED_REASONS: frozenset[Reason] = frozenset({"crashed", "timed_out"})
MAX_ATTEMPTS = 3


# A rebuild makes every file again and reads none of the old ones to do so.
WAY_OUT = "ray-prep verify TARGET names all that is damaged, and ray-prep build RECIPE --rebuild makes the dataset anew"


class RayPrepError(Exception):
    """Anything ray_prep reports in a few lines instead of a traceback."""

    exit_code: ClassVar[int] = 4

    def __str__(self) -> str:
        """Return the message without secrets, whoever wrote them where."""
        return without_credentials(super().__str__())


class RecipeError(RayPrepError):
    """The recipe, or an argument of a command, is wrong."""

    exit_code = 2


class StorageError(RayPrepError):
    """A store cannot be reached, refuses the credentials, or lacks what must be there."""

    exit_code = 3


class Damaged(StorageError):
    """A file that a version of a dataset consists of is gone, or is not what was published.

    Args:
        place: The file.
        what: What is wrong with it.
    """

    def __init__(self, place: str, what: str) -> None:
        super().__init__(place, what)
        self.place = place
        self.what = what

    def __str__(self) -> str:
        return without_credentials(f"{self.place} {self.what}; {WAY_OUT}")


class BuildError(RayPrepError):
    """A build began and did not publish."""


class RejectBudgetExceeded(BuildError):
    """More images were rejected than `checks.max_rejected` allows."""

    exit_code = 1


class CheckFailed(BuildError):
    """A check found the unpublished build unfit."""

    exit_code = 1


class Conflict(BuildError):
    """Another build published to the same table first."""


class UnitsFailed(BuildError):
    """Some units did not finish."""


class Interrupted(BuildError):
    """The build was stopped from outside before it published."""


class SampleError(RayPrepError):
    """One image cannot become a sample.

    Args:
        reason: The closed code that rejections are counted by.
        message: What a person should read; never grouped by.
    """

    stage: ClassVar[str] = "sample"

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message

    def __reduce__(self) -> tuple[type[SampleError], tuple[Reason, str]]:
        """Pickle both arguments (an exception pickles only what `Exception` was given)."""
        return type(self), (self.reason, self.message)


class FetchError(SampleError):
    """The bytes of one image are not there, though its source lists it."""

    stage = "fetch"


class DecodeError(SampleError):
    """Bytes do not make a picture."""

    stage = "decode"


class LimitError(SampleError):
    """A picture lies outside a limit of the recipe."""

    stage = "filter"


class TransformError(SampleError):
    """A step cannot be applied to a picture."""

    stage = "transform"


class ProcessDied(SampleError):
    """A picture ended or stalled the process that worked on it."""

    stage = "unit"


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'resize'?"`, or nothing where no known name is close."""
    known = list(known)
    close = get_close_matches(given, known, n=1, cutoff=0.6)
    if not close:
        folded = {name.lower(): name for name in known}
        close = [folded[name] for name in get_close_matches(given.lower(), folded, n=1, cutoff=0.6)]
    return f"; did you mean {close[0]!r}?" if close else ""
