"""What deliveries need of S3, and what people look at it by: a `ManagedStore`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from prometheus_client import Gauge

from app.delivery.targets import TargetCheck
from app.errors import DeliveryError
from app.network.hosts import AllowedHosts
from sinks.stores.breaker import Breakers
from sinks.stores.https import check_ca
from sinks.stores.s3.clients import S3Clients
from sinks.stores.s3.links import Door
from sinks.stores.s3.probe import Prober
from sinks.stores.s3.rights import try_target
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from sinks.stores.watched import Watched


class S3Store(S3ObjectStore, Watched[S3Target]):
    """An `S3ObjectStore` that can be looked at."""

    def __init__(
        self,
        clients: S3Clients,
        *,
        up: Gauge | None = None,
        hosts: AllowedHosts | None = None,
        door: Door | None = None,
    ) -> None:
        super().__init__(clients, up=up, door=door)
        self._prober = Prober(clients, hosts)

    async def prepare(self) -> None:
        """Load what clients are made with."""
        await self.clients.prepare()

    @property
    def watched_by(self) -> Breakers[S3Target]:
        """See `Watched`."""
        return self.breakers

    async def look(self, target: S3Target) -> None:
        """Raise DeliveryError unless the bucket exists, and an S3 server says so."""
        await self._prober.look(self, target)

    def told(self, target: S3Target, error: DeliveryError) -> DeliveryError:
        """Return what a tenant is told in place of an error."""
        return self._prober.told(target, error)

    async def probe(self, target: S3Target) -> list[TargetCheck]:
        """Try a target for a tenant."""
        return await self._prober.probe(target)

    async def examine(self, target: S3Target) -> list[TargetCheck]:
        """Try a target, and each right there, for an operator."""
        return await try_target(self, target)


@contextlib.asynccontextmanager
async def open_store(
    *,
    up: Gauge | None = None,
    ca: str = "",
    hosts: AllowedHosts | None = None,
    endpoint: str = "",
    public: str = "",
) -> AsyncIterator[S3Store]:
    """Open it; its clients are closed at the end. `up` shows which servers answer.

    `ca` is a file of CAs that are trusted beside the public ones; raises ConfigurationError.
    `hosts` are where tenants may deliver to; without, anywhere. Clients reach the operator's own
    `endpoint` at `public`, if that is named.
    """
    check_ca(ca)
    door = Door.between(endpoint, public)
    store = S3Store(S3Clients(ca=ca, hosts=hosts), up=up, hosts=hosts, door=door)
    async with contextlib.aclosing(store):
        yield store
