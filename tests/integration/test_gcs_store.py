"""Google Cloud Storage does what every store does; its own are parts that are objects."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from uuid import uuid4

import pytest

from app.delivery.marks import marks_of
from compose.embedded.processes import Server
from sinks.pipeline.parts import Part
from sinks.stores.gcs.managed import GcsStore, open_store
from sinks.stores.gcs.target import GcsTarget
from tests.builders import make_delivery
from tests.contract.object_store import ObjectStoreContract, Place, over_http
from tests.integration.gcs import fetched, made_bucket, names, running_gcs, skipped_without

pytestmark = skipped_without


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """One for all."""
    async with running_gcs(tmp_path_factory.mktemp("gcs")) as running:
        yield running


@pytest.fixture
async def store() -> AsyncIterator[GcsStore]:
    """The real store."""
    async with open_store() as opened:
        yield opened


@pytest.fixture
async def target(server: Server) -> AsyncIterator[GcsTarget]:
    """A bucket of the test's own."""
    async with made_bucket(server) as made:
        yield made


@pytest.fixture
def place(server: Server, store: GcsStore, target: GcsTarget) -> Place:
    """A key there."""
    return Place(
        store=store,
        target=target,
        kind=GcsTarget,
        missing=replace(target, container="gone-bucket"),
        content=partial(fetched, server),
        key=f"{uuid4().hex}/a.zip",
        # By this name alone it knows whom a link is for.
        opens=partial(over_http, host="storage.googleapis.com"),
    )


class TestGcs(ObjectStoreContract):
    """All that is asked of every store."""


@pytest.mark.parametrize("count", [32, 33, 1030])
async def test_an_archive_of_more_parts_than_are_composed_at_once_is_composed_of_composed_ones(
    server: Server, place: Place, count: int
) -> None:
    """The CRC32C that is compared is made of that of all parts. Nothing is left of them."""
    marks = marks_of(make_delivery())
    upload = await place.begin(marks)
    contents = [b"%04d" % number for number in range(count)]
    parts = await place.send(upload, *contents)
    assert await place.complete(upload, parts, 4 * count, marks)
    assert await place.holds() == b"".join(contents)
    assert await names(server, place.target.container) == [place.key]


async def test_parts_lie_behind_the_targets_prefix_where_a_rule_can_find_them(
    server: Server, place: Place, target: GcsTarget
) -> None:
    behind = replace(target, prefix="far/off/")
    key = f"far/off/{place.key}"
    upload = await place.store.create_upload(behind, key, {}, media_type="application/zip")
    await place.store.put_part(behind, upload, 1, Part.of(b"content"))
    for name in await names(server, target.container):
        assert name.startswith("far/off/.rs-delivery-uploads/")
    await place.store.abort(behind, upload)
    assert await names(server, target.container) == []


async def test_what_an_end_that_broke_off_has_left_is_told_as_an_upload_and_ended(
    server: Server, store: GcsStore, place: Place, target: GcsTarget
) -> None:
    upload = await place.begin()
    await place.send(upload, b"first", b"second")
    record = next(
        name
        for name in await names(server, target.container)
        if upload.upload_id in name.rsplit("/", 1)[1]
    )
    await store.calls.remove(target, record)
    assert await place.open_uploads() == [upload]
    await store.abort(target, upload)
    assert await names(server, target.container) == []
    assert await place.open_uploads() == []


async def test_an_archive_keeps_its_md5_beside_its_marks(
    store: GcsStore, place: Place, target: GcsTarget
) -> None:
    """Google keeps none of what is composed."""
    marks = marks_of(make_delivery())
    upload = await place.begin(marks)
    parts = await place.send(upload, b"content")
    md5 = hashlib.md5(b"content").hexdigest()
    await store.complete(target, upload, parts, 7, marks=marks, md5=md5)
    stored = await store.calls.describe(target, place.key)
    assert stored is not None
    assert stored.metadata["rs-delivery-md5"] == md5
    assert stored.media_type == "application/zip"
    found = await place.find()
    assert found is not None
    assert found.has(marks)
