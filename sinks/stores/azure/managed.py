"""What deliveries need of Azure, and what people look at it by: a `ManagedStore`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection

from prometheus_client import Gauge

from app.delivery.targets import TargetCheck
from app.errors import DeliveryError
from app.network.hosts import AllowedHosts
from sinks.stores.azure.calls import AzureCalls
from sinks.stores.azure.clients import AzureClients
from sinks.stores.azure.probe import trying
from sinks.stores.azure.store import AzureObjectStore
from sinks.stores.azure.target import AzureTarget
from sinks.stores.breaker import Breakers
from sinks.stores.https import check_ca
from sinks.stores.watched import Watched


class AzureStore(AzureObjectStore, Watched[AzureTarget]):
    """An `AzureObjectStore` that can be looked at."""

    def __init__(self, calls: AzureCalls) -> None:
        super().__init__(calls)
        self._trying = trying(calls)

    async def prepare(self) -> None:
        """Do nothing: what takes long was loaded as it was opened."""

    @property
    def watched_by(self) -> Breakers[AzureTarget]:
        """See `Watched`."""
        return self.calls.breakers

    async def look(self, target: AzureTarget) -> None:
        """Raise DeliveryError unless the container is there and may be listed."""
        await self.calls.look_at_container(target)

    def told(self, target: AzureTarget, error: DeliveryError) -> DeliveryError:
        """Return what a tenant is told in place of an error."""
        return self._trying.told(target, error)

    async def probe(self, target: AzureTarget) -> list[TargetCheck]:
        """Try a target for a tenant."""
        return await self._trying.probe(target)

    async def examine(self, target: AzureTarget) -> list[TargetCheck]:
        """Try a target, and each right there, for an operator."""
        return await self._trying.examine(target)


@contextlib.asynccontextmanager
async def open_store(
    *,
    up: Gauge | None = None,
    ca: str = "",
    hosts: AllowedHosts | None = None,
    identity_places: Collection[str] = (),
) -> AsyncIterator[AzureStore]:
    """Open it; its clients are closed at the end. `up` shows which servers answer.

    `ca` is a file of CAs that are trusted beside the public ones; raises ConfigurationError.
    `hosts` are where tenants may deliver to; without, anywhere. `identity_places` are where this
    service signs in as itself.
    """
    check_ca(ca)
    clients = AzureClients(ca=ca, hosts=hosts, identity_places=identity_places)
    calls = AzureCalls(clients, up=up)
    async with contextlib.aclosing(calls):
        yield AzureStore(calls)
