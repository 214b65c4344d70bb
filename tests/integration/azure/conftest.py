"""One Azurite for all tests of a module, and a container of each test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from compose.embedded.azurite import Azurite
from sinks.stores.azure.managed import AzureStore, open_store
from sinks.stores.azure.target import AzureTarget
from tests.integration.azure import made_container, running_azurite


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
async def direct(server: Azurite) -> AsyncIterator[AzureTarget]:
    """A container of the test's own."""
    async with made_container(server) as made:
        yield made


@pytest.fixture
def key() -> str:
    """The key of an object that is not there."""
    return f"{uuid4().hex}/a.zip"
