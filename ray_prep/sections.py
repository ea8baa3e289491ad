"""The sections of a recipe that belong to no one folder: filter, augment, split, output and checks."""

from __future__ import annotations

import re
from ctypes import c_float
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ray_prep.errors import LimitError, RecipeError, did_you_mean
from ray_prep.seed import split_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ray_prep.sample import Item

# All rows of one image are made and held together, for they stand or fall together.
MOST_COPIES = 1000
MOST_ROW_BYTES = 1_000_000_000

# A Parquet reader takes a row group whole, and an Arrow binary column ends at 2 GiB.
MOST_SHARD_MB = 2000

SPLIT_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Filter:
    """Which pictures are wanted; what its size keeps out is rejected before a pixel is decoded, what its scores keep out before any step.

    Args:
        min_side: Smallest height and width of the upright picture, pixels.
        max_aspect: Largest ratio of the longer to the shorter side; None for any.
        duplicates: `keep` every picture, or `drop` those whose file has the same bytes as another's: the smallest key stays.
        min_sharpness: Smallest sharpness, 0 to 1.2: clear photos have 0.1 and more, blurred ones less; None for any.
        min_brightness: Smallest brightness, 0 (black) to 1 (white); None for any.
        max_brightness: Largest brightness; None for any.
        min_contrast: Smallest contrast, 0 (one grey) to 1 (black to white); None for any.
    """

    min_side: int = 1
    max_aspect: float | None = None
    duplicates: Literal["keep", "drop"] = "keep"
    min_sharpness: float | None = None
    min_brightness: float | None = None
    max_brightness: float | None = None
    min_contrast: float | None = None

    def __post_init__(self) -> None:
        if self.min_side < 1:
            msg = f"min_side should be 1 pixel or more, got {self.min_side}"
            raise ValueError(msg)
        if self.max_aspect is not None and self.max_aspect < 1:
            msg = f"max_aspect is longer side over shorter side, so 1 or more, got {self.max_aspect:g}"
            raise ValueError(msg)
        for name, value in self.thresholds.items():
            high = 1.2 if name == "min_sharpness" else 1
            if not 0 <= value <= high:
                msg = f"{name} should be from 0 to {high:g}, got {value:g}"
                raise ValueError(msg)
        if self.min_brightness is not None and self.max_brightness is not None and self.min_brightness > self.max_brightness:
            msg = f"min_brightness {self.min_brightness:g} is above max_brightness {self.max_brightness:g}: no picture would be left"
            raise ValueError(msg)

    @property
    def thresholds(self) -> dict[str, float]:
        """The limits on scores that are set: `min_sharpness` and the like, by name."""
        given = {name: getattr(self, name) for name in ("min_sharpness", "min_brightness", "max_brightness", "min_contrast")}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def facts(self) -> dict[str, Any]:
        """What a fingerprint holds of it; limits on scores only where set, so that they changed no fingerprint when they came."""
        return {"min_side": self.min_side, "max_aspect": self.max_aspect, "duplicates": self.duplicates, **self.thresholds}

    def check_scores(self, scores: Mapping[str, float]) -> None:
        """Refuse a picture whose scores lie outside.

        Args:
            scores: By name; those that have a limit are among them.

        Raises:
            LimitError: `score`: the message names score and limit.
        """
        for name, limit in self.thresholds.items():
            side, _, score = name.partition("_")
            value = scores[score]
            limit = c_float(limit).value  # as scores are: what is stored as the limit is within it
            if value < limit if side == "min" else value > limit:
                asked = f"asks for {limit:g} or more" if side == "min" else f"allows {limit:g} at the most"
                raise LimitError("score", f"a {score} of {value:.4g}; filter.{name} {asked}")


@dataclass(frozen=True)
class Copies:
    """How many augmented copies an image gets, and in which splits; the keys of `augment` beside `transforms`.

    Args:
        copies: Copies of each image beside the original; 1000 at the most.
        keep_original: Whether the image itself is stored too.
        splits: The splits that are augmented; others hold originals only.
    """

    copies: int = 0
    keep_original: bool = True
    splits: tuple[str, ...] = ("train",)

    def __post_init__(self) -> None:
        if self.copies < 0:
            msg = f"copies should be 0 or more, got {self.copies}"
            raise ValueError(msg)
        if self.copies > MOST_COPIES:
            msg = f"copies should be {MOST_COPIES} at the most, got {self.copies}: all copies of an image are made and held together"
            raise ValueError(msg)
        if not self.keep_original and self.copies == 0:
            msg = "keep_original: false with copies: 0 would store nothing; set copies to 1 or more"
            raise ValueError(msg)


@dataclass(frozen=True)
class Split:
    """How items come into splits.

    Args:
        by: `key`, `source` (the source's own split), or a column that keeps a group together.
        ratios: Share of each split in the recipe's order; empty where the source says the split itself.
    """

    by: str = "key"
    ratios: dict[str, float] = field(default_factory=lambda: {"train": 1.0})

    @classmethod
    def parse(cls, raw: object) -> Split:
        """Read `{train: 0.8, val: 0.2, by: key}`.

        Raises:
            RecipeError: A share is no number, the shares do not add up to 1, or a name does not fit a path.
        """
        if raw is None:
            return cls()
        if not isinstance(raw, dict):
            msg = f"split: should be shares by name, such as {{train: 0.9, val: 0.1, by: key}}, got {raw!r}"
            raise RecipeError(msg)
        by = raw.get("by", "key")
        if not isinstance(by, str) or not by:
            msg = f"split.by: should be `key`, `source` or a column's name, got {by!r}"
            raise RecipeError(msg)
        ratios: dict[str, float] = {}
        for name, share in raw.items():
            if name == "by":
                continue
            if not isinstance(name, str) or not SPLIT_NAME.fullmatch(name):
                msg = f"split: {name!r} does not do as a name: letters, digits, _ and - only"
                raise RecipeError(msg)
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                msg = f"split.{name}: should be a share between 0 and 1, got {share!r}"
                raise RecipeError(msg)
            ratios[name] = float(share)
        if by == "source":
            if ratios:
                msg = "split: `by: source` takes the source's own split, so shares have no place beside it; leave out one of them"
                raise RecipeError(msg)
            return cls(by, {})
        if not ratios:
            ratios = {"train": 1.0}
        if abs(sum(ratios.values()) - 1) > 1e-6:
            written = " + ".join(f"{share:g}" for share in ratios.values())
            msg = f"split: the shares should add up to 1, and {written} is {sum(ratios.values()):g}"
            raise RecipeError(msg)
        return cls(by, ratios)

    def of(self, item: Item) -> str:
        """Return an item's split.

        Raises:
            RecipeError: The source, or the column the rule names, says nothing of this item.
        """
        if self.by == "key":
            return split_of(item.key, self.ratios)
        if self.by == "source":
            if item.split is None:
                msg = (
                    f"split: `by: source` takes each item's split from the source, and {item.key!r} has none; "
                    "name a split column (source.columns.split), use train/val/test folders, or give shares"
                )
                raise RecipeError(msg)
            if not SPLIT_NAME.fullmatch(item.split):
                msg = f"split: {item.key!r} has the split {item.split!r}, which does not do as a name: letters, digits, _ and - only"
                raise RecipeError(msg)
            return item.split
        value = item.label if self.by == "label" and "label" not in item.columns else item.columns.get(self.by)
        if value is None:
            if self.by in item.columns or self.by == "label":
                msg = f"split.by: {item.key!r} has no value in column {self.by!r}: the field is empty, or the column is gone"
                raise RecipeError(msg)
            known = ", ".join(sorted(item.columns)) or "none"
            hint = did_you_mean(self.by, ["key", "source", *item.columns])
            msg = f"split.by: {item.key!r} has no value in column {self.by!r}; the source's columns are {known}{hint}"
            raise RecipeError(msg)
        # pandas writes whole numbers as floats where one is missing: it is the same group.
        return split_of(str(int(value) if isinstance(value, float) and value.is_integer() else value), self.ratios)


@dataclass(frozen=True)
class Output:
    """Where the dataset goes and what a stored image is.

    Args:
        uri: The table's place: a local folder or an object store's prefix.
        image: `tensor` (raw bytes), or the encoding of each stored image.
        shape: `fixed` when every stored image has one height and width; `varies` otherwise.
        shard_mb: Wanted size of a shard, in units of 10^6 bytes.
        compression: Of the image column; other columns are small.
    """

    uri: str
    image: Literal["tensor", "jpeg", "png", "webp"] = "tensor"
    shape: Literal["fixed", "varies"] = "fixed"
    shard_mb: float = 128
    compression: Literal["none", "lz4", "zstd"] = "none"

    def __post_init__(self) -> None:
        if not self.uri:
            msg = "uri should say where the dataset goes, and is empty"
            raise ValueError(msg)
        if not 0 < self.shard_mb <= MOST_SHARD_MB:
            msg = f"shard_mb should be above 0 and at most {MOST_SHARD_MB}, got {self.shard_mb:g}"
            raise ValueError(msg)


@dataclass(frozen=True)
class Checks:
    """Conditions an unpublished build must meet.

    Args:
        max_rejected: Largest share of listed images that may be rejected, what the filter took out not counted.
        min_images: Fewest accepted images.
        max_drop: Largest share of the published images that one build may take away.
        cross_split_duplicates: Most images that may have a twin (the same bytes) in another split; None to not look.
        max_class_shift: Most that a class's share of the images may differ from its share in the version before; None for any.
        max_mean_drift: Most that the training originals' mean may differ, in any channel, from the constants of `normalize: dataset`, or
            without these from the version before; pixels count as 0 to 1. None for any.
    """

    max_rejected: float = 0.01
    min_images: int = 1
    max_drop: float = 0.2
    cross_split_duplicates: int | None = None
    max_class_shift: float | None = None
    max_mean_drift: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_rejected", "max_drop", "max_class_shift", "max_mean_drift"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                kind = "a difference of means of pixels from 0 to 1" if name == "max_mean_drift" else "a share"
                msg = f"{name} is {kind}, so between 0 and 1, got {share:g}"
                raise ValueError(msg)
        for name in ("min_images", "cross_split_duplicates"):
            count = getattr(self, name)
            if count is not None and count < 0:
                msg = f"{name} is a number of images, so 0 or more, got {count}"
                raise ValueError(msg)


def check_copies_fit(copies: Copies, image_bytes: int) -> None:
    """Refuse more copies than a worker can hold at once.

    Args:
        copies: How many.
        image_bytes: What one of them takes at least.

    Raises:
        RecipeError: They are more than a gigabyte.
    """
    total_bytes = copies.copies * image_bytes
    if total_bytes > MOST_ROW_BYTES:
        msg = (
            f"augment.copies: {copies.copies} copies of {image_bytes:,} bytes are {total_bytes / 1e9:.1f} GB an image, and a worker holds "
            f"all of them at once; {MOST_ROW_BYTES // image_bytes} would fit"
        )
        raise RecipeError(msg)


def check_augmented_splits(copies: Copies, split: Split) -> None:
    """Refuse `augment.splits` that no item can be in.

    Raises:
        RecipeError: A name is not among the recipe's splits.
    """
    for place, name in enumerate(copies.splits):
        if copies.copies and split.ratios and name not in split.ratios:
            known = ", ".join(split.ratios)
            msg = f"augment.splits[{place}]: there is no split {name!r}{did_you_mean(name, split.ratios)}; the recipe has {known}"
            raise RecipeError(msg)
