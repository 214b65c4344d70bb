"""The client library on a real S3 server: what a presigned link leads to is checked as it comes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from rs_delivery_client import Kind, verify
from rs_delivery_client.content import Content, fixed
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.client_library.archives import FILES, MAKERS, manifest_of
from tests.contract.object_store import Place, make_asked
from tests.integration.conftest import abort_all

ARCHIVE = MAKERS["ours.zip-auto"][1](FILES, Path())


@pytest.fixture
async def place(sink: S3ObjectStore, target: S3Target) -> AsyncIterator[Place]:
    """Where an object of the S3 server is."""
    key = f"{uuid4().hex}/ä b+1.zip"

    async def never(url: str) -> bytes:
        raise AssertionError(url)

    yield Place(store=sink, target=target, kind=S3Target, missing=target, content=never, key=key)
    await abort_all(sink, target, key)


async def test_what_a_presigned_link_leads_to_is_verified(place: Place, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(manifest_of(FILES, ARCHIVE)))
    await place.put(ARCHIVE)
    url = await place.store.link(place.target, place.key, make_asked())
    report = await verify(url, manifest=manifest)
    assert report.ok
    assert report.files == len(FILES)
    await place.put(ARCHIVE[:-1])
    url = await place.store.link(place.target, place.key, make_asked())
    assert Kind.WRONG_SIZE in (await verify(url, manifest=manifest)).kinds


async def test_reading_goes_on_behind_what_was_had(place: Place, target: S3Target) -> None:
    etag = await place.put(ARCHIVE)
    url = await place.store.link(place.target, place.key, make_asked())
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        content = Content(session, fixed(url), start=1000, etag=f'"{etag.strip(chr(34))}"')
        rest = b"".join([chunk async for chunk in content])
    assert rest == ARCHIVE[1000:]
    assert content.size == len(ARCHIVE)
