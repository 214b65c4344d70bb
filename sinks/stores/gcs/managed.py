"""What deliveries need of Google Cloud Storage, and what people look at it by: a `ManagedStore`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable

from prometheus_client import Gauge

from app.delivery.targets import TargetCheck, TargetTrouble
from app.errors import DeliveryError
from app.network.hosts import AllowedHosts
from sinks.stores.gcs.calls import GcsCalls
from sinks.stores.gcs.clients import GcsClients
from sinks.stores.gcs.probe import Prober
from sinks.stores.gcs.rights import try_target
from sinks.stores.gcs.store import GcsObjectStore
from sinks.stores.gcs.target import GcsTarget
from sinks.stores.https import check_ca


class GcsStore(GcsObjectStore):
    """A `GcsObjectStore` that can be looked at."""

    def __init__(self, calls: GcsCalls) -> None:
        super().__init__(calls)
        self._prober = Prober(calls)

    async def prepare(self) -> None:
        """Do nothing: nothing takes long to load."""

    def serve(self, in_use: Callable[[], Iterable[GcsTarget]]) -> None:
        """Ask for the targets that tenants have: their servers are probed, all others forgotten."""
        self.calls.breakers.in_use = in_use

    def on_trouble(self, act: Callable[[], object]) -> None:
        """Call `act` when a circuit opens or closes."""
        self.calls.breakers.on_change.append(act)

    def forget_unused(self) -> None:
        """Forget the circuits of servers that no tenant has any more."""
        self.calls.breakers.forget_unused()

    def trouble(self, target: GcsTarget) -> TargetTrouble | None:
        """Return what has opened a target's circuit."""
        return self.calls.breakers.trouble(target)

    async def look(self, target: GcsTarget) -> None:
        """Raise DeliveryError unless the bucket is there and may be listed."""
        await self.calls.look_at_bucket(target)

    def told(self, target: GcsTarget, error: DeliveryError) -> DeliveryError:
        """Return what a tenant is told in place of an error."""
        return self._prober.told(target, error)

    async def probe(self, target: GcsTarget) -> list[TargetCheck]:
        """Try a target for a tenant."""
        return await self._prober.probe(target)

    async def examine(self, target: GcsTarget) -> list[TargetCheck]:
        """Try a target, and each right there, for an operator."""
        return await try_target(self.calls, target)


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
