"""Google Cloud Storage as the tests have it: fake-gcs-server, a bucket of each test's own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import pytest

from compose.embedded.fake_gcs import fake_gcs, missing
from compose.embedded.processes import Server
from sinks.stores.gcs.target import GcsTarget
from tests.gcs_account import credentials

skipped_without = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@contextlib.asynccontextmanager
async def running_gcs(folder: Path) -> AsyncIterator[Server]:
    """Run it for the tests of a module."""
    async with fake_gcs(folder) as server:
        yield server


@contextlib.asynccontextmanager
async def made_bucket(server: Server) -> AsyncIterator[GcsTarget]:
    """Make a bucket; give it as a target that is asked for with a service account."""
    name = f"b-{uuid4().hex[:12]}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/storage/v1/b", json={"name": name}) as answer,
    ):
        answer.raise_for_status()
    yield GcsTarget(endpoint=server.url, container=name, credentials=credentials())


async def fetched(server: Server, url: str) -> bytes:
    """Return the bytes of an object by its URL."""
    bucket, _, name = url.removeprefix("gs://").partition("/")
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"{server.url}/storage/v1/b/{bucket}/o/{quote(name, safe='')}", params={"alt": "media"}
        ) as answer,
    ):
        answer.raise_for_status()
        return await answer.read()


async def names(server: Server, bucket: str) -> list[str]:
    """Return what is in a bucket."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{server.url}/storage/v1/b/{bucket}/o") as answer,
    ):
        told = await answer.json()
    return [item["name"] for item in told.get("items") or ()]
