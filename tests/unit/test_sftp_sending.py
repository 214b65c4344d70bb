"""Whatever an SFTP server says, what is kept of its files in memory is bounded."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable
from types import SimpleNamespace
from typing import Any

import asyncssh
import pytest

from sinks.pipeline.parts import MIB, Part
from sinks.stores.sftp import files
from sinks.stores.sftp.files import names_in, remove_folder, send

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
    assert await send(server(4096), file, 0, part) == 111
    assert bytes(file.content) == b"".join(pieces)


@pytest.mark.parametrize("block", [0, 1])
async def test_a_server_that_takes_a_byte_at_once_is_no_task_for_each(block: int) -> None:
    file: Any = File(until=64 * 4096)
    assert await send(server(block), file, 0, Part.of(CONTENT)) == len(CONTENT)
    assert file.content == CONTENT
    assert file.most == 64 * 4096


class Listing:
    """A client of a server that tells of names; `told` says how many it has told of."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = names
        self.told = 0
        self.removed: list[str] = []
        self.gone: list[str] = []

    async def scandir(self, _folder: str) -> AsyncIterator[asyncssh.SFTPName]:
        for name in self.names:
            self.told += 1
            yield asyncssh.SFTPName(name)

    async def remove(self, path: str) -> None:
        self.removed.append(path)
        assert self.told - len(self.removed) <= 32

    async def rmdir(self, path: str) -> None:
        self.gone.append(path)


async def test_a_folder_without_an_end_is_refused() -> None:
    sftp: Any = Listing(str(n) for n in itertools.count())
    with pytest.raises(asyncssh.SFTPFailure, match="more than 100 names"):
        await names_in(sftp, "a", at_most=100)
    assert sftp.told == 101


async def test_names_of_others_are_not_kept() -> None:
    sftp: Any = Listing(str(n) for n in range(10_000))
    assert await names_in(sftp, "a", start="999", at_most=11) == [
        "999",
        *map(str, range(9990, 10_000)),
    ]


async def test_what_is_in_a_folder_is_removed_as_it_is_told_of() -> None:
    sftp: Any = Listing(str(n) for n in range(1000))
    await remove_folder(sftp, "a")
    assert sorted(sftp.removed) == sorted(f"a/{n}" for n in range(1000))
    assert sftp.gone == ["a"]


async def test_a_write_that_is_never_answered_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ANSWER_TIMEOUT", 0.01)
    file: Any = File(until=len(CONTENT))  # more than is on its way at once
    async with asyncio.timeout(60):
        with pytest.raises(TimeoutError, match=r"a write was not answered for 0\.01 s"):
            await send(server(256 * 1024), file, 0, Part.of(CONTENT))


async def test_a_write_that_fails_ends_all() -> None:
    file: Any = File(until=MIB // 2)
    file.error = OSError("gone")
    with pytest.raises(OSError, match="gone"):
        await send(server(256 * 1024), file, 0, Part.of(CONTENT))
    assert bytes(file.content) == b""
