"""Azure does what every store does; its own are fences of blocks and records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from uuid import uuid4

import pytest

from compose.embedded.azurite import Azurite
from sinks.stores.azure.managed import AzureStore, open_store
from sinks.stores.azure.target import AzureTarget
from tests.contract.object_store import ObjectStoreContract, Place
from tests.integration.azure import fetched, made_container, running_azurite, skipped_without

pytestmark = skipped_without


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Azurite]:
    """One account for all."""
    async with running_azurite(tmp_path_factory.mktemp("azure")) as running:
        yield running


@pytest.fixture
async def store() -> AsyncIterator[AzureStore]:
    """The real store."""
    async with open_store() as opened:
        yield opened


@pytest.fixture
async def target(server: Azurite) -> AsyncIterator[AzureTarget]:
    """A container of the test's own."""
    async with made_container(server) as made:
        yield made


@pytest.fixture
def place(server: Azurite, store: AzureStore, target: AzureTarget) -> Place:
    """A key there."""
    return Place(
        store=store,
        target=target,
        kind=AzureTarget,
        missing=replace(target, container="gone-container"),
        content=partial(fetched, server),
        key=f"{uuid4().hex}/a.zip",
    )


class TestAzure(ObjectStoreContract):
    """All that is asked of every store."""
