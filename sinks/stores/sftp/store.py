"""An SFTP server's folder: files that appear whole and verified, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

import asyncssh
from asyncssh import sftp as words
from prometheus_client import Gauge

from app.delivery.object_store import (
    FoundObject,
    LinkAsked,
    May,
    PartBody,
    StoredPart,
    Upload,
)
from app.errors import TargetRefusedError, TargetUnavailableError, UploadLostError
from sinks.stores.breaker import Breakers
from sinks.stores.deadlines import CALL_TIMEOUT, COMPLETION_WINDOW, for_part
from sinks.stores.expected import Expected, etag_of
from sinks.stores.reading import gone, no_links, whole_of
from sinks.stores.sftp import files, sidecar
from sinks.stores.sftp import upload as uploads
from sinks.stores.sftp.appearing import Appearing
from sinks.stores.sftp.completion import SftpCompletion
from sinks.stores.sftp.connections import SftpConnections, Use
from sinks.stores.sftp.paths import Place
from sinks.stores.sftp.requests import (
    GONE,
    SIGNS,
    traced,
    translate_errors,
)
from sinks.stores.sftp.target import SftpTarget
from sinks.stores.sftp.upload import OpenUpload
from sinks.stores.whole import put_by_upload

_MAX_KNOWN = 100  # uploads of which a process knows what is there
_ROUNDS = 3  # in which folders may be removed as empty while they are made


@dataclass
class _Known:
    """An upload that this process works on."""

    taking: asyncio.Lock = field(default_factory=asyncio.Lock)
    open: OpenUpload | None = None


class SftpObjectStore:
    """See `app.delivery.object_store`. Every call has a deadline, and none is made twice here.

    A part counts as stored once the server has answered each write, and, where it can be asked, its
    disk (`fsync@openssh.com`). SSH makes sure that the bytes are those that were sent; what the
    disk keeps is not read again. The object's size is compared when it has its name.
    """

    def __init__(
        self,
        connections: SftpConnections,
        *,
        up: Gauge | None = None,
        short: float = CALL_TIMEOUT,
    ) -> None:
        self.connections = connections
        self.breakers = Breakers(self.find_folder, SIGNS, up=up)
        self._short = short  # seconds
        self._known: OrderedDict[str, _Known] = OrderedDict()  # by upload id
        self.appearing = Appearing()

    @contextlib.asynccontextmanager
    async def call(
        self,
        target: SftpTarget,
        verb: str,
        action: str,
        *,
        key: str = "",
        part: int | None = None,
        seconds: float | None = None,
    ) -> AsyncIterator[asyncssh.SFTPClient]:
        """Give the client for one call: every call goes through here, and tells the breaker."""
        with (
            traced(verb, target, key, part),
            self.breakers.watching(target, quick=seconds is None),
        ):
            use: Use | None = None
            try:
                async with (
                    translate_errors(target, action, seconds or self._short),
                    self.connections.of(target, bulk=seconds is not None) as use,
                ):
                    yield use.sftp
            except TargetUnavailableError as error:
                if use is not None and isinstance(error.__cause__, TimeoutError):
                    use.not_answered()
                raise

    async def create_upload(
        self,
        target: SftpTarget,
        key: str,
        marks: Mapping[str, str] | None = None,
        *,
        media_type: str = "application/octet-stream",
    ) -> Upload:
        """Open an upload: make its hidden folder."""
        place = Place.of(target, key)
        upload = Upload(container=target.container, key=key, upload_id=uuid4().hex)
        notes = {"key": key, "marks": dict(marks or {}), "media_type": media_type}
        async with self.call(target, "begin", f"begin an upload of {key}", key=key) as sftp:
            folder = place.upload(upload.upload_id)
            await self._make_folder(sftp, place, folder)
            try:
                opened = await uploads.begin(sftp, target, upload, folder, notes)
            except GONE as error:
                raise TargetUnavailableError(
                    f"the upload of {key} in {target} was aborted as it began: it begins again"
                ) from error
        self._keep(upload).open = opened
        return upload

    @staticmethod
    async def _make_folder(sftp: asyncssh.SFTPClient, place: Place, folder: str) -> None:
        """Make an upload's folder, and those above it, but the target's own."""
        for last in range(1, _ROUNDS + 1):
            try:
                await files.make_folder(sftp, folder, private=True)
            except GONE:
                await sftp.stat(place.base)
                if last == _ROUNDS:
                    raise
                with contextlib.suppress(GONE):  # an upload that ends has just removed one
                    for parent in reversed(place.parents()):
                        await files.make_folder(sftp, parent)
            else:
                return

    async def put_part(
        self, target: SftpTarget, upload: Upload, number: int, part: PartBody
    ) -> StoredPart:
        """Write part `number` (from 1) at its place. Raises UploadLostError."""
        opened: OpenUpload | None = None
        try:
            async with self.call(
                target,
                "put part",
                f"take part {number} of {upload.key}",
                key=upload.key,
                part=number,
                seconds=for_part(len(part)),
            ) as sftp:
                opened = await self.opened(sftp, target, upload)
                written = await opened.put(sftp, number, part)
        except UploadLostError:
            self._forget(upload, opened)
            raise
        return StoredPart(etag=written.md5, md5=bytes.fromhex(written.md5))

    async def part_etags(self, target: SftpTarget, upload: Upload) -> dict[int, str]:
        """Return the ETags of the parts that are there, by their numbers.

        Another process that works on the upload is shut out by that, and so is what this one began
        before: a delivery may have been another's meanwhile, and come back.
        """
        async with self.call(
            target, "list parts", f"list the parts of {upload.key}", key=upload.key
        ) as sftp:
            opened = await self.opened(sftp, target, upload, again=True)
        return {number: written.md5 for number, written in sorted(opened.parts.items())}

    async def try_to_appear(self, target: SftpTarget, upload: Upload) -> None:
        """See that what is there would be kept, with the files of an upload that tries a target."""
        async with self.call(target, "look", "keep what is there", key=upload.key) as sftp:
            await self.appearing.prove(sftp, await self.opened(sftp, target, upload))

    def uploads_from(self, target: SftpTarget) -> int:  # noqa: ARG002
        """Return the bytes from which on an object may have an upload: each has one."""
        return 0

    def etag_of(self, target: SftpTarget, parts: Sequence[StoredPart]) -> str | None:  # noqa: ARG002
        """Return the ETag that the whole object must have: as S3 makes it."""
        return etag_of(parts)

    async def complete(
        self,
        target: SftpTarget,
        upload: Upload,
        parts: Sequence[StoredPart],
        size: int,
        *,
        marks: Mapping[str, str],
        md5: str | None = None,  # noqa: ARG002
        again: bool = False,
    ) -> str:
        """Make the object appear, verify its size, and return its ETag."""
        completion = self._completion(target, upload, parts, size, marks)
        return await completion.run(again=again)

    def _completion(
        self,
        target: SftpTarget,
        upload: Upload,
        parts: Sequence[StoredPart],
        size: int,
        marks: Mapping[str, str],
    ) -> SftpCompletion:
        return SftpCompletion(
            store=self,
            target=target,
            upload=upload,
            parts=parts,
            expected=Expected(size=size, etag=etag_of(parts), marks=marks),
            ask_until=time.monotonic() + COMPLETION_WINDOW,
        )

    async def abort(self, target: SftpTarget, upload: Upload) -> None:
        """Abort an upload, also of a predecessor; one that is gone already is fine.

        Its folder gets another name, by which nothing finds it; then what is in it is removed.
        """
        place = Place.of(target, upload.key)
        folder, gone = place.upload(upload.upload_id), place.gone(upload.upload_id)
        self._known.pop(upload.upload_id, None)
        async with self.call(
            target, "abort", f"abort the upload of {upload.key}", key=upload.key
        ) as sftp:
            try:
                await sftp.rename(folder, gone)
            except GONE:
                pass
            except asyncssh.SFTPError:
                if await files.described(sftp, folder) is not None:
                    raise
            # Before the folder: as long as that is there, this is done again.
            await sidecar.tidy(sftp, target, place, ended=upload.upload_id)
            await files.remove_folder(sftp, gone)
            await self._remove_empty(sftp, place)

    async def open_uploads(self, target: SftpTarget, key: str) -> list[Upload]:
        """Return every upload of this key that is open, or of which something is left."""
        place = Place.of(target, key)
        async with self.call(target, "list uploads", f"list the uploads of {key}", key=key) as sftp:
            try:
                names = await files.names_in(sftp, place.folder, start=place.prefix)
            except GONE:
                await sftp.stat(place.base)
                return []
        return place.uploads_of(names, container=target.container, key=key)

    async def find(self, target: SftpTarget, key: str) -> FoundObject | None:
        """Describe the object with this key; None if there is none."""
        seen = await self.look_at(target, key)
        return None if seen is None else seen.object

    async def look_at(self, target: SftpTarget, key: str, *, own: str = "") -> sidecar.Seen | None:
        """Describe what is in the place of a key, and what is doubtful in it; see `sidecar.look`.

        `own` is the id of the upload that asks.
        """
        place = Place.of(target, key)
        async with self.call(target, "look", f"describe {key}", key=key) as sftp:
            return await sidecar.look(sftp, target, place, own=own)

    async def put_object(
        self,
        target: SftpTarget,
        key: str,
        body: PartBody,
        marks: Mapping[str, str],
        *,
        media_type: str,
        may: May,
    ) -> str:
        """Put an object at once: by an upload of one part."""
        return await put_by_upload(self, target, key, body, marks, media_type=media_type, may=may)

    async def link(self, target: SftpTarget, key: str, asked: LinkAsked) -> str:  # noqa: ARG002
        """Raise NoLinkError: SFTP knows none."""
        raise no_links(target)

    async def read(
        self, target: SftpTarget, key: str, *, etag: str, offset: int, length: int
    ) -> list[bytes]:
        """Return some bytes of an object, if it is still the same one after they were read."""
        place = Place.of(target, key)
        async with self.call(
            target, "read", f"give {key}", key=key, seconds=for_part(length)
        ) as sftp:
            try:
                received = files.receive(sftp, place.object, offset=offset, at_most=length)
                pieces = [piece async for piece in received]
            except GONE:
                await sftp.stat(place.base)
                raise gone(target, key, etag) from None
            seen = await sidecar.look(sftp, target, place)
        if seen is None or seen.object.etag != etag:
            raise gone(target, key, etag)
        return whole_of(target, key, length, pieces)

    async def put_aside(
        self, target: SftpTarget, key: str, body: PartBody, marks: Mapping[str, str]
    ) -> None:
        """Make a small object: an upload of one part, over whatever is there."""
        upload = await self.create_upload(target, key, marks)
        try:
            part = await self.put_part(target, upload, 1, body)
            completion = self._completion(target, upload, [part], len(body), marks)
            if not await completion.appear(over=await self.find(target, key)):
                raise TargetUnavailableError(f"{key} in {target} is written by others")
        except BaseException:
            with contextlib.suppress(TargetRefusedError, TargetUnavailableError):
                await self.abort(target, upload)
            raise

    async def read_aside(self, target: SftpTarget, key: str, *, size: int) -> list[bytes]:
        """Return the bytes of an object that was put aside, in pieces; none if it is gone."""
        place = Place.of(target, key)
        async with self.call(
            target, "read aside", f"give {key}", key=key, seconds=for_part(size)
        ) as sftp:
            try:
                pieces = files.receive(sftp, place.object, at_most=size + 1)
                return [piece async for piece in pieces]
            except GONE:
                await sftp.stat(place.base)
                return []

    async def drop_aside(self, target: SftpTarget, key: str) -> None:
        """Remove an object that was put aside, and what was left of others of its name."""
        place = Place.of(target, key)
        async with self.call(target, "delete", f"remove {key}", key=key) as sftp:
            await self._remove(sftp, target, place)
        for upload in await self.open_uploads(target, key):
            await self.abort(target, upload)

    async def delete(self, target: SftpTarget, key: str, *, etag: str) -> None:
        """Remove the object with this key, after a look whether it has this ETag."""
        found = await self.find(target, key)
        if found is None or found.etag != etag:
            raise TargetRefusedError(f"{target} does not remove {key}: it is not {etag}")
        place = Place.of(target, key)
        async with self.call(target, "delete", f"remove {key}", key=key) as sftp:
            await self._remove(sftp, target, place)

    async def _remove(self, sftp: asyncssh.SFTPClient, target: SftpTarget, place: Place) -> None:
        await files.remove(sftp, place.object)
        await sidecar.tidy(sftp, target, place)
        await self._remove_empty(sftp, place)

    @staticmethod
    async def _remove_empty(sftp: asyncssh.SFTPClient, place: Place) -> None:
        """Remove the folders above an object that have nothing in them."""
        with contextlib.suppress(asyncssh.SFTPError):
            for folder in place.removable():
                await sftp.rmdir(folder)

    async def find_folder(self, target: SftpTarget) -> None:
        """Raise DeliveryError unless the credentials are good and the folder exists."""
        async with self.call(target, "look", "look") as sftp:
            if not await sftp.isdir(target.path):
                raise words.SFTPNoSuchFile(f"{target.path} is no folder")

    async def opened(
        self,
        sftp: asyncssh.SFTPClient,
        target: SftpTarget,
        upload: Upload,
        *,
        again: bool = False,
    ) -> OpenUpload:
        """Return an upload that this process goes on with; `again`: as it is there by now.

        Raises UploadLostError.
        """
        known = self._keep(upload)
        async with known.taking:
            if known.open is None or again:
                known.open = None
                folder = Place.of(target, upload.key).upload(upload.upload_id)
                try:
                    known.open = await uploads.take_over(sftp, target, upload, folder)
                except UploadLostError:
                    self._known.pop(upload.upload_id, None)
                    raise
            return known.open

    def _forget(self, upload: Upload, opened: OpenUpload | None) -> None:
        """Forget an upload that was lost, unless it was taken over again meanwhile."""
        known = self._known.get(upload.upload_id)
        if known is not None and known.open is opened:
            del self._known[upload.upload_id]

    def _keep(self, upload: Upload) -> _Known:
        known = self._known.setdefault(upload.upload_id, _Known())
        self._known.move_to_end(upload.upload_id)
        while len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return known

    async def aclose(self) -> None:
        """End all probes, close all connections."""
        await self.breakers.close()
        await self.connections.aclose()
