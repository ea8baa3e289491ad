"""A recipe: everything a dataset is made by, read from YAML, checked without data."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from ray_prep.arguments import place, texts
from ray_prep.branches import Branches
from ray_prep.dataset.schema import MAX_IMAGE_BYTES, ImageColumn
from ray_prep.errors import RecipeError, did_you_mean
from ray_prep.image.decode import Decode
from ray_prep.image.encode import LONGEST_SIDES
from ray_prep.image.scores import SCORES, SCORES_VERSION, parse_scores
from ray_prep.notation import read_yaml
from ray_prep.override import apply_override, filled
from ray_prep.sections import Checks, Copies, Filter, Output, Split, check_augmented_splits, check_copies_fit
from ray_prep.sources import parse_source
from ray_prep.sources.container import check_target
from ray_prep.spec import Interval, Spec
from ray_prep.storage import absolute_uri
from ray_prep.transforms.chain import Chain, parse_chain
from ray_prep.validation import validate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ray_prep.sources import Source

KEYS = ("name", "seed", "source", "decode", "filter", "preprocess", "augment", "finish", "split", "output", "checks", "classes", "scores")
LATER_KEYS = ("annotations", "gpu", "removed")


@dataclass(frozen=True)
class Recipe:
    """One validated recipe. Make it with `load` or `parse`; nothing of the source or the target has been touched.

    Args:
        name: For people; part of no fingerprint.
        seed: Where all randomness starts; an image's split does not depend on it.
        source: The items on offer.
        decode: How bytes become pixels.
        filter: Which pictures are wanted.
        preprocess: What every picture goes through once; its result is shared by the original and its copies.
        copies: How many augmented copies, and where.
        augment: What a copy goes through between `preprocess` and `finish`.
        finish: What originals and copies go through last.
        split: How items come into splits.
        output: Where the dataset goes, and what a stored image is.
        checks: Conditions on an unpublished build.
        classes: The class list, when it is not to be taken from the data.
        scores: Which scores the rows hold, in the column's order.
        folder: Where `python` steps are looked for first: the recipe's own folder.
        data: The recipe as written, with overrides and environment filled in; plain data.
    """

    name: str
    seed: int
    source: Source
    decode: Decode
    filter: Filter
    preprocess: Chain
    copies: Copies
    augment: Chain
    finish: Chain
    split: Split
    output: Output
    checks: Checks
    classes: tuple[str, ...] | None
    scores: tuple[str, ...]
    folder: str
    data: Mapping[str, Any]

    @classmethod
    def load(cls, path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Self:
        """Read a recipe file.

        Args:
            path: A YAML file.
            overrides: `output.uri=…` each, the value in YAML; they go before what the file says.

        Raises:
            RecipeError: The file cannot be read, or what it says is wrong: the path of the field, what was given, what would be right.
        """
        path = Path(place("path", path))
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise RecipeError(f"{path}: the recipe cannot be read: {reason}") from None
        data = read_yaml(text, str(path))
        try:
            return cls.parse(data, folder=path.resolve().parent, overrides=overrides, name=path.stem)
        except RecipeError as error:
            raise RecipeError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None

    @classmethod
    def parse(cls, data: object, *, folder: str | Path = ".", overrides: Sequence[str] = (), name: str = "dataset") -> Self:
        """Make a recipe of plain data, as YAML gives it.

        Args:
            data: A mapping of the recipe's keys.
            folder: Where `python` steps are looked for first.
            overrides: As for `load`.
            name: The name where `data` gives none.

        Raises:
            RecipeError: What the data says is wrong.
        """
        if not isinstance(data, dict):
            msg = f"a recipe is a mapping with the keys {', '.join(KEYS)}; got {type(data).__name__}"
            raise RecipeError(msg)
        try:
            known: dict[str, Any] = json.loads(json.dumps(data, default=str))
        except (TypeError, ValueError, RecursionError) as error:  # a key that is a date; an anchor within itself
            msg = f"a recipe is made of plain mappings with texts for keys, lists and values: {error}"
            raise RecipeError(msg) from None
        for override in texts("overrides", overrides):
            apply_override(known, override)
        _check_keys(known)
        folder = str(Path(folder).resolve())
        for section in ("source", "output"):
            if isinstance(known.get(section), dict) and isinstance(known[section].get("uri"), str):
                given = filled(known[section]["uri"], f"{section}.uri")
                try:
                    known[section]["uri"] = absolute_uri(given, writing=section == "output")
                except RecipeError as error:
                    raise RecipeError(f"{section}.uri: {error}") from None
        augment = {} if known.get("augment") is None else known["augment"]
        if not isinstance(augment, dict):
            msg = f"augment: should be a mapping with copies, keep_original, splits and transforms, got {augment!r}"
            raise RecipeError(msg)
        recipe = cls(
            name=_text(known.get("name", name), "name"),
            seed=_seed(known.get("seed", 0)),
            source=parse_source(known.get("source")),
            decode=validate(Decode, known.get("decode"), "decode"),
            filter=validate(Filter, known.get("filter"), "filter"),
            preprocess=parse_chain(known.get("preprocess"), "preprocess", always=True, folder=folder),
            copies=validate(Copies, {key: value for key, value in augment.items() if key != "transforms"}, "augment"),
            augment=parse_chain(augment.get("transforms"), "augment.transforms", always=False, folder=folder),
            finish=parse_chain(known.get("finish"), "finish", always=True, folder=folder),
            split=Split.parse(known.get("split")),
            output=validate(Output, known.get("output"), "output"),
            checks=validate(Checks, known.get("checks"), "checks"),
            classes=_classes(known.get("classes")),
            scores=parse_scores(known.get("scores")),
            folder=folder,
            data=known,
        )
        check_augmented_splits(recipe.copies, recipe.split)
        check_target(recipe.source, recipe.output.uri)
        recipe.check()
        return recipe

    def check(self) -> None:
        """Follow the specs of both branches to the end.

        Raises:
            RecipeError: No image is let in, a step cannot work on any, the branches part, or the output cannot hold what comes out.
        """
        side, most = self.filter.min_side, self.decode.max_pixels
        if side * side > most:
            msg = f"filter.min_side: {side} x {side} pixels are more than decode.max_pixels allows, {most:,}: no image would be left"
            raise RecipeError(msg)
        self.check_constants()
        end = self.spec
        if self.copies.copies:
            self.branches.check_alike(is_fixed=self.output.shape == "fixed")
        if self.output.shape == "fixed" and not end.is_fixed:
            last = self.finish.steps[-1].place if self.finish.steps else "the last step"
            msg = (
                f"output.shape: `fixed` needs one height and width, and images leave {last} as {end.height} x {end.width}; "
                "end `finish` with a center_crop, a resize to height and width or a letterbox, or set output.shape to varies"
            )
            raise RecipeError(msg)
        if self.output.image != "tensor" and end.dtype != "uint8":
            msg = f"output.image: {self.output.image} holds uint8, and images end as {end.dtype}; use tensor, or leave out the float steps"
            raise RecipeError(msg)
        self._check_stored(end)

    def _check_stored(self, end: Spec) -> None:
        """Refuse images that are too large to be stored, however small they come."""
        encoding, height, width = self.output.image, end.height.low, end.width.low
        longest = LONGEST_SIDES.get(encoding)
        if longest is not None and max(height, width) > longest:
            msg = f"{self.branches.sized_by}: images leave it with {height} x {width} pixels or more, and {encoding} holds no side above "
            raise RecipeError(f"{msg}{longest:,}; make them smaller, or set output.image to png or tensor")
        least_bytes = height * width * end.channels * end.itemsize
        if encoding == "tensor" and least_bytes > MAX_IMAGE_BYTES:
            msg = f"{self.branches.sized_by}: an image of {height} x {width} x {end.channels} {end.dtype} has {least_bytes:,} bytes"
            raise RecipeError(f"{msg}, and Parquet holds values below 2 GiB; make it smaller")
        if encoding == "tensor":
            check_copies_fit(self.copies, least_bytes)

    def check_constants(self) -> None:
        """Refuse `normalize: dataset` where its constants could not be measured.

        Raises:
            RecipeError: It stands in `augment`, or there is no training split to measure.
        """
        if self.augment.needs_constants:
            msg = "augment.transforms: normalize with mean: dataset belongs in finish, where originals pass too"
            raise RecipeError(msg)
        if self.needs_constants and self.split.ratios and not self.split.ratios.get("train"):
            msg = "normalize: dataset takes its constants from the split `train`, and split gives it no share"
            raise RecipeError(msg)

    @property
    def needs_constants(self) -> bool:
        """Whether a `normalize: dataset` waits for constants measured on the training originals."""
        return self.preprocess.needs_constants or self.finish.needs_constants

    @cached_property
    def measured_scores(self) -> tuple[str, ...]:
        """The scores that are stored or have a limit, in the column's order."""
        limited = {name.partition("_")[2] for name in self.filter.thresholds}
        return tuple(name for name in SCORES if name in self.scores or name in limited)

    @property
    def start(self) -> Spec:
        """What every decoded image is known to be."""
        side = Interval(self.filter.min_side)
        return Spec(side, side, 3 if self.decode.color == "rgb" else 1)

    @property
    def branches(self) -> Branches:
        """The ways of originals and copies."""
        return Branches(self.start, self.preprocess, self.augment, self.finish)

    @cached_property
    def spec(self) -> Spec:
        """What every stored original is known to be; raises RecipeError where the chain cannot fit."""
        return self.branches.original

    @cached_property
    def augmented_spec(self) -> Spec:
        """What every stored copy is known to be; raises RecipeError where the chain cannot fit."""
        return self.branches.copy

    @property
    def image_column(self) -> ImageColumn:
        """What the recipe fixes of the stored image."""
        spec = self.spec
        shape = (spec.height.low, spec.width.low, spec.channels) if self.output.shape == "fixed" else None
        color: Literal["rgb", "gray"] = "rgb" if spec.channels == 3 else "gray"
        return ImageColumn(self.output.image, shape, spec.dtype, color, spec.value_range)

    def rows_per_item(self, split: str) -> int:
        """Return how many rows an accepted item of a split has."""
        if split not in self.copies.splits:
            return 1
        return self.copies.copies + (1 if self.copies.keep_original else 0)

    def is_augmented(self, split: str) -> bool:
        """Return whether rows of a split depend on `augment`."""
        return split in self.copies.splits and self.copies.copies > 0

    def fingerprint(self, split: str) -> str:
        """Return 20 hex digits that change when the rows of a split would; nothing else changes them.

        `base` holds decode, filter, preprocess, finish and output.image with defaults filled in and each step's version (and the seed,
        where a step of them is random), and scores where some are asked for; augmented splits add augment and the seed.
        """
        facts: dict[str, Any] = {
            "decode": asdict(self.decode),
            "filter": self.filter.facts,
            "preprocess": self.preprocess.describe(),
            "finish": self.finish.describe(),
            "image": self.output.image,
        }
        if self.measured_scores:
            facts["scores"] = {"stored": self.scores, "version": SCORES_VERSION}
        if self.preprocess.is_random or self.finish.is_random:
            facts["seed"] = self.seed
        if self.is_augmented(split):
            facts["augment"] = {
                "copies": self.copies.copies,
                "keep_original": self.copies.keep_original,
                "transforms": self.augment.describe(),
            }
            facts["seed"] = self.seed
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        return sha256(text.encode()).hexdigest()[:20]

    @property
    def whole_fingerprint(self) -> str:
        """The fingerprint of the whole recipe: of augmented rows where there are any."""
        return self.fingerprint(self.copies.splits[0] if self.copies.copies and self.copies.splits else "")

    def freeze(self, mean: Sequence[float], std: Sequence[float]) -> Self:
        """Return the recipe with the constants of `normalize: dataset` filled in."""
        return replace(
            self,
            preprocess=self.preprocess.freeze(list(mean), list(std)) if self.preprocess.needs_constants else self.preprocess,
            finish=self.finish.freeze(list(mean), list(std)) if self.finish.needs_constants else self.finish,
        )


def _check_keys(data: Mapping[str, Any]) -> None:
    for key in data:
        if key == "removed" and data[key] not in ("now", "at_compact"):
            raise RecipeError(f"removed: should be now (at_compact is not available yet), got {data[key]!r}")
        if key in LATER_KEYS and not (key == "removed" and data[key] == "now"):
            raise RecipeError(f"{key}: this version of ray_prep cannot do it yet; leave it out")
        if key not in KEYS and key not in LATER_KEYS:
            raise RecipeError(f"{key}: unknown key{did_you_mean(str(key), KEYS) or '; a recipe has ' + ', '.join(KEYS)}")
    if isinstance(data.get("checks"), dict) and "python" in data["checks"]:
        raise RecipeError("checks.python: this version of ray_prep cannot do it yet; leave it out")
    for key in ("source", "output"):
        if key not in data:
            raise RecipeError(f"{key}: is needed and was not given")
        if not isinstance(data[key], dict):
            raise RecipeError(f"{key}: should be a mapping with at least a uri, got {data[key]!r}")


def _text(value: object, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise RecipeError(f"{place}: should be a text, got {value!r}")
    return value


def _seed(value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecipeError(f"seed: should be a whole number, got {value!r}")
    return value


def _classes(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value:
        raise RecipeError(f"classes: should be a list of names, got {value!r}")
    for number, name in enumerate(value):
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise RecipeError(f"classes[{number}]: should be a text or a whole number, got {name!r}; write it in quotes")
    names = tuple(str(name) for name in value)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RecipeError(f"classes: {twice!r} stands there twice")
    return names
