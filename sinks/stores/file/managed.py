"""What deliveries need of folders, and what people look at them by: a `ManagedStore`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from app.delivery.targets import TargetCheck, TargetTrouble
from app.errors import DeliveryError
from sinks.stores.file.store import FileObjectStore
from sinks.stores.file.target import FileTarget
from sinks.stores.file.trial import try_place

_TRIAL_TIMEOUT = 10.0  # seconds of all steps together


class FileStore(FileObjectStore):
    """A `FileObjectStore` that can be looked at."""

    async def prepare(self) -> None:
        """Do nothing: there is nothing to load."""

    def serve(self, in_use: Callable[[], Iterable[FileTarget]]) -> None:
        """Ask for the targets that tenants have: others are not probed any more."""
        self.circuits.in_use = in_use

    def on_trouble(self, act: Callable[[], object]) -> None:
        """Call `act` when a circuit opens or closes."""
        self.circuits.on_change.append(act)

    def forget_unused(self) -> None:
        """Forget the circuits of folders that no tenant has any more."""
        self.circuits.forget_unused()

    def trouble(self, target: FileTarget) -> TargetTrouble | None:
        """Return what has opened a target's circuit."""
        return self.circuits.trouble(target)

    async def look(self, target: FileTarget) -> None:
        """Raise DeliveryError unless the folder is there, with room."""
        await self.find_folder(target)

    def told(self, target: FileTarget, error: DeliveryError) -> DeliveryError:  # noqa: ARG002
        """Return the error: it tells of nothing but folders that the operator allows."""
        return error

    async def probe(self, target: FileTarget) -> list[TargetCheck]:
        """Try a target, step by step."""
        try:
            return await self.call(target, "try it", try_place, seconds=_TRIAL_TIMEOUT)
        except DeliveryError as error:
            return [TargetCheck(check="reachable", flaw=str(error))]

    async def examine(self, target: FileTarget) -> list[TargetCheck]:
        """Try a target, step by step."""
        return await self.probe(target)
