"""What a `ManagedStore` tells of its targets by the circuits that it keeps of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from app.delivery.targets import Target, TargetTrouble

TargetT = TypeVar("TargetT", bound=Target)


class Circuits(Protocol[TargetT]):
    """The circuits of one process, by whatever they are kept."""

    in_use: Callable[[], Iterable[TargetT]] | None
    on_change: list[Callable[[], object]]

    def trouble(self, target: TargetT, /) -> TargetTrouble | None:
        """Return what has opened a target's circuit."""

    def forget_unused(self) -> None:
        """Forget the circuits of targets that no tenant has any more."""


class Watched(Generic[TargetT]):
    """A store that has circuits."""

    @property
    @abstractmethod
    def watched_by(self) -> Circuits[TargetT]:
        """Its circuits."""

    def serve(self, in_use: Callable[[], Iterable[TargetT]]) -> None:
        """Ask for the targets that tenants have: their servers are probed, all others forgotten."""
        self.watched_by.in_use = in_use

    def on_trouble(self, act: Callable[[], object]) -> None:
        """Call `act` when a circuit opens or closes."""
        self.watched_by.on_change.append(act)

    def forget_unused(self) -> None:
        """Forget the circuits of targets that no tenant has any more."""
        self.watched_by.forget_unused()

    def trouble(self, target: TargetT) -> TargetTrouble | None:
        """Return what has opened a target's circuit."""
        return self.watched_by.trouble(target)
