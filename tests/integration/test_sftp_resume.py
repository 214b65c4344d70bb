"""A transfer to an SFTP server that one worker began, and another one ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.settings import Settings
from sinks.pipeline.parts import MIB, Part
from sinks.stores.sftp.managed import SftpStore, open_store
from tests.client import contents
from tests.integration.test_resume import FILES, Stopped, undisturbed
from tests.sftp_server import OwnServer, own_server
from tests.unit.test_assembler import goes_on

pytestmark = [pytest.mark.stack, goes_on]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[OwnServer]:
    async with own_server(tmp_path) as running:
        yield running


class Handed:
    """The store of one process, and then that of another."""

    def __init__(self, store: SftpStore) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


async def test_another_process_sends_nothing_again_that_is_there(
    pool: asyncpg.Pool, settings: Settings, server: OwnServer
) -> None:
    async with open_store() as one, open_store() as other:
        handed = Handed(one)
        parts: Any = (pool, settings, handed, server.target)
        stopped = Stopped(*parts)
        await stopped.begin("third.bin")
        handed.store = other
        row = await stopped.end()
        assert (row["state"], row["attempt"], row["md5"]) == ("DONE", 2, undisturbed())
        assert contents(await server.content(row["url"])) == FILES
        sent = stopped.sink.parts
        assert sent == Counter(range(1, max(sent) + 1))
        assert stopped.sink.aborted == 0
        assert [name for name in server.left() if "rs-delivery-" in name] == []


async def test_an_upload_with_another_part_begins_again(
    pool: asyncpg.Pool, settings: Settings, server: OwnServer
) -> None:
    async with open_store() as one, open_store() as other:
        first: Any = (pool, settings, one, server.target)
        stopped = Stopped(*first)
        await stopped.begin("third.bin")
        key = f"{stopped.name}/{(await stopped.worker.row(stopped.name))['archive_name']}"
        (upload,) = await other.open_uploads(server.target, key)
        await other.put_part(server.target, upload, 1, Part.of(b"x" * (5 * MIB)))
        row = await stopped.end()
        assert (row["state"], row["md5"]) == ("DONE", undisturbed())
        assert stopped.source.gets["first.bin"] == 2
        assert [name for name in server.left() if "rs-delivery-" in name] == []
