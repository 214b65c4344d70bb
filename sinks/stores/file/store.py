"""Objects in folders: uploads that appear as one file, complete and verified, or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from prometheus_client import Gauge

from app.delivery.object_store import (
    FoundObject,
    LinkAsked,
    May,
    PartBody,
    StoredPart,
    Upload,
)
from app.errors import TargetRefusedError
from app.settings import Settings
from app.telemetry import tracing
from app.waiting.backoff import Backoff
from sinks.stores.deadlines import CALL_TIMEOUT, for_part
from sinks.stores.expected import Expected, etag_of
from sinks.stores.file import objects, uploads
from sinks.stores.file.circuits import PROBES, Circuits
from sinks.stores.file.completion import LOCK_TIMEOUT, FileCompletion
from sinks.stores.file.faults import translated
from sinks.stores.file.folders import Place
from sinks.stores.file.roots import Roots
from sinks.stores.file.system import System
from sinks.stores.file.target import FileTarget
from sinks.stores.file.threads import Call, Threads
from sinks.stores.reading import gone, no_links, whole_of
from sinks.stores.whole import put_by_upload

T = TypeVar("T")

COMPLETION_TIMEOUT = 900.0  # seconds; it copies no more than some parts, but syncs all
# In which an object may appear after its completion was asked for: with what that takes, less than
# the time after which others take it for decided (`app.usecases.transfer`).
COMPLETION_WINDOW = 840.0  # seconds
_MAX_SIZES = 1000  # uploads of which the size of parts is remembered


class FileObjectStore:
    """See `app.delivery.object_store`. Every call has a deadline, and a thread that may hang."""

    def __init__(
        self,
        settings: Settings,
        *,
        up: Gauge | None = None,
        system: System | None = None,
        short: float = CALL_TIMEOUT,
        lock: float = LOCK_TIMEOUT,
        probes: Backoff = PROBES,
    ) -> None:
        self._roots = Roots.of(settings)
        self._min_free = settings.file_min_free
        self._read_back = settings.file_read_back
        self._system = system or System()
        self._short = short  # seconds
        self._lock = lock  # seconds
        self._threads: dict[str, Threads] = {}  # by folder
        self._part_sizes: dict[str, int] = {}  # bytes, by upload id: of those begun here
        self.circuits = Circuits(self.find_folder, up=up, backoff=probes)

    async def call(
        self,
        target: FileTarget,
        action: str,
        act: Callable[[Place], T],
        *,
        seconds: float | None = None,
        holds: list[bytes | memoryview] | None = None,
    ) -> T:
        """Do something at a target in a thread: every call goes through here."""

        def run(call: Call) -> T:
            place = Place(
                system=self._system,
                roots=self._roots,
                target=target,
                min_free=self._min_free,
                check=call.check,
            )
            try:
                return act(place)
            except OSError as error:
                raise translated(error, target, action) from error

        attributes = {"file.directory": target.path}
        with (
            tracing.span(f"file {action}", kind=tracing.CLIENT, attributes=attributes),
            self.circuits.watching(target),
        ):
            return await self._threads_of(target).run(
                f"to {action} in {target}", seconds or self._short, run, holds=holds
            )

    def _threads_of(self, target: FileTarget) -> Threads:
        if target.path not in self._threads:
            self._threads[target.path] = Threads(target.path)
        return self._threads[target.path]

    async def find_folder(self, target: FileTarget) -> None:
        """Raise DeliveryError unless the folder is there, with room."""

        def look(place: Place) -> None:
            with place.open() as fd:
                place.check_room(fd, 0)

        await self.call(target, "look", look)

    async def create_upload(
        self, target: FileTarget, key: str, marks: Mapping[str, str], *, media_type: str
    ) -> Upload:
        """Open an upload."""
        create = partial(uploads.create, key=key, marks=marks, media_type=media_type)
        return await self.call(target, "begin an upload", create)

    async def put_part(
        self, target: FileTarget, upload: Upload, number: int, part: PartBody
    ) -> StoredPart:
        """Write part `number` (from 1). Raises WrongObjectError when it is not read as written."""
        if number == 1:
            self._remember(upload, len(part))
        pieces = [piece async for piece in part]
        put = partial(
            uploads.put,
            upload=upload,
            number=number,
            pieces=pieces,
            md5=part.md5,
            part_size=self._part_sizes.get(upload.upload_id),
            read_back=self._read_back,
        )
        seconds = for_part(len(part))
        await self.call(target, "write a part", put, seconds=seconds, holds=pieces)
        return StoredPart(etag=part.md5.hex(), md5=part.md5)

    def _remember(self, upload: Upload, part_size: int) -> None:
        """Remember the size of an upload's parts: they may be written before the first is."""
        self._part_sizes.pop(upload.upload_id, None)
        self._part_sizes[upload.upload_id] = part_size
        if len(self._part_sizes) > _MAX_SIZES:
            del self._part_sizes[next(iter(self._part_sizes))]

    async def part_etags(self, target: FileTarget, upload: Upload) -> dict[int, str]:
        """Return the ETags of the parts that are there, by their numbers."""
        return await self.call(target, "list parts", partial(uploads.etags, upload=upload))

    def uploads_from(self, target: FileTarget) -> int:  # noqa: ARG002
        """Return the bytes from which on an object may have an upload: each has one."""
        return 0

    def etag_of(self, target: FileTarget, parts: Sequence[StoredPart]) -> str | None:  # noqa: ARG002
        """Return the ETag that the whole object must have."""
        return etag_of(parts)

    async def complete(
        self,
        target: FileTarget,
        upload: Upload,
        parts: Sequence[StoredPart],
        size: int,
        *,
        marks: Mapping[str, str],
        md5: str | None = None,  # noqa: ARG002
        again: bool = False,
    ) -> str:
        """Make the object appear, and verify it: by size, inode, and the ETags of its parts."""
        etag = etag_of(parts)
        if etag is None:
            raise TargetRefusedError(
                f"{target} does not complete {upload.key}: parts without an MD5 are none of its own"
            )

        def complete(place: Place) -> str:
            completion = FileCompletion(
                place=place,
                upload=upload,
                parts=parts,
                expected=Expected(size=size, etag=etag, marks=marks),
                ask_until=ask_until,
                lock_timeout=self._lock,
            )
            return completion.run(again=again)

        ask_until = time.monotonic() + COMPLETION_WINDOW
        made = await self.call(target, "complete", complete, seconds=COMPLETION_TIMEOUT)
        self._part_sizes.pop(upload.upload_id, None)
        return made

    async def abort(self, target: FileTarget, upload: Upload) -> None:
        """Abort an upload, also of a predecessor; one that is gone already is fine."""

        def abort(place: Place) -> None:
            if place.is_there():
                uploads.abort(place, upload)

        await self.call(target, "abort an upload", abort)
        self._part_sizes.pop(upload.upload_id, None)

    async def open_uploads(self, target: FileTarget, key: str) -> list[Upload]:
        """Return every open upload of this key."""
        return await self.call(target, "list uploads", partial(uploads.list_open, key=key))

    async def find(self, target: FileTarget, key: str) -> FoundObject | None:
        """Describe the object with this key; None if there is none."""
        return await self.call(target, "describe a file", partial(objects.find, key=key))

    async def put_object(
        self,
        target: FileTarget,
        key: str,
        body: PartBody,
        marks: Mapping[str, str],
        *,
        media_type: str,
        may: May,
    ) -> str:
        """Put an object at once: by an upload of one part."""
        return await put_by_upload(self, target, key, body, marks, media_type=media_type, may=may)

    async def link(self, target: FileTarget, key: str, asked: LinkAsked) -> str:  # noqa: ARG002
        """Raise NoLinkError: what is in a folder is read there."""
        raise no_links(target)

    async def read(
        self, target: FileTarget, key: str, *, etag: str, offset: int, length: int
    ) -> list[bytes]:
        """Return some bytes of an object."""
        read = partial(objects.read_range, key=key, etag=etag, offset=offset, length=length)
        pieces = await self.call(target, "read a file", read, seconds=for_part(length))
        if pieces is None:
            raise gone(target, key, etag)
        return whole_of(target, key, length, pieces)

    async def put_aside(
        self, target: FileTarget, key: str, body: PartBody, marks: Mapping[str, str]
    ) -> None:
        """Make a small object at once."""
        pieces = [piece async for piece in body]
        put = partial(
            objects.put_aside,
            key=key,
            pieces=pieces,
            md5=body.md5,
            marks=marks,
            read_back=self._read_back,
        )
        seconds = for_part(len(body))
        await self.call(target, "put a file aside", put, seconds=seconds, holds=pieces)

    async def read_aside(self, target: FileTarget, key: str, *, size: int) -> list[bytes]:
        """Return the bytes of an object that was put aside, in pieces; none if it is gone."""
        read = partial(objects.read, key=key, size=size)
        return await self.call(target, "read a file", read, seconds=for_part(size))

    async def drop_aside(self, target: FileTarget, key: str) -> None:
        """Remove an object that was put aside; one that is gone already is fine."""
        await self.call(target, "remove a file", partial(objects.drop, key=key))

    async def delete(self, target: FileTarget, key: str, *, etag: str) -> None:
        """Remove the object with this key, as long as it has this ETag; looked at just before."""
        await self.call(target, "remove a file", partial(objects.delete, key=key, etag=etag))

    async def aclose(self) -> None:
        """End all probes. Threads that hang are left behind."""
        await self.circuits.close()
