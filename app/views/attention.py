"""What needs an operator now: a catalogue of findings, the same words everywhere.

`GET /attention`, the console, `delivery attention` and `delivery doctor` say these sentences; each
names its alert. Since when, is that of the oldest row that it is about: no process remembers
anything, so all tell the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, Protocol, Self

from pydantic import Field

from app.codes import Code
from app.delivery.states import State
from app.views.view import Milliseconds, View

# As in the alerts, which wait a while longer.
WORKER_SILENT = timedelta(seconds=60)
FAILED_WITHIN = timedelta(hours=1)
FAILED_TIMES = 3
# Of an attempt that was postponed: files that come yet, and a place that another delivery has.
WAITING = (Code.SOURCE_NOT_READY, Code.PLACE_BUSY)
STUCK: Mapping[State, timedelta] = {
    State.RECEIVED: timedelta(minutes=15),
    State.GRANTED: timedelta(minutes=30),
    State.ORDERED: timedelta(hours=6),
    State.AVAILABLE: timedelta(minutes=30),
    State.READY: timedelta(hours=1),
    State.TRANSFERRING: timedelta(hours=4),
}
PARKED = timedelta(hours=3)
PLACE_HELD = timedelta(hours=1)
CONTENT_OVERDUE = timedelta(hours=6)
OWED = timedelta(minutes=5)
WEBHOOK_FAILS = timedelta(hours=1)
MAINTENANCE_FORGOTTEN = timedelta(hours=12)  # of which no end was announced

Severity = Literal["problem", "notice"]


class Need(StrEnum):
    """What can need an operator; those that matter most first."""

    NO_WORKER = "NO_WORKER"
    TRANSFERS_FAIL = "TRANSFERS_FAIL"
    WORKER_SILENT = "WORKER_SILENT"
    MESSAGE_OWED = "MESSAGE_OWED"
    STATE_STUCK = "STATE_STUCK"
    QUOTA_AWAITED = "QUOTA_AWAITED"
    SUBORDER_AWAITED = "SUBORDER_AWAITED"
    DEAD_LETTER = "DEAD_LETTER"
    WEBHOOK_FAILS = "WEBHOOK_FAILS"
    EVENT_GIVEN_UP = "EVENT_GIVEN_UP"
    PLACE_HELD = "PLACE_HELD"
    CONTENT_OVERDUE = "CONTENT_OVERDUE"
    MAINTENANCE_FORGOTTEN = "MAINTENANCE_FORGOTTEN"
    MAINTENANCE = "MAINTENANCE"
    PAUSED = "PAUSED"


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What is said of a finding. Sentence and advice may name {tenant}, {subject} and {count}."""

    sentence: str
    advice: str
    alert: str | None  # for it, or the closest one
    severity: Severity = "problem"


CATALOGUE: Mapping[Need, Known] = {
    Need.NO_WORKER: Known(
        sentence="No worker is there",
        advice="Requests wait in RabbitMQ. Start `delivery worker`, or see why it ends.",
        alert="DeliveryNoWorkers",
    ),
    Need.TRANSFERS_FAIL: Known(
        sentence="Transfers to target {subject} fail one after the other: {count} attempts",
        advice="The cause says whether rs-order or the target is away, or refuses: what is away is "
        "asked again by itself, what refuses is for its owner to mend. `delivery doctor` tries the "
        "target; `delivery pause target {subject} --tenant {tenant}` lets its deliveries wait.",
        alert="DeliveryTransfersFail",
    ),
    Need.WORKER_SILENT: Known(
        sentence="Worker {subject} is silent, and has work: {count}",
        advice="The others take it over as its leases run out. See its log, and start it again.",
        alert="DeliveryWorkerSilent",
    ),
    Need.MESSAGE_OWED: Known(
        sentence="Messages of lane {subject} are owed for long: {count}",
        advice="See that a worker runs, and that RabbitMQ (responses, orders) or Kafka (events) "
        "takes them; rs-order may have no queue yet. `delivery doctor` tries both.",
        alert="DeliveryOutboxStuck",
    ),
    Need.STATE_STUCK: Known(
        sentence="Deliveries are {subject} for longer than they should be: {count}",
        advice="`delivery list --state {subject} --tenant {tenant}` has their causes; "
        'docs/operating.md, "Why does a delivery wait?", tells what each state waits for.',
        alert="DeliveryStateStuck",
    ),
    Need.QUOTA_AWAITED: Known(
        sentence="Deliveries that are {subject} have waited for a quota for more than half of "
        "their time: {count}",
        advice="The cause says whose quota; `delivery quota --tenant {tenant}` tells what is left. "
        "Raise it, or they end as EXPIRED when their time is over.",
        alert="DeliveryQuotaAwaited",
    ),
    Need.SUBORDER_AWAITED: Known(
        sentence="Half-made archives wait long for the next suborder of their order: {count}",
        advice="`delivery list --state TRANSFERRING --tenant {tenant}` tells which; see at "
        "rs-order whether it restores their orders, and what keeps their users' places "
        '(docs/operating.md, "Why does a delivery wait?").',
        alert="DeliveryParked",
    ),
    Need.DEAD_LETTER: Known(
        sentence="Messages and events that could not be handled wait: {count}",
        advice="`delivery dead-letters list`, or the page Dead letters, tells why; mend them, put "
        "them back, or remove them.",
        alert="DeliveryDeadLettersWait",
    ),
    Need.WEBHOOK_FAILS: Known(
        sentence="Webhook {subject} takes no events; those that wait: {count}",
        advice="Tell its owner: the cause is its last answer. `POST /webhooks/{subject}/test` "
        "tries it; what is not taken within three days is given up, and kept to be sent again.",
        alert="DeliveryWebhookFails",
    ),
    Need.EVENT_GIVEN_UP: Known(
        sentence="Events were given up that webhook {subject} did not take: {count}",
        advice="`GET /webhooks/{subject}/dead` lists them; once it takes events, "
        "`POST /webhooks/{subject}/resend` sends them again.",
        alert="DeliveryWebhookEventsDead",
    ),
    Need.PLACE_HELD: Known(
        sentence="Delivered orders may keep their users' places at rs-order: {count}",
        advice="rs-order does not say whether it still waits for their users, who may have to wait "
        "for further orders; `place_not_freed` in the log has the delivery, its order and the "
        "cause: see that rs-order answers `GET /user/orders/{{id}}`, or cancel the order there.",
        alert="DeliveryPlacesHeld",
    ),
    Need.CONTENT_OVERDUE: Known(
        sentence="What was delivered is still at its target, hours after its end: {count}",
        advice="`content_not_removed` in the log names each delivery and its cause; mend that, and "
        "`delivery remove` tries it again at once.",
        alert="DeliveryContentsOverdue",
    ),
    Need.MAINTENANCE_FORGOTTEN: Known(
        sentence="The maintenance of the tenant should be over; requests that wait: {count}",
        advice="`delivery maintenance off --tenant {tenant}` ends it; where it has to go on, "
        "`delivery maintenance on` with a later `--until` says so.",
        alert="DeliveryMaintenanceForgotten",
    ),
    Need.MAINTENANCE: Known(
        sentence="The tenant is in maintenance; requests that wait: {count}",
        advice="`delivery maintenance off --tenant {tenant}` ends it.",
        alert=None,
        severity="notice",
    ),
    Need.PAUSED: Known(
        sentence="Paused: {subject}",
        advice="`delivery pauses` tells until when; `delivery resume` ends it.",
        alert=None,
        severity="notice",
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """A finding, as the store has it."""

    code: Need
    tenant: str | None  # None: of no tenant
    subject: str | None  # a target, a worker, a state, a lane, a webhook
    since: datetime | None  # of the oldest row that it is about; None: there is none
    count: int
    cause: str | None


class Troubles(Protocol):
    """Where it is found out."""

    async def troubles(self, tenants: Sequence[str] | None) -> list[Trouble]:
        """Return what is wrong now, as it concerns some tenants; None: all. By weight."""


def by_weight(troubles: Iterable[Trouble]) -> list[Trouble]:
    """Return what matters most first; of one kind, what is so for longest."""
    weight = {code: number for number, code in enumerate(Need)}

    def key(trouble: Trouble) -> tuple[object, ...]:
        since = trouble.since.timestamp() if trouble.since else 0.0
        return weight[trouble.code], since, trouble.tenant or "", trouble.subject or ""

    return sorted(troubles, key=key)


def strangers_merged(troubles: Sequence[Trouble], served: Collection[str]) -> list[Trouble]:
    """Return dead letters of tenants that are not served as one finding, of no tenant.

    Any message may name a tenant: each invented name would make a finding.
    """

    def is_strange(trouble: Trouble) -> bool:
        return trouble.code is Need.DEAD_LETTER and trouble.tenant not in served

    strange = [trouble for trouble in troubles if is_strange(trouble)]
    if not strange:
        return list(troubles)
    merged = replace(
        min(strange, key=lambda one: one.since.timestamp() if one.since else 0.0),
        tenant=None,
        count=sum(trouble.count for trouble in strange),
    )
    return by_weight([merged, *(trouble for trouble in troubles if not is_strange(trouble))])


class AttentionView(View):
    """Something that needs an operator now."""

    code: Need
    severity: Severity = Field(description="notice: as an operator wants it, and explains much.")
    sentence: str
    advice: str
    since: Milliseconds | None = Field(None, description="The oldest that it is about.")
    tenant: str | None = Field(None, description="Missing: it concerns all.")
    subject: str | None = Field(None, description="The target, worker, state, lane or webhook.")
    count: int
    cause: str | None = Field(None, description="The last one.")
    alert: str | None = Field(None, description="The alert for it, or the closest one.")

    @classmethod
    def of(cls, trouble: Trouble) -> Self:
        """Say it."""
        known = CATALOGUE[trouble.code]
        words = {
            "tenant": trouble.tenant or "TENANT",
            "subject": trouble.subject or "",
            "count": trouble.count,
        }
        return cls(
            code=trouble.code,
            severity=known.severity,
            sentence=known.sentence.format(**words),
            advice=known.advice.format(**words),
            since=trouble.since,
            tenant=trouble.tenant,
            subject=trouble.subject,
            count=trouble.count,
            cause=trouble.cause,
            alert=known.alert,
        )
