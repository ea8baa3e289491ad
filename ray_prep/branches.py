"""The two ways through a recipe, an original's and a copy's, followed by what is known of the images on them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ray_prep.errors import RecipeError

if TYPE_CHECKING:
    from ray_prep.spec import Spec
    from ray_prep.transforms.chain import Chain


@dataclass(frozen=True)
class Branches:
    """What originals and copies go through: preprocess → finish, and preprocess → augment → finish.

    Args:
        start: What every decoded image is known to be.
        preprocess: What both share.
        augment: What copies alone go through.
        finish: What both go through last.
    """

    start: Spec
    preprocess: Chain
    augment: Chain
    finish: Chain

    @property
    def original(self) -> Spec:
        """What every stored original is known to be; raises RecipeError where the chain cannot fit."""
        return (self.start, *(self.preprocess + self.finish).specs(self.start))[-1]

    @property
    def copy(self) -> Spec:
        """What every stored copy is known to be; raises RecipeError where the chain cannot fit."""
        return (self.start, *(self.preprocess + self.augment + self.finish).specs(self.start))[-1]

    def check_alike(self, *, is_fixed: bool) -> None:
        """Refuse branches that end otherwise.

        Args:
            is_fixed: Whether they must end in one size, too.

        Raises:
            RecipeError: They do; the message names the step at which they part.
        """
        original, copy = self.original, self.copy
        for what in ("channels", "dtype", "value_range", *(("height", "width") if is_fixed else ())):
            if getattr(original, what) != getattr(copy, what):
                raise RecipeError(self._parting(what, original, copy))

    def _parting(self, what: str, original: Spec, copy: Spec) -> str:
        """Say at which step the two branches part: the last one on the copies' way that changes what differs."""
        place = "augment.transforms"
        before = (self.start, *self.preprocess.specs(self.start))[-1]
        for step, after in zip(self.augment.steps, self.augment.specs(before), strict=True):
            if getattr(after, what) != getattr(before, what):
                place = f"{step.place}.{step.name}"
            before = after
        return (
            f"{place}: here augmented copies part from originals in {what}: originals end as {original}, copies as {copy}; "
            "both must end alike, so undo the difference in finish (center_crop, resize, letterbox, to_float …)"
        )

    @property
    def sized_by(self) -> str:
        """The last step on an original's way that changes a size; where there is none, what lets the size in."""
        whole = self.preprocess + self.finish
        specs = (self.start, *whole.specs(self.start))
        changes = [
            f"{step.place}.{step.name}"
            for step, (before, after) in zip(whole.steps, pairwise(specs), strict=True)
            if (before.height, before.width) != (after.height, after.width)
        ]
        return changes[-1] if changes else "filter.min_side"
