"""What is owed to webhooks, and how they take it, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from uuid import UUID, uuid4

from app.audit import Actor
from app.delivery.webhooks import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    ORDER_TRIES,
    WEBHOOKS,
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
from app.store.memory.audit import record
from app.store.memory.database import MemoryDatabase, as_json
from app.store.memory.rows import WebhookEventRow, WebhookRow
from app.store.memory.session import Session

_TTL = timedelta(minutes=2)
_NEVER = datetime.min.replace(tzinfo=UTC)


def webhooks_named(
    database: MemoryDatabase, session: Session, tenant: str
) -> dict[str, dict[str, object]]:
    """Return the webhooks that a tenant's settings name, however a version writes them."""
    stored = session.get(database.settings, (tenant, WEBHOOKS))
    named = stored.value if stored is not None and isinstance(stored.value, dict) else {}
    return {name: asked if isinstance(asked, dict) else {} for name, asked in named.items()}


async def tell(database: MemoryDatabase, session: Session, event: DeliveryEvent) -> bool:
    """Owe an event to the webhooks that ask for it; whether there is one."""
    told = False
    for name, asked in sorted(webhooks_named(database, session, event.tenant).items()):
        wanted = asked.get("events")
        if asked.get("enabled") is False or (isinstance(wanted, list) and event.type not in wanted):
            continue
        of, now = (event.tenant, name), session.now
        number = database.webhook_events.number()
        owed = OwedEvent(
            id=number, event=replace(event, data=as_json(event.data)), happened_at=now, tries=0
        )
        row = WebhookEventRow(owed=owed, webhook=name, owed_since=now, due_at=now)
        told |= await session.insert(
            database.webhook_events,
            number,
            row,
            unless=lambda other, of=of: other.of == of and other.owed.event.id == event.id,  # type: ignore[misc]
            group=of,
        )
    return told


class MemoryWebhooks:
    """See `app.delivery.webhooks.WebhookOutbox`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self._events, self._webhooks = database.webhook_events, database.webhooks

    async def claim(
        self, webhooks: Sequence[Webhook], *, limit: int, steady: bool = False
    ) -> Claim | None:
        """Take a webhook that has something due."""
        async with self._database.session() as session:
            served = []
            for webhook in webhooks:
                of = webhook.tenant, webhook.name
                stored = session.get(self._webhooks, of) or WebhookRow()
                row, moved = _at(stored, webhook.url), _moved(stored, webhook.url)
                if (
                    (row.claimed_until or _NEVER) <= session.now
                    and (row.resume_at or _NEVER) <= session.now
                    and row.gone_url != webhook.url
                    and not (steady and row.failures)
                    and (self._owed(session, of) if moved else self._due(session, of))
                ):
                    served.append((row.served_at or _NEVER, *of, moved, webhook))
            if not served:
                return None
            *_, moved, webhook = min(served, key=lambda one: one[:3])
            claim = uuid4()
            taken = {
                "claim": claim,
                "claimed_until": session.now + _TTL,
                "served_at": self._database.clock(),
            }
            of = webhook.tenant, webhook.name
            await session.insert(self._webhooks, of, WebhookRow())
            taken_row = await session.update(
                self._webhooks,
                of,
                lambda row: replace(_at(row, webhook.url), **taken),  # type: ignore[arg-type]
                lambda row: (row.claimed_until or _NEVER) <= session.now,
            )
            if taken_row is None:
                return None  # by another worker, meanwhile
            if moved:
                await self._send_at_once(session, of)
            failing = taken_row.failures > 0
            due = self._due(session, of)[: 1 if failing else limit]
        return Claim(id=claim, webhook=webhook, failing=failing, due=[event.owed for event in due])

    async def _change(
        self,
        session: Session,
        tenant: str,
        name: str,
        change: Callable[[WebhookRow], WebhookRow],
        *,
        makes: bool = True,
    ) -> None:
        if makes:
            await session.insert(self._webhooks, (tenant, name), WebhookRow())
        await session.update(self._webhooks, (tenant, name), change)

    def _owed(self, session: Session, of: tuple[str, str]) -> list[WebhookEventRow]:
        """Return what is owed to a webhook, due or not."""
        return [row for _, row in session.rows(self._events, of) if row.dead_at is None]

    def _due(self, session: Session, of: tuple[str, str]) -> list[WebhookEventRow]:
        """Return what is due to a webhook, of each delivery the first, as it is overdue."""
        found, held = [], set()
        for row in sorted(self._owed(session, of), key=lambda row: row.owed.id):
            delivery = row.owed.event.delivery_id
            if row.due_at <= session.now and delivery not in held:
                found.append(row)
            if row.owed.tries < ORDER_TRIES:
                held.add(delivery)
        return sorted(found, key=lambda row: (row.due_at, row.owed.id))

    async def sent(self, owed: OwedEvent) -> None:
        """Forget an event that was taken."""
        async with self._database.session() as session:
            await session.delete(self._events, owed.id)

    async def failed(self, owed: OwedEvent, error: str, *, given_up_after: timedelta) -> bool:
        """Put an event off; whether it is dead now."""
        async with self._database.session() as session:
            now = session.now

            def put_off(row: WebhookEventRow) -> WebhookEventRow:
                end = row.owed_since + given_up_after
                return replace(
                    row,
                    owed=replace(row.owed, tries=row.owed.tries + 1),
                    last_error=as_cause(error),
                    due_at=min(now + pause_after(owed.tries + 1), end),
                    dead_at=now if end <= now else None,
                )

            row = await session.update(
                self._events, owed.id, put_off, lambda row: row.dead_at is None
            )
            return row is not None and row.dead_at is not None

    async def release(self, claim: Claim, done: Round, *, given_up_after: timedelta) -> None:
        """Give a webhook back, and note whether it takes events."""
        of = claim.webhook.tenant, claim.webhook.name
        async with self._database.session() as session:
            now = session.now
            released = await session.update(
                self._webhooks,
                of,
                lambda row: _released(row, done, now, claim.webhook.url),
                lambda row: row.claim == claim.id,
            )
            if released is None:
                return  # its claim has run out: another worker knows better
            named = webhooks_named(self._database, session, of[0]).get(of[1], {})
            if done.gone or (done.failure and not done.sent):
                if named.get("url") != claim.webhook.url:
                    return  # what is owed is to be sent elsewhere
                after = timedelta() if done.gone else given_up_after
                await self._change_events(
                    session,
                    of,
                    lambda row: replace(
                        row, dead_at=now, last_error=row.last_error or done.failure
                    ),
                    lambda row: row.dead_at is None and row.owed_since <= now - after,
                )
            elif done.sent and claim.failing:
                await self._send_at_once(session, of)

    async def _change_events(
        self,
        session: Session,
        of: tuple[str, str],
        change: Callable[[WebhookEventRow], WebhookEventRow],
        fits: Callable[[WebhookEventRow], bool],
    ) -> int:
        changed = 0
        for key, _ in session.where(self._events, fits, group=of):
            row = await session.update(self._events, key, change, fits)
            changed += row is not None
        return changed

    async def _send_at_once(self, session: Session, of: tuple[str, str]) -> None:
        now = session.now
        await self._change_events(
            session,
            of,
            lambda row: replace(row, due_at=now),
            lambda row: row.dead_at is None and row.due_at > now,
        )

    async def resend(self, actor: Actor, name: str, events: Sequence[UUID] | None = None) -> int:
        """Let dead events be sent again."""
        of = actor.tenant, name
        async with self._database.session() as session:
            now = session.now
            count = await self._change_events(
                session,
                of,
                lambda row: replace(
                    row,
                    owed=replace(row.owed, tries=0),
                    dead_at=None,
                    owed_since=now,
                    due_at=now,
                ),
                lambda row: (
                    row.dead_at is not None and (events is None or row.owed.event.id in events)
                ),
            )
            await self._change(
                session,
                *of,
                lambda row: replace(row, resume_at=None, gone_url=None),
                makes=False,
            )
            record(self._database, session, resent(actor, name, count))
        return count

    async def revive(self, webhook: Webhook) -> None:
        """Note that a webhook has just taken a ping."""
        tenant, name = webhook.tenant, webhook.name
        async with self._database.session() as session:
            now = session.now
            await self._change(
                session,
                tenant,
                name,
                lambda row: replace(
                    row,
                    url=webhook.url,
                    resume_at=None,
                    gone_url=None,
                    failures=0,
                    throttled=0,
                    failing_since=None,
                    last_error=None,
                    last_success_at=now,
                ),
                makes=False,
            )
            await self._send_at_once(session, (tenant, name))

    async def seen(self, tenants: Sequence[str]) -> list[WebhookSeen]:
        """Return what is known of webhooks."""
        async with self._database.session() as session:
            known = dict(session.rows(self._webhooks))
            events: dict[tuple[str, str], list[WebhookEventRow]] = {}
            for _, row in session.rows(self._events):
                events.setdefault(row.of, []).append(row)
            now = session.now
            named = {tenant: webhooks_named(self._database, session, tenant) for tenant in tenants}
        return [
            _seen(
                *of,
                known.get(of, WebhookRow()),
                events.get(of, []),
                now,
                named[of[0]].get(of[1]),
            )
            for of in sorted({*known, *events})
            if of[0] in tenants
        ]

    async def dead(self, tenant: str, name: str, *, before: int, limit: int) -> list[DeadEvent]:
        """Return events that are dead, the newest first."""
        async with self._database.session() as session:
            rows = [row for _, row in session.rows(self._events, (tenant, name))]
        found = [
            DeadEvent(
                number=row.owed.id,
                id=row.owed.event.id,
                type=row.owed.event.type,
                correlation_id=row.owed.event.correlation_id,
                delivery_id=row.owed.event.delivery_id,
                happened_at=row.owed.happened_at,
                died_at=row.dead_at,
                tries=row.owed.tries,
                last_error=row.last_error,
            )
            for row in sorted(rows, key=lambda row: row.owed.id)
            if row.dead_at is not None and row.owed.id < before
        ]
        return found[::-1][:limit]

    async def tidy(
        self,
        *,
        given_up_after: timedelta,
        kept: timedelta,
        most: int,
        batch: int = 5000,  # noqa: ARG002 - of statements
    ) -> int:
        """Give up, and forget."""
        never = "nothing was sent to it: it is disabled, gone, or its secret can't be read"
        total = 0
        async with self._database.session() as session:
            now = session.now
            rows = sorted(session.rows(self._events), key=lambda one: (one[1].of, one[0]))
            for of, grouped in groupby(rows, key=lambda one: one[1].of):
                total += await self._change_events(
                    session,
                    of,
                    lambda row: replace(row, dead_at=now, last_error=row.last_error or never),
                    lambda row: row.dead_at is None and row.owed_since < now - 2 * given_up_after,
                )
                keys = [key for key, _ in grouped]
                named = of[1] in webhooks_named(self._database, session, of[0])
                for key in keys:
                    total += (
                        await session.delete(
                            self._events,
                            key,
                            lambda row, named=named: (  # type: ignore[misc]
                                not named or (row.dead_at is not None and row.dead_at < now - kept)
                            ),
                        )
                        is not None
                    )
            for of, _ in list(session.rows(self._webhooks)):
                if of[1] not in webhooks_named(self._database, session, of[0]):
                    await session.delete(self._webhooks, of)
            for of in sorted({row.of for _, row in session.rows(self._events)}):
                left = sorted(
                    session.rows(self._events, of), key=lambda one: (one[1].dead_at is None, one[0])
                )
                beyond = left[: max(0, len(left) - most)]
                for key, _ in beyond:
                    await session.delete(self._events, key)
                if beyond:
                    total += len(beyond)
                    more = len(beyond)
                    await self._change(
                        session,
                        *of,
                        lambda row, more=more: replace(row, dropped=row.dropped + more),  # type: ignore[misc]
                    )
        return total


def _moved(row: WebhookRow, url: str) -> bool:
    """Whether what is known of a webhook is of another URL."""
    return row.url not in (None, url)


def _at(row: WebhookRow, url: str) -> WebhookRow:
    """Return what is known of a webhook at a URL."""
    if _moved(row, url):
        row = replace(
            row,
            resume_at=None,
            failures=0,
            throttled=0,
            failing_since=None,
            last_success_at=None,
            last_error=None,
        )
    return replace(row, url=url)


def _released(row: WebhookRow, done: Round, now: datetime, url: str) -> WebhookRow:
    before = row
    row = replace(row, claim=None, claimed_until=None, resume_at=None, url=url)
    if done.failure is not None:
        count = before.throttled if done.sent else before.failures
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(count, 20))
        asked = done.pause or timedelta()
        waits = asked if done.sent and not done.throttles else max(asked, pause)
        row = replace(row, resume_at=now + waits, last_error=done.failure)
    elif done.sent:
        row = replace(row, last_error=None)
    if done.throttles:
        row = replace(row, throttled=before.throttled + 1)
    elif done.sent and done.failure is None:
        row = replace(row, throttled=0)
    if done.sent:
        row = replace(row, failures=0, failing_since=None, last_success_at=now, gone_url=None)
    elif done.failure is not None:
        since = before.failing_since or now
        row = replace(row, failures=before.failures + 1, failing_since=since)
    return replace(row, gone_url=url) if done.gone else row


def _seen(
    tenant: str,
    name: str,
    row: WebhookRow,
    events: Sequence[WebhookEventRow],
    now: datetime,
    asked: dict[str, object] | None,
) -> WebhookSeen:
    enabled = asked is not None and asked.get("enabled") is not False
    if asked is None or not enabled or row.url != asked.get("url"):
        row = WebhookRow(dropped=row.dropped)  # nothing is told of how another URL took events
    owed = [event.owed.happened_at for event in events if event.dead_at is None]
    return WebhookSeen(
        tenant=tenant,
        name=name,
        url=row.url,
        enabled=enabled,
        owed=len(owed),
        dead=len(events) - len(owed),
        oldest_owed_at=min(owed, default=None),
        last_success_at=row.last_success_at,
        failing_since=row.failing_since,
        tried_again_at=row.resume_at if row.resume_at and row.resume_at > now else None,
        last_error=row.last_error,
        gone_url=row.gone_url,
        dropped=row.dropped,
    )
