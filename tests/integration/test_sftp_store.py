"""SFTP servers do what every store does: asyncssh's own, and OpenSSH's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from sinks.stores.sftp.managed import SftpStore, open_store
from sinks.stores.sftp.target import SftpTarget
from tests.contract.object_store import ObjectStoreContract, Place
from tests.sftp_server import SftpServer, openssh, own_server, sshd


def place_at(server: SftpServer, store: SftpStore) -> Place:
    return Place(
        store=store,
        target=server.target,
        kind=SftpTarget,
        missing=replace(server.target, path="/gone"),
        content=server.content,
        key=f"{uuid4().hex}/a.zip",
    )


class TestAsyncssh(ObjectStoreContract):
    """All that is asked of every store, of asyncssh's server."""

    @pytest.fixture
    async def place(self, tmp_path: Path) -> AsyncIterator[Place]:
        async with own_server(tmp_path) as server, open_store() as store:
            yield place_at(server, store)


@pytest.fixture(scope="module")
async def ssh_server() -> AsyncIterator[SftpServer]:
    """OpenSSH's server, one for all."""
    async with openssh() as server:
        yield server


@pytest.mark.skipif(sshd() is None, reason="OpenSSH's server is not installed: run `make setup`")
class TestOpenSsh(ObjectStoreContract):
    """The same of OpenSSH's."""

    @pytest.fixture
    async def place(self, ssh_server: SftpServer) -> AsyncIterator[Place]:
        async with open_store() as store:
            yield place_at(ssh_server, store)
