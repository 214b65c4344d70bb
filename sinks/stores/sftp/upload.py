"""An upload that is open: a hidden folder, and the one who writes to it.

    .a.zip.rs-delivery-<upload id>/
        <token>/                              of the process that goes on with it
            data                              the bytes, each part at its offset; or, once all are
            whole                             there, and it is about to appear: the same file
            notes.json                        marks and media type
            begun-<n>.<offset>.<size>.<md5>   part n may be being written to `data`
            part-<n>.<offset>.<size>.<md5>    part n is there, whole
            part-<n>.apart.<size>.<md5>       the same, in this very file

The fence is in the names. Whatever is done to an upload is done by paths through its folder:

- `abort` renames the folder. From then on no path of the upload leads anywhere, so nothing that
  was sent before and comes late (a rename, most of all) does anything. What a worker has open
  still goes into a file without a name.
- A process that goes on with an upload renames `<token>` first. What another one asks for by the
  name before fails. What that one may have open and still write to is told by what is `begun`:
  that was noted before the file was opened. So the same bytes may be written again; others may
  not, and the upload is begun again instead.

So all that can ever be written to a file that becomes an object is what the object must hold.
No path leads to it as `data` from the moment on that it may appear: see `completion`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn
from uuid import uuid4

import asyncssh
from asyncssh import sftp as words

from app.delivery.object_store import PartBody, Upload
from app.errors import TargetUnavailableError, UploadLostError
from sinks.stores.sftp import files
from sinks.stores.sftp.requests import GONE
from sinks.stores.sftp.target import SftpTarget

_NAME = re.compile(r"(part|begun)-([0-9]+)\.([0-9]+|apart)\.([0-9]+)\.([0-9a-f]{32})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A part as it is written: what its name tells."""

    number: int
    offset: int | None  # in `data`; None: it is a file of its own
    size: int  # bytes
    md5: str  # hex

    @property
    def label(self) -> str:
        """What it is called, behind `part-` or `begun-`."""
        offset = "apart" if self.offset is None else self.offset
        return f"{self.number}.{offset}.{self.size}.{self.md5}"

    def meets(self, other: Written) -> bool:
        """Whether both have bytes at the same place of the same file, and those may differ."""
        if self == other or self.offset is None or other.offset is None:
            return False
        return self.offset < other.offset + other.size and other.offset < self.offset + self.size


@dataclass(kw_only=True)
class OpenUpload:
    """An upload that this process goes on with."""

    target: SftpTarget
    upload: Upload
    folder: str  # of this process: …/<token>
    parts: dict[int, Written] = field(default_factory=dict)  # that are there, by number
    begun: set[Written] = field(default_factory=set)  # that may be being written, by any process

    @property
    def data(self) -> str:
        """The file that becomes the object, while parts may be written to it."""
        return f"{self.folder}/data"

    @property
    def whole(self) -> str:
        """The same file, from then on."""
        return f"{self.folder}/whole"

    def path_of(self, written: Written) -> str:
        """Return what is there once a part is."""
        return f"{self.folder}/part-{written.label}"

    def _begun_at(self, written: Written) -> str:
        return f"{self.folder}/begun-{written.label}"

    def place(self, number: int, size: int, md5: str) -> Written:
        """Return where a part goes.

        All but the last have one size, that of the first. A part that comes while this is not known
        is put apart: it may be the last one.
        """
        if number == 1:
            return Written(number=1, offset=0, size=size, md5=md5)
        usual = self._usual_size()
        fits = usual is not None and size <= usual
        offset = (number - 1) * usual if usual is not None and fits else None
        return Written(number=number, offset=offset, size=size, md5=md5)

    def _usual_size(self) -> int | None:
        if 1 in self.parts:
            return self.parts[1].size
        known = [*self.begun, *self.parts.values()]
        first = next((written.size for written in known if written.number == 1), None)
        if first is not None:
            return first
        others = (w for w in known if w.number > 1 and w.offset is not None)
        return next((w.offset // (w.number - 1) for w in others if w.offset is not None), None)

    async def put(self, sftp: asyncssh.SFTPClient, number: int, part: PartBody) -> Written:
        """Write a part. Raises UploadLostError when the upload is gone, or another's by now."""
        written = self.place(number, len(part), part.md5.hex())
        before = self.parts.get(number)
        if before == written:  # sent again since the answer was lost
            if await files.described(sftp, self.path_of(written)) is None:
                self.lost()
            return written
        if any(written.meets(other) for other in self.begun):
            raise UploadLostError(
                f"part {number} of {self.upload.key} in {self.target} may still be written to by a "
                "worker that had other bytes for it; the upload begins again"
            )
        # An earlier writer of the same bytes may have the file open for ever: that stays noted.
        in_doubt = written in self.begun and written.offset is not None
        self.begun.add(written)
        self.parts.pop(number, None)
        try:
            if before is not None:
                await files.remove(sftp, self.path_of(before))
            await self._write(sftp, written, part)
            if in_doubt:
                await files.touch(sftp, self.path_of(written))
            else:
                await files.replace(sftp, self.path_of(written), self._begun_at(written))
        except GONE as error:
            self.lost(error)
        if not in_doubt:
            self.begun.discard(written)
        self.parts[number] = written
        return written

    async def note_begun(self, sftp: asyncssh.SFTPClient, written: Written) -> None:
        """Note that these bytes may be written to `data` from now on, until it is gone."""
        self.begun.add(written)
        await files.touch(sftp, self._begun_at(written))

    async def _write(self, sftp: asyncssh.SFTPClient, written: Written, part: PartBody) -> None:
        begun = self._begun_at(written)
        if written.offset is not None:
            await files.touch(sftp, begun)
        path, flags = (begun, files.CREATE) if written.offset is None else (self.data, files.WRITE)
        try:
            async with files.opened(sftp, path, flags) as file:
                sent = await files.send(sftp, file, written.offset or 0, part)
                await files.sync(file)
        except words.SFTPFailure as error:  # which is all that most servers say of a full disk
            if await files.room_in(sftp, self.folder) < written.size:
                raise words.SFTPNoSpaceOnFilesystem(error.reason or "no space left") from error
            raise
        if sent != written.size:
            raise TargetUnavailableError(
                f"part {written.number} of {self.upload.key} has {written.size} bytes, and gave "
                f"{sent}: it is sent again"
            )

    def lost(self, error: Exception | None = None) -> NoReturn:
        """Raise UploadLostError: the folder of this process is not there."""
        lost(self.target, self.upload, error)


def lost(target: SftpTarget, upload: Upload, error: Exception | None = None) -> NoReturn:
    """Raise UploadLostError."""
    raise UploadLostError(
        f"{target} knows the upload of {upload.key} no more: it was aborted, or another worker "
        "goes on with it, or its hidden folder was removed there; it begins again"
    ) from error


async def begin(
    sftp: asyncssh.SFTPClient,
    target: SftpTarget,
    upload: Upload,
    folder: str,
    notes: Mapping[str, object],
) -> OpenUpload:
    """Make an upload whose folder was just made."""
    opened = OpenUpload(target=target, upload=upload, folder=f"{folder}/{uuid4().hex}")
    await files.make_folder(sftp, opened.folder, private=True)
    async with files.opened(sftp, f"{opened.folder}/notes.json", files.CREATE) as file:
        await file.write(json.dumps(notes).encode(), 0)
    await files.touch(sftp, opened.data)
    return opened


async def take_over(
    sftp: asyncssh.SFTPClient, target: SftpTarget, upload: Upload, folder: str
) -> OpenUpload:
    """Go on with an upload that another process has opened. Raises UploadLostError."""
    opened = OpenUpload(target=target, upload=upload, folder=f"{folder}/{uuid4().hex}")
    try:
        names = await files.names_in(sftp, folder)
        if len(names) != 1:  # it was never whole, or two take it over at once: both begin again
            lost(target, upload)
        await sftp.rename(f"{folder}/{names[0]}", opened.folder)
        names = await files.names_in(sftp, opened.folder)
    except GONE as error:
        lost(target, upload, error)
    if "data" not in names and "whole" not in names:  # it has become the object, or was never whole
        lost(target, upload)
    for found in filter(None, map(_NAME.fullmatch, names)):
        what, number, offset, size, md5 = found.groups()
        written = Written(
            number=int(number),
            offset=None if offset == "apart" else int(offset),
            size=int(size),
            md5=md5,
        )
        if what == "begun":
            opened.begun.add(written)
        else:
            opened.parts[written.number] = written
    return opened
