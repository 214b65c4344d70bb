"""What the use-cases need from the outside, and nothing more.

Each port has two adapters that pass the same tests. PostgreSQL is in `app.store`, its twin in
`app.store.memory`; rs-order and its users are in `streams.regards`, the archiver in
`sinks.transfer`, and their twins in `tests.twins`. The object store is in
`app.delivery.object_store`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from app.audit import AuditRecord
from app.delivery.checkpoint import Checkpoint, FinishedMember, SavedStep, Step, Tail, TailObject
from app.delivery.content import Content, DueContent
from app.delivery.contents import NOTHING, Wanted
from app.delivery.ingress import (
    Arrival,
    Asked,
    AskedBefore,
    IncomingMessage,
    Ingress,
    Opening,
)
from app.delivery.kept_files import FileStep, KeptFile, SentPart
from app.delivery.lease import Lease
from app.delivery.manifest import Extent, ListedFile, Manifest, ManifestFile, Seam
from app.delivery.missing import MissingFile, MissingSoFar
from app.delivery.model import Delivery, Denied, Ended, HeldPlace, KeptPlaces
from app.delivery.object_store import PartBody, StoredObject, Upload
from app.delivery.order_facts import OrderFacts, OrderFile
from app.delivery.orders import ANSWER_LIMIT
from app.delivery.outgoing import Lane, OutgoingMessage, Relayed
from app.delivery.quotas import Quota, Usage
from app.delivery.reports import StoredReport
from app.delivery.segments import OrderPlan, OrderSoFar, Segment
from app.delivery.states import State, Work
from app.delivery.targets import Target
from app.delivery.told import Told
from app.delivery.webhooks import DeliveryEvent
from app.errors import DeliveryError, ErrorType


class UnitOfWork(Protocol):
    """One unit of work: all of it is committed, or none."""

    async def record_receipts(self, arrived: Sequence[Ingress]) -> dict[UUID, datetime]:
        """Note events in the inbox: they need no further care.

        Return those that count, by their id, and when each arrived by the store's clock. The others
        were handled before, or are copies of a message that was.
        """

    async def note_denial(self, denied: Denied) -> None:
        """Keep why a request is denied, with what the inbox keeps of it."""

    async def record_receipt_and_lock(
        self, ingress: Ingress, tenant: str, correlation_id: str
    ) -> tuple[datetime, Delivery | None] | None:
        """Do as `record_receipts`, then as `lock`; None: it does not count, and nothing is locked.

        Return when it arrived, and the active delivery with that id, if there is one.
        """

    async def answered_before(
        self, refused: Sequence[IncomingMessage]
    ) -> dict[UUID, Ended | Denied]:
        """Return how requests were answered, by the ids of messages refused as copies of them.

        Each is taken for a copy of the last one that counted. Where that opened no delivery, as one
        of its correlation id was active, it is how the last one of those has ended. None is told
        while one is active, nor of what Kafka gives again.
        """

    async def open_deliveries(self, openings: Sequence[Opening]) -> list[Delivery]:
        """Save new deliveries; those whose correlation id is in use by an active one are left out.

        No two of them may have the same correlation id.
        """

    async def admit(self, tenant: str, quota: Quota) -> list[Delivery]:
        """Let requests through that wait, as many as a tenant's quotas have places for.

        Return them: no longer held, and due for work. Of each user those of the smallest rank; of
        users those with less of it first. What two transactions let through of one tenant is
        decided one after the other. Some hundred at most: there may be places for more.
        """

    async def charge(self, tenant: str, quota: Quota) -> list[Delivery]:
        """Let deliveries through that wait, laid out, as far as a tenant's bytes of the day go.

        Return them. First those that waited before this day of UTC began, by rank; then of users
        those with less of the day first. One that does not fit bars those of its own user that are
        behind it. One after the other, and some hundred at most, as `admit`.
        """

    async def over_day(self, tenant: str, most: int) -> list[Delivery]:
        """Return deliveries that wait, laid out, and have more than so many bytes: some hundred."""

    async def hold(self, delivery: Delivery) -> None:
        """Let a delivery that is READY wait for its quota of bytes: `charge` lets it through."""

    async def note_held(self, causes: Mapping[UUID, str]) -> None:
        """Note why deliveries, by their ids, wait for their quota; of others nothing changes."""

    async def usage(self, tenant: str, users: Collection[str], quota: Quota) -> dict[str, Usage]:
        """Tell what a tenant has, and each of some users of it."""

    async def held_tenants(self) -> list[str]:
        """Return the tenants with deliveries that wait for a quota, by their names."""

    async def asked_before(self, asked: Asked, *, active: bool) -> AskedBefore | None:
        """Return what was asked for with the same key; with `active`, also by the same request.

        That is, as long as its delivery is active. Until the end, no other transaction asks
        the same.
        """

    async def record_request(self, asked: Asked, delivery_id: UUID) -> None:
        """Note which delivery is the answer; again changes nothing."""

    async def delete_ungranted(self, delivery: Delivery) -> bool:
        """Forget a delivery that was never granted. False when it has moved on."""

    async def lock(self, tenant: str, correlation_id: str) -> Delivery | None:
        """Return the active delivery with this correlation id, locked until the end; or None."""

    async def withdraw_order(self, delivery: Delivery) -> bool:
        """Take back a delivery's order request; False when it may be out, or is about to be."""

    async def order_is_unsent(self, delivery: Delivery) -> bool:
        """Whether a delivery's order request is owed, and surely was not sent until now."""

    async def await_order(self, delivery: Delivery, patience: timedelta = ANSWER_LIMIT) -> None:
        """Note that a delivery has ended while the answer to its order request is due.

        It is reckoned with for `patience` from now on.
        """

    async def awaited_orders(
        self, tenant: str, correlation_id: str, arrived_at: datetime | None
    ) -> list[Delivery]:
        """Return deliveries with that id to whose order request an answer may come, locked.

        That is, ended ones that have none yet; and, where their request was sent again, those that
        have ended or have an order. The oldest comes first; none that was requested after
        `arrived_at`, if that is known.
        """

    async def awaited_unless_had(
        self, tenant: str, correlation_id: str, arrived_at: datetime | None, order_id: int
    ) -> list[Delivery] | None:
        """Do as `awaited_orders`; None, and none is locked, for an order that there was before.

        That is, which belonged to an earlier delivery with this correlation id; or to any, as one
        that was made of a request that was sent again.
        """

    async def answers_before(self, tenant: str, correlation_id: str, arrived_at: datetime) -> bool:
        """Whether an event of rs-order about this id arrived before, and is not handled yet."""

    async def record_answer(self, delivery: Delivery, order_id: int | None) -> None:
        """Note an answer of rs-order to the request of one of `awaited_orders`.

        An order request that waits for it is looked at again at once.
        """

    async def advance(
        self,
        delivery: Delivery,
        state: State,
        *,
        manifest: Manifest | None = None,
        result: StoredObject | None = None,
        error: tuple[ErrorType, str] | None = None,
        code: str | None = None,
        told: Told | None = None,
        order_id: int | None = None,
        total_suborders: int | None = None,
        order_done: bool = False,
        plan: OrderPlan | None = None,
        begins_by: datetime | None = None,
        left_open: bool = False,
    ) -> bool:
        """Compare and set: change the delivery only if state and attempt are still as given.

        From then on it is claimed no later than one of the same tenant that was requested at
        `begins_by`, if that is given. `left_open`, when an attempt that ended it may have left an
        upload open: then it is swept, as one without an archive is.

        `told` is what its client is told at its end, beside `result` or `error`; of that, `code` is
        the one of the catalogue.

        Returns False if they are not: others were faster. Raises ValueError when `ADVANCES` has no
        way from the delivery's state to this one: then the program is wrong.
        """

    async def note_ending(
        self,
        delivery: Delivery,
        error: tuple[ErrorType, str],
        *,
        code: str | None = None,
        lets_go: bool,
    ) -> bool:
        """Note how a delivery ends, once it is known whether its archive has appeared.

        By state and attempt, as `advance`. What was noted first stays. False, and nothing is noted,
        when no attempt may be completing the archive now. One that may keeps its lease, unless it
        `lets_go`, as does one that was claimed since the first note, to look; any other attempt has
        lost its own, and the delivery is due for a claim.
        """

    async def announce(
        self,
        delivery: Delivery,
        suborder: int | None,
        *,
        total_suborders: int | None = None,
        after: timedelta = timedelta(),
    ) -> bool:
        """Add a segment; a delivery that waits for it may be claimed, the first time `after`.

        rs-order told so many suborders, the least that there will be; nothing of an order that was
        done without a number. False when it was announced
        before. What the whole order has (None) may be announced again, unless that is to be listed
        yet, or the order was done the last time.
        """

    async def end_order(
        self,
        delivery: Delivery,
        total_suborders: int | None,
        *,
        error: tuple[ErrorType, str] | None = None,
        in_error: int = 0,
    ) -> None:
        """Note that no further suborder comes; a delivery that waits for that may be claimed.

        So many suborders there are; None: that is not told, and what was told before was the least.
        `error` is what rs-order said of it, if it ended with errors, and `in_error` how many files
        it counted.
        """

    async def list_segment(
        self,
        delivery: Delivery,
        segment: Segment,
        plan: OrderPlan,
        *,
        more_files: int,
        more_bytes: int,
        extends: bool = False,
    ) -> bool:
        """Note that the files of the next segment are in the manifest, and what is planned by now.

        Or (`extends`) more of the last one that is. By so much the archive is larger than was
        known. False when the attempt is over.
        """

    async def add_files(self, delivery: Delivery, files: Sequence[ManifestFile]) -> None:
        """Write files of the manifest, behind those that it has.

        Raises LeaseLostError when another worker has written them.
        """

    async def add_missing(self, delivery: Delivery, files: Sequence[MissingFile]) -> None:
        """Note files that rs-order never listed, and that never were in the manifest.

        Where it does not name them, how many there are.
        """

    async def forget_never_listed(self, delivery: Delivery) -> None:
        """Forget what was noted so: it is looked for again."""

    async def keep_crc32s(self, delivery: Delivery, crc32s: Mapping[int, int]) -> None:
        """Keep what is told, by their id, of files that come into the manifest later.

        Raises LeaseLostError when another worker has kept them.
        """

    async def take_crc32s(self, delivery: Delivery, file_ids: Sequence[int]) -> Mapping[int, int]:
        """Return what was kept of files, by their id; it is kept no longer."""

    async def forget_crc32s(self, delivery: Delivery) -> bool:
        """Forget the CRC-32s of all files of the manifest that have an MD5; False: none had one.

        And what was kept of files that are not in it yet, which may come with an MD5 or without.
        """

    async def enqueue(self, *messages: OutgoingMessage) -> None:
        """Put messages into the outbox.

        Of a response, webhooks hear, too: those of its tenant that ask for such an event.
        """

    async def hint(self, *hints: OutgoingMessage, due: bool = True) -> None:
        """Wake workers with the commit, each that has room for such work; none if it is not due.

        And publish the hints after it, where this process can: none of them is owed.
        """

    async def tell(self, *events: DeliveryEvent) -> None:
        """Owe events to the webhooks of their tenants that ask for them.

        Of those that are owed already, by their id, nothing is owed twice.
        """

    async def record_place(self, delivery: Delivery, *, unseen: int, after: timedelta) -> None:
        """Note that the order of a delivery that is done may keep its user's place at rs-order.

        That is, if it had several suborders, or has a file of `unseen` bytes or more; else nothing
        is noted. It is due after that time. Again changes nothing.
        """

    async def record_places_of(self, user: Delivery, *, within: timedelta, limit: int) -> int:
        """Note that the orders of a delivery's user which are done may keep places, due at once.

        That is, of the last deliveries which ended within that time, as many as `limit`. Return how
        many were not noted before.
        """

    async def forget_place(self, delivery: Delivery) -> bool:
        """Note that a delivery's order keeps no place. False when that was noted before."""

    async def record_kept_places(self, delivery: Delivery, places: int) -> list[KeptPlaces]:
        """Note how many of its user's places a parked delivery's order was seen to keep.

        That is, for suborders that were downloaded, while it waits for another; it holds until the
        delivery is parked again. Return all of that user that keep some, this one among them, in
        the order in which they were requested.
        """

    def wake(self, *works: Work) -> None:
        """Wake workers with the commit, each that has room for such work; nothing is published."""

    def on_commit(self, act: Callable[[], object]) -> None:
        """Do something small, such as counting, once all of it is committed."""

    async def retry_now(self, delivery: Delivery) -> bool:
        """Let what waits for a later attempt be claimed now. False when it is under way."""

    async def lock_object(self, url: str, namespace: str) -> None:
        """Keep others from completing or removing this object: `Target.namespace`."""

    async def lock_object_within(self, url: str, namespace: str, longest: timedelta) -> bool:
        """Do as `lock_object`, or return False where others keep the object for so long."""

    async def relied_on(self, delivery: Delivery, url: str, etag: str, *, namespace: str) -> bool:
        """Whether a client was told this object, or another delivery makes one of that name."""

    async def record_report(self, delivery: Delivery, report: StoredReport) -> None:
        """Note that the report of a delivery is there, and its client is told of it."""

    async def now(self) -> datetime:
        """Return when this transaction began, by the store's clock."""

    async def keep_content(
        self,
        delivery: Delivery,
        *,
        until: datetime,
        key: str | None = None,
        namespace: str | None = None,
    ) -> None:
        """Note until when the content of a delivery stays that is done now.

        Its key and `Target.namespace`; without a key, that of the upload that is recorded. Its
        delivery is kept as long. Of one that failed, it is the report that is recorded: where, is
        noted there, and none is warned.
        """

    async def ask_removal(self, deliveries: Sequence[UUID]) -> list[UUID]:
        """Let the content of deliveries be removed now, however often that was tried.

        Return of which: not of one that is neither done nor has a report, or whose content is
        removed.
        """

    async def old_contents(
        self, tenant: str, age: timedelta, *, limit: int
    ) -> list[tuple[UUID, int]]:
        """Return deliveries that were done so long ago and whose content stays, and its bytes.

        And those that failed, and have a report.
        """

    async def count_old_contents(self, tenant: str, age: timedelta) -> tuple[int, int]:
        """Return how many these are, and their bytes."""

    async def may_remove(self, content: Content, url: str, namespace: str) -> bool:
        """Whether a content is to be removed now, and no other delivery may be making this object.

        The content's own, or one beside it. Asked with `lock_object` of it held.
        """

    async def is_told_by_a_later(self, content: Content, etag: str) -> bool:
        """Whether the client of a later delivery was told this object, and it stays for that.

        One of the same bytes, which a late completion of the earlier delivery has put there.
        """

    async def is_replaced(self, content: Content) -> bool:
        """Whether a delivery that was done later has put something else in a content's place.

        That may be gone since, too. Nothing is known of the place of a delivery that is forgotten.
        A report is taken away by a later delivery of the same id that is done.
        """

    async def content_warned(self, content: Content, *, told: bool = True) -> bool:
        """Note that it is told of a content that it expires soon; False: it was before.

        Without `told` it is noted, and no step of its delivery's history.
        """

    async def content_removed(
        self, content: Content, *, within: timedelta, told: bool = True, cause: str | None = None
    ) -> bool:
        """Note that a content is removed; False when that was noted before.

        Its delivery need not be kept for it any more. `told` as for `content_warned`; `cause` is
        why it is gone, where this service has not removed it. Where it was a report, one that an
        attempt asked for which died may come in its place `within` that time: it is among the
        `untold_reports` after it.
        """

    async def audit(self, done: AuditRecord) -> None:
        """Put what an actor did into the audit trail."""


class Contents(Protocol):
    """What deliveries that are done have left at their targets. Every call is one statement."""

    async def due(self, *, limit: int) -> list[DueContent]:
        """Return what something is due for: of each target of each tenant at most so many."""

    async def postpone(
        self,
        content: Content,
        pause: timedelta,
        *,
        position: int,
        cause: str | None = None,
    ) -> None:
        """Put off the next look at a content; its files up to a position are removed.

        With a cause it counts as tried; without one, nothing is told of why it is still there.
        """

    async def postpone_all(self, tenant: str, target: str, pause: timedelta, cause: str) -> None:
        """Put off all removals that are due at a target."""

    async def give_up(self, content: Content, cause: str) -> None:
        """Note that a removal is not tried any more, unless it is asked for again."""


class DeliveryStore(Protocol):
    """Where deliveries are kept."""

    def transaction(
        self, *, locking: Collection[bytes] = ()
    ) -> AbstractAsyncContextManager[UnitOfWork]:
        """Begin a transaction; leaving the block commits, an exception rolls back.

        With digests of messages that it is to record (`locking`), whose copies wait for its end
        from the beginning: they are recorded without another question.

        Raises StoreUnavailableError, and RuntimeError when the block goes on after a call that
        failed: then the program is wrong, and nothing is committed.
        """

    async def finish(
        self,
        delivery: Delivery,
        result: StoredObject,
        told: Told,
        answer: OutgoingMessage,
        *,
        left_open: bool = False,
    ) -> bool | None:
        """End a delivery as done, and enqueue its answer: what a transaction would do, at once.

        False where it has moved on; None, and nothing is changed, where its tenant has webhooks,
        which are owed the event in the same transaction.
        """

    async def plan(
        self,
        delivery: Delivery,
        manifest: Manifest,
        files: Sequence[ManifestFile],
        hint: OutgoingMessage,
    ) -> bool:
        """Make a delivery READY with all of its files, some thousand at most, and wake workers.

        What a transaction would do, at once. False where it has moved on: nothing is changed then.
        """

    async def postpone_arrival(self, ingress_id: UUID, pause: timedelta) -> None:
        """Let an event that is not handled yet be appended again after the pause."""

    async def expired(self, limit: int) -> list[Delivery]:
        """Return active deliveries whose time is over.

        Of those whose end is noted (`note_ending`), the ones whose archive can't appear any more.
        """

    async def quiet_orders(self, after: timedelta, *, limit: int) -> list[Delivery]:
        """Return deliveries that wait for rs-order and have heard nothing for so long.

        Parked ones, and ones that wait with their lease, as their archive can't pause. Each is
        returned once in that time.
        """

    async def holds_place(self, delivery: Delivery) -> bool:
        """Whether it is noted that a delivery's order may keep its user's place."""

    async def due_place(self, *, longest: timedelta) -> HeldPlace | None:
        """Return the place that is due for longest; None: none is.

        It is due again after a minute, then after twice as long as the time before, at most
        `longest`.
        """

    async def unswept(self, after: timedelta, *, limit: int) -> list[Delivery]:
        """Return deliveries that ended so long ago and may have left an upload open."""

    async def swept(self, delivery: Delivery, *, took: timedelta) -> bool:
        """Note that nothing of the delivery is open any more, as a look found that `took` so long.

        False if a tail of it is noted, if a completion of it, or of another delivery to its place,
        may have been under way when the look began, or if `sweep_again` was called since then: then
        there is another look.
        """

    async def sweep_again(self, delivery: Delivery) -> None:
        """Let `unswept` return a delivery again that is swept: an attempt has left something late.

        As if it had ended now; a look that is under way, and may have come too early for that, does
        not count. One that has not ended will be swept anyway.
        """

    async def postpone_sweeps(
        self, deliveries: Sequence[Delivery], *, after: timedelta, pause: timedelta
    ) -> None:
        """Let `unswept`, asked with the same `after`, return these again after the pause."""

    async def uploads_of_others(
        self, delivery: Delivery, *, container: str, key: str
    ) -> frozenset[str] | None:
        """Return the ids of uploads of a key that other deliveries under way have recorded.

        Of any client. None when one of them may have opened one that it has not recorded yet:
        it has this one's correlation id, or is being transferred to the same key; or a later
        attempt of this one may have.
        """

    async def record_wait(
        self, tenant: str, target: str | None, cause: str, *, limit: int, code: str | None = None
    ) -> int:
        """Note why transfers to a target (None: to any) wait; return how many had not heard it.

        `code` is that of the cause.
        """

    async def clear_wait(self, tenant: str, cause: str, *, limit: int) -> int:
        """Take that cause away from transfers that wait; return from how many."""

    async def delivered_before(self, delivery: Delivery, url: str) -> Delivery | None:
        """Return the last delivery before this one that told the same client of an object."""

    async def others_put_files_beside(
        self, delivery: Delivery, noted: str, *, url: str, namespace: str
    ) -> bool:
        """Whether another delivery under way may be putting files beside a manifest.

        Of any client, or a later attempt of this one: by what was noted before the first file. Of
        what older workers have noted, the beginning of its name is `noted`.
        """

    async def failed_before(
        self, delivery: Delivery, noted: str, *, after: timedelta
    ) -> list[tuple[Delivery, bool]]:
        """Return deliveries of the same tenant and id that failed before this one came.

        Those that are not swept yet, and have something noted under a name that begins with
        `noted`; and whether each ended at least `after` ago.
        """

    async def note_report(
        self, delivery: Delivery, report: StoredReport, *, until: timedelta
    ) -> StoredReport | None:
        """Note where a report of a delivery that is about to fail may come, within `until`.

        Return where: one of an earlier try, which was not told, may still come where that was
        noted, and only one place is known. By state and attempt; None when others were faster:
        then none may be put.
        """

    async def untold_reports(self, *, limit: int) -> list[tuple[Delivery, StoredReport]]:
        """Return deliveries that have ended, and reports of theirs that no client was told of.

        Or that may have come after the one that was told was removed. Each is there by now, or
        never will be.
        """

    async def postpone_report(
        self, delivery: Delivery, pause: timedelta, *, kept: timedelta
    ) -> bool:
        """Let `untold_reports` return it again after the pause.

        False: it is forgotten instead, as its delivery ended, or the report that was told was
        removed, longer ago than the delivery is `kept`.
        """

    async def forget_report(self, delivery: Delivery) -> None:
        """Note that a report that no client was told of is not there."""

    async def done_by(self, delivery: Delivery) -> bool:
        """Whether the delivery was brought to its end by this attempt."""

    def files(self, delivery: Delivery, *, after: int = -1) -> AsyncIterator[ManifestFile]:
        """Iterate over the manifest in the order of the members, behind a position.

        A batch at a time.

        It waits while the store is away.
        """

    async def extent(self, delivery: Delivery) -> Extent:
        """Measure the delivery's manifest."""

    async def measured(self, delivery: Delivery) -> tuple[Extent, AsyncIterator[ManifestFile]]:
        """Do as `extent` and `files`; of a manifest that is one batch, by one question."""

    def missing(self, delivery: Delivery) -> AsyncIterator[MissingFile]:
        """Iterate over the files that a delivery is without: those of the manifest come first.

        A batch at a time. It waits while the store is away.
        """

    async def missing_so_far(self, delivery: Delivery) -> MissingSoFar:
        """Tell how many files a delivery is without, why most of them, and how many are left."""

    async def order_so_far(self, delivery: Delivery) -> OrderSoFar:
        """Return what is known of the delivery's order. Raises LeaseLostError when it is gone."""


class Arrivals(Protocol):
    """What arrived over AMQP and no agent has handled: should Kafka lose it, it is here."""

    async def save(self, arrival: Arrival, *, since: float | None = None) -> None:
        """Return once it is saved, with the time at which it arrived; again changes nothing.

        It arrived at `since` by the monotonic clock; now, if that is not given.
        """

    async def forget(self, ids: Sequence[UUID]) -> None:
        """Note that arrivals need no further care."""

    async def returned(self, ids: Sequence[UUID]) -> None:
        """Note that their messages may come again, and may not tell that they are copies."""

    async def overdue(self, limit: int) -> list[Arrival]:
        """Return arrivals that count as lost, as they came; each has twice the time from now on.

        Those of a kind that only a later version knows are left to a worker that knows them, and
        told in the log.
        """

    async def not_appended(self, ids: Sequence[UUID]) -> None:
        """Note that these were overdue in vain: they are due at once, as if never looked at."""

    async def all_lost(self) -> None:
        """Note that Kafka has lost every event: all are due at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowed:
    """A completion is noted, and may be asked for."""

    # Whether an archive is replaced that a client was told of. A manifest may be beside it, also
    # one of which no client was told, as its answer was lost; and what that tells of is gone.
    replaces_archive: bool = False
    # Whether a report may be beside it: of the same delivery, or of one before with the same id.
    replaces_report: bool = False


class Leases(Protocol):
    """Who works on what. Every call is one short statement."""

    async def claim(self, work: Work) -> Delivery | None:
        """Take the next delivery that this work is due for, for this worker; or None.

        A claim to transfer is a new attempt.
        """

    def sees_more(self, work: Work) -> bool:
        """Whether more of this work may have been due when it was last claimed.

        False only where that claim has seen that nothing else was: what became due after it, by a
        commit or by the clock, is for others to tell.
        """

    async def renew(self, delivery: Delivery) -> bool:
        """Hold on to a lease. False when it is gone."""

    async def holds(self, delivery: Delivery) -> bool:
        """Whether the lease is still this worker's: False, too, when the delivery has ended."""

    async def record_completion(
        self,
        delivery: Delivery,
        result: StoredObject,
        *,
        namespace: str,
        until: timedelta,
        beside: str | None = None,
    ) -> Allowed | None:
        """Hold on to a lease, and note what is about to appear in a namespace within `until`.

        None when the lease is gone: then it may not appear. Raises ObjectBusyError while a
        delivery of another tenant or user is about to make one of that name there, and EndingError
        when the delivery is to end.

        `beside` is the URL of what is to come beside it, once it has appeared: then the delivery
        is done, whatever is noted of its end. It waits while that is being removed.
        """

    async def discard_completion(self, delivery: Delivery) -> None:
        """Note that what was noted last can't appear any more."""

    async def release(
        self,
        delivery: Delivery,
        *,
        after: timedelta,
        failed: bool,
        cause: str,
        code: str | None = None,
        tried: bool = True,
        retried: tuple[int, int] | None = None,
    ) -> None:
        """Let go: any worker may claim it, not before `after`.

        At once, when its order went on since it was claimed. `code` is that of the cause. `failed`
        counts a failed attempt; `tried` one that was given up, by which pauses grow; `retried` is
        which retry of its order this was, and the position of the file that it was for.
        """

    async def park(self, delivery: Delivery, *, cause: str) -> None:
        """Let go of a half-made archive: any worker may claim it when its order has gone on.

        From then on it counts as six hours older than its tenant's deliveries that have not begun.
        """

    async def leave_out(self, delivery: Delivery, position: int, cause: str) -> bool:
        """Note that a file of the manifest is missing: it leaves that, for good.

        Again changes nothing. False when the lease is gone. An archive that an earlier attempt has
        completed, and could not record, may have the file: it has more than are left then.
        """

    async def failures_of(self, delivery: Delivery, position: int) -> int | None:
        """Return how often any attempt noted that a file was refused, or wrong.

        None: it is not in the manifest.
        """

    async def record_failures(self, delivery: Delivery, position: int, times: int) -> bool:
        """Note how often a file was refused, or had other bytes than were listed.

        Noted again, it counts once. False when the lease is gone.
        """

    async def record_upload(self, delivery: Delivery, upload: Upload) -> bool:
        """Note the upload of this attempt. False when the lease is gone."""


class Checkpoints(Protocol):
    """How far half-made archives are, as a worker saves it for the one that takes over."""

    async def save(self, delivery: Delivery, upload: Upload, step: Step) -> bool:
        """Add a step to what was saved of the upload that is recorded at the delivery.

        What was saved behind the one that it follows is replaced. False when the lease is gone, or
        the upload is another one: then nothing changes.
        """

    async def steps(self, delivery: Delivery, upload: Upload) -> list[SavedStep]:
        """Return what was saved of an upload, in its order; nothing once the delivery has ended."""

    async def members(
        self, delivery: Delivery, upload: Upload, step: SavedStep
    ) -> list[FinishedMember]:
        """Return the members of a step that was saved; none where it was replaced, or is gone."""

    async def save_file(self, delivery: Delivery, upload: Upload, step: FileStep) -> bool:
        """Add a step to what was saved of a file that is delivered as it is.

        What was saved behind the step before, or of another upload of the file, is replaced. False
        when the lease is gone, or `upload`, which is the delivery's own, is another one: then
        nothing changes.
        """

    async def kept_uploads(self, delivery: Delivery) -> dict[int, str]:
        """Return the ids of the uploads of files of which something was saved, by position.

        They are to stay open. None once the delivery has ended.
        """

    async def file_steps(self, delivery: Delivery, position: int) -> list[FileStep]:
        """Return what was saved of a file, in its order; nothing once the delivery has ended."""

    async def forget_file(self, delivery: Delivery, upload: Upload, position: int) -> bool:
        """Forget what was saved of a file; as `save_file`. Then its upload need not stay open."""

    async def keep_contents(
        self, delivery: Delivery, upload: Upload, *, md5: str, first: int, contents: bytes
    ) -> bool:
        """Keep what is known of files of an archive with this MD5, from number `first` on.

        Beside what was saved with steps, before it is completed: `contents.Packed`. Steps that
        reach beyond `first`, from before the attempt stepped back, are forgotten. Again changes
        nothing. False when the lease is gone, or the upload is another one.
        """

    def contents(self, delivery: Delivery, *, md5: str) -> AsyncIterator[bytes]:
        """Iterate over what is known of files of an archive with this MD5, in their order.

        That is, what was saved with steps of the upload that is recorded, and what was kept beside.
        Nothing once the delivery has ended.
        """

    async def record_tail(
        self, delivery: Delivery, upload: Upload, key: str, *, until: timedelta
    ) -> bool:
        """Note an object before it is put beside the archive, which is over within `until`.

        It is put at `upload.target`. False when the lease is gone, or the upload is another one:
        then it may not be put.
        """

    async def record_files(
        self,
        delivery: Delivery,
        upload: Upload,
        key: str,
        *,
        url: str,
        namespace: str,
        until: timedelta,
    ) -> bool:
        """Note under a name that files may come beside a manifest, within `until`.

        As `record_tail`, but not while a delivery of another tenant or user may put some there, or
        has failed just now, and what it has asked for may still come: raises FolderBusyError.
        """

    async def tails(self, delivery: Delivery) -> list[TailObject]:
        """Return the objects that were noted, and may be there; also once the delivery has ended.

        Those of the first attempt come first.
        """

    async def forget_tails(
        self, delivery: Delivery, keys: Sequence[str], *, took: timedelta
    ) -> None:
        """Note that objects were removed, in a look that `took` so long.

        What may have been put since that began stays noted, as `dropped`, for another look.
        """

    async def is_kept(
        self, delivery: Delivery, upload: Upload, *, for_another: bool = False
    ) -> bool:
        """Whether an attempt may go on with an upload: something was saved of it.

        This attempt, or a later one; `for_another`: a later one has begun. Never once the delivery
        has ended, or another upload is recorded.
        """


class Outbox(Protocol):
    """Messages that are owed."""

    async def relay(
        self, lane: Lane, publish: Callable[[OutgoingMessage], Awaitable[None]]
    ) -> Relayed:
        """Publish what is due; tell how many were dealt with, and whether more is due.

        An order request waits while the answer to another order of its correlation id is due.

        Messages of a kind that only a later version knows are left to a worker that knows them, and
        told in the log; those behind them, of the same delivery and lane, keep their order.
        """


class WorkNews(Protocol):
    """Hints that there is work, which come with the commits that make it."""

    def listening(self) -> AbstractAsyncContextManager[Callable[[], Awaitable[frozenset[Work]]]]:
        """Give what waits for the next hints, and returns which kinds of work there may be.

        It raises StoreUnavailableError once the line is cut: some may have been missed then.
        """


class OrderSource(Protocol):
    """rs-order's REST side."""

    def listing(
        self, delivery: Delivery, suborder: int | None = None, *, so_far: bool = False
    ) -> AsyncIterator[ListedFile]:
        """Iterate over the files that can be downloaded, page after page.

        Those of the delivery's order, or of one of its suborders. A file that was asked for once
        is not among them any more.

        Raises SourceNotReadyError where rs-order says that more files come; not of a suborder, nor
        with `so_far`, as long as some are there.
        """

    async def order(self, delivery: Delivery) -> OrderFacts | None:
        """Ask about the delivery's order as a whole; None where this rs-order does not tell.

        Raises SourceRefusedError when there is no such order, or it is another user's;
        SourceUnavailableError when that can't be known now.
        """

    def every_file(self, delivery: Delivery, facts: OrderFacts) -> AsyncIterator[OrderFile]:
        """Iterate over all files of the delivery's order, each once, in whatever order.

        Those that are not restored yet are among them. There are no more than `facts.files`: who
        keeps them knows how much memory that takes. Raises OrderNotToldError, after some of the
        files or before the first, where rs-order does not tell all of them; and
        SourceUnavailableError.
        """

    async def retry(self, delivery: Delivery) -> bool:
        """Have files that are in error, or expired, made available again, in new suborders.

        False when rs-order does not do that for the order as it stands: one that is not complete
        or without an error, or whose retry has begun already. Raises SourceRefusedError when there
        is no such order any more, and SourceUnavailableError: then it may have begun, too.
        """

    def download(
        self, delivery: Delivery, file: ManifestFile
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a file's bytes, from the first to the last: `FileBytes`, where their number is told.

        Reading raises SourceGoneError when rs-order had the file, and has it no more, with its
        position.
        """


class SuffixOf(Protocol):
    """What plans go by of the formats of archives."""

    def __call__(self, name: str, /) -> str:
        """Return what archives of a format have at the end of their names, with its dot.

        The transfer knows the format by it. Raises RetryableError for one of another version.
        """


class Folder(Protocol):
    """What an attempt may do beside its object, where files are delivered as they are."""

    @property
    def may_be_there(self) -> bool:
        """Whether some of the files may have been put before."""

    async def may_put(self) -> None:
        """Return if a file may be put now; asked right before each request that makes an object.

        It is noted that there are some, and until when they may come. Raises LeaseLostError.
        """

    async def clear(self, key: str) -> None:
        """Abort uploads of a file that earlier attempts may have left open, but one that is kept.

        Raises what the store raises.
        """

    async def resume(self, file: ManifestFile, *, at_most: int) -> KeptFile | None:
        """Return what an earlier attempt has sent of a large file: that upload may be gone on with.

        In parts of `at_most` bytes. None: there is none, or what was kept is another file's by now,
        or elsewhere, or gone; then it is kept no longer. Raises LeaseLostError, and
        TargetUnavailableError while the store does not tell.
        """

    async def keep(
        self,
        file: ManifestFile,
        upload: Upload,
        *,
        part_size: int,
        step: int,
        parts: Sequence[SentPart],
    ) -> bool:
        """Save what was sent of a file since step `step` - 1: later attempts `resume` it.

        False when the lease is gone. Raises StoreUnavailableError: then it may be saved.
        """

    async def forget(self, file: ManifestFile) -> None:
        """Forget what was kept of a file, as it is there. Raises StoreUnavailableError."""

    def leaves_open(self) -> None:
        """Note that this attempt may leave an upload of a file open: it is looked for then."""


class LeavesOut(Protocol):
    """Decides which files a partial delivery is without."""

    async def leaves_out(self, file: ManifestFile, error: DeliveryError) -> bool:
        """Whether a file is left out whose bytes can't be had, or are wrong: so it is noted then.

        False: it may come at another try. Raises LeaseLostError, StoreUnavailableError.
        """

    def missing(self) -> AsyncIterator[MissingFile]:
        """Iterate over all that the delivery is without: see `DeliveryStore.missing`."""


class Archiver(Protocol):
    """Streams the files of a delivery into one verified object."""

    def media_type(self, delivery: Delivery) -> str:
        """Return the media type of the delivery's object, before it is made."""

    def memory_of(
        self,
        delivery: Delivery,
        *,
        at_most: int,
        name_bytes: int,
        after: Checkpoint | None = None,
        wanted: Wanted = NOTHING,
    ) -> int:
        """Return the bytes of memory that `run`, called with the same, holds to its end.

        Raises ArchiveTooLargeError when no worker has as many, and CheckpointUnusableError.
        """

    async def run(
        self,
        delivery: Delivery,
        files: AsyncIterator[ManifestFile | Seam],
        target: Target,
        upload: Upload,
        *,
        at_most: int,
        name_bytes: int,
        most_files: int | None = None,
        lease: Lease,
        may_complete: Callable[[StoredObject], Awaitable[bool]],
        save: Callable[[Step], Awaitable[bool]],
        put_aside: Callable[[PartBody], Awaitable[Tail]],
        folder: Folder,
        keep: Callable[[StoredObject, int, bytes], Awaitable[bool]] | None = None,
        wanted: Wanted = NOTHING,
        leaving_out: LeavesOut | None = None,
        after: Checkpoint | None = None,
    ) -> StoredObject | None:
        """Transfer. `may_complete` is asked each time right before the object would appear.

        The files come one after the other, with a `Seam.SEGMENT` between two segments: the same
        files with the same seams give the same object, however often it paused. At `Seam.PAUSE`
        it returns None, with all that came saved; what is less than a part goes to `put_aside`
        before. Raises StoreUnavailableError when it can't be saved.

        How far it is, is saved now and then, and when it fails; it goes on `after` what was saved
        of this upload. Raises CheckpointUnusableError where that can't be done.

        Where files are delivered as they are, each is put beside the upload's key while `folder`
        allows it; the object is the list of them, and what was put is there when it appears.

        What is `wanted` of an archive's files is saved with the steps; what is behind the last one
        goes to `keep` before the object may appear, with its first file's number: False, and the
        object may not.

        Where there is `leaving_out`, the archive is made without the files that it leaves out.
        Raises NothingAvailableError where none is left; and what is wrong with a file of which some
        went out already, with its position: it is gone on with from before that.

        `at_most` is the bytes that the files may have: more than the delivery's total where sizes
        of some are unknown. `name_bytes` is what their names in the archive have together, and
        `most_files` how many there may be, where more than the delivery is known to have may come.
        """


class Users(Protocol):
    """Who may order."""

    def remembers(self, tenant: str, email: str) -> bool:
        """Whether this user is known without asking."""

    async def known(self, tenant: str, email: str) -> bool:
        """Whether the tenant has this user. Raises RetryableError when that can't be known now."""
