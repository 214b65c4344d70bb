"""What deliveries need of SFTP servers, and what people look at them by: a `ManagedStore`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable

from prometheus_client import Gauge

from app.delivery.targets import TargetCheck, TargetTrouble
from app.errors import DeliveryError
from app.network.hosts import AllowedHosts
from sinks.stores.sftp.connections import SftpConnections
from sinks.stores.sftp.probe import told_as, try_for_operator, try_for_tenant
from sinks.stores.sftp.store import SftpObjectStore
from sinks.stores.sftp.target import SftpTarget


class SftpStore(SftpObjectStore):
    """An `SftpObjectStore` that can be looked at."""

    async def prepare(self) -> None:
        """Do nothing: what takes long is imported when it is opened."""

    def serve(self, in_use: Callable[[], Iterable[SftpTarget]]) -> None:
        """Ask for the targets that tenants have: their servers are probed, all others forgotten."""
        self.breakers.in_use = in_use

    def on_trouble(self, act: Callable[[], object]) -> None:
        """Call `act` when a circuit opens or closes."""
        self.breakers.on_change.append(act)

    def forget_unused(self) -> None:
        """Forget the circuits of servers that no tenant has any more."""
        self.breakers.forget_unused()

    def trouble(self, target: SftpTarget) -> TargetTrouble | None:
        """Return what has opened a target's circuit."""
        return self.breakers.trouble(target)

    async def look(self, target: SftpTarget) -> None:
        """Raise DeliveryError unless the pinned server lets us in, and has the folder."""
        await self.find_folder(target)

    def told(self, target: SftpTarget, error: DeliveryError) -> DeliveryError:
        """Return what a tenant is told in place of an error."""
        return told_as(target, error)

    async def probe(self, target: SftpTarget) -> list[TargetCheck]:
        """Try a target for a tenant."""
        return await try_for_tenant(self, target)

    async def examine(self, target: SftpTarget) -> list[TargetCheck]:
        """Try a target, and each right there, for an operator."""
        return await try_for_operator(self, target)


@contextlib.asynccontextmanager
async def open_store(
    *, up: Gauge | None = None, hosts: AllowedHosts | None = None
) -> AsyncIterator[SftpStore]:
    """Open it; its connections are closed at the end. `up` shows which servers answer.

    `hosts` are where tenants may deliver to; without, anywhere.
    """
    async with contextlib.aclosing(SftpStore(SftpConnections(hosts=hosts), up=up)) as store:
        yield store
