"""One image's walk from bytes to stored rows: header, limits, pixels, preprocess; then finish, and for each copy augment and finish."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from ray_prep.errors import SampleError, TransformError
from ray_prep.image.decode import decode
from ray_prep.image.encode import ENCODINGS
from ray_prep.image.header import check_limits, read_header
from ray_prep.image.salvage import salvage
from ray_prep.image.scores import SCORES, decode_at_least, measure
from ray_prep.sample import Sample
from ray_prep.seed import sample_rng
from ray_prep.transforms.applied import applied_json
from ray_prep.transforms.python_step import Python

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ray_prep.image.header import Header
    from ray_prep.recipe import Recipe
    from ray_prep.sample import Item
    from ray_prep.transforms.chain import Chain

    Image = np.ndarray[Any, np.dtype[np.uint8]]

# What a chain without randomness is given: it never draws from it, and making a generator costs more than a flip.
_UNUSED = np.random.Generator(np.random.PCG64(0))
# What sums of weights that are rounded to float32 may add to the largest value.
_ROUNDED = 1e-5


@dataclass(frozen=True, slots=True)
class Stage:
    """One picture on the walk.

    Args:
        name: `decoded`, `preprocessed`, `counted` (the original's pixels before any float step), or `stored`.
        sample: The picture there.
        scores: Where `decoded`: the scores that are stored or have a limit, by name.
    """

    name: Literal["decoded", "preprocessed", "counted", "stored"]
    sample: Sample
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Walk:
    """The walk a recipe prescribes; the same for builds, previews and explanations.

    Args:
        recipe: With the constants of `normalize: dataset` filled in.
        class_ids: Class name to id.
    """

    recipe: Recipe
    class_ids: Mapping[str, int]

    @cached_property
    def _whole(self) -> Chain:
        """What an original goes through."""
        return self.recipe.preprocess + self.recipe.finish

    @cached_property
    def _first_float(self) -> int:
        """Place of the first float step in it."""
        return self._whole.first_float(self.recipe.start)

    @cached_property
    def _promised(self) -> tuple[float, float] | None:
        """The range that is promised of stored floats, where a function of the user's could break it; else None."""
        recipe = self.recipe
        has_function = any(isinstance(step.transform, Python) for step in (*recipe.preprocess, *recipe.augment, *recipe.finish))
        return recipe.spec.value_range if has_function and recipe.spec.dtype != "uint8" else None

    def header(self, data: bytes) -> Header:
        """Read and judge a picture's header; no pixel is allocated.

        Raises:
            DecodeError: The bytes are no picture.
            LimitError: The picture is outside `decode.max_pixels` or `filter`.
        """
        header = read_header(data)
        limits = self.recipe.filter
        check_limits(header, max_pixels=self.recipe.decode.max_pixels, min_side=limits.min_side, max_aspect=limits.max_aspect)
        return header

    def decoded(self, split: str, key: str, data: bytes, header: Header) -> Sample:
        """Return the upright picture, at a fraction of its size where the first step shrinks it anyway and scores need no more.

        Raises:
            DecodeError: The bytes make no whole picture.
        """
        first = self.recipe.preprocess.steps[:1]
        if not first and not self.recipe.is_augmented(split):  # elsewhere `augment` comes first for copies
            first = self.recipe.finish.steps[:1]
        at_least = None
        if self.recipe.decode.jpeg_scaling == "auto" and first and (ask := getattr(first[0].transform, "decode_at_least", None)):
            at_least = ask(*header.oriented_size)
        if at_least is not None and self.recipe.measured_scores:
            scored = decode_at_least(*header.oriented_size)
            at_least = max(at_least[0], scored[0]), max(at_least[1], scored[1])
        image = decode(data, header, self.recipe.decode, at_least)
        full_size = None if image.shape[:2] == header.oriented_size else header.oriented_size
        return Sample(key, 0, image, full_size)

    def stages(
        self, split: str, key: str, data: bytes, header: Header, *, skips: bool = False, is_measured: bool = False
    ) -> Iterator[Stage]:
        """Walk one picture; each stage is yielded as it is reached.

        Args:
            split: The picture's split.
            key: Its key.
            data: Its bytes.
            header: What stands in them.
            skips: Leave out `preprocessed` where only an original goes on from there: steps on both sides of it may then work together.
            is_measured: Whether the original must be counted, stored or not.

        Raises:
            SampleError: The picture cannot go on; nothing that was yielded before may be kept.
        """
        recipe = self.recipe
        sample = self.decoded(split, key, data, header)
        scores = measure(sample.image, recipe.measured_scores) if recipe.measured_scores else {}
        yield Stage("decoded", sample, scores)
        recipe.filter.check_scores(scores)
        is_random = recipe.preprocess.is_random or recipe.finish.is_random
        rng = sample_rng(recipe.seed, key, 0) if is_random else _UNUSED
        count = len(recipe.preprocess.steps)
        tap = self._first_float
        if skips and not recipe.is_augmented(split):
            original = self._whole[:tap](sample, rng)
            yield Stage("counted", original)
            yield self._stored(self._whole[tap:](original, rng))
            return
        if tap < count:
            sample = recipe.preprocess[:tap](sample, rng)
            yield Stage("counted", sample)
        sample = recipe.preprocess[tap if tap < count else 0 :](sample, rng)
        yield Stage("preprocessed", sample)
        is_stored = recipe.copies.keep_original or not recipe.is_augmented(split)
        yield from self._original(sample, rng, is_stored=is_stored, is_needed=is_stored or is_measured)
        if recipe.is_augmented(split):
            # A copy's own steps draw from its own stream, the shared preprocess keeps what it drew from the original's.
            for copy in range(1, recipe.copies.copies + 1):
                rng = sample_rng(recipe.seed, key, copy)
                yield self._stored(recipe.finish(recipe.augment(replace(sample, copy=copy), rng, records_all=True), rng))

    def _original(self, sample: Sample, rng: np.random.Generator, *, is_stored: bool, is_needed: bool) -> Iterator[Stage]:
        """Finish what was preprocessed: to its end, or only as far as it is counted, where that can be done at all."""
        ahead = self._first_float - len(self.recipe.preprocess.steps)
        if ahead >= 0:
            try:
                sample = self.recipe.finish[:ahead](sample, rng)
            except SampleError:
                if is_needed:
                    raise
                return  # copies may have another size, and are judged by themselves
            yield Stage("counted", sample)
        if is_stored:
            yield self._stored(self.recipe.finish[max(0, ahead) :](sample, rng))

    def _stored(self, sample: Sample) -> Stage:
        """Return the last stage.

        Raises:
            TransformError: Values lie outside the range that the image column promises.
        """
        image, promised = sample.image, self._promised
        if promised is not None and not (promised[0] - _ROUNDED <= image.min() and image.max() <= promised[1] + _ROUNDED):
            found, told = f"{image.min():g} to {image.max():g}", f"[{promised[0]:g}, {promised[1]:g}]"
            raise TransformError(
                "transform_failed", f"values from {found} would be stored, outside {told}; say in the python step's output what it returns"
            )
        return Stage("stored", sample)

    def rows(self, split: str, item: Item, data: bytes) -> list[dict[str, Any]]:
        """Make all rows of one item: the original, then its copies.

        Args:
            split: The item's split.
            item: What the source says of it.
            data: Its bytes.

        Returns:
            A row a stored picture, by column name; `image` is the array, or the encoded bytes. All of them or an error:
            copies of one item are never apart.

        Raises:
            SampleError: Why the item is rejected.
        """
        header = self.header(data)
        height, width = header.height, header.width
        shared: dict[str, Any] = {
            "key": item.key,
            "label": item.label,
            "label_id": item.label_id if item.label is None else self.class_ids.get(item.label, item.label_id),
            "source_uri": item.uri,
            "source_version": item.version,
            "source_facts": item.facts,
            "source_sha256": sha256(data).hexdigest(),
            "source_bytes": len(data),
            "source_format": header.format,
            "source_height": height,
            "source_width": width,
            "source_orientation": header.orientation,
            "source_frames": header.frames,
            "columns": item.columns,
        }
        encode = ENCODINGS.get(self.recipe.output.image)
        rows: list[dict[str, Any]] = []
        sums: list[int] | None = None
        for stage in self.stages(split, item.key, data, header, skips=True):
            if stage.name == "decoded" and self.recipe.scores:
                shared["scores"] = {name: stage.scores[name] if name in self.recipe.scores else None for name in SCORES}
            elif stage.name == "counted":
                sums = integer_sums(stage.sample.image)
            elif stage.name == "stored":
                image = stage.sample.image
                rows.append(
                    shared
                    | {
                        "copy": stage.sample.copy,
                        "image": encode(image) if encode else image,
                        "height": image.shape[0],
                        "width": image.shape[1],
                        "channels": image.shape[2],
                        "sums": None if rows else sums,
                        "params": applied_json(stage.sample.applied),
                    }
                )
        return rows

    def measured(self, split: str, item: Item, data: bytes) -> list[int]:
        """Return the sums of one original's pixels, as they reach the first float step.

        Raises:
            SampleError: Why the item is rejected.
        """
        header = self.header(data)
        stages = self.stages(split, item.key, data, header, skips=True, is_measured=True)
        counted = next(stage for stage in stages if stage.name == "counted")
        return integer_sums(counted.sample.image)

    def salvaged(self, _split: str, _item: Item, data: bytes) -> Image:
        """Return as much of a rejected picture as can be shown, small; only in a process of its own (see `salvage`).

        Raises:
            DecodeError: Nothing can be.
        """
        return salvage(data, self.recipe.decode.max_pixels)


def integer_sums(image: np.ndarray[Any, np.dtype[Any]]) -> list[int]:
    """Return n, then Σ of each channel, then Σ² of each channel.

    Exact: OpenCV adds 8-bit values as integers and hands them out as doubles, which hold whole numbers up to 2^53 (a channel of
    138 gigapixels); measured 21 µs for 224x224x3, against 240 µs for numpy's sums.

    Shape: (H, W, C) -> 1 + 2C numbers.   Dtype: uint8 only.   Random: no.
    """
    channels = cv2.split(image)
    totals = cv2.sumElems(image)
    return [
        image.shape[0] * image.shape[1],
        *(int(totals[place]) for place in range(len(channels))),
        *(int(cv2.norm(channel, cv2.NORM_L2SQR)) for channel in channels),
    ]
