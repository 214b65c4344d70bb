"""Orders of which nothing was heard for long: rs-order is asked how they stand.

It says nothing of an order that expires, nor of one whose making broke off; and what it said may
be lost. What it answers is applied as if it had been said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from app.codes import Code
from app.delivery.manifest import ManifestFile, ids_of
from app.delivery.model import Delivery, KeptPlaces
from app.delivery.order_facts import FileState, OrderFacts, OrderFile, OrderState
from app.delivery.orders import OrderEvent, OrderStatus
from app.delivery.ports import DeliveryStore, OrderSource, UnitOfWork
from app.delivery.states import State
from app.errors import (
    UNFORESEEN,
    DeliveryError,
    ErrorType,
    OrderNotToldError,
    OrderTooLargeError,
    SourceNotReadyError,
    SourceRefusedError,
    SourceUnavailableError,
)
from app.telemetry.logs import get_logger
from app.usecases.fail import fail
from app.usecases.free_place import may_lack_place
from app.usecases.laying_out import Room
from app.usecases.order_progress import announce_available, order_progressed
from app.usecases.untold import Question, Unanswered

log = get_logger(__name__)

_QUIET = timedelta(minutes=15)
_NAMED = 3  # files in a cause
_TRIES = 2  # looks in a row at which a question fails: then it counts as not told
_MOST_FAILURES = 3  # in a row, before the others are left for another look


class _Suborders:
    """The suborders of an order, by the files that it has."""

    def __init__(self) -> None:
        self.available: dict[int, int] = {}  # files that wait to be downloaded, and their suborders
        self.pending: Counter[int] = Counter()  # files to be restored, by suborder
        self._all: set[int] = set()

    def add(self, file: OrderFile, suborder: int) -> None:
        """Note a file of a suborder."""
        self._all.add(suborder)
        if file.state == FileState.AVAILABLE:
            self.available[file.file.file_id] = suborder
        elif file.state == FileState.PENDING:
            self.pending[suborder] += 1

    @property
    def total(self) -> int:
        """How many there are; more, where an order was retried."""
        return len(self._all)

    @property
    def whole(self) -> list[int]:
        """Those that can be downloaded, in the order in which they were told.

        Not those of which a part is still to come: they are announced when all of it is there.
        """
        available = dict.fromkeys(self.available.values())
        return [suborder for suborder in available if suborder not in self.pending]


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What an order keeps of its user's places, although it was downloaded."""

    places: int  # as many as its suborders
    files: int  # that these have
    named: list[str]  # some of them, as they are called in the archive


def _who_keeps(places: int, kept: _Kept, others: list[KeptPlaces]) -> str:
    """Say who keeps all places of a user for what was downloaded, and what to do: a cause's end."""
    more = f" and {kept.files - len(kept.named)} more" if kept.files > len(kept.named) else ""
    unseen = (
        "They were downloaded, but rs-order does not see that of files of 2 GiB and more, or at "
        f"other servers (here: {', '.join(kept.named)}{more})."
    )
    apart = "Order these files apart, so that no order has them "
    if kept.places >= places:
        return (
            f"its own suborders keep {'the only one' if places == 1 else f'all {places} places'}. "
            f"{unseen} {apart}"
            + ("beside others" if places == 1 else f"in {places} suborders or more")
        )
    names = [each.delivery.correlation_id for each in others]
    and_more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    others_are = f"{'delivery' if len(names) == 1 else 'deliveries'} {', '.join(names[:_NAMED])}"
    return (
        f"its own suborders and those of {others_are}{and_more}, all of the same user, keep all "
        f"{places} places. {unseen} This delivery was requested last, and ends so that the others "
        f"go on: ask again once they are done. {apart}beside others"
    )


@dataclass(frozen=True, kw_only=True)
class OrderInquiry:
    """Asks about the orders that deliveries wait for."""

    source: OrderSource
    store: DeliveryStore
    room: Room  # that never waits for memory: what has none now, has its turn at a later look
    limit: int  # orders in one look: the others have their turn at the next one
    max_suborders: Callable[[str], int] = lambda _tenant: 0  # of an order; 0: any number
    reports: Callable[[str], bool] = lambda _tenant: False  # whether it wants some of what fails
    frees_places: bool = False  # at rs-order, of orders that are delivered
    user_places: int = 0  # suborders of a user that rs-order has available at a time; 0: not known
    unanswered: Unanswered = field(default_factory=Unanswered)

    async def look(self) -> None:
        """Ask about the orders that were quiet for longest. One process does it for all.

        One after the other is taken: those after the last one are due all the same.
        """
        failures = 0  # in a row
        for _ in range(self.limit):
            quiet = await self.store.quiet_orders(_QUIET, limit=1)
            if not quiet:
                return
            delivery = quiet[0]
            try:
                await self._ask(delivery)
                failures = 0
            except Exception as error:  # noqa: BLE001 - it must not hold up the others
                failures += 1
                foreseen = isinstance(error, DeliveryError)
                cause = str(error) if foreseen else f"{UNFORESEEN}: {error!r}"
                log.warning("order_not_asked", **delivery.log_context, cause=cause)
                if failures == _MOST_FAILURES:
                    return  # nor does it answer for the others now

    async def _ask(self, delivery: Delivery) -> None:
        try:
            facts = await self._facts(delivery)
        except SourceRefusedError as error:
            cause = f"nothing was heard of it for long, and {error}"
            await self._end(delivery, cause, code=error.code)
            return
        if facts is None:
            await self._look_for_files(delivery)
            return
        log.info(
            "order_asked",
            **delivery.log_context,
            order_id=delivery.order_id,
            status=facts.status,
            expires_at=facts.expires_at,
        )
        if facts.gone and await self._has_all(delivery, facts):
            await self._said(delivery, OrderStatus.DONE)
        elif facts.gone and delivery.partial and delivery.plan is not None:
            # What was downloaded before is delivered.
            message = f"it is {facts.status} at rs-order, and what was not downloaded is gone"
            await self._said(delivery, OrderStatus.FAILED, errors=1, message=message)
        elif facts.gone:
            await self._end(
                delivery,
                f"order {delivery.order_id} is {facts.status} at rs-order, and its files are gone "
                "before all of them were downloaded: ask again",
                code=Code.SOURCE_GONE,
            )
        elif facts.complete:
            failed = facts.status == OrderState.FAILED
            await self._said(
                delivery,
                OrderStatus.FAILED if failed else OrderStatus.DONE,
                errors=max(1, facts.in_error or 0) if facts.may_be_retried else 0,
                total_suborders=await self._total_suborders(delivery, facts),
            )
        else:
            if facts.available or facts.waiting_for_user:
                await self._announce(delivery, facts)
            if self.frees_places:
                await self._look_for_places(delivery)

    async def _facts(self, delivery: Delivery) -> OrderFacts | None:
        """Ask about an order; None: it is not told."""
        try:
            facts = await self.source.order(delivery)
        except SourceUnavailableError as error:
            if not await self._is_untold(delivery, Question.ORDER, error):
                raise
            return None
        self.unanswered.answered(delivery, Question.ORDER)
        return facts

    async def _is_untold(
        self, delivery: Delivery, question: Question, error: SourceUnavailableError
    ) -> bool:
        return await self.unanswered.is_untold(delivery, question, self.source, error, tries=_TRIES)

    async def _has_all(self, delivery: Delivery, facts: OrderFacts) -> bool:
        """Whether all files of an order that is gone came before: its end was not heard then."""
        plan = delivery.plan
        if plan is None or not plan.is_all_of(facts.files):
            return False
        files = ids = 0
        async for file in self._laid_out(delivery):
            files += 1
            ids = ids_of([file], ids)
        return (files, ids) == (plan.files, plan.ids)

    async def _laid_out(self, delivery: Delivery) -> AsyncIterator[ManifestFile]:
        """Iterate over the files that are, or were, in a manifest: some may be left out by now."""
        async for file in self.store.files(delivery):
            yield file
        if delivery.partial:
            async for missing in self.store.missing(delivery):
                if missing.position is None:
                    return
                yield missing.laid_out()

    async def _announce(self, delivery: Delivery, facts: OrderFacts) -> None:
        """Announce suborders that can be downloaded: some may be, of which it was not heard."""
        async with AsyncExitStack() as stack:
            suborders = await self._suborders(delivery, facts, stack)
            if suborders is not None:
                for suborder in suborders.whole:
                    await self._said(
                        delivery,
                        OrderStatus.SUBORDER_DONE,
                        suborder_id=suborder,
                        total_suborders=suborders.total,
                    )
                if self.user_places and delivery.parked and facts.waiting_for_user:
                    await self._end_if_stuck(delivery, suborders)
                return
        await self._look_for_files(delivery)

    async def _end_if_stuck(self, delivery: Delivery, suborders: _Suborders) -> None:
        """End a delivery if orders like its own have all places of its user, and give none back.

        That is, for suborders that were downloaded, of which rs-order does not see that. What is in
        the archive of one that is parked was read to its end; so a file of it that is still to be
        downloaded, a quarter of an hour later, stays so, and with it the place of its suborder.
        (It is seen, not concluded from the files' sizes: not every rs-order may be like that.)

        Where several orders have all of them together, the one that was requested last ends, at its
        own look: with its order cancelled, the others go on.
        """
        kept = await self._kept(delivery, suborders)
        awaited, places = sum(suborders.pending.values()), self.user_places
        async with self.store.transaction() as tx:
            keeping = await tx.record_kept_places(delivery, kept.places if awaited else 0)
        others = [each for each in keeping if each.delivery.id != delivery.id]
        if not awaited or sum(each.places for each in keeping) < places:
            return
        if kept.places < places:
            last = keeping[-1].delivery.id == delivery.id
            if not last or any(each.places >= places for each in others):
                return  # another one ends, and gives its places back
            for each in others:
                if not await self._still_waits(each.delivery):
                    return
        await self._end(
            delivery,
            f"order {delivery.order_id} goes no further: {awaited} of its files "
            f"{'waits' if awaited == 1 else 'wait'} for a place of its user, and "
            + _who_keeps(places, kept, others),
            code=Code.NO_PLACE,
            unless_announced=delivery.announced,
        )

    async def _still_waits(self, delivery: Delivery) -> bool:
        """Whether the order of another delivery keeps its places: it may have expired since."""
        try:
            facts = await self.source.order(delivery)
        except SourceRefusedError:
            return False
        return facts is not None and not facts.complete and bool(facts.waiting_for_user)

    async def _kept(self, delivery: Delivery, suborders: _Suborders) -> _Kept:
        """Look which suborders are in the archive, and wait for their download all the same."""
        files = Counter(suborders.available.values())
        unread = files.copy()
        async for file in self._laid_out(delivery):
            suborder = suborders.available.get(file.file_id)
            if suborder is not None:
                unread[suborder] -= 1
        kept = {
            suborder
            for suborder, count in unread.items()
            if not count and suborder not in suborders.pending
        }
        named: list[str] = []
        if kept:
            async for file in self._laid_out(delivery):
                if suborders.available.get(file.file_id) in kept:
                    named.append(file.member)
                if len(named) == _NAMED:
                    break
        return _Kept(places=len(kept), files=sum(files[each] for each in kept), named=named)

    async def _total_suborders(self, delivery: Delivery, facts: OrderFacts) -> int | None:
        """Return how many suborders the order has, where that is of use, and told."""
        if not self.max_suborders(delivery.tenant):
            return None
        async with AsyncExitStack() as stack:
            suborders = await self._suborders(delivery, facts, stack)
            return None if suborders is None else suborders.total

    async def _suborders(
        self, delivery: Delivery, facts: OrderFacts, stack: AsyncExitStack
    ) -> _Suborders | None:
        """Return what is known of the order's suborders; None where that is not told.

        Nor where a worker has no memory for as many files. Raises RetryableError while others have
        that memory.
        """
        files = facts.files or 0
        if files > self.room.fits:
            return None
        await stack.enter_async_context(self.room.of(delivery, files))
        suborders = _Suborders()
        try:
            async for ordered in self.source.every_file(delivery, facts):
                if ordered.suborder_id is not None:
                    suborders.add(ordered, ordered.suborder_id)
                elif ordered.state == FileState.AVAILABLE:
                    return None
        except OrderNotToldError:
            return None
        except SourceUnavailableError as error:
            if not await self._is_untold(delivery, Question.FILES, error):
                raise
            return None
        self.unanswered.answered(delivery, Question.FILES)
        return suborders

    async def _look_for_files(self, delivery: Delivery) -> None:
        """Announce what can be downloaded, where rs-order does not tell of its orders.

        It lists files, not of which suborder they are, nor whether more come. So what is available
        and in no segment is one of its own; should that be a part of a suborder, the rest follows
        with that, or at the end. An end that was not heard can't be known: the delivery's own time
        is its bound.
        """
        try:
            files = await self._new_files(delivery)
        except OrderTooLargeError as error:
            await self._end(delivery, str(error), error.error_type, code=error.code)
            return
        log.info("order_listed", **delivery.log_context, order_id=delivery.order_id, files=files)
        if not files:
            return
        async with self.store.transaction() as tx:
            current = await self._waiting(tx, delivery)
            if current is not None:
                await announce_available(tx, current)

    async def _new_files(self, delivery: Delivery) -> int:
        """Return how many files can be downloaded that are neither archived nor left out."""
        async with AsyncExitStack() as stack:
            listed = self.source.listing(delivery, so_far=True)
            try:
                held = self.room.held(delivery, listed, stack)
                new = {file.file_id async for file in held}
            except SourceNotReadyError:  # nothing is there
                return 0
            if new:
                async for known in self._laid_out(delivery):
                    new.discard(known.file_id)
            return len(new)

    async def _look_for_places(self, delivery: Delivery) -> None:
        """Note that others may keep the place that an order needs which has nothing new.

        It may have files of its own that wait to be downloaded, as rs-order takes those for that of
        which it did not see the download.
        """
        async with self.store.transaction() as tx:
            current = await self._waiting(tx, delivery)
            if current is not None and current.announced == delivery.announced:
                await may_lack_place(tx, current)

    async def _said(self, delivery: Delivery, status: OrderStatus, **fields: Any) -> None:
        event = OrderEvent(
            tenant=delivery.tenant,
            correlation_id=delivery.correlation_id,
            status=status,
            order_id=delivery.order_id,
            **fields,
        )
        most = self.max_suborders(delivery.tenant)
        reports = self.reports(delivery.tenant)
        await order_progressed(event, store=self.store, max_suborders=most, reports=reports)

    async def _end(
        self,
        delivery: Delivery,
        cause: str,
        error_type: ErrorType = ErrorType.INTERNAL_ERROR,
        *,
        code: Code,
        unless_announced: int | None = None,
    ) -> None:
        """End a delivery that waits; not if more suborders than so many were announced by now."""
        async with self.store.transaction() as tx:
            current = await self._waiting(tx, delivery)
            if current is not None and unless_announced in (None, current.announced):
                await fail(tx, current, error_type, cause, code=code)

    @staticmethod
    async def _waiting(tx: UnitOfWork, delivery: Delivery) -> Delivery | None:
        """Return a delivery as it is now, locked; None where it needs no more of its order."""
        current = await tx.lock(delivery.tenant, delivery.correlation_id)
        if current is None or current.id != delivery.id:
            return None
        begun = current.state is State.TRANSFERRING and current.plan is not None
        waits = current.state is State.ORDERED or (begun and not current.order_done)
        return current if waits else None
