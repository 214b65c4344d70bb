"""How a file gets the name of an object where nothing is: by a step that fails where something is.

A hard link (`hardlink@openssh.com`) fails there by itself, so nothing that comes meanwhile is lost.
SFTP's own rename must fail, too; but most servers look first and rename then, and some replace what
is there. So it is what is left where the server, or the file system, has no hard links.

That each of them replaces nothing is tried once a connection, in an upload's own folder.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import uuid4
from weakref import WeakKeyDictionary, WeakSet

import asyncssh
from asyncssh import sftp as words

from app.errors import TargetRefusedError
from sinks.stores.sftp import files
from sinks.stores.sftp.requests import THERE
from sinks.stores.sftp.upload import OpenUpload

_REFUSED = (*THERE, words.SFTPPermissionDenied)


class Appearing:
    """The ways of each connection."""

    def __init__(self) -> None:
        self._links: WeakKeyDictionary[asyncssh.SFTPClient, bool] = WeakKeyDictionary()
        self._renames: WeakSet[asyncssh.SFTPClient] = WeakSet()  # by which nothing is replaced

    async def prove(self, sftp: asyncssh.SFTPClient, opened: OpenUpload) -> None:
        """See that there is a way.

        Raises TargetRefusedError where a rename is all that is left, and replaces what is there.
        """
        if not await self.links(sftp, opened):
            await self._prove_rename(sftp, opened)

    async def links(self, sftp: asyncssh.SFTPClient, opened: OpenUpload) -> bool:
        """Whether a file can be given another name that way."""
        if sftp not in self._links:
            found = await _links(sftp, opened.folder)
            if found is None:
                return False
            self._links[sftp] = found
        return self._links[sftp]

    async def give(self, sftp: asyncssh.SFTPClient, opened: OpenUpload, path: str) -> bool:
        """Give an upload's file this name; False where something has it."""
        if await self.links(sftp, opened):
            try:
                await sftp.link(opened.whole, path)
            except (*_REFUSED, words.SFTPOpUnsupported):
                # It fails, too, where the object's folder is on a file system without hard links.
                if await files.described(sftp, path) is not None:
                    return False
            else:
                return True
        await self._prove_rename(sftp, opened)
        try:
            await sftp.rename(opened.whole, path)
        except _REFUSED:
            if await files.described(sftp, path) is None:
                raise
            return False
        return True

    async def _prove_rename(self, sftp: asyncssh.SFTPClient, opened: OpenUpload) -> None:
        if sftp in self._renames:
            return
        if not await _refuses(sftp, opened.folder, sftp.rename):
            raise TargetRefusedError(
                f"{opened.target} is on a server whose rename replaces what is there, so archives "
                "could be lost there: let it refuse that, or use another server, such as OpenSSH"
            ) from words.SFTPFailure("a rename replaced a file")  # what a tenant may know of
        self._renames.add(sftp)


async def _links(sftp: asyncssh.SFTPClient, folder: str) -> bool | None:
    """Whether a hard link is made, and replaces nothing; None: not this time, maybe another one."""
    file = f"{folder}/{uuid4().hex}"
    await files.touch(sftp, file)
    try:
        await sftp.link(file, f"{file}-linked")
    except words.SFTPOpUnsupported:
        return False
    except _REFUSED:  # a file system without any says so, and one that is full says no more
        return None
    return await _refuses(sftp, folder, sftp.link)


async def _refuses(
    sftp: asyncssh.SFTPClient, folder: str, give: Callable[[str, str], Awaitable[None]]
) -> bool:
    """Whether a file is given no name that another one has."""
    one, other = (f"{folder}/{uuid4().hex}" for _ in range(2))
    await files.touch(sftp, one)
    await files.touch(sftp, other)
    try:
        await give(one, other)
    except _REFUSED:
        return await files.described(sftp, one) is not None
    return False
