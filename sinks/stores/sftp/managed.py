"""What deliveries need of SFTP servers, and what people look at them by: a `ManagedStore`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from prometheus_client import Gauge

from app.delivery.targets import TargetCheck
from app.errors import DeliveryError
from app.network.hosts import AllowedHosts
from sinks.stores.breaker import Breakers
from sinks.stores.sftp.connections import SftpConnections
from sinks.stores.sftp.probe import told_as, try_for_operator, try_for_tenant
from sinks.stores.sftp.store import SftpObjectStore
from sinks.stores.sftp.target import SftpTarget
from sinks.stores.watched import Watched


class SftpStore(SftpObjectStore, Watched[SftpTarget]):
    """An `SftpObjectStore` that can be looked at."""

    async def prepare(self) -> None:
        """Do nothing: what takes long is imported when it is opened."""

    @property
    def watched_by(self) -> Breakers[SftpTarget]:
        """See `Watched`."""
        return self.breakers

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
