"""A document on its way to a target: made of rows as it goes, whole or not there.

Put at once where it is small; what is larger than a part has an upload of its own. So a list of a
hundred thousand files takes the memory of one part.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from app.delivery.object_store import May, ObjectStore, StoredPart, Upload
from app.delivery.targets import Target
from app.errors import DeliveryError
from app.waiting.patience import Retried

# Of one upload, and what is put at once: a few thousand files.
PART = 8 * 1024 * 1024


@dataclass(kw_only=True)
class Document:
    """One try to write a document; another try makes it of the rows again.

    Of a worker that dies between `send` and `appear`, an upload stays open.
    """

    objects: ObjectStore[Any]
    target: Target
    key: str
    marks: Mapping[str, str]
    media_type: str
    part_size: int = PART  # bytes
    size: int = field(default=0, init=False)  # bytes, of what was made so far
    opened: bool = field(default=False, init=False)  # whether an upload of it was asked for
    left_open: bool = field(default=False, init=False)  # and may be open
    waits_for_target: bool = field(default=False, init=False)  # now; or it failed, or was too slow
    asked_at: float = field(default=0.0, init=False)  # the last time, by the loop's clock
    _whole: bytes | None = field(default=None, init=False)  # what is put at once
    _upload: Upload | None = field(default=None, init=False)
    _stored: list[StoredPart] = field(default_factory=list, init=False)

    async def send(self, pieces: AsyncIterator[bytes], *, opens: May, may: May) -> None:
        """Send all that can be sent before it appears; nothing of what is put at once.

        `opens` is asked before an upload is opened, `may` before each part. Raises what they raise,
        and what the store raises; then `abort` it.
        """
        parts = _parts(pieces, self.part_size)
        first = await anext(parts)
        self.size = len(first)
        if len(first) < self.part_size:
            self._whole = first
            return
        await opens()
        self.opened = self.left_open = True
        with self._asking_target():
            self._upload = await self.objects.create_upload(
                self.target, self.key, self.marks, media_type=self.media_type
            )
        await self._put_part(first, may)
        async for part in parts:
            self.size += len(part)
            await self._put_part(part, may)

    @contextmanager
    def _asking_target(self) -> Iterator[None]:
        self.waits_for_target, self.asked_at = True, asyncio.get_running_loop().time()
        yield
        self.waits_for_target = False

    async def _put_part(self, content: bytes, may: May) -> None:
        assert self._upload is not None  # noqa: S101 - it is open
        await may()
        number = len(self._stored) + 1
        put = self.objects.put_part
        with self._asking_target():
            stored = await put(self.target, self._upload, number, _Body(content))
        self._stored.append(stored)

    async def appear(self, may: May) -> str:
        """Let it appear, and return its ETag; `may` is asked before each request that does.

        Raises what the store raises; then `abort` it.
        """
        with self._asking_target():
            if self._whole is not None:
                return await self._put_whole(self._whole, may)
            etag = await Retried(partial(self._complete, may))()
        self.left_open = False
        return etag

    async def _put_whole(self, content: bytes, may: May) -> str:
        return await self.objects.put_object(
            self.target,
            self.key,
            _Body(content),
            self.marks,
            media_type=self.media_type,
            may=may,
        )

    async def _complete(self, may: May, *, again: bool) -> str:
        assert self._upload is not None  # noqa: S101 - it was sent
        await may()
        return await self.objects.complete(
            self.target, self._upload, self._stored, self.size, marks=self.marks, again=again
        )

    async def abort(self) -> None:
        """Abort its upload, if one is open. What a store says to that is not told."""
        upload, self._upload = self._upload, None
        if upload is not None and self.left_open:
            with suppress(DeliveryError):
                await self.objects.abort(self.target, upload)
                self.left_open = False


async def _parts(pieces: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """Cut into parts of the same size, but for the last one."""
    part = bytearray()
    async for piece in pieces:
        part += piece
        while len(part) > size:
            yield bytes(part[:size])
            del part[:size]
    yield bytes(part)


class _Body:
    """See `PartBody`."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.md5 = hashlib.md5(content, usedforsecurity=False).digest()

    def __len__(self) -> int:
        return len(self._content)

    async def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        yield self._content

    def seek(self, offset: int, whence: int = 0) -> int:  # noqa: ARG002
        """Rewind: each iteration begins at the first byte."""
        return 0

    def read(self) -> bytes:
        """Return all bytes."""
        return self._content
