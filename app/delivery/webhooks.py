"""Events that webhooks are told of: what they are, who hears of them, when they are given up.

An event is a CloudEvent 1.0 in JSON. It is owed once for each webhook of its tenant that asked for
its type, in the transaction that makes it true, and sent until the webhook takes it, or three days
have gone by: then it is dead, and sent again only when an operator says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import quote, urlsplit
from uuid import UUID, uuid4

from app.audit import Actor, AuditRecord
from app.delivery.outgoing import Kind, OutgoingMessage
from app.delivery.states import Status

# What the reverse DNS name of event types begins with: REGARDS' own, and its module's.
_NAMESPACE = "fr.cnes.regards.delivery"
_SOURCE = "/rs-delivery/"  # of an event; the tenant's name follows
CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"

WEBHOOKS = "webhooks"  # what is woken when an event is owed, and the setting that names them


class EventType(StrEnum):
    """What has happened to a delivery: the last part of the CloudEvent's type.

    A further one is a member here, with what makes its event (`UnitOfWork.tell`).
    """

    ACCEPTED = "accepted"  # the request is granted
    DENIED = "denied"  # the request is refused
    DONE = "done"  # the archive is on its target
    ERROR = "error"  # the delivery ended without an archive
    EXPIRES_SOON = "content.expires-soon"  # what was delivered is removed within a day
    REMOVED = "content.removed"  # it is gone from its target
    PING = "ping"  # a tenant has its webhook tried; nothing has happened

    @property
    def name_on_the_wire(self) -> str:
        """The type of the CloudEvent."""
        return type_on_the_wire(self.value)


# Those that a webhook can ask for.
EVENT_TYPES = tuple(known.value for known in EventType if known is not EventType.PING)

_OF_RESPONSES = {
    Status.GRANTED.value: EventType.ACCEPTED,
    Status.DENIED.value: EventType.DENIED,
    Status.DONE.value: EventType.DONE,
    Status.ERROR.value: EventType.ERROR,
}


def type_on_the_wire(word: str) -> str:
    """Return the type of the CloudEvent of an event, also of one that a later version has made."""
    return f"{_NAMESPACE}.{word}"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryEvent:
    """Something that has happened to a delivery, or to the request for one."""

    id: UUID  # the same each time it is sent, and to every webhook
    type: str  # a word of `EventType`; read from a row, also one of a later version
    tenant: str
    delivery_id: UUID
    correlation_id: str
    data: dict[str, Any] = field(repr=False)  # JSON
    trace: str | None = None  # W3C traceparent

    def cloud_event(self, at: datetime) -> dict[str, Any]:
        """Return it as a CloudEvent 1.0 in JSON; it has happened at that time."""
        shown = {
            "specversion": "1.0",
            "id": str(self.id),
            "source": _SOURCE + quote(self.tenant, safe=""),
            "type": type_on_the_wire(self.type),
            "subject": self.correlation_id,
            "time": at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "deliveryid": str(self.delivery_id),
            "data": self.data,
        }
        return shown if self.trace is None else shown | {"traceparent": self.trace}


def event_of(message: OutgoingMessage) -> DeliveryEvent | None:
    """Return what webhooks hear of a message that is owed: of a response, its body; else nothing.

    It has the response's own id, so that who hears both can tell that they are one.
    """
    known = _OF_RESPONSES.get(message.body.get("status", ""))
    if message.kind is not Kind.RESPONSE or known is None:
        return None
    return DeliveryEvent(
        id=message.message_id,
        type=known.value,
        tenant=message.tenant,
        delivery_id=message.delivery_id,
        correlation_id=message.correlation_id,
        data=message.body,
        trace=message.trace,
    )


def ping(tenant: str) -> DeliveryEvent:
    """Return what a webhook is tried with: about no delivery, and another one each time."""
    name = uuid4()
    return DeliveryEvent(
        id=name,
        type=EventType.PING.value,
        tenant=tenant,
        delivery_id=name,
        correlation_id="ping",
        data={},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhook:
    """Where a tenant wants its events, as its settings say."""

    tenant: str
    name: str
    url: str = field(repr=False)  # may hold a secret itself
    secrets: tuple[str, ...] = field(repr=False)  # `whsec_…`; the first signs first
    enabled: bool = True
    events: frozenset[str] | None = None  # those that it asks for; None: all

    @property
    def usable(self) -> bool:
        """Whether something can be sent: it is enabled, and its secrets can be read."""
        return self.enabled and bool(self.secrets) and all(self.secrets)

    @property
    def host(self) -> str:
        """The name of its host; empty where a later version has written a URL of another form."""
        try:
            return urlsplit(self.url).hostname or ""
        except ValueError:
            return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwedEvent:
    """An event that is owed to a webhook."""

    id: int  # of its row
    event: DeliveryEvent
    happened_at: datetime
    tries: int  # that failed


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A webhook that this worker alone sends to, for a while, and what is due to it."""

    id: UUID
    webhook: Webhook
    failing: bool  # since the last try of all: one event finds out whether it still is
    due: Sequence[OwedEvent]


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """What came of what a claim gave."""

    sent: int = 0
    failure: str | None = None  # why the last event that failed has
    pause: timedelta | None = None  # that the webhook asked for
    throttles: bool = False  # it wants fewer events at a time, and did not say when
    gone: bool = False  # it answered 410: it wants nothing any more


ASKING_FOR_TIME = (429, 503)  # answers that may say when to come again


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came of one POST."""

    taken: bool  # 2xx
    flaw: str = ""  # why it is not taken, in words that name no address
    status: int | None = None  # None: there was no answer
    retry_after: timedelta | None = None  # that it asked for

    @property
    def throttles(self) -> bool:
        """Whether the webhook wants fewer events at a time, and does not say when."""
        return self.status in ASKING_FOR_TIME and not self.retry_after

    @property
    def gone(self) -> bool:
        """Whether the webhook says that it is gone for good (410)."""
        return self.status == 410


# When an event that failed is tried again: what Standard Webhooks recommends. The last pause holds
# over and over, until it is given up.
_PAUSES = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
GIVEN_UP_AFTER = timedelta(days=3)
# An event waits for an earlier one of its delivery while that has failed less often: a webhook
# hears of a delivery in order, but one event that it never takes holds up no other for days.
ORDER_TRIES = 3


# How long a webhook that took none of what it was sent is left alone, and how long at most.
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=5)


def pause_after(tries: int) -> timedelta:
    """Return how long an event waits that failed for the first time, the second, … (1, 2, …)."""
    return _PAUSES[min(tries, len(_PAUSES)) - 1]


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookSeen:
    """What became of what a webhook was sent."""

    tenant: str
    name: str
    url: str | None = None  # that the rest is of; None: nothing was sent to where it is now
    enabled: bool = True  # by the settings of this moment
    owed: int = 0
    dead: int = 0
    oldest_owed_at: datetime | None = None  # when the oldest of those that are owed happened
    last_success_at: datetime | None = None
    failing_since: datetime | None = None  # no event was taken since
    tried_again_at: datetime | None = None  # nothing is sent before
    last_error: str | None = None  # of the last event that failed, while it fails
    gone_url: str | None = None  # where it answered 410
    dropped: int = 0  # events that were given up because too many were owed


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadEvent:
    """An event that a webhook was not brought to take."""

    number: int  # of its row
    id: UUID
    type: str
    correlation_id: str
    delivery_id: UUID
    happened_at: datetime
    died_at: datetime
    tries: int
    last_error: str | None


def resent(actor: Actor, name: str, count: int) -> AuditRecord:
    """Return what is noted of dead events that are sent again."""
    return AuditRecord(
        actor=actor,
        action="resend",
        subject=f"webhook {name}",
        before=None,
        after=f"{count} dead events are owed again",
    )


class WebhookOutbox(Protocol):
    """Events that are owed to webhooks. They get there by `UnitOfWork.enqueue` and `tell`."""

    async def claim(
        self, webhooks: Sequence[Webhook], *, limit: int, steady: bool = False
    ) -> Claim | None:
        """Take the webhook, of these, that has something due and was served longest ago.

        With at most `limit` events, of each delivery the first; with one, while it fails. With
        `steady`, none that fails. No other worker is given it until `release`, or two minutes
        later. None where nothing is due. One whose URL is another than at the last claim is in no
        pause, does not fail, and all that it is owed is due.
        """

    async def sent(self, owed: OwedEvent) -> None:
        """Forget an event that was taken."""

    async def failed(self, owed: OwedEvent, error: str, *, given_up_after: timedelta) -> bool:
        """Put an event off; whether it is dead now: after that time since it was owed."""

    async def release(self, claim: Claim, done: Round, *, given_up_after: timedelta) -> None:
        """Give a webhook back, and note whether it takes events.

        One that took none is paused, for longer each time, as is one that wants fewer events at a
        time. What is owed to it for too long is dead, or all, where it is gone; but nothing once
        its setting names another URL. One that takes events again is sent all that waits at once.
        """

    async def resend(self, actor: Actor, name: str, events: Sequence[UUID] | None = None) -> int:
        """Let dead events of the actor's tenant be sent again (None: all); return how many.

        A webhook that was paused, or gone, is tried at once. Noted in the audit trail.
        """

    async def revive(self, webhook: Webhook) -> None:
        """Note that a webhook has just taken a ping: what waits is sent at once."""

    async def seen(self, tenants: Sequence[str]) -> list[WebhookSeen]:
        """Return what is known of the webhooks of these tenants that were ever sent, or owed, any.

        By tenant and name. How it took events is told of the URL of this moment alone, and of none
        that is disabled.
        """

    async def dead(self, tenant: str, name: str, *, before: int, limit: int) -> list[DeadEvent]:
        """Return events that are dead, of those with smaller numbers, the newest first."""

    async def tidy(
        self, *, given_up_after: timedelta, kept: timedelta, most: int, batch: int = 5000
    ) -> int:
        """Give up what is owed for too long, forget what is dead for long; return how many rows.

        And of webhooks that no setting names any more, all; of each other, the oldest beyond as
        many as `most`.
        """


class WebhookSender(Protocol):
    """What sends."""

    def to(self, webhook: Webhook) -> AbstractAsyncContextManager[Post]:
        """Open what is sent to a webhook with."""


class Post(Protocol):
    """Sends one event, once."""

    async def __call__(self, event: DeliveryEvent, at: datetime) -> Answer:
        """Return what came of it; it raises nothing."""
