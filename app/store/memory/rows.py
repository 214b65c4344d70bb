"""What the tables hold: columns as PostgreSQL has them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from app.delivery.attempts import Attempt
from app.delivery.checkpoint import Step, TailObject
from app.delivery.content import Content, ContentNews, ContentSeen, ContentState
from app.delivery.ingress import Arrival, ArrivalKind
from app.delivery.kept_files import FileStep
from app.delivery.manifest import ManifestFile
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject
from app.delivery.orders import ANSWER_LIMIT
from app.delivery.outgoing import Lane, OutgoingMessage
from app.delivery.pauses import Pauses
from app.delivery.reports import StoredReport
from app.delivery.segments import Segment
from app.delivery.states import State, Work
from app.delivery.told import Told
from app.delivery.webhooks import OwedEvent
from app.views.dead_letters import KeptLetter


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryRow:
    """A delivery, with what only the store goes by."""

    delivery: Delivery
    rank: datetime  # smaller comes first: age and priority in one
    not_before: datetime
    updated_at: datetime
    state_since: datetime
    finished_at: datetime | None = None
    lease_owner: str | None = None
    lease_until: datetime | None = None
    result: StoredObject | None = None  # told with DONE
    told: Told = field(default_factory=Told)  # beside result and error
    error: tuple[str, str] | None = None
    error_code: str | None = None
    done_in: str | None = None  # the namespace of its object, once it is done
    completing_namespace: str | None = None  # where `delivery.completing` may appear
    completing_until: datetime | None = None
    listed: int = 0  # segments whose files are in the manifest
    kept_places: int = 0  # of its user, that its order was seen to keep since it was parked
    completing_attempt: int | None = None  # that noted it, unless it has begun again since
    order_awaited: bool = False  # it has ended, and the answer to its order request is due
    answers_due: int = 0  # answers that may come beside the first: the request was sent again
    answers_until: datetime | None = None  # no answer is reckoned with after that
    repeated_orders: tuple[int, ...] = ()  # the orders that answers beside the first have named
    order_out_at: datetime | None = None  # its order request went out after its end, then
    left_open: bool = False  # its last attempt may have left an upload open
    swept: bool = False
    keeps_content: bool = False  # its content is still to be removed
    admitted_at: datetime | None = None  # when its request counted in quotas, if there were any
    charged_at: datetime | None = None  # likewise its bytes
    report: StoredReport | None = None  # that may be there; it is told once its ETag is known
    report_until: datetime | None = None  # when one that is not told is there, or never will be

    @property
    def state(self) -> State:
        """Where it stands."""
        return self.delivery.state

    @property
    def work(self) -> Work | None:
        """What a worker can do for it."""
        return self.delivery.work

    def awaits(self, now: datetime) -> bool:
        """Whether an answer to its order request may come, the first one or another."""
        first = self.order_awaited and self.delivery.order_id is None
        return self.reckons(now) and (first or self.answers_due > 0)

    def reckons(self, now: datetime) -> bool:
        """Whether answers that may have to come are still reckoned with."""
        until = self.answers_until
        if until is None and self.finished_at is not None:
            until = self.finished_at + ANSWER_LIMIT
        return until is not None and until > now

    def answered(self, order_id: int | None) -> DeliveryRow:
        """Return the row once an answer has named an order, or none."""
        if self.order_awaited:
            return replace(self.having(order_id=order_id), order_awaited=False)
        repeated = () if order_id is None else (order_id,)
        return replace(
            self,
            answers_due=max(self.answers_due - 1, 0),
            repeated_orders=self.repeated_orders + repeated,
        )

    def waits_late(self, now: datetime) -> bool:
        """Whether it waits for its quota, and has less than half of its time left."""
        begun, ends = self.delivery.requested_at, self.delivery.expires_at
        return self.delivery.held and now > begun + (ends - begun) / 2

    def waits_for(self, pauses: Pauses) -> bool:
        """Whether it is a transfer that one of these holds back."""
        target = self.delivery.target
        return (
            self.state.work is Work.TRANSFER
            and pauses.of_target(self.delivery.tenant, target) is not None
        )

    def is_leased(self, now: datetime) -> bool:
        """Whether a worker has it, by the store's clock."""
        return self.lease_until is not None and self.lease_until >= now

    def is_completing(self, url: str, namespace: str, now: datetime) -> bool:
        """Whether an attempt may be making an object appear there; one that noted none may."""
        return (
            self.completing_until is not None
            and self.completing_until > now
            and self.delivery.completing is not None
            and self.delivery.completing.url == url
            and self.completing_namespace in (namespace, None)
        )

    def having(self, **changes: Any) -> DeliveryRow:
        """Return the row with another version of the delivery.

        A cause that comes without a code has none.
        """
        if changes.get("last_cause", self.delivery.last_cause) != self.delivery.last_cause:
            changes.setdefault("last_code", None)
        return replace(self, delivery=replace(self.delivery, **changes))


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRow:
    """A file of a manifest."""

    delivery_id: UUID
    file: ManifestFile
    wrong: int = 0  # times that its bytes were not those that were listed


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingRow:
    """A file that a delivery is without."""

    delivery_id: UUID
    number: int  # its position in the manifest, or behind all
    missing: MissingFile


@dataclass(frozen=True, kw_only=True, slots=True)
class ToldCrc32Row:
    """What was told of a file that is not in the manifest yet."""

    delivery_id: UUID
    crc32: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentRow:
    """A segment of an archive."""

    delivery_id: UUID
    segment: Segment
    announced_at: datetime
    listed_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointRow:
    """How far a half-made archive is, from the boundary before."""

    delivery_id: UUID
    upload_id: str
    step: Step


@dataclass(frozen=True, kw_only=True, slots=True)
class FileCheckpointRow:
    """Parts of a large file that were sent, since the step before."""

    delivery_id: UUID
    step: FileStep


@dataclass(frozen=True, kw_only=True, slots=True)
class ContentsRow:
    """What is known of files of an archive, beside its steps."""

    delivery_id: UUID
    records: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetterRow:
    """A dead letter, waiting or handled."""

    kept: KeptLetter
    handled_at: datetime | None = None  # None: it waits
    held: int = 0  # copies in the queue that were handled with it

    @property
    def handled(self) -> bool:
        """Whether it was put back, or removed."""
        return self.handled_at is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class TailRow:
    """An object beside an archive, until it is surely gone."""

    delivery_id: UUID
    tail: TailObject
    until: datetime  # when it surely is there, or never will be
    place: tuple[str, str] | None = None  # URL and namespace of the manifest; None: it is a tail


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaceRow:
    """A delivery that is done, whose order may keep its user's place at rs-order."""

    delivery_id: UUID
    since: datetime
    due_at: datetime
    tries: int = 0
    answered: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ContentRow:
    """What a delivery that is done has left at its target."""

    content: Content
    warned: bool
    due_at: datetime | None
    asked_at: datetime | None = None
    tries: int = 0
    last_cause: str | None = None
    position: int = -1
    removed_at: datetime | None = None

    def ends_at(self) -> datetime | None:
        """Return when it is to be removed, or was; None: nothing says so."""
        ends = [at for at in (self.asked_at, self.content.until) if at is not None]
        return min(ends, default=None)

    def is_over(self, now: datetime) -> bool:
        """Whether it is to be removed."""
        return (at := self.ends_at()) is not None and (self.asked_at is not None or at <= now)

    def seen(self, now: datetime) -> ContentSeen:
        """Show it."""
        state = ContentState.REMOVING if self.is_over(now) else ContentState.PRESENT
        if self.removed_at is not None:
            state = ContentState.REMOVED
        return ContentSeen(state=state, removed_at=self.removed_at, cause=self.last_cause)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRow:
    """A delivery came into a state, or an attempt in it was given up."""

    id: int
    delivery_id: UUID
    state: State
    attempt: int
    at: datetime
    cause: str | None = None  # why it was given up
    code: str | None = None  # of the cause
    news: ContentNews | None = None  # what happened after the end


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptRow:
    """An attempt of a transfer."""

    delivery_id: UUID
    tenant: str
    attempt: Attempt


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxRow:
    """An event that was handled."""

    ingress_id: UUID
    kind: ArrivalKind
    digest: bytes
    flagged: bool  # it said that it may be a repeat
    arrived_at: datetime
    counted: bool
    returned_at: datetime | None  # RabbitMQ gives its message again: that copy is to come
    denied: tuple[str, str] | None = None  # the word of its error's type, and the reason

    def awaits(self, copy: InboxRow) -> bool:
        """Whether a copy is the one that is to come: none that came before it, and is late."""
        return self.returned_at is not None and self.arrived_at <= copy.arrived_at


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrivalRow:
    """An event that is not handled yet."""

    arrival: Arrival
    received_at: datetime
    due_at: datetime  # when it counts as lost
    appends: int = 0
    returned_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedRow:
    """A request over HTTP."""

    id: int
    request: bytes
    key: bytes | None
    delivery_id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxRow:
    """A message that is owed."""

    id: int
    lane: Lane
    message: OutgoingMessage
    due_at: datetime
    tries: int = 0
    last_error: str | None = None
    not_sent: bool = False  # an order request that no relay has begun to send
    begun_by: UUID | None = None  # the pass of a relay that has, and has told nothing of it yet
    repeats: int = 0  # tries, beside the first, that may be out


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerRow:
    """A worker, by its own word."""

    id: str
    version: str
    slots: int
    started_at: datetime
    seen_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookEventRow:
    """An event that is owed to a webhook, or dead."""

    owed: OwedEvent
    webhook: str
    owed_since: datetime
    due_at: datetime
    last_error: str | None = None
    dead_at: datetime | None = None

    @property
    def of(self) -> tuple[str, str]:
        """Tenant and name of its webhook."""
        return self.owed.event.tenant, self.webhook


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookRow:
    """How a webhook takes events."""

    claim: UUID | None = None
    claimed_until: datetime | None = None
    served_at: datetime | None = None
    url: str | None = None
    throttled: int = 0
    resume_at: datetime | None = None
    failures: int = 0
    failing_since: datetime | None = None
    last_success_at: datetime | None = None
    last_error: str | None = None
    gone_url: str | None = None
    dropped: int = 0
