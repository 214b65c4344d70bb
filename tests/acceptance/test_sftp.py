"""An archive is delivered to an SFTP server that a tenant has set."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from compose.embedded.stack import Stack
from tests.client import Client, contents, request_for
from tests.command import delivery
from tests.conftest import noise
from tests.sftp_server import own_server

pytestmark = pytest.mark.acceptance

MIB = 1024 * 1024


async def test_a_request_names_an_sftp_server_and_its_archive_is_there(
    service: str,
    stack: Stack,
    client: Client,
    make_product: Callable[..., str],
    tmp_path: Path,
) -> None:
    """Of several parts; what its key is, no one is shown."""
    files = {"a.txt": b"text " * 1000, "large.bin": noise(21 * MIB)}
    product = make_product(files)
    asked = await asyncio.to_thread(delivery, "token", **stack.environment)
    headers = {"Authorization": f"Bearer {asked.stdout.strip()}"}
    async with (
        own_server(tmp_path) as server,
        aiohttp.ClientSession(service, headers=headers) as session,
    ):
        target = {
            "type": "sftp",
            "host": "127.0.0.1",
            "port": server.port,
            "user": server.user,
            "host_key": server.host_key,
            "path": server.path,
            "key": server.key,
            "prefix": "in",
        }
        path = "/settings/delivery_targets"
        try:
            value = {"value": {"ground": target}}
            async with session.put(path, json=value, params={"check": "true"}) as answer:
                assert answer.status == 200, await answer.text()
                shown = (await answer.json())["content"]["value"]["ground"]
            assert shown == target | {"key": "*******"}
            body = request_for(product, targetDelivery="ground")
            done = await client.answer(body)
            name = body["correlationId"]
            archive = await server.content(done["url"])
            assert done == {
                "correlationId": name,
                "status": "DONE",
                "url": f"sftp://127.0.0.1:{server.port}/archives/in/{name}/{product}_v1.zip",
                "md5": hashlib.md5(archive).hexdigest(),
                "size": len(archive),
                "files": len(files),
            }
            assert contents(archive) == files
            folder = f"in/{name}"
            notes = f"{folder}/.{product}_v1.zip.rs-delivery"
            (note,) = (server.folder / notes).iterdir()
            assert server.left() == [
                "in",
                folder,
                notes,
                f"{notes}/{note.name}",
                f"{folder}/{product}_v1.zip",
            ]
        finally:
            async with session.delete(path) as answer:
                assert answer.status == 200
