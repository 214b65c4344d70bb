"""What clients' webhooks are told: how they take it, and what must hold of what is owed to them.

Each tenant has a webhook that asks for all events. It may be slow, silent, refuse; requests and
answers are lost, and what was sent may arrive when its sender is gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from uuid import UUID

from app.delivery.webhooks import (
    ORDER_TRIES,
    WEBHOOKS,
    Answer,
    DeliveryEvent,
    EventType,
    Post,
    Webhook,
    event_of,
)
from app.store.memory.rows import WebhookEventRow
from app.store.memory.session import Session
from app.tenants.values import StoredValue
from app.usecases.content_news import REPLACED
from tests.simulation.postgres import Change, SimulatedDatabase
from tests.simulation.weather import Link, Weather

PARTY = "a webhook"
NAME = "hook"
_DEADLINE = 15.0  # seconds
_SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


class _NotAnsweredError(Exception):
    """A POST had no answer."""


def setting_of(tenant: str) -> dict[str, dict[str, object]]:
    """Return the webhooks of a tenant, as its settings name them."""
    return {NAME: {"url": f"https://{tenant}.example/events", "secret": _SECRET}}


@dataclass
class Webhooks:
    """All that is told, and whether it is as it must be."""

    weather: Weather
    database: SimulatedDatabase
    tenants: Sequence[str]  # that have one
    wrong: Callable[[str], object] = repr  # told of what must not be
    _taken: set[tuple[str, UUID]] = field(default_factory=set)  # by tenant, the ids of events

    def __post_init__(self) -> None:
        for tenant in self.tenants:
            stored = StoredValue(value=setting_of(tenant), version=self.database.version())
            self.database.settings.put((tenant, WEBHOOKS), stored)

    def take(self, webhook: Webhook, event: DeliveryEvent) -> Answer:
        """Take an event, or refuse it."""
        if self.weather.strikes(f"{PARTY} refuses"):
            return Answer(taken=False, flaw="it answered 500", status=500)
        told = webhook.tenant, event.id
        if told not in self._taken:
            self._comes_in_order(webhook, event)
            self._taken.add(told)
        return Answer(taken=True, status=200)

    def _comes_in_order(self, webhook: Webhook, event: DeliveryEvent) -> None:
        """Have it be wrong if an earlier event of its delivery was hardly tried."""
        owed = self._owed((webhook.tenant, webhook.name))
        own = next((row for row in owed if row.owed.event.id == event.id), None)
        if own is None:
            self.wrong(f"a webhook of {webhook.tenant} is told of what is not owed: {_of(event)}")
            return
        for other in owed:
            if (
                other.owed.id < own.owed.id
                and other.owed.event.delivery_id == event.delivery_id
                and (webhook.tenant, other.owed.event.id) not in self._taken
                and other.owed.tries < ORDER_TRIES
            ):
                self.wrong(f"a webhook hears {_of(event)} before {_of(other.owed.event)}")

    def _is_known(self, event: DeliveryEvent) -> bool:
        """Whether an event was owed before: a response that is told again is the same one."""
        owed = self._owed((event.tenant, NAME))
        return (event.tenant, event.id) in self._taken or any(
            row.owed.event.id == event.id for row in owed
        )

    def _owed(self, of: tuple[str, str]) -> list[WebhookEventRow]:
        return [row for _, row in self.database.webhook_events.of(of)]

    def committing(self, session: Session, changes: Sequence[Change]) -> None:
        """A transaction is about to be committed."""
        owed = {change.after.owed.event.id for change in changes if _is_owed(change)}
        news = {
            change.after.owed.event.delivery_id
            for change in changes
            if _is_owed(change) and change.after.owed.event.type == EventType.REMOVED
        }
        for change in changes:
            before, after = change.before, change.after
            match change.table:
                case "outbox" if before is None:
                    event = event_of(after.message)
                    if event is not None and event.id not in owed and not self._is_known(event):
                        self.wrong(f"{_of(event)} is owed to its client, and to no webhook")
                case "content" if before is not None and after is not None:
                    is_gone = before.removed_at is None and after.removed_at is not None
                    # What a later delivery has replaced is told of no more.
                    is_told = after.last_cause != REPLACED
                    if is_gone and is_told and after.content.delivery_id not in news:
                        self.wrong(f"{after.content.url} is removed, and no webhook is told")
                case "webhook_event" if before is not None:
                    self._changes(before, after)
                case "webhook" if before is not None and after is not None:
                    is_taken = after.claim is not None and after.claim != before.claim
                    if is_taken and before.claim and before.claimed_until > session.now:
                        self.wrong("a webhook is claimed that another worker sends to")

    def _changes(self, before: WebhookEventRow, after: WebhookEventRow | None) -> None:
        event = before.owed.event
        if after is None and (event.tenant, event.id) not in self._taken:
            self.wrong(f"{_of(event)} is forgotten before its webhook has taken it")
        elif after is not None and after.dead_at is not None and before.dead_at is None:
            self.wrong(f"{_of(event)} is given up, and its time is not over")

    def sender(self) -> Sender:
        """Return what a process sends through."""
        return Sender(self)


@dataclass
class Sender:
    """See `app.delivery.webhooks.WebhookSender`."""

    by: Webhooks

    def __post_init__(self) -> None:
        self._link = Link(party=PARTY, weather=self.by.weather, deadline=_DEADLINE)

    @contextlib.asynccontextmanager
    async def to(self, webhook: Webhook) -> AsyncIterator[Post]:
        """Open what sends to one."""
        yield partial(self._post, webhook)

    async def _post(self, webhook: Webhook, event: DeliveryEvent, at: datetime) -> Answer:
        del at
        try:
            return await self._link.ask(
                f"tell {event.type}",
                partial(self.by.take, webhook, event),
                away=_NotAnsweredError,
                about=(event.tenant, event.correlation_id),
            )
        except _NotAnsweredError as error:
            return Answer(taken=False, flaw=str(error))


def _is_owed(change: Change) -> bool:
    return change.table == "webhook_event" and change.before is None and change.after is not None


def _of(event: DeliveryEvent) -> str:
    return f"{event.type} of {event.tenant}/{event.correlation_id}"
