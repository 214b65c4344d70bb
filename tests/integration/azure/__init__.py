"""Azure's blob storage as the tests have it: Azurite, a container of each test's own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from azure.storage.blob.aio import BlobServiceClient

from compose.embedded.azurite import Azurite, azurite, missing
from compose.embedded.server_tls import ServerTls
from sinks.stores.azure.target import AzureTarget

skipped_without = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@contextlib.asynccontextmanager
async def running_azurite(folder: Path, *, tls: ServerTls | None = None) -> AsyncIterator[Azurite]:
    """Run it for the tests of a module."""
    async with azurite(folder, tls=tls) as server:
        yield server


def service(server: Azurite, *, ca: Path | None = None) -> BlobServiceClient:
    """Return a client (to be entered) that knows nothing of the service's own settings."""
    verify = True if ca is None else str(ca)
    return BlobServiceClient(
        server.url, credential=server.key, retry_total=0, connection_verify=verify
    )


@contextlib.asynccontextmanager
async def made_container(server: Azurite, *, ca: Path | None = None) -> AsyncIterator[AzureTarget]:
    """Make a container; give it as a target that is asked for with the account's key."""
    name = f"c-{uuid4().hex[:12]}"
    async with service(server, ca=ca) as client:
        await client.create_container(name)
    yield AzureTarget(endpoint=server.url, account=server.account, container=name, key=server.key)


def sas_of(server: Azurite, container: str, permissions: str = "rcwdl", *, ends: timedelta) -> str:
    """Return a SAS for a container; it ends so long from now."""
    now = datetime.now(UTC)
    return generate_container_sas(
        server.account,
        container,
        account_key=server.key,
        permission=ContainerSasPermissions.from_string(permissions),
        start=now - timedelta(days=2),
        expiry=now + ends,
    )


async def fetched(server: Azurite, url: str) -> bytes:
    """Return the bytes of a blob by its URL."""
    container, _, name = url.removeprefix(f"{server.url}/").partition("/")
    async with service(server) as client:
        download = await client.get_blob_client(container, name).download_blob()
        return await download.readall()
