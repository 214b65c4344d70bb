"""S3 does what every store does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest

from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.client import Client
from tests.contract.object_store import ObjectStoreContract, Place, over_http
from tests.integration.conftest import abort_all
from tests.targets import MAKE


@pytest.fixture
async def place(sink: S3ObjectStore, target: S3Target, client: Client) -> AsyncIterator[Place]:
    """A key of the embedded S3 server."""
    key = f"{uuid4().hex}/a.zip"
    yield Place(
        store=sink,
        target=target,
        kind=S3Target,
        missing=replace(target, bucket="gone-bucket"),
        content=client.fetch,
        key=key,
        opens=over_http,
    )
    await abort_all(sink, target, key)


class TestS3(ObjectStoreContract):
    """All that is asked of every store, but for what its server is known not to tell."""

    async def test_of_a_part_that_was_sent_again_the_last_is_told(self, place: Place) -> None:
        if MAKE is not None and "parts replaced" in MAKE.lacks:
            pytest.skip(f"{MAKE.name} tells every one")
        await super().test_of_a_part_that_was_sent_again_the_last_is_told(place)
