"""What a folder here gives to a process, and all of them together: each call goes to its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from prometheus_client import Gauge

from app.delivery.object_store import (
    FoundObject,
    LinkAsked,
    May,
    ObjectStore,
    PartBody,
    StoredPart,
    TargetT_contra,
    Upload,
)
from app.delivery.targets import Target, TargetCheck, TargetKind, TargetTrouble
from app.errors import DeliveryError
from app.settings import Settings
from app.views.findings import Finding


class ManagedStore(ObjectStore[TargetT_contra], Protocol[TargetT_contra]):
    """The stores of one kind: what deliveries need, and what people look at them by."""

    async def prepare(self) -> None:
        """Load what the first call would take long for; need not be waited for."""

    def serve(self, in_use: Callable[[], Iterable[Any]]) -> None:
        """Ask `in_use`, from now on, which targets of this kind tenants have."""

    def on_trouble(self, act: Callable[[], object]) -> None:
        """Call `act` whenever `trouble` begins or ends anywhere."""

    def forget_unused(self) -> None:
        """Forget what is known of targets that no tenant has any more."""

    def trouble(self, target: TargetT_contra) -> TargetTrouble | None:
        """Return why nothing new is to be sent to a target; None when nothing speaks against it."""

    async def look(self, target: TargetT_contra) -> None:
        """Raise DeliveryError unless a target answers, takes the credentials, is what it should be.

        What of it a tenant may read is `told`.
        """

    def told(self, target: TargetT_contra, error: DeliveryError) -> DeliveryError:
        """Return what a tenant is told in place of an error of `look` or of `trouble`."""

    async def probe(self, target: TargetT_contra) -> list[TargetCheck]:
        """Try a target for a tenant, step by step."""

    async def examine(self, target: TargetT_contra) -> list[TargetCheck]:
        """Try a target for an operator: each step, and each right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreKind:
    """A kind of store, as a process is made with it: a line of `app.run.wiring.kinds`."""

    targets: TargetKind
    # Gives what of the process's settings it can't be opened with, for an operator.
    check: Callable[[Settings], Iterable[Finding]]
    # Opens it; the figure shows which of its servers answer. Raises ConfigurationError.
    open: Callable[[Settings, Gauge | None], AbstractAsyncContextManager[ManagedStore[Any]]]


class Stores:
    """The stores that a process has open, by the kinds of their targets: one `ManagedStore`."""

    def __init__(self, stores: Mapping[str, ManagedStore[Any]]) -> None:
        self._stores = dict(stores)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of targets that they serve."""
        return frozenset(self._stores)

    def _of(self, target: Target) -> ManagedStore[Any]:
        return self._stores[target.kind]

    async def create_upload(
        self, target: Target, key: str, marks: Mapping[str, str], *, media_type: str
    ) -> Upload:
        """Open an upload."""
        return await self._of(target).create_upload(target, key, marks, media_type=media_type)

    async def put_part(
        self, target: Target, upload: Upload, number: int, part: PartBody
    ) -> StoredPart:
        """Store a part."""
        return await self._of(target).put_part(target, upload, number, part)

    async def part_etags(self, target: Target, upload: Upload) -> dict[int, str]:
        """Return the ETags of the parts that are there."""
        return await self._of(target).part_etags(target, upload)

    def uploads_from(self, target: Target) -> int:
        """Return the bytes from which on an object may have an upload."""
        return self._of(target).uploads_from(target)

    def etag_of(self, target: Target, parts: Sequence[StoredPart]) -> str | None:
        """Return the ETag that an object of these parts must have."""
        return self._of(target).etag_of(target, parts)

    async def complete(
        self,
        target: Target,
        upload: Upload,
        parts: Sequence[StoredPart],
        size: int,
        *,
        marks: Mapping[str, str],
        md5: str | None = None,
        again: bool = False,
    ) -> str:
        """Make the object appear."""
        return await self._of(target).complete(
            target, upload, parts, size, marks=marks, md5=md5, again=again
        )

    async def abort(self, target: Target, upload: Upload) -> None:
        """Abort an upload."""
        await self._of(target).abort(target, upload)

    async def open_uploads(self, target: Target, key: str) -> list[Upload]:
        """Return every open upload of a key."""
        return await self._of(target).open_uploads(target, key)

    async def find(self, target: Target, key: str) -> FoundObject | None:
        """Describe an object."""
        return await self._of(target).find(target, key)

    async def put_object(
        self,
        target: Target,
        key: str,
        body: PartBody,
        marks: Mapping[str, str],
        *,
        media_type: str,
        may: May,
    ) -> str:
        """Make an object at once."""
        store = self._of(target)
        return await store.put_object(target, key, body, marks, media_type=media_type, may=may)

    async def link(self, target: Target, key: str, asked: LinkAsked) -> str:
        """Return a URL by which any client has an object for a while."""
        return await self._of(target).link(target, key, asked)

    async def read(
        self, target: Target, key: str, *, etag: str, offset: int, length: int
    ) -> list[bytes]:
        """Return some bytes of an object."""
        store = self._of(target)
        return await store.read(target, key, etag=etag, offset=offset, length=length)

    async def put_aside(
        self, target: Target, key: str, body: PartBody, marks: Mapping[str, str]
    ) -> None:
        """Make a small object at once."""
        await self._of(target).put_aside(target, key, body, marks)

    async def read_aside(self, target: Target, key: str, *, size: int) -> list[bytes]:
        """Return the bytes of an object that was put aside."""
        return await self._of(target).read_aside(target, key, size=size)

    async def drop_aside(self, target: Target, key: str) -> None:
        """Remove an object that was put aside."""
        await self._of(target).drop_aside(target, key)

    async def delete(self, target: Target, key: str, *, etag: str) -> None:
        """Remove an object."""
        await self._of(target).delete(target, key, etag=etag)

    async def prepare(self) -> None:
        """Load what first calls would take long for."""
        for store in self._stores.values():
            await store.prepare()

    def serve(self, in_use: Callable[[], Iterable[Target]]) -> None:
        """Tell each store which targets of its kind tenants have."""
        for kind, store in self._stores.items():
            store.serve(partial(_of_kind, kind, in_use))

    def on_trouble(self, act: Callable[[], object]) -> None:
        """Call `act` whenever `trouble` begins or ends anywhere."""
        for store in self._stores.values():
            store.on_trouble(act)

    def forget_unused(self) -> None:
        """Forget what is known of targets that no tenant has any more."""
        for store in self._stores.values():
            store.forget_unused()

    def trouble(self, target: Target) -> TargetTrouble | None:
        """Return why nothing new is to be sent to a target."""
        return self._of(target).trouble(target)

    async def look(self, target: Target) -> None:
        """Raise DeliveryError unless a target answers."""
        await self._of(target).look(target)

    def told(self, target: Target, error: DeliveryError) -> DeliveryError:
        """Return what a tenant is told in place of an error."""
        return self._of(target).told(target, error)

    async def probe(self, target: Target) -> list[TargetCheck]:
        """Try a target for a tenant."""
        return await self._of(target).probe(target)

    async def examine(self, target: Target) -> list[TargetCheck]:
        """Try a target for an operator."""
        return await self._of(target).examine(target)


def _of_kind(kind: str, targets: Callable[[], Iterable[Target]]) -> list[Target]:
    return [target for target in targets() if target.kind == kind]
