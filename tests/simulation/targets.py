"""The object store in memory, as it is met over a network.

Its rules are those of `sinks.stores.memory`, which passes the same tests as the adapter of S3. Here
answers are lost, a request is carried out when its sender is gone (a completion, a part that lands
late), uploads are forgotten (a lifecycle rule), and silence ends with a deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from app.delivery.object_store import (
    FoundObject,
    LinkAsked,
    May,
    PartBody,
    StoredPart,
    Upload,
)
from app.delivery.targets import Target, TargetTrouble
from app.errors import TargetUnavailableError
from sinks.stores.memory import MemoryObject, MemoryObjectStore, MemoryTarget
from tests.builders import at_any_time
from tests.simulation.fences import Fences
from tests.simulation.weather import Link, Weather

T = TypeVar("T")

PARTY = "the object store"
DEADLINE = 30.0  # seconds that a call may take


def _ignore(*_what: object) -> None:
    """Do nothing."""


@dataclass
class Shelf:
    """The servers: what is there, and what was."""

    weather: Weather
    fences: Fences
    mute: str | None = None  # the container of a server that never answers, until the calm
    store: MemoryObjectStore = field(default_factory=MemoryObjectStore)
    appeared: Callable[[MemoryTarget, str, MemoryObject | None], None] = _ignore
    placed: Callable[[MemoryTarget, str, MemoryObject | None], None] = _ignore
    _places: dict[str, MemoryTarget] = field(default_factory=dict)  # by container

    def __post_init__(self) -> None:
        self.mute_tenant = self.mute  # containers are called by their tenants then

    def appears(self, target: MemoryTarget, key: str, before: MemoryObject | None) -> None:
        """An object is visible from now on, in place of the one before."""
        self._places.setdefault(target.container, target)
        self.fences.appeared(target.url_of(key), self.store.objects(target)[key].found)
        self.appeared(target, key, before)

    def comes_beside(self, target: MemoryTarget, key: str, before: MemoryObject | None) -> None:
        """A file that is delivered as it is, is visible from now on."""
        self._places.setdefault(target.container, target)
        self.placed(target, key, before)

    def places(self) -> list[MemoryTarget]:
        """Return where objects have appeared."""
        return list(self._places.values())

    def forget_uploads(self) -> None:
        """Forget what is open, as a lifecycle rule does."""
        self.weather.note(f"{PARTY} forgets all open uploads")
        self.store.forget_uploads()


class Objects:
    """What one process asks the servers through; see `sinks.stores.kinds.ManagedStore`."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._link = Link(party=PARTY, weather=shelf.weather, deadline=DEADLINE)

    async def _ask(
        self,
        target: MemoryTarget,
        what: str,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        takes: float = 0.02,
    ) -> T:
        return await self._link.ask(
            what,
            lambda: _at_once(work()),
            away=_away,
            takes=takes,
            mute=target.container == self._shelf.mute,
        )

    async def create_upload(
        self, target: MemoryTarget, key: str, marks: Mapping[str, str], *, media_type: str
    ) -> Upload:
        """Open an upload."""
        store, fences = self._shelf.store, self._shelf.fences
        asker = fences.asker()
        there = store.objects(target).get(key)
        fences.opens(
            asker, key, marks, beside=store.open(), there=None if there is None else there.found
        )

        async def create() -> Upload:
            upload = await store.create_upload(target, key, marks, media_type=media_type)
            fences.opened(asker, upload)
            return upload

        upload = await self._ask(target, f"open an upload of {key}", create)
        fences.told_opened(asker)
        return upload

    async def put_part(
        self, target: MemoryTarget, upload: Upload, number: int, part: PartBody
    ) -> StoredPart:
        """Store a part."""
        store, fences = self._shelf.store, self._shelf.fences
        fences.sends(fences.asker(), upload, number)
        return await self._ask(
            target,
            f"part {number} of {upload.key}",
            lambda: store.put_part(target, upload, number, part),
            takes=self._shelf.weather.pace,
        )

    async def part_etags(self, target: MemoryTarget, upload: Upload) -> dict[int, str]:
        """Return the ETags of the parts that are there."""
        store, fences = self._shelf.store, self._shelf.fences
        there = await self._ask(
            target, f"list parts of {upload.key}", lambda: store.part_etags(target, upload)
        )
        fences.listed(fences.asker(), upload, there)
        return there

    def uploads_from(self, target: MemoryTarget) -> int:
        """Return the bytes from which on an object may have an upload."""
        return self._shelf.store.uploads_from(target)

    def etag_of(self, target: MemoryTarget, parts: Sequence[StoredPart]) -> str | None:
        """Return the ETag that an object of these parts must have."""
        return self._shelf.store.etag_of(target, parts)

    async def complete(
        self,
        target: MemoryTarget,
        upload: Upload,
        parts: Sequence[StoredPart],
        size: int,
        *,
        marks: Mapping[str, str],
        md5: str | None = None,
        again: bool = False,
    ) -> str:
        """Make the object appear."""
        shelf = self._shelf
        shelf.fences.completes(shelf.fences.asker(), target, upload)

        async def complete() -> str:
            before = shelf.store.objects(target).get(upload.key)
            etag = await shelf.store.complete(
                target, upload, parts, size, marks=marks, md5=md5, again=again
            )
            if shelf.store.objects(target).get(upload.key) is not before:
                shelf.appears(target, upload.key, before)
            return etag

        etag = await self._ask(target, f"complete {upload.key}", complete)
        shelf.fences.made(upload)
        return etag

    async def abort(self, target: MemoryTarget, upload: Upload) -> None:
        """Abort an upload."""
        store, fences = self._shelf.store, self._shelf.fences
        fences.aborts(fences.asker(), upload)
        await self._ask(target, f"abort {upload.key}", lambda: store.abort(target, upload))

    async def open_uploads(self, target: MemoryTarget, key: str) -> list[Upload]:
        """Return every open upload of a key."""
        store = self._shelf.store
        return await self._ask(
            target, f"list uploads of {key}", lambda: store.open_uploads(target, key)
        )

    async def find(self, target: MemoryTarget, key: str) -> FoundObject | None:
        """Describe an object."""
        store = self._shelf.store
        return await self._ask(target, f"find {key}", lambda: store.find(target, key))

    async def put_object(
        self,
        target: MemoryTarget,
        key: str,
        body: PartBody,
        marks: Mapping[str, str],
        *,
        media_type: str,
        may: May,
    ) -> str:
        """Make an object at once."""
        shelf = self._shelf
        await may()  # what is sent then is on its way, whatever comes
        shelf.fences.puts(shelf.fences.asker(), key)

        async def put() -> str:
            before = shelf.store.objects(target).get(key)
            etag = await shelf.store.put_object(
                target, key, body, marks, media_type=media_type, may=at_any_time
            )
            shelf.comes_beside(target, key, before)
            return etag

        return await self._ask(target, f"put {key}", put, takes=shelf.weather.pace)

    async def link(self, target: MemoryTarget, key: str, asked: LinkAsked) -> str:
        """Return a URL by which any client has an object."""
        return await self._shelf.store.link(target, key, asked)

    async def read(
        self, target: MemoryTarget, key: str, *, etag: str, offset: int, length: int
    ) -> list[bytes]:
        """Return some bytes of an object."""
        store = self._shelf.store
        return await self._ask(
            target,
            f"read {key}",
            lambda: store.read(target, key, etag=etag, offset=offset, length=length),
        )

    async def put_aside(
        self, target: MemoryTarget, key: str, body: PartBody, marks: Mapping[str, str]
    ) -> None:
        """Make a small object at once."""
        store = self._shelf.store
        await self._ask(
            target,
            f"put {key}",
            lambda: store.put_aside(target, key, body, marks),
            takes=self._shelf.weather.pace,
        )

    async def read_aside(self, target: MemoryTarget, key: str, *, size: int) -> list[bytes]:
        """Return the bytes of an object that was put aside."""
        store = self._shelf.store
        return await self._ask(
            target, f"read {key}", lambda: store.read_aside(target, key, size=size)
        )

    async def drop_aside(self, target: MemoryTarget, key: str) -> None:
        """Remove an object that was put aside."""
        store = self._shelf.store
        await self._ask(target, f"drop {key}", lambda: store.drop_aside(target, key))

    async def delete(self, target: MemoryTarget, key: str, *, etag: str) -> None:
        """Remove an object."""
        store, fences = self._shelf.store, self._shelf.fences
        there = store.objects(target).get(key)
        fences.removes(fences.asker(), key, None if there is None else there.found)

        async def delete() -> None:
            there = store.objects(target).get(key)
            await store.delete(target, key, etag=etag)
            if there is not None:
                fences.removed(target.url_of(key), there.found)

        await self._ask(target, f"remove {key}", delete)

    def on_trouble(self, act: Callable[[], object]) -> None:
        """Do nothing: what is away is found out by each who asks."""

    def trouble(self, target: Target) -> TargetTrouble | None:
        """Return None."""
        del target
        return None


def _away(cause: str) -> TargetUnavailableError:
    return TargetUnavailableError(f"{PARTY}: {cause}")


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run what waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("a store in memory waits for nothing")
