"""A night on which faults happen: time goes by at once, and what is to be told of them is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from app.delivery.model import Delivery
from app.delivery.outgoing import Lane, OutgoingMessage
from app.delivery.states import Work
from app.settings import Settings
from app.store import PostgresConfiguration
from app.tenants.vault import Vault
from app.views.attention import CATALOGUE, Need
from compose.embedded.stack import TENANT, Stack
from tests.deliveries import DeliveriesInPostgres

# Each fault happens to one; who looks is of the first, to which nothing does.
TENANTS = (TENANT, "night-1", "night-2", "night-3", "night-4", "night-5")
_AHEAD = timedelta(hours=1)  # that a worker is heard of, however long the test takes


@dataclass(frozen=True, kw_only=True)
class Named:
    """What is to be told of a fault."""

    code: Need
    since: datetime
    tenant: str | None = None
    subject: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)  # of its alert, beside the severity

    @property
    def alert(self) -> str | None:
        """The alert that is to fire; None: an operator wants it so."""
        return CATALOGUE[self.code].alert


class Night:
    """A site's database, in which things happen, and no process of the service works."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, stack: Stack) -> None:
        of_all = settings.model_copy(update={"tenants": TENANTS})
        self.deliveries = DeliveriesInPostgres(pool, of_all)
        # With the keys of those that read what tenants set.
        keys = stack.environment["DELIVERY_SECRET_KEYS"].split(",")
        self.deliveries.configuration = PostgresConfiguration(pool, Vault(keys))
        self.has_worker = True
        self._pool = pool
        self._gone_by = timedelta()
        self._named: list[Named] = []

    async def passes(self, time: timedelta) -> None:
        """Let time go by."""
        await self.deliveries.elapse(time)
        self._gone_by += time

    async def ends(self) -> None:
        """Let a worker be there, unless that is what is wrong."""
        if self.has_worker:
            await self.deliveries.presence("well").heartbeat()
            await self._pool.execute(
                "UPDATE worker SET seen_at = now() + $1::interval WHERE id = 'well'", _AHEAD
            )

    def tells(self, code: Need, *, since: datetime, **told: Any) -> None:
        """Note what is to be told, since a time that is one of now."""
        self._named.append(Named(code=code, since=since + self._gone_by, **told))

    @property
    def named(self) -> Sequence[Named]:
        """What is to be told now: of what began so long ago."""
        return [replace(each, since=each.since - self._gone_by) for each in self._named]

    # What happens.

    async def when(self, question: str, *arguments: object) -> datetime:
        """Return a time that the database has."""
        found: datetime = await self._pool.fetchval(question, *arguments)
        return found

    async def execute(self, statement: str, *arguments: object) -> None:
        """Let something be so in the database."""
        await self._pool.execute(statement, *arguments)

    async def state_since(self, delivery: Delivery) -> datetime:
        """Return since when a delivery is in its state."""
        return await self.when("SELECT state_since FROM delivery WHERE id = $1", delivery.id)

    async def messages_leave(self) -> None:
        """Let brokers take all that is owed."""

        async def take(_message: OutgoingMessage) -> None:
            """Confirm it."""

        outbox = self.deliveries.outbox()
        for lane in Lane:
            while (await outbox.relay(lane, take)).dealt_with:
                pass

    async def claimed(
        self, tenant: str, name: str, *, owner: str = "w", lease: timedelta = timedelta(minutes=1)
    ) -> Delivery:
        """Let a worker begin the transfer of a new delivery, the only one that is due."""
        ready = await self.deliveries.ready(name, tenant=tenant)
        claimed = await self.deliveries.leases(owner, lease.total_seconds()).claim(Work.TRANSFER)
        assert claimed is not None
        assert claimed.id == ready.id
        return claimed
