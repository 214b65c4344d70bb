"""What deliveries need of Google Cloud Storage, and what people look at it by: a `ManagedStore`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection

from prometheus_client import Gauge

from app.delivery.targets import TargetCheck
from app.errors import DeliveryError
from app.network.hosts import AllowedHosts
from sinks.stores.breaker import Breakers
from sinks.stores.gcs.calls import GcsCalls
from sinks.stores.gcs.clients import GcsClients
from sinks.stores.gcs.probe import trying
from sinks.stores.gcs.store import GcsObjectStore
from sinks.stores.gcs.target import GcsTarget
from sinks.stores.https import check_ca
from sinks.stores.watched import Watched


class GcsStore(GcsObjectStore, Watched[GcsTarget]):
    """A `GcsObjectStore` that can be looked at."""

    def __init__(self, calls: GcsCalls) -> None:
        super().__init__(calls)
        self._trying = trying(calls)

    async def prepare(self) -> None:
        """Do nothing: nothing takes long to load."""

    @property
    def watched_by(self) -> Breakers[GcsTarget]:
        """See `Watched`."""
        return self.calls.breakers

    async def look(self, target: GcsTarget) -> None:
        """Raise DeliveryError unless the bucket is there and may be listed."""
        await self.calls.look_at_bucket(target)

    def told(self, target: GcsTarget, error: DeliveryError) -> DeliveryError:
        """Return what a tenant is told in place of an error."""
        return self._trying.told(target, error)

    async def probe(self, target: GcsTarget) -> list[TargetCheck]:
        """Try a target for a tenant."""
        return await self._trying.probe(target)

    async def examine(self, target: GcsTarget) -> list[TargetCheck]:
        """Try a target, and each right there, for an operator."""
        return await self._trying.examine(target)


@contextlib.asynccontextmanager
async def open_store(
    *,
    up: Gauge | None = None,
    ca: str = "",
    hosts: AllowedHosts | None = None,
    identity_places: Collection[str] = (),
) -> AsyncIterator[GcsStore]:
    """Open it; its clients are closed at the end. `up` shows which servers answer.

    `ca` is a file of CAs that are trusted beside the public ones; raises ConfigurationError.
    `hosts` are where tenants may deliver to; without, anywhere. `identity_places` are where this
    service signs in as itself.
    """
    check_ca(ca)
    clients = GcsClients(ca=ca, hosts=hosts, identity_places=identity_places)
    calls = GcsCalls(clients, up=up)
    async with contextlib.aclosing(calls):
        yield GcsStore(calls)
