"""The client library takes from the service itself what was delivered, and finds it whole."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path

import pytest

from app.delivery.manifest import MANIFEST_NAME
from rs_delivery_client import ContentMissingError, DeliveryClient, FlawedError, Key, verify
from tests.client_library.archives import FILES, MAKERS, manifest_of
from tests.web.conftest import SECRET, TENANT
from tests.web.test_content import TARGET, World
from tests.web.test_content import world as world  # noqa: PLC0414 - a fixture

KEY = Key(secret=SECRET, tenant=TENANT, user="admin@example.org", role="ADMIN")
ARCHIVE = MAKERS["ours.zip-auto"][1](FILES, Path())


@pytest.fixture
def without_links(world: World) -> World:
    """The service, whose tenant gives no links: so bytes come through the service."""
    world.tenants.give(TENANT, target=TARGET, targets={}, link_ttl=timedelta())
    return world


def client_of(world: World) -> DeliveryClient:
    return DeliveryClient(str(world.api.client.make_url("")), token=KEY)


async def test_an_archive_and_its_manifest_arrive_whole(
    without_links: World, tmp_path: Path
) -> None:
    delivery = await without_links.done(content=ARCHIVE)
    manifest = manifest_of(FILES, ARCHIVE, str(delivery.archive_name))
    place = f"p/c/{MANIFEST_NAME}"
    await without_links.put(delivery, place, json.dumps(manifest).encode())
    async with client_of(without_links) as client:
        got = await client.download("c", tmp_path)
        unpacked = await client.download("c", tmp_path / "to", unpack=True)
    assert hashlib.md5(got.path.read_bytes()).digest() == hashlib.md5(ARCHIVE).digest()
    assert got.report.listed == len(FILES)
    assert (await verify(got.path)).ok
    assert (await verify(unpacked.path)).ok


async def test_an_archive_without_a_manifest_is_checked_by_its_digest(
    without_links: World, tmp_path: Path
) -> None:
    await without_links.done(content=ARCHIVE)
    async with client_of(without_links) as client:
        got = await client.download("c", tmp_path)
    assert got.report.listed is None
    assert "digest as a whole" in got.report.notes[0]


async def test_what_is_no_archive_is_kept_aside(without_links: World, tmp_path: Path) -> None:
    await without_links.done(content=ARCHIVE[:-9])
    async with client_of(without_links) as client:
        with pytest.raises(FlawedError, match="truncated"):
            await client.download("c", tmp_path)


async def test_where_neither_is_allowed_the_service_says_what_to_do(
    without_links: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await without_links.done(content=ARCHIVE)
    monkeypatch.setattr(type(without_links.downloads), "on", False)
    async with client_of(without_links) as client:
        with pytest.raises(ContentMissingError, match="DELIVERY_CONTENT_DOWNLOADS"):
            await client.download("c", tmp_path)
