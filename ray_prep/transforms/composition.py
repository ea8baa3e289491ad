"""Albumentations' compositions of steps: one of, some of, all in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

from ray_prep.errors import RecipeError, SampleError
from ray_prep.transforms.either import either

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from ray_prep.sample import Sample
    from ray_prep.spec import Spec
    from ray_prep.transforms.transform import Step

# Their names, and Albumentations 2.0.8's defaults of p.
COMPOSITIONS: dict[str, float] = {"OneOf": 0.5, "OneOrOther": 0.5, "RandomOrder": 1.0, "Sequential": 0.5, "SomeOf": 1.0}
_PAIR = 2


class Chosen(Protocol):
    """What a composition can hold: a step that can be told to be applied."""

    @property
    def p(self) -> float:
        """The probability that it is applied when it is not told to."""
        ...

    def output_spec(self, spec: Spec, /) -> Spec:
        """Return the spec of what it makes when it is not told to."""
        ...

    def forced_spec(self, spec: Spec) -> Spec:
        """Return the spec of what it makes when it is told to."""
        ...

    def apply(self, sample: Sample, rng: np.random.Generator, *, is_forced: bool) -> Sample:
        """Apply it, with probability p or whatever p says, and record that."""
        ...


@dataclass(frozen=True)
class Composition:
    """Albumentations' composition of the same name: its choices, with each step's own randomness.

    - OneOf: with probability p one of them, chosen by their p as weights, whatever their p.
    - OneOrOther: the first of two with probability p, else the second, whatever their p.
    - SomeOf, RandomOrder: with probability p, n of them, each then by its p; in their order, or in a drawn one.
    - Sequential: with probability p all of them, each then by its p.

    Shape: (H, W, C) -> any of the steps'.   Dtype: of the steps.   Range: of the steps.   Random: yes.   Targets: image.

    Args:
        kind: One of the five names.
        steps: What it chooses from.
        p: Above.
        n: SomeOf and RandomOrder: how many.
        replace: SomeOf and RandomOrder: whether one may be chosen again.
    """

    version: ClassVar[int] = 1
    is_random: ClassVar[bool] = True

    kind: str
    steps: tuple[Step, ...]
    p: float
    n: int = 1
    replace: bool = False

    def __post_init__(self) -> None:
        if not self.steps:
            msg = "transforms: should hold one step at least"
            raise ValueError(msg)
        if not 0 <= self.p <= 1:
            msg = f"p: should be from 0 to 1, got {self.p:g}"
            raise ValueError(msg)
        if self.kind == "OneOrOther" and len(self.steps) != _PAIR:
            msg = f"transforms: should hold two steps, got {len(self.steps)}"
            raise ValueError(msg)
        if self.kind == "OneOf" and sum(_chosen(step).p for step in self.steps) <= 0:
            msg = "transforms: p of all of them is 0, so none could be chosen"
            raise ValueError(msg)
        if not (self.n >= 1 and (self.replace or self.n <= len(self.steps))):
            msg = f"n: should be from 1 to the number of steps, {len(self.steps)}, got {self.n}"
            raise ValueError(msg)

    def output_spec(self, spec: Spec, /) -> Spec:
        if self.kind == "OneOrOther":
            return self._applied_spec(spec)
        if self.p == 0:
            return spec
        applied = self._applied_spec(spec)
        return applied if self.p == 1 else either((spec, applied), f"with p: {self.p:g} it is applied to some images only")

    def forced_spec(self, spec: Spec) -> Spec:
        """Return the spec of images for which it is chosen; see `apply` for who asks p nevertheless.

        Raises:
            RecipeError: A step cannot be applied, or the choices part in channels or dtype.
        """
        return self._applied_spec(spec) if self.kind in ("OneOf", "Sequential") else self.output_spec(spec)

    def _applied_spec(self, spec: Spec) -> Spec:
        why = "its steps part"
        if self.kind in ("OneOf", "OneOrOther"):
            return either([_applied(step, spec) for step in self.steps if self.kind == "OneOrOther" or _chosen(step).p > 0], why)
        if self.kind == "Sequential" or (self.kind == "SomeOf" and not self.replace and self.n == len(self.steps)):
            for step in self.steps:
                spec = step.output_spec(spec)
            return spec
        if self.kind == "SomeOf" and not self.replace:
            for step in self.steps:  # any of them, in their order
                spec = either((spec, step.output_spec(spec)), why)
            return spec
        for _ in range(self.n):  # any of them at each of n turns
            spec = either((spec, *(step.output_spec(spec) for step in self.steps)), why)
        return spec

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        return self.apply(sample, rng, is_forced=False)

    def apply(self, sample: Sample, rng: np.random.Generator, *, is_forced: bool) -> Sample:
        """Apply it.

        Args:
            sample: Is not written to.
            rng: All that is drawn comes from here.
            is_forced: Whether OneOf and Sequential are applied whatever p says; the others ask, as Albumentations' do.

        Raises:
            SampleError: A chosen step cannot be applied to this image.
        """
        if self.kind == "OneOrOther":
            return _run(self.steps[0 if rng.random() < self.p else 1 :][:1], sample, rng, is_forced=True)
        if not (is_forced and self.kind in ("OneOf", "Sequential")) and rng.random() >= self.p:
            return sample
        if self.kind == "Sequential":
            return _run(self.steps, sample, rng, is_forced=False)
        if self.kind == "OneOf":
            weights = [_chosen(step).p for step in self.steps]
            place = int(rng.choice(len(self.steps), p=[weight / sum(weights) for weight in weights]))
            return _run(self.steps[place : place + 1], sample, rng, is_forced=True)
        places = [int(place) for place in rng.choice(len(self.steps), size=self.n, replace=self.replace)]
        if self.kind == "SomeOf":
            places.sort()
        return _run([self.steps[place] for place in places], sample, rng, is_forced=False)


def _chosen(step: Step) -> Chosen:
    return cast("Chosen", step.transform)


def _applied(step: Step, spec: Spec) -> Spec:
    try:
        return step.annotated(spec, _chosen(step).forced_spec(spec))
    except RecipeError as error:
        raise RecipeError(f"{step.place}.{step.name}: {error}") from None


def _run(steps: Iterable[Step], sample: Sample, rng: np.random.Generator, *, is_forced: bool) -> Sample:
    for step in steps:
        try:
            sample = _chosen(step).apply(sample, rng, is_forced=is_forced)
        except SampleError as error:
            raise step.located(error) from error
    return sample
