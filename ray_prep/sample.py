"""What flows: an item on offer, a sample on its way through, a rejection that left it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ray_prep.errors import MAX_ATTEMPTS, RETRIED_REASONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from ray_prep.errors import Reason


@dataclass(frozen=True, slots=True)
class Item:
    """One image on offer; nothing of it has been read.

    Args:
        key: Its stable, unique name in the source (DESIGN: path below the root, id column …), valid UTF-8.
        uri: Where its bytes are: an absolute local path, or a uri without userinfo and signature parameters.
        version: Changes whenever the bytes do: etag, or size and modification time. Empty where the source knows none.
        label: Class name; None where it has none.
        split: What the *source* says of the split (a column or a folder); None where it says nothing.
        columns: The source's other columns, carried through to the table unchanged.
        label_id: The class's number where the source tells classes by number; None where it names them, or has none.
    """

    key: str
    uri: str
    version: str
    label: str | None = None
    split: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    label_id: int | None = None

    @property
    def facts(self) -> str:
        """16 hex digits that change with label or carried columns, and with nothing else.

        Columns that are null count as absent, so that a new, still empty column of a manifest changes no item.
        """
        return _facts(self.label, self.columns) if self.columns else _facts_of_label(self.label)


def _facts(label: str | None, columns: Mapping[str, Any]) -> str:
    known = {"label": label, "columns": {name: value for name, value in sorted(columns.items()) if value is not None}}
    text = json.dumps(known, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_canonical)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@lru_cache(maxsize=4096)
def _facts_of_label(label: str | None) -> str:
    """Return the facts of an item that has nothing but a label, as many of the same have: 25 µs an image spared."""
    return _facts(label, {})


def _canonical(value: object) -> str:
    """Return a stable text for what JSON lacks: bytes, dates, timestamps."""
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return repr(value)


@dataclass(frozen=True, slots=True)
class Sample:
    """One image on its way through a chain. A transform takes one and returns one; it never writes into it.

    Args:
        key: The item's key.
        copy: 0 for the image itself, 1 … n for an augmented copy.
        image: Shape (H, W, C), C-contiguous, C = 1 or 3, dtype uint8 in [0, 255] or float32.
        full_size: (height, width) of the oriented picture where `image` was decoded at a fraction of it; else None.
            Only `resize` looks at it, as the first step, and clears it.
        applied: What random steps did, in order: `{"name": …, numbers …}` each.
    """

    key: str
    copy: int
    image: np.ndarray[Any, np.dtype[Any]]
    full_size: tuple[int, int] | None = None
    applied: tuple[Mapping[str, Any], ...] = ()

    @property
    def height(self) -> int:
        """Height of the picture this stands for, pixels."""
        return self.full_size[0] if self.full_size else int(self.image.shape[0])

    @property
    def width(self) -> int:
        """Width of the picture this stands for, pixels."""
        return self.full_size[1] if self.full_size else int(self.image.shape[1])


@dataclass(frozen=True, slots=True)
class Rejection:
    """An item that did not make it.

    Args:
        key: The item's key.
        uri: Where its bytes are.
        version: The version that was judged.
        stage: Where it left: `plan`, `fetch`, `decode`, `filter`, `transform` or `unit`.
        reason: The closed code that rejections are counted by.
        message: What a person should read.
        attempts: In how many builds it was tried, where it is tried again (`is_passing`); 1 for all others.
    """

    key: str
    uri: str
    version: str
    stage: str
    reason: Reason
    message: str
    attempts: int = 1

    def is_passing(self, *, lists_files: bool) -> bool:
        """Return whether it may lie with the moment: it crashed, was late, or was gone although the listing had just seen it.

        Args:
            lists_files: As its source does: listed means there, where a manifest names what never was. A link to nowhere has no
                version, and of a member (whose uri has a `#`) its container has told that it is not in it.
        """
        is_gone = self.reason == "missing" and lists_files and bool(self.version) and "#" not in self.uri
        return is_gone or self.reason in RETRIED_REASONS

    def is_retried(self, *, lists_files: bool) -> bool:
        """Return whether later builds try it again, though nothing of it has changed."""
        return self.attempts < MAX_ATTEMPTS and self.is_passing(lists_files=lists_files)
