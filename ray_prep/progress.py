"""Who watches a build."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ray_prep.messages import Tick


class Progress(Protocol):
    """Who watches a build."""

    def stage(self, name: str) -> None:
        """A stage begins: `listing`, `measuring`, `building`, `publishing`."""

    def expect(self, items: int, units: int) -> None:
        """So many items (0 for unknown) in so many units are going to be run in this stage."""

    def tick(self, tick: Tick) -> None:
        """Some of them are done."""

    def warn(self, message: str) -> None:
        """Something a person should know, and no reason to stop."""


class Silence:
    """Nobody watches."""

    def stage(self, name: str) -> None:
        pass

    def expect(self, items: int, units: int) -> None:
        pass

    def tick(self, tick: Tick) -> None:
        pass

    def warn(self, message: str) -> None:
        pass
