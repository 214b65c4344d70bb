"""What deliveries need of folders, and what people look at them by: a `ManagedStore`."""

from __future__ import annotations

from app.delivery.targets import TargetCheck
from app.errors import DeliveryError
from sinks.stores.file.circuits import Circuits
from sinks.stores.file.store import FileObjectStore
from sinks.stores.file.target import FileTarget
from sinks.stores.file.trial import try_place
from sinks.stores.watched import Watched

_TRIAL_TIMEOUT = 10.0  # seconds of all steps together


class FileStore(FileObjectStore, Watched[FileTarget]):
    """A `FileObjectStore` that can be looked at."""

    async def prepare(self) -> None:
        """Do nothing: there is nothing to load."""

    @property
    def watched_by(self) -> Circuits:
        """See `Watched`."""
        return self.circuits

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
