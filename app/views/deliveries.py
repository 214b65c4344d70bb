"""Deliveries as they are looked at: where each stands, how it got there, who works on it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, Self
from uuid import UUID

from pydantic import Field

from app.codes import PAGE, Code, fails_again
from app.delivery.attempts import Attempt
from app.delivery.content import ContentSeen, ContentState
from app.delivery.manifest import ManifestFile, told_url
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject
from app.delivery.states import State
from app.delivery.told import Told
from app.errors import ErrorType
from app.views.progress import ProgressView, UnderwayReader
from app.views.segments import SegmentSeen, suborders_in_words
from app.views.view import Milliseconds, Query, Text, Texts, Time, View

# What deliveries that failed before codes were stored have.
_OF_TYPE = {
    ErrorType.EMPTY_ORDER.value: Code.EMPTY_ORDER.value,
    ErrorType.EXPIRED.value: Code.EXPIRED.value,
    ErrorType.TOO_MANY_SUBORDERS.value: Code.TOO_MANY_SUBORDERS.value,
}
MISSING_SHOWN = 10  # files that a delivery is without, where not all are asked for
_WORKER_TIMEOUT = 60.0  # seconds after which a worker counts as gone; it tells every ten


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracked:
    """A delivery with what its work doesn't need, and its observers do."""

    delivery: Delivery
    updated_at: datetime
    state_since: datetime  # attempts that are given up do not change it
    not_before: datetime  # the next attempt, where one is due
    finished_at: datetime | None
    worker: str | None  # who works on it now
    result: StoredObject | None
    error: tuple[str, str] | None  # an `ErrorType`, as it is written: also one of a later version
    error_code: str | None = None  # of the catalogue, likewise
    listed: int = 0  # segments whose files are in the manifest
    told: Told = field(default_factory=Told)  # to its client, beside result and error
    content: ContentSeen | None = None  # of DONE; None: it stays, as far as is known

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.delivery.state.ended

    @property
    def code(self) -> str | None:
        """The code of why it failed, or waits; None: there is no cause, or it is not known."""
        if self.error is not None:
            return self.error_code or _OF_TYPE.get(self.error[0])
        delivery = self.delivery
        if self.ended:
            return None
        if delivery.parked:
            return Code.SUBORDER_AWAITED.value
        if delivery.ending is not None:
            return delivery.ending.code
        # By what it is: a worker of the version before notes no code for that.
        return Code.QUOTA_AWAITED.value if delivery.held else delivery.last_code

    @property
    def activity(self) -> Activity | None:
        """What goes on; None: it has ended. Whether a transfer stalls, its progress tells."""
        if self.ended:
            return None
        if self.worker is not None:
            return Activity.MOVING
        if self.code == Code.PAUSED:
            return Activity.PAUSED
        delivery = self.delivery
        waits = delivery.parked or delivery.held
        return Activity.RETRYING if delivery.tries and not waits else Activity.WAITING

    @property
    def fails_again(self) -> bool:
        """Whether it would end the same way, were it asked for again as it is."""
        return self.error is not None and fails_again(self.code)

    @property
    def searched(self) -> str:
        """What a text is looked for in."""
        delivery, error = self.delivery, self.error or ()
        parts = (
            delivery.correlation_id,
            delivery.archive_name,
            *error,
            delivery.last_cause,
        )
        return " ".join(part for part in parts if part is not None)

    @property
    def since(self) -> datetime:
        """Since when it is in its state."""
        return self.finished_at or self.state_since

    @property
    def parked_since(self) -> datetime | None:
        """Since when its archive waits for the next suborder; None: it does not."""
        return self.updated_at if self.delivery.parked else None

    @property
    def suborders(self) -> str | None:
        """Which suborders are there, and what is waited for, in words; None: nothing to tell."""
        return suborders_in_words(self.delivery, listed=self.listed, parked_since=self.parked_since)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A delivery came into a state, an attempt in it was given up, or there is news after it."""

    id: int  # grows; within a delivery in the order of the steps
    state: State
    attempt: int
    at: datetime
    cause: str | None = None  # why the attempt was given up; None: it came into the state
    code: str | None = None  # of that cause
    news: str | None = None  # a `ContentNews`, as it is written: of its content, after its end


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A step, with the delivery as it is now (which may be further); its `order` is not read."""

    step: Step
    tracked: Tracked


class Activity(StrEnum):
    """What goes on with a delivery that has not ended."""

    MOVING = "moving"  # a worker is at it
    STALLED = "stalled"  # a worker is at it, and no byte has come for long
    RETRYING = "retrying"  # an attempt was given up, and the next one is to come
    WAITING = "waiting"  # for its turn, for rs-order, or for a quota
    PAUSED = "paused"  # an operator or administrator has paused it


class Filter(Query):
    """Which deliveries are looked for; None is any.

    The parameters of `GET /deliveries`, their checks, and arguments of the statement `browse`: one
    more is a field here, and a condition there.
    """

    states: list[State] | None = Field(None, alias="state", description="Only these.")
    activities: list[Activity] | None = Field(
        None,
        alias="activity",
        description="Only where this goes on. `moving` finds what is `stalled`, too; by that alone "
        "only `GET /deliveries` finds any.",
    )
    codes: Texts = Field(None, alias="code", description="Only with this code of a cause.")
    target: Text = Field(None, description="Only to this target.")
    worker: Text = Field(None, description="Only what this worker has under way.")
    user: Text = Field(None, description="Only of this ordering user.")
    labels: Texts = Field(
        None, alias="label", description="Only with this label; with all of them, if given again."
    )
    since: Time = Field(None, description="Requested then or later.")
    until: Time = Field(None, description="Requested earlier.")
    # Case does not matter.
    text: Text = Field(None, description="In correlation id, archive name or cause.")

    def arguments(self) -> dict[str, Any]:
        """Return the fields, by the names that the statement has for them; none of a subclass."""
        return {name: getattr(self, name) for name in Filter.model_fields}

    def fits(self, tracked: Tracked) -> bool:
        """Whether a delivery is among those that are looked for."""
        delivery = tracked.delivery
        return (
            (self.states is None or delivery.state in self.states)
            and (self.activities is None or tracked.activity in self.activities)
            and (self.codes is None or tracked.code in self.codes)
            and self.target in (delivery.target, None)
            and self.worker in (tracked.worker, None)
            and self.user in (delivery.user, None)
            and set(self.labels or ()) <= set(delivery.labels)
            and (self.since is None or delivery.requested_at >= self.since)
            and (self.until is None or delivery.requested_at < self.until)
            and (self.text is None or self.text.lower() in tracked.searched.lower())
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSeen:
    """A worker, by its own word."""

    id: str
    version: str
    started_at: datetime
    seen_at: datetime
    silent_for: float  # seconds
    slots: int
    running: int  # transfers

    @property
    def alive(self) -> bool:
        """Whether it recorded lately that it is alive."""
        return self.silent_for < _WORKER_TIMEOUT


@dataclass(frozen=True, kw_only=True, slots=True)
class Depth:
    """What waits, or is under way, of one kind."""

    tenant: str
    state: State
    deliveries: int
    oldest: float  # seconds that the oldest has been in this state
    parked: int = 0  # of them, those whose archive waits for the next suborder
    oldest_parked: float = 0.0  # seconds that the one of those waits that has waited longest
    held: int = 0  # of them, those that wait for their quota
    held_late: int = 0  # of those, the ones that have less than half of their time left
    # By what goes on; the rest waits.
    moving: int = 0
    retrying: int = 0
    paused: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacesHeld:
    """Deliveries of a tenant that are done, whose orders may keep their users' places."""

    tenant: str
    places: int
    oldest: float  # seconds since the one was done that was so first


@dataclass(frozen=True, kw_only=True, slots=True)
class OverdueContents:
    """Contents of a tenant's deliveries that are to be removed by now, and are not yet."""

    tenant: str
    contents: int
    oldest: float  # seconds since the first was to be removed
    cause: str | None  # why that one is still there; None: it was not tried yet


@dataclass(frozen=True, kw_only=True, slots=True)
class Owed:
    """Messages that no broker has confirmed yet."""

    lane: str
    messages: int
    oldest: float  # seconds that the oldest is overdue


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Deliveries that ended alike."""

    state: State
    error_type: str | None  # as it is written: also one of a later version
    deliveries: int
    bytes: int  # of their source files
    median_seconds: float  # from request to end


class Tracking(UnderwayReader, Protocol):
    """Where deliveries are looked up."""

    async def browse(
        self,
        tenants: Sequence[str],
        wanted: Filter,
        *,
        before: tuple[datetime, UUID] | None,
        limit: int,
    ) -> list[Tracked]:
        """Return their deliveries, the newest first: those before a time of request and an id.

        Their `order` is not read: lists don't show it.
        """

    async def of(self, tenant: str, correlation_id: str) -> list[Tracked]:
        """Return every delivery of a correlation id that is still kept, the newest first."""

    async def one(self, tenant: str, delivery: UUID) -> Tracked | None:
        """Return a delivery by its id; None if the tenant has none of this id, or no longer."""

    async def some(self, tenant: str, deliveries: Sequence[UUID]) -> list[Tracked]:
        """Return those of a tenant's deliveries that there are, as `browse` shows them."""

    async def newest(self, tenant: str, correlation_ids: Collection[str]) -> set[UUID]:
        """Return of each correlation id the delivery that was requested last."""

    async def steps(self, delivery: UUID) -> list[Step]:
        """Return how a delivery got where it is."""

    async def attempts(self, delivery: UUID) -> list[Attempt]:
        """Return the attempts of a delivery's transfer that are kept, the newest first."""

    async def manifest(self, delivery: UUID, *, after: int, limit: int) -> list[ManifestFile]:
        """Return files of a delivery after a position (-1: from the first)."""

    async def file(self, delivery: UUID, member: str) -> ManifestFile | None:
        """Return a file of a delivery by its name in the archive; None if it has none of it."""

    async def missing(self, delivery: UUID, *, limit: int) -> list[MissingFile]:
        """Return files that a delivery is without, the first of them."""

    async def missing_count(self, delivery: UUID) -> int:
        """Return how many files a delivery is without, also those that rs-order does not name."""

    async def segments(self, delivery: UUID) -> list[SegmentSeen]:
        """Return the suborders of a delivery that were announced, in that order."""


class Changes(Protocol):
    """What happens to all deliveries, as a stream to follow."""

    async def last(self) -> int:
        """Return the number of the newest step."""

    async def last_of(self, tenant: str, user: str, *, until: int) -> int:
        """Return the number of the newest step of a user's deliveries, of those up to `until`.

        0: there is none.
        """

    async def since(self, last: int, *, missing: Sequence[int], limit: int) -> list[Change]:
        """Return steps after `last`, and those of the `missing` numbers that are there now."""

    async def replay(
        self, tenant: str, last: int, *, limit: int, user: str | None = None
    ) -> list[Change]:
        """Return a tenant's steps after `last`, or those of one user's deliveries.

        Some of the moments before it may come again.
        """


class Overview(Protocol):
    """Figures of everything at once."""

    async def workers(self) -> list[WorkerSeen]:
        """Return the workers that there are, or were until a day ago."""

    async def depths(self) -> list[Depth]:
        """Return how many deliveries of each tenant are in each state before the end."""

    async def places_held(self) -> list[PlacesHeld]:
        """Return how many orders may keep a place at rs-order although all of them is delivered."""

    async def contents_overdue(self) -> list[OverdueContents]:
        """Return how much content is to be removed by now, and is not yet."""

    async def owed(self) -> list[Owed]:
        """Return how many messages wait to be confirmed."""

    async def outcomes(self, tenants: Sequence[str], *, since: datetime) -> list[Outcome]:
        """Return what became of deliveries that ended since then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingSeen:
    """What a delivery is without, in short."""

    files: int
    first: Sequence[MissingFile]


class DeliveryView(View):
    """A delivery as it is shown everywhere: HTTP, events, command line."""

    id: str
    tenant: str
    correlation_id: str
    state: State
    activity: Activity | None = Field(
        None, description="What goes on in that state; missing: it has ended."
    )
    user: str
    target: str
    origin_app: str | None = None
    priority: int | None = None
    requested_at: Milliseconds
    expires_at: Milliseconds | None = None
    updated_at: Milliseconds | None = None
    state_since: Milliseconds | None = Field(None, description="However often it was tried there.")
    finished_at: Milliseconds | None = None
    order_id: int | None = None
    total_sub_orders: int | None = Field(
        None, description="That rs-order told last; before the order is done, there may be more."
    )
    announced_sub_orders: int | None = Field(
        None, description="That rs-order made available (or all of the order, once more)."
    )
    listed_sub_orders: int | None = Field(
        None, description="Of those, the ones whose files were listed, each by itself."
    )
    order_done: bool | None = Field(
        None, description="True once rs-order says that no further suborder comes."
    )
    parked_since: Milliseconds | None = Field(
        None, description="Since when a half-made archive waits for the next suborder."
    )
    format: str | None = Field(None, description="What its files are delivered as.")
    partial: bool | None = Field(
        None, description="True: what there is, is delivered, and what is missing is told."
    )
    missing: int | None = Field(
        None, description="Files that were ordered, and are not there. In lists: once it is done."
    )
    labels: list[str] | None = Field(None, description="What its client calls it.")
    deadline: Milliseconds | None = Field(
        None, description="Its client's; it expires then at the latest."
    )
    archive_name: str | None = None
    prefix: str | None = Field(
        None, description="The folders before that of its correlation id, where it has some."
    )
    files: int | None = None
    bytes: int | None = Field(None, description="Of the files together.")
    attempt: int | None = None
    tries: int | None = Field(
        None, description="Times that the work due now was given up; the next is at nextAttemptAt."
    )
    worker: str | None = None
    last_cause: str | None = Field(
        None, description="Why the last attempt was given up, or why none begins."
    )
    next_attempt_at: Milliseconds | None = None
    url: str | None = None
    md5: str | None = None
    archive_bytes: int | None = None
    manifest_url: str | None = Field(
        None, description="Of the list of the files beside them, where there is one."
    )
    sha256: str | None = Field(
        None, description="Of the archive, hex, lower case; where the tenant asks for it."
    )
    expires: str | None = Field(
        None, description="When its content is removed from the target, as its client was told."
    )
    content: ContentState | None = Field(
        None,
        description="Where its content is; missing: at the target, as far as is known here.",
    )
    removed_at: Milliseconds | None = Field(None, description="When its content was removed.")
    content_cause: str | None = Field(
        None,
        description="Why its content is still there, though it is to be removed; or why it is "
        "gone, where this service has not removed it.",
    )
    error_type: str | None = None
    error_message: str | None = None
    code: str | None = Field(None, description=f"Of why it failed, or waits; looked up in {PAGE}.")
    fails_again: bool | None = Field(
        None, description="True: asked for again as it is, it would end the same way."
    )
    report_url: str | None = Field(
        None, description="Of what is told of each file of a delivery that failed, where it is."
    )
    progress: ProgressView | None = None

    @classmethod
    def of(cls, tracked: Tracked, *, missing: MissingSeen | None = None, **more: Any) -> Self:
        """Show a delivery, with `more` fields than are known of it here.

        And what is `missing`, where that was asked for before it is done.
        """
        delivery, result = tracked.delivery, tracked.result
        error_type, error_message = tracked.error or (None, None)
        cause = None if tracked.ended else delivery.last_cause
        if delivery.ending is not None:
            cause = f"{delivery.ending.message}; it ends when its completion has, or has failed"
        waits = cause is not None and tracked.worker is None and not delivery.parked
        waits = waits and not delivery.held  # that has no time
        return cls(
            id=str(delivery.id),
            tenant=delivery.tenant,
            correlation_id=delivery.correlation_id,
            state=delivery.state,
            activity=activity_of(tracked, more.get("progress")),
            user=delivery.user,
            target=delivery.target,
            origin_app=delivery.origin_app,
            priority=delivery.priority,
            requested_at=delivery.requested_at,
            expires_at=delivery.expires_at,
            updated_at=tracked.updated_at,
            state_since=tracked.since,
            finished_at=tracked.finished_at,
            order_id=delivery.order_id,
            total_sub_orders=delivery.total_suborders,
            announced_sub_orders=delivery.announced or None,
            listed_sub_orders=tracked.listed or None,
            order_done=delivery.order_done or None,
            parked_since=tracked.parked_since,
            format=delivery.format,
            partial=delivery.partial or None,
            missing=tracked.told.missing if missing is None else missing.files,
            labels=list(delivery.labels) or None,
            deadline=delivery.deadline,
            archive_name=delivery.archive_name,
            prefix=delivery.prefix or None,
            files=delivery.file_count,
            bytes=delivery.total_bytes,
            attempt=delivery.attempt,
            tries=None if tracked.ended else delivery.tries or None,
            worker=tracked.worker,
            last_cause=cause,
            next_attempt_at=tracked.not_before if waits else None,
            url=told_url(result.url, delivery.archive_name) if result else None,
            md5=result.md5 if result else None,
            archive_bytes=result.size if result else None,
            manifest_url=tracked.told.manifest_url,
            sha256=tracked.told.sha256,
            expires=tracked.told.expires,
            content=None if tracked.content is None else tracked.content.state,
            removed_at=None if tracked.content is None else tracked.content.removed_at,
            content_cause=None if tracked.content is None else tracked.content.cause,
            error_type=error_type,
            error_message=error_message,
            code=tracked.code,
            fails_again=tracked.fails_again or None,
            report_url=tracked.told.report_url,
            **more,
        )


def activity_of(tracked: Tracked, progress: ProgressView | None) -> Activity | None:
    """Return what goes on, with how far the attempt is that is under way; None: it has ended."""
    stalled = progress is not None and progress.stalled_for is not None
    if stalled and tracked.activity is Activity.MOVING:
        return Activity.STALLED
    return tracked.activity


class MissingFileView(View):
    """A file that was ordered, and is not delivered."""

    file_id: int | None = Field(None, description="rs-order's; null: it does not tell which.")
    member: str | None = Field(None, description="The name that it would have.")
    bytes: int | None = None
    product: str | None = None
    version: int | None = Field(None, description="Of the product.")
    files: int = Field(description="How many this stands for, where rs-order does not tell which.")
    cause: str

    @classmethod
    def of(cls, file: MissingFile) -> Self:
        """Show a file."""
        return cls(
            file_id=file.file_id,
            member=file.member,
            bytes=file.size,
            product=file.product_id,
            version=file.product_version,
            files=file.files,
            cause=file.cause,
        )


async def missing_of(tracking: Tracking, tracked: Tracked) -> MissingSeen | None:
    """Return what a delivery that takes a part is without, up to now; None: nothing."""
    if not tracked.delivery.partial:
        return None
    first = await tracking.missing(tracked.delivery.id, limit=MISSING_SHOWN)
    if not first:
        return None
    return MissingSeen(files=await tracking.missing_count(tracked.delivery.id), first=first)


class DeliveryStepView(View):
    """A delivery came into a state, or an attempt in it was given up; or news of its content."""

    state: State
    attempt: int
    at: Milliseconds
    cause: str | None = Field(None, description="Why the attempt was given up.")
    code: str | None = Field(None, description="Of that cause.")
    news: str | None = Field(None, description="What happened to its content since.")

    @classmethod
    def of(cls, step: Step) -> Self:
        """Show a step."""
        return cls(
            state=step.state,
            attempt=step.attempt,
            at=step.at,
            cause=step.cause,
            code=step.code,
            news=step.news,
        )


class AttemptView(View):
    """An attempt of a delivery's transfer."""

    attempt: int = Field(description="Of the delivery, from 1.")
    worker: str
    target: str
    began: Milliseconds
    ended: Milliseconds | None = Field(
        None,
        description="Missing: it is under way. Of one that was lost: when its lease ran out.",
    )
    outcome: str | None = Field(
        None,
        description="done; error: its delivery ended in ERROR; postponed: another follows after a "
        "pause; parked: more of its order is awaited; handed_over: its worker let go, nothing was "
        "wrong with it; lost: its worker fell silent.",
    )
    code: str | None = Field(None, description="Of the cause, where it has one.")
    cause: str | None = None
    bytes: int | None = Field(
        None, description="Of the delivery's files that were archived by then, as its worker told."
    )

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        """Show an attempt."""
        return cls(**asdict(attempt))
