"""What is sent to an SFTP server is cut into requests, several of which are under way."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from sinks.pipeline.parts import MIB, Part
from sinks.stores.sftp.files import send

CONTENT = bytes(range(256)) * (4 * MIB // 256)


class File:
    """Takes writes; answers none until so many bytes wait for it."""

    def __init__(self, *, until: int = 0) -> None:
        self.until = until
        self.waiting = self.most = 0
        self.enough = asyncio.Event()
        self.content = bytearray()
        self.largest = 0
        self.error: Exception | None = None

    async def write(self, data: bytes, offset: int) -> int:
        self.waiting += len(data)
        self.most = max(self.most, self.waiting)
        self.largest = max(self.largest, len(data))
        if self.waiting >= self.until:
            self.enough.set()
        await self.enough.wait()
        self.waiting -= len(data)
        if self.error is not None:
            raise self.error
        end = offset + len(data)
        self.content.extend(bytes(max(0, end - len(self.content))))
        self.content[offset:end] = data
        return len(data)


def server(block: int) -> Any:
    return SimpleNamespace(limits=SimpleNamespace(max_write_len=block))


@pytest.mark.parametrize("block", [16 * 1024, 255 * 1024, 4 * MIB])
async def test_as_many_bytes_are_on_their_way_as_are_meant_to_be_and_no_more(block: int) -> None:
    """However large a part is, and whatever a server takes at once: they are in memory."""
    file: Any = File(until=MIB - block % MIB)
    assert await send(server(block), file, 100, Part.of(CONTENT)) == len(CONTENT)
    assert file.content == bytes(100) + CONTENT
    assert MIB // 2 < file.most <= MIB
    assert file.largest <= min(block, 256 * 1024)


async def test_pieces_need_not_be_as_requests_are() -> None:
    pieces: list[bytes | memoryview] = [b"a" * 10, memoryview(b"b" * 100), b"", b"c"]
    file: Any = File()
    part = Part(pieces, 111, b"")
    assert await send(server(7), file, 0, part) == 111
    assert bytes(file.content) == b"".join(pieces)


async def test_a_write_that_fails_ends_all() -> None:
    file: Any = File(until=MIB // 2)
    file.error = OSError("gone")
    with pytest.raises(OSError, match="gone"):
        await send(server(256 * 1024), file, 0, Part.of(CONTENT))
    assert bytes(file.content) == b""
