"""What is wrong with a table, and what was checked to find it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from ray_prep.dataset.log import Snapshot
    from ray_prep.dataset.record import Record

# What pyarrow 26 raises of bytes that are no Parquet, or not the Parquet that was expected.
UNREADABLE: tuple[type[Exception], ...] = (pa.ArrowException, OSError, ValueError, LookupError, TypeError)
_MESSAGE_CHARS = 200


def unreadable(error: Exception) -> str:
    """Return what is wrong with a Parquet file, on one line."""
    return f"cannot be read as Parquet: {' '.join(str(error).split())[:_MESSAGE_CHARS]}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a table.

    Args:
        place: The file it is wrong in, below the table's root.
        what: What is wrong, and what would be right.
    """

    place: str
    what: str


@dataclass
class Verification:
    """What was checked of a version, and what is wrong with it.

    Args:
        uri: The table.
        version: Delta's number; None where the log cannot be read.
        findings: What is wrong; empty where all is well.
        snapshot: The version; None where the log cannot be read.
        record: What is said to be true of it; None where it cannot be read.
        shards: Files that were read from the first byte to the last.
        bytes: Their size.
        rows: Rows in them whose keys were compared.
        decoded: Images that were decoded.
        rejections: Rejections that were counted.
    """

    uri: str
    version: int | None = None
    findings: list[Finding] = field(default_factory=list)
    snapshot: Snapshot | None = None
    record: Record | None = None
    shards: int = 0
    bytes: int = 0
    rows: int = 0
    decoded: int = 0
    rejections: int = 0

    def say(self, place: str, what: str) -> None:
        """Add something that is wrong."""
        self.findings.append(Finding(place, what))

    def compare(self, place: str, name: str, said: object, found: object) -> None:
        """Add that a number is wrong, if it is.

        Args:
            place: The file that says it.
            name: What it is called there.
            said: What it says.
            found: What is true.
        """
        if said != found:
            self.say(place, f"{name} is {said} there, and right would be {found}")
