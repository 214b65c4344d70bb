"""Azure does what every store does; its own are fences of blocks and records."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from compose.embedded.azurite import Azurite
from sinks.stores.azure.managed import AzureStore
from sinks.stores.azure.target import AzureTarget
from tests.contract.object_store import ObjectStoreContract, Place
from tests.integration.azure import fetched, skipped_without

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
    )


class TestAzure(ObjectStoreContract):
    """All that is asked of every store."""
