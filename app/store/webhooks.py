"""What is owed to webhooks, and how they take it, on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg

from app.audit import Actor
from app.delivery.webhooks import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    ORDER_TRIES,
    Claim,
    DeadEvent,
    DeliveryEvent,
    OwedEvent,
    Round,
    Webhook,
    WebhookSeen,
    pause_after,
    resent,
)
from app.errors import as_cause
from app.store.audit import record
from app.store.pool import translate_errors
from app.store.sql import load
from app.telemetry.logs import get_logger

log = get_logger(__name__)

SQL = load(__name__)

_TTL = timedelta(minutes=2)  # of a claim, longer than what it gives takes


async def tell(
    connection: asyncpg.pool.PoolConnectionProxy, events: Sequence[DeliveryEvent]
) -> bool:
    """Owe events to the webhooks that ask for them; whether there is one."""
    told: str = await connection.execute(
        *SQL["owe_events"](
            tenants=[event.tenant for event in events],
            message_ids=[event.id for event in events],
            types=[event.type for event in events],
            deliveries=[event.delivery_id for event in events],
            correlation_ids=[event.correlation_id for event in events],
            data=[json.dumps(event.data) for event in events],
            traces=[event.trace for event in events],
        )
    )
    return not told.endswith(" 0")


class PostgresWebhooks:
    """See `app.delivery.webhooks.WebhookOutbox`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def claim(
        self, webhooks: Sequence[Webhook], *, limit: int, steady: bool = False
    ) -> Claim | None:
        """Take a webhook that has something due."""
        claim = uuid4()
        known = {(webhook.tenant, webhook.name): webhook for webhook in webhooks}
        claimed = SQL["claim_webhook"](
            tenants=[webhook.tenant for webhook in webhooks],
            names=[webhook.name for webhook in webhooks],
            urls=[webhook.url for webhook in webhooks],
            claim=claim,
            ttl=_TTL,
            steady=steady,
            order_tries=ORDER_TRIES,
        )
        with translate_errors():
            async with self._pool.acquire() as connection:
                row = await connection.fetchrow(*claimed)
                if row is None:
                    return None
                failing = row["failures"] > 0
                due = await connection.fetch(
                    *SQL["due_events"](
                        tenant=row["tenant"],
                        name=row["name"],
                        limit=1 if failing else limit,
                        order_tries=ORDER_TRIES,
                    )
                )
        webhook = known[row["tenant"], row["name"]]
        return Claim(id=claim, webhook=webhook, failing=failing, due=[_owed_of(e) for e in due])

    async def sent(self, owed: OwedEvent) -> None:
        """Forget an event that was taken."""
        with translate_errors():
            await self._pool.execute(*SQL["event_taken"](id=owed.id))

    async def failed(self, owed: OwedEvent, error: str, *, given_up_after: timedelta) -> bool:
        """Put an event off; whether it is dead now."""
        failed = SQL["event_failed"](
            id=owed.id,
            error=as_cause(error),
            pause=pause_after(owed.tries + 1),
            given_up_after=given_up_after,
        )
        with translate_errors():
            return bool(await self._pool.fetchval(*failed))

    async def release(self, claim: Claim, done: Round, *, given_up_after: timedelta) -> None:
        """Give a webhook back, and note whether it takes events."""
        webhook = claim.webhook
        tenant, name = webhook.tenant, webhook.name
        released = SQL["release_webhook"](
            tenant=tenant,
            name=name,
            claim=claim.id,
            url=webhook.url,
            sent=done.sent,
            failure=done.failure,
            throttles=done.throttles,
            asked=done.pause or timedelta(),
            first=FIRST_PAUSE,
            longest=LONGEST_PAUSE,
            gone=done.gone,
        )
        buried = SQL["bury_events"](
            tenant=tenant,
            name=name,
            url=webhook.url,
            error=done.failure,
            after=timedelta() if done.gone else given_up_after,
        )
        with translate_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                if await connection.fetchval(*released) is None:
                    return  # its claim has run out: another worker knows better
                if done.gone or (done.failure and not done.sent):
                    await connection.execute(*buried)
                elif done.sent and claim.failing:
                    await connection.execute(*SQL["send_at_once"](tenant=tenant, name=name))

    async def resend(self, actor: Actor, name: str, events: Sequence[UUID] | None = None) -> int:
        """Let dead events be sent again."""
        with translate_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                told: str = await connection.execute(
                    *SQL["resend_events"](tenant=actor.tenant, name=name, events=events)
                )
                count = int(told.rpartition(" ")[2])
                await connection.execute(*SQL["try_webhook"](tenant=actor.tenant, name=name))
                await record(connection, resent(actor, name, count))
        return count

    async def revive(self, webhook: Webhook) -> None:
        """Note that a webhook has just taken a ping."""
        tenant, name = webhook.tenant, webhook.name
        with translate_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(
                    *SQL["webhook_took"](tenant=tenant, name=name, url=webhook.url)
                )
                await connection.execute(*SQL["send_at_once"](tenant=tenant, name=name))

    async def seen(self, tenants: Sequence[str]) -> list[WebhookSeen]:
        """Return what is known of webhooks."""
        with translate_errors():
            rows = await self._pool.fetch(*SQL["webhooks_seen"](tenants=list(tenants)))
        return [WebhookSeen(**row) for row in rows]

    async def dead(self, tenant: str, name: str, *, before: int, limit: int) -> list[DeadEvent]:
        """Return events that are dead, the newest first."""
        asked = SQL["dead_events"](tenant=tenant, name=name, before=before, limit=limit)
        with translate_errors():
            return [DeadEvent(**row) for row in await self._pool.fetch(*asked)]

    async def tidy(
        self, *, given_up_after: timedelta, kept: timedelta, most: int, batch: int = 5000
    ) -> int:
        """Give up, and forget."""
        never = "nothing was sent to it: it is disabled, gone, or its secret can't be read"
        total = 0
        with translate_errors():
            for statement in (
                SQL["give_up_events"](after=2 * given_up_after, error=never, limit=batch),
                SQL["forget_dead_events"](age=kept, limit=batch),
                SQL["forget_unnamed_events"](limit=batch),
            ):
                while rows := len(await self._pool.fetch(*statement)):
                    total += rows
                    if rows < batch:
                        break
            await self._pool.execute(*SQL["forget_webhooks"]())
            while dropped := await self._pool.fetch(
                *SQL["drop_oldest_events"](most=most, limit=batch)
            ):
                for row in dropped:
                    total += row["events"]
                    log.error(
                        "webhook_events_dropped",
                        tenant=row["tenant"],
                        webhook=row["name"],
                        events=row["events"],
                        cause=f"more than {most} events wait for it, or are dead",
                        advice="see GET /webhooks for why it takes none",
                    )
        return total


def _owed_of(row: asyncpg.Record) -> OwedEvent:
    return OwedEvent(
        id=row["id"],
        event=DeliveryEvent(
            id=row["message_id"],
            type=row["type"],
            tenant=row["tenant"],
            delivery_id=row["delivery_id"],
            correlation_id=row["correlation_id"],
            data=row["data"],
            trace=row["trace"],
        ),
        happened_at=row["happened_at"],
        tries=row["tries"],
    )
