"""Azure does what every store does; its own are fences of blocks and records."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial

import pytest

from compose.embedded.azurite import Azurite
from sinks.stores.azure.managed import AzureStore
from sinks.stores.azure.target import AzureTarget
from tests.contract.object_store import PART, ObjectStoreContract, Place, over_http
from tests.integration.azure import fetched, service, skipped_without

pytestmark = skipped_without


@pytest.fixture
def place(server: Azurite, store: AzureStore, direct: AzureTarget, key: str) -> Place:
    """A key there."""
    return Place(
        store=store,
        target=direct,
        kind=AzureTarget,
        missing=replace(direct, container="gone-container"),
        content=partial(fetched, server),
        key=key,
        opens=over_http,
    )


class TestAzure(ObjectStoreContract):
    """All that is asked of every store."""

    async def test_a_blob_has_the_md5_of_all_its_bytes(self, place: Place, server: Azurite) -> None:
        content = PART + b"the rest"
        md5 = hashlib.md5(content)
        upload = await place.begin()
        parts = await place.send(upload, PART, b"the rest")
        await place.store.complete(
            place.target, upload, parts, len(content), marks={}, md5=md5.hexdigest()
        )
        async with service(server) as client:
            blob = client.get_blob_client(place.target.container, place.key)
            found = await blob.get_blob_properties()
        assert found.content_settings.content_md5 == bytearray(md5.digest())
