"""The completion of an upload: its file gets the object's name, verified, and replaces no other's.

Where nothing is, by a hard link or a rename, which fail where something is: see `appearing`. Where
something is that may be replaced, by a rename that replaces it in one step
(`posix-rename@openssh.com`), right after it was looked at: no server knows a condition for that.
Other deliveries are kept away by a lock.

The steps, and what it means that the answer to one is lost; all go by paths through the folder of
the upload, so what comes after an abort, or once another process goes on with it, does nothing:

1. Parts that came before their place was known are copied there; that is noted before.
2. `data` becomes `whole`: the fence. A hard link leaves the file where it was, so without that who
   goes on with the upload could write to an object. Whichever of both names is there, the next
   completion goes on from it, and so does another process: all parts are there, and no other comes.
3. What it will be is noted beside the object. A note too many is of the same upload, and goes when
   that ends.
4. `whole` is given the object's name. Whether it was, the look afterwards tells. Where even that is
   not answered, the next completion begins with one: it finds its object, or links the same file
   again. That file may be an object that a client has taken away: nothing is ever written to it.
5. The other name of the file goes, then the folder. Should that stay, it is small: no bytes of the
   object are kept by it, once a client takes that away. The next delivery of the same name, or who
   sweeps this one, removes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

import asyncssh
from asyncssh import sftp as words

from app.delivery.object_store import FoundObject, StoredPart, Upload
from app.errors import (
    DeliveryError,
    TargetRefusedError,
    TargetUnavailableError,
    UploadLostError,
    WrongObjectError,
)
from sinks.stores.expected import Expected, etag_of
from sinks.stores.sftp import files
from sinks.stores.sftp.paths import Place
from sinks.stores.sftp.requests import COMPLETION_TIMEOUT, GONE
from sinks.stores.sftp.sidecar import Note, look, read_notes, write_note
from sinks.stores.sftp.target import SftpTarget
from sinks.stores.sftp.upload import OpenUpload, Written

if TYPE_CHECKING:
    from sinks.stores.sftp.store import SftpObjectStore

_MAX_ROUNDS = 5  # in which an object may come or change while it is looked at


@dataclass(frozen=True, kw_only=True)
class SftpCompletion:
    """One upload whose parts are all there."""

    store: SftpObjectStore
    target: SftpTarget
    upload: Upload
    parts: Sequence[StoredPart]
    expected: Expected
    ask_until: float  # by the clock: what is asked for later is not decided when it was said to be

    @property
    def _place(self) -> Place:
        return Place.of(self.target, self.upload.key)

    async def run(self, *, again: bool) -> str:
        """Let the object appear; return its ETag. See `ObjectStore.complete`."""
        for _ in range(_MAX_ROUNDS):
            seen = await self.store.look_at(self.target, self.upload.key, own=self.upload.upload_id)
            found = None if seen is None else seen.object
            if found is not None and self.expected.is_made(found, again=again):
                # By this upload, or by one before it: then this one is left over.
                with contextlib.suppress(DeliveryError):
                    await self.store.abort(self.target, self.upload)
                return found.etag
            if seen is not None and seen.doubt is not None:
                raise seen.doubt
            if found is not None:
                self.expected.check_replaceable(found, self.target, self.upload.key)
            if await self.appear(over=found):
                if found is not None:
                    self.expected.tell_replaced(found, self.target, self.upload.key)
                return self.etag
        raise TargetUnavailableError(
            f"{self.upload.key} in {self.target} is written by others again and again"
        )

    @property
    def etag(self) -> str:
        """The ETag of the object: as S3 makes it, of the MD5s of its parts."""
        digests = [StoredPart(etag=part.etag, md5=_md5(part)) for part in self.parts]
        return etag_of(digests) or ""

    async def appear(self, *, over: FoundObject | None) -> bool:
        """Give the file its name; False where something has come there meanwhile.

        Looks what came of it, where that is in doubt.
        """
        if time.monotonic() > self.ask_until:
            raise TargetUnavailableError(
                f"{self.target} took too long to say what is in the place of {self.upload.key}; "
                "its completion is asked for again"
            )
        try:
            note = await self._rename(over)
        except (TargetUnavailableError, UploadLostError) as doubt:
            found = await self.store.find(self.target, self.upload.key)
            if found is None or not self.expected.is_met(found):
                raise type(doubt)(f"{doubt}; the object is not there") from doubt.__cause__
        else:
            if note is None:
                return False
            await self._check(note)
        with contextlib.suppress(DeliveryError):  # it is there; what is left over is found later
            await self.store.abort(self.target, self.upload)
        return True

    async def _check(self, note: Note) -> None:
        """Raise WrongObjectError unless the object is what was made."""
        async with self.store.call(
            self.target, "look", f"describe {self.upload.key}", key=self.upload.key
        ) as sftp:
            there = await files.described(sftp, self._place.object)
        if there is None or not note.fits(there):  # another one, or a server that sets the time
            found = await self.store.find(self.target, self.upload.key)
            if found is None or not self.expected.is_met(found):
                raise WrongObjectError(self.expected.flaw_of(found, self.target, self.upload.key))

    async def _rename(self, over: FoundObject | None) -> Note | None:
        async with self.store.call(
            self.target,
            "complete",
            f"complete the upload of {self.upload.key}",
            key=self.upload.key,
            seconds=COMPLETION_TIMEOUT,
        ) as sftp:
            opened = await self.store.opened(sftp, self.target, self.upload)
            try:
                return await self._come(sftp, opened, over)
            except GONE as error:
                opened.lost(error)

    async def _come(
        self, sftp: asyncssh.SFTPClient, opened: OpenUpload, over: FoundObject | None
    ) -> Note | None:
        await self._make_whole(sftp, opened)
        noted = await self._note(sftp, opened, over)
        if noted is None:
            return None
        note, path = noted
        if await self._give_name(sftp, opened, replacing=over is not None):
            await files.remove(sftp, opened.whole)  # where a hard link has left it
            return note
        await files.remove(sftp, path)
        return None

    async def _make_whole(self, sftp: asyncssh.SFTPClient, opened: OpenUpload) -> None:
        """See that the file holds the parts that are named, and nothing else: then fence it."""
        written = [self._named(opened, n, part) for n, part in enumerate(self.parts, start=1)]
        if not written:
            self._refuse("it has no part")
        usual = written[0].size
        if any(part.size != usual for part in written[:-1]) or written[-1].size > usual:
            self._refuse("its parts have several sizes")
        if any(part.offset not in (None, (part.number - 1) * usual) for part in written):
            self._begin_again("parts of another size were sent before")
        final = [replace(part, offset=(part.number - 1) * usual) for part in written]
        if any(begun.offset is not None and begun not in final for begun in opened.begun):
            self._begin_again("a part may still be written to by a worker that had others")
        size = sum(part.size for part in written)
        if size != self.expected.size:
            found = FoundObject(size=size, etag=self.etag)
            raise WrongObjectError(self.expected.flaw_of(found, self.target, self.upload.key))
        apart = [pair for pair in zip(written, final, strict=True) if pair[0].offset is None]
        there = await files.described(sftp, opened.data)
        if there is None:  # an earlier completion has got as far, or it is gone
            if any(moved not in opened.begun for _, moved in apart):
                self._begin_again("a part came after its file was made ready")
            return
        for part, moved in apart:
            await self._move(sftp, opened, part, moved)
        if (there.size or 0) > size:
            await sftp.truncate(opened.data, size)
        await sftp.rename(opened.data, opened.whole)

    def _named(self, opened: OpenUpload, number: int, part: StoredPart) -> Written:
        written = opened.parts.get(number)
        if written is None or written.md5 != part.etag:
            self._begin_again(f"part {number} is not the one that was sent")
        return written

    async def _move(
        self, sftp: asyncssh.SFTPClient, opened: OpenUpload, part: Written, moved: Written
    ) -> None:
        """Copy a part that came before its place was known there; what is read is verified.

        Where this breaks off, its bytes may still come: that is noted before.
        """
        digest = hashlib.md5(usedforsecurity=False)

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in files.receive(sftp, opened.path_of(part), at_most=part.size):
                await asyncio.to_thread(digest.update, piece)
                yield piece

        await opened.note_begun(sftp, moved)
        async with files.opened(sftp, opened.data, files.WRITE) as file:
            await files.send(sftp, file, moved.offset or 0, pieces())
            await files.sync(file)
        if digest.hexdigest() != part.md5:
            self._begin_again(f"part {part.number} is not read as it was sent")

    async def _note(
        self, sftp: asyncssh.SFTPClient, opened: OpenUpload, over: FoundObject | None
    ) -> tuple[Note, str] | None:
        """Note whose the object will be, beside what is noted of others; return what, and where.

        None where something else is there than was looked at before, or others are noted that the
        file would be taken for.
        """
        there = None
        if over is not None or not await self.store.appearing.links(sftp, opened):
            there = await look(sftp, self.target, self._place, own=self.upload.upload_id)
            if (None if there is None else there.object) != over:
                return None
        # A time that tells it from the one that it replaces, and from others that may come.
        known = await read_notes(sftp, self.target, self._place)
        taken = {note.modified for note in known if note.upload_id != self.upload.upload_id}
        if there is not None:
            taken.add(there.attrs.mtime or 0)
        modified = int(time.time())
        while modified in taken:
            modified += 1 + secrets.randbelow(8)  # another upload may choose at the same time
        with contextlib.suppress(asyncssh.SFTPError):  # some servers don't let it be set
            await sftp.utime(opened.whole, (modified, modified))
        whole, ends = await files.together(
            sftp.stat(opened.whole), files.ends_of(sftp, opened.whole, self.expected.size)
        )
        if whole.size != self.expected.size:
            self._begin_again(f"its file has {whole.size} bytes of {self.expected.size}")
        note = Note(
            upload_id=self.upload.upload_id,
            size=self.expected.size,
            modified=whole.mtime or 0,
            etag=self.etag,
            marks=self.expected.marks,
            ends=ends,
        )
        noted = await write_note(sftp, self._place, note, folder=opened.folder)
        known = await read_notes(sftp, self.target, self._place, but=noted)
        if any(note.clashes(other) for other in known):
            await files.remove(sftp, noted)
            return None
        return note, noted

    async def _give_name(
        self, sftp: asyncssh.SFTPClient, opened: OpenUpload, *, replacing: bool
    ) -> bool:
        path = self._place.object
        if replacing:
            try:
                await sftp.posix_rename(opened.whole, path)
            except words.SFTPOpUnsupported as error:
                raise TargetRefusedError(
                    f"{self.target.url_of(self.upload.key)} is there already, and the server can't "
                    "replace a file in one step (posix-rename@openssh.com): remove it, or ask "
                    "again with another correlationId"
                ) from error
            return True
        return await self.store.appearing.give(sftp, opened, path)

    def _refuse(self, why: str) -> NoReturn:
        raise TargetRefusedError(f"{self.target} does not complete {self.upload.key}: {why}")

    def _begin_again(self, why: str) -> NoReturn:
        raise UploadLostError(
            f"the upload of {self.upload.key} in {self.target} can't be completed: {why}; it "
            "begins again"
        )


def _md5(part: StoredPart) -> bytes:
    return part.md5 if part.md5 is not None else bytes.fromhex(part.etag)
