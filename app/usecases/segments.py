"""The files of an archive that begins before all of its order is available: segment by segment.

rs-order restores the next suborders when those before are downloaded. So what is announced is
listed, laid out behind what the archive has, and transferred; then the next one is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import TypeVar

from app.delivery.lease import Lease
from app.delivery.manifest import Addition, Extent, ListedFile, ManifestFile, Seam, ids_of
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.delivery.order_facts import OrderFacts
from app.delivery.ports import DeliveryStore, OrderSource, SuffixOf
from app.delivery.segments import OrderPlan, OrderSoFar, Segment
from app.errors import (
    EmptyOrderError,
    IncompleteOrderError,
    LeaseLostError,
    OrderFailedError,
    OrderNotToldError,
    RetryableError,
    SourceNotReadyError,
    SourceUnavailableError,
)
from app.telemetry.logs import get_logger
from app.usecases import never_listed
from app.usecases.laying_out import Room, write
from app.usecases.untold import TRIES, Question, Unanswered
from app.waiting.patience import until_answered

log = get_logger(__name__)

T = TypeVar("T")

_LINGER = 2.0  # seconds that an archive stays open for the next segment before it is parked
_LOOK = 0.25  # seconds between two looks for it
_UNTOLD_FILES = 10_000  # that an archive has room for where rs-order does not tell all files,
_GROWTH = 2  # or so many times as many as it has
_MORE = 100  # files that it has room for beyond those that were told: equal ones are told once
_NAME = 100  # bytes that their names are taken to have
# An announcement may be there before the list is: so an empty one is not believed at first.
_EMPTY_AGE = timedelta(minutes=5)  # of the announcement, and after some tries


def most_files_of(plan: OrderPlan, files: int) -> int:
    """Return how many files an archive has room for in an attempt that begins with so many."""
    return files + _MORE if plan.told else max(_UNTOLD_FILES, _GROWTH * files)


def extent_of(plan: OrderPlan, most_files: int) -> Extent:
    """Return what bounds of an archive rest on that has room for so many files."""
    names = (most_files - plan.files) * _NAME
    return Extent(sizes_known=plan.sizes_known, name_bytes=plan.name_bytes + names)


@dataclass(frozen=True, kw_only=True)
class Segments:
    """Where the files of segments come from."""

    source: OrderSource
    store: DeliveryStore
    room: Room  # that never waits for memory: who asks has some already
    suffix_of: SuffixOf
    pauses: bool = True  # whether an archive can go on later; else it waits with what it has
    unanswered: Unanswered = field(default_factory=Unanswered)

    def of(self, delivery: Delivery, lease: Lease) -> SegmentFiles:
        """Return the files of a delivery that a worker has claimed."""
        assert delivery.plan is not None  # noqa: S101 - else its manifest is whole
        return SegmentFiles(self, delivery, delivery.plan, lease)


class SegmentFiles:
    """The files of one attempt, which may end before the archive does."""

    def __init__(self, by: Segments, delivery: Delivery, plan: OrderPlan, lease: Lease) -> None:
        self._by = by
        self._delivery = delivery
        self._plan = plan
        self._lease = lease
        has = delivery.file_count
        # How many there are at most in this attempt.
        self.most_files = most_files_of(plan, has)
        self.beside = 0  # bytes of memory that the transfer has while segments are listed
        self.segments = 0  # that were given
        self.total_suborders: int | None = None  # that rs-order told, at the last look
        self._with_errors = False  # whether it said by then that the order ended with some
        self.full = False  # whether there is more, for which this attempt has no room
        # Why the next segment could not be listed, or whether there is one not be known.
        self.failed: RetryableError | None = None

    @property
    def extent(self) -> Extent:
        """What bounds of the archive rest on: what is planned, and room for more."""
        return extent_of(self._plan, self.most_files)

    async def all(self) -> AsyncIterator[ManifestFile | Seam]:
        """Iterate over the files, from the first, with the seams between segments.

        The end says that the archive is whole; `Seam.PAUSE`, that it goes on in another attempt.
        Raises IncompleteOrderError, EmptyOrderError, what listing a segment raises, and
        LeaseLostError.
        """
        given = self.segments = 0
        self.full, self.failed = False, None
        while True:
            so_far = await self._look()
            segment = so_far.segment(self.segments + 1)
            if more := so_far.listed_in(self.segments) - given:
                async for file in self._files(given, more):
                    yield file
                given += more
                yield Seam.SEGMENT
            elif segment is None and so_far.done:
                whole = await self._unless_away(self._is_whole(so_far, given))
                if whole is None:
                    yield Seam.PAUSE
                    return
                if whole:
                    return
                # Files that are downloaded meanwhile would leave the list between two pages.
                yield Seam.WAIT
            elif segment is None:
                yield Seam.WAIT
                if not await self._comes() and self._by.pauses:
                    yield Seam.PAUSE
                    return
            elif await self._listed(segment, so_far, given):
                self.segments += 1
            else:
                yield Seam.PAUSE
                return

    async def _look(self) -> OrderSoFar:
        so_far = await until_answered(
            partial(self._by.store.order_so_far, self._delivery), good=self._lease.safe_to_complete
        )
        self.total_suborders = so_far.total_suborders
        self._with_errors = so_far.with_errors
        if so_far.with_errors and not (self._plan.told or self._delivery.partial):
            # It ended so just before this was planned, and no list would tell what it lacks.
            raise OrderFailedError(so_far.said or "the order ended with errors")
        return so_far

    async def _files(self, first: int, count: int) -> AsyncIterator[ManifestFile]:
        """Iterate over files of the manifest from a position on, without those that are missing."""
        if not count:
            return
        found, end = 0, first + count
        async for file in self._by.store.files(self._delivery, after=first - 1):
            if file.position >= end:
                break
            found += 1
            yield file
            if file.position == end - 1:
                break
        if found < count:
            left = [file async for file in self._missing_files(end) if first <= _place(file)]
            if found + len(left) < count:
                raise LeaseLostError(f"the manifest of {self._delivery} is gone")

    async def _missing_files(self, end: int) -> AsyncIterator[MissingFile]:
        """Iterate over the missing files that had a position before `end`."""
        if not self._delivery.partial:
            return
        async for file in self._by.store.missing(self._delivery):
            if file.position is None or file.position >= end:
                return
            yield file

    async def _known(self, count: int) -> AsyncIterator[ManifestFile]:
        """Iterate over all files of the manifest: those that have become missing come last."""
        async for file in self._files(0, count):
            yield file
        async for missing in self._missing_files(count):
            yield missing.laid_out()

    async def _comes(self) -> bool:
        """Wait a moment for the order to go on, without a slot; return whether it did."""
        self._lease.leave()
        for _ in range(round(_LINGER / _LOOK)):
            await asyncio.sleep(_LOOK)
            so_far = await self._look()
            if so_far.done or so_far.segment(self.segments + 1) is not None:
                await self._lease.come_back()
                return True
        return False

    async def _listed(self, segment: Segment, so_far: OrderSoFar, given: int) -> bool:
        """Have a segment in the manifest; return whether this attempt can go on with it.

        It has no room, or listing it fails for now: what there is can be kept until it does not.
        """
        if not segment.listed:
            listed = await self._unless_away(self._list(segment, so_far, given))
            if listed is None:
                return False
            segment = listed
        self.full = given + segment.file_count > self.most_files
        return not self.full

    async def _unless_away(self, asked: Awaitable[T]) -> T | None:
        """Return what was asked for; None when it fails for now, and the archive can pause.

        Raises RetryableError where it can't.
        """
        try:
            return await asked
        except RetryableError as error:
            if not self._by.pauses:
                raise
            self.failed = error
            return None

    async def _list(self, segment: Segment, so_far: OrderSoFar, given: int) -> Segment:
        """List a segment to its end, and lay it out behind the files before it."""
        by, delivery = self._by, self._delivery
        async with AsyncExitStack() as stack:
            files = by.source.listing(delivery, segment.suborder, so_far=not segment.at_end)
            room = by.room.beside(self.beside)
            listing = await room.read(delivery, files, stack, behind=given)
            addition = self._addition()
            async for file in self._known(given):
                addition.behind(file)
            # What rs-order does not see downloaded stays in the list of the whole order.
            whole = segment.suborder is None
            if not listing or (whole and not await asyncio.to_thread(addition.adds, listing)):
                await self._check_empty(segment, so_far, given)
            return await self._write(segment, listing, addition, given)

    async def _write(
        self,
        segment: Segment,
        listing: Iterable[ListedFile],
        addition: Addition,
        given: int,
        *,
        extends: bool = False,
    ) -> Segment:
        """Write the files of a segment, or more of one that is listed."""
        delivery, plan = self._delivery, self._plan
        async with self._by.store.transaction() as tx:
            written = await write(tx, delivery, addition.of(listing), told=plan.told)
            files = segment.file_count + written.files if extends else written.files
            listed = replace(segment, listed=True, file_count=files)
            renamed = {str(product): folder for product, folder in addition.renamed.items()}
            plan = replace(plan, renamed=renamed)
            told = max(0, delivery.file_count - given) if plan.told else 0
            more = max(0, written.files - told)
            size = 0 if plan.told else written.size
            if delivery.partial:  # what was never listed may be among these
                await tx.forget_never_listed(delivery)
            if not await tx.list_segment(
                delivery, listed, plan, more_files=more, more_bytes=size, extends=extends
            ):
                raise LeaseLostError(f"{delivery} was taken over while a suborder was listed")
        self._plan = plan
        log.info(
            "segment_listed",
            **delivery.log_context,
            segment=segment.number,
            suborder=segment.suborder,
            files=written.files,
            bytes=written.size,
        )
        return listed

    async def _check_empty(self, segment: Segment, so_far: OrderSoFar, files: int) -> None:
        """Raise SourceNotReadyError while a list without a further file is not to be believed.

        It is where the archive has all that is in the segment: a retry puts what was downloaded
        into a new suborder. After a while it is left to the end, where rs-order tells all files;
        where it does not, raises IncompleteOrderError unless what is meant may have been found,
        and downloaded, before it was announced.
        """
        delivery, told = self._delivery, self._plan.told
        if so_far.comes_after_all(segment):
            return
        order = f"order {delivery.order_id}"
        total = so_far.total_suborders or 0
        unheard = total - so_far.suborders
        if segment.suborder is not None:
            why = (
                f"suborder {segment.suborder} of {order} was announced, and rs-order lists no "
                "file of it"
            )
        elif unheard > 0 and not told:
            why = (
                f"{unheard} of the {total} suborders of {order} "
                f"{'was' if unheard == 1 else 'were'} never announced, and rs-order lists no "
                "further file"
            )
        else:
            return
        try:
            facts = await self._facts(files)
        except IncompleteOrderError:
            if not delivery.partial or not files:
                raise
            return  # what came before is delivered: what the rest was, is told at the end
        if await self._has_all_of(segment, facts, files):
            return
        if segment.age < _EMPTY_AGE or delivery.tries < TRIES:
            raise SourceNotReadyError(why)
        named = segment.suborder is not None
        found = so_far.may_have_been_found(segment) if named else so_far.heard_of >= total
        if not told and not found and not delivery.partial:
            raise IncompleteOrderError(
                f"{why}: nothing is delivered, as the archive would lack them; ask again, and look "
                "into rs-order for what became of them"
            )

    async def _has_all_of(self, segment: Segment, facts: OrderFacts | None, files: int) -> bool:
        """Whether all files of a segment are in the archive, as far as rs-order tells."""
        if self._plan.told:
            return await self._missing(facts, files, segment.suborder) == 0
        # A number that is told of an order that is still being made, may grow.
        return facts is not None and facts.complete and 0 < (facts.files or 0) <= files

    async def _is_whole(self, so_far: OrderSoFar, files: int) -> bool | None:
        """Whether the archive has all files of an order that is done; None: not in this attempt.

        Where some may be missing, all of the order is listed once more, as another segment. Raises
        IncompleteOrderError, EmptyOrderError.
        """
        plan = self._plan
        adds = so_far.all_heard_of or (so_far.each_adds and not plan.short)
        if plan.told and adds and await self._has_all(files):
            return True
        if so_far.rest_is_listed:
            if self._delivery.partial:
                return await self._note_missing(so_far, files)
            await self._check(files)
            return True
        async with self._by.store.transaction() as tx:
            await tx.announce(self._delivery, None)
        return False

    async def _check(self, files: int) -> None:
        """Raise IncompleteOrderError unless each file that rs-order tells is in the archive.

        There may be more: of equal files in one suborder rs-order tells one, and lists all. Where
        it tells none, nothing may be known of the order that speaks against it. Raises
        EmptyOrderError where there is none, and SourceUnavailableError where it told them once, and
        does not tell now whether these are among those that the archive has.
        """
        order, plan = self._delivery.order_id, self._plan
        if not files:
            raise EmptyOrderError(f"order {order} is done, and rs-order listed no file of it")
        facts = await self._facts(files)
        missing = await self._missing(facts, files) if plan.told else 0
        if missing is None:
            raise SourceUnavailableError(
                f"rs-order does not answer which files order {order} has, and the archive has "
                "others than those that it told before: whether it lacks one is not known, so "
                "rs-order is asked again"
            )
        if missing:
            raise IncompleteOrderError(
                f"order {order} was to have {plan.files} files, and {missing} of them never "
                "came: nothing is delivered, as the archive would lack them; ask again, and look "
                "into rs-order for what became of them"
            )

    async def _facts(self, files: int) -> OrderFacts | None:
        """Ask about the order; None: it is not told, and what was told before counts.

        Raises IncompleteOrderError when it is gone: what is gone is in no list, so no list tells
        that the archive has all of it; but for what was told before, if that was all of it.
        """
        delivery = self._delivery
        try:
            facts = await self._by.source.order(delivery)
        except SourceUnavailableError as error:
            if not await self._is_untold(Question.ORDER, error):
                raise
            return None
        self._by.unanswered.answered(delivery, Question.ORDER)
        if facts is not None and facts.gone:
            told_all = not self._with_errors and self._plan.is_all_of(facts.files)
            if told_all and await self._has_all(files):
                return None
            raise IncompleteOrderError(
                f"order {delivery.order_id} is {facts.status} at rs-order, and it can't be told "
                "whether all of its files came before: nothing is delivered, as the archive might "
                "lack some; ask again"
            )
        return facts

    async def _is_untold(self, question: Question, error: SourceUnavailableError) -> bool:
        by = self._by
        return await by.unanswered.is_untold(self._delivery, question, by.source, error)

    async def _missing(
        self, facts: OrderFacts | None, files: int, suborder: int | None = None
    ) -> int | None:
        """Return how many files that rs-order tells are not in the archive; None: it is not known.

        Of the order, or of one of its suborders.
        """
        delivery, source = self._delivery, self._by.source
        if facts is None:
            return await self._missing_of_plan(files)
        async with self._by.room.beside(self.beside).of(delivery, files):
            archived = {file.file_id async for file in self._known(files)}
            missing: set[int] = set()
            try:
                async for each in source.every_file(delivery, facts):
                    meant = suborder is None or each.suborder_id in (suborder, None)
                    if meant and each.file.file_id not in archived:
                        missing.add(each.file.file_id)
            except OrderNotToldError:
                return await self._missing_of_plan(files)
            except SourceUnavailableError as error:
                if not await self._is_untold(Question.FILES, error):
                    raise
                return await self._missing_of_plan(files)
        self._by.unanswered.answered(delivery, Question.FILES)
        # What is deleted while it is read, is told no more.
        too_few = max(0, self._plan.files - files)
        return max(len(missing), too_few) if suborder is None else len(missing)

    async def _missing_of_plan(self, files: int) -> int | None:
        """Return how many files that were told at first are not in the archive; None: not known.

        Their number alone tells only that some are: instead of one that was told the archive may
        have one that is equal to another. Nor does anything that was told before an order that
        ended with errors, or while it counted more.
        """
        too_few = self._plan.files - files
        if too_few > 0:
            return too_few
        believed = not self._with_errors and not self._plan.short
        whole = believed and await self._has_all(files)
        return 0 if whole else None

    async def _has_all(self, files: int) -> bool:
        """Whether the archive's files are those that were told."""
        if files != self._plan.files:
            return False
        ids = 0
        async for file in self._known(files):
            ids = ids_of([file], ids)
        return ids == self._plan.ids

    async def _note_missing(self, so_far: OrderSoFar, files: int) -> bool | None:
        """Note what rs-order never made available of an order that is done, of a partial delivery.

        False: some of what it never listed can be read, and comes behind the last segment; None:
        so it does, and this attempt has no room for it. Raises SourceNotReadyError while some may
        be only late, EmptyOrderError where there is none, and SourceUnavailableError.
        """
        delivery, by = self._delivery, self._by
        if not files:
            order = f"order {delivery.order_id}"
            raise EmptyOrderError(f"{order} is done, and rs-order listed no file of it")
        least, facts = 0, None
        try:
            facts = await self._facts(files)
        except IncompleteOrderError:
            least = 1  # it is gone: what was not listed before, is not known
        ordered = max(files, (facts.files if facts else None) or 0)
        async with by.room.beside(self.beside).of(delivery, ordered):
            unlisted = None
            if facts is not None:
                known = {file.file_id async for file in self._known(files)}
                unlisted = await self._never_listed(facts, known)
            if unlisted is not None:
                addition = self._addition()
                async for file in self._known(files):
                    addition.behind(file)
                if unlisted.readable:
                    last = so_far.segments[self.segments - 1]
                    await self._write(last, unlisted.readable, addition, files, extends=True)
                    self.full = files + len(unlisted.readable) > self.most_files
                    return None if self.full else False
                noted = await never_listed.named(unlisted.missing, addition, so_far.said)
            else:
                least = max(least, await self._least_missing(so_far, facts, files))
                counted = never_listed.Counted(
                    least=least,
                    said=so_far.said,
                    in_error=so_far.in_error,
                    exact=never_listed.is_exact(delivery, facts),
                )
                noted = never_listed.unnamed(delivery, counted)
            await never_listed.note(by.store, delivery, noted)
        return True

    async def _never_listed(
        self, facts: OrderFacts, known: set[int]
    ) -> never_listed.Unlisted | None:
        source = self._by.source
        try:
            return await never_listed.never_listed(source, self._delivery, facts, known)
        except SourceUnavailableError as error:
            if not await self._is_untold(Question.FILES, error):
                raise
            return None

    async def _least_missing(self, so_far: OrderSoFar, facts: OrderFacts | None, files: int) -> int:
        """Return how many files are missing at least, by their numbers alone."""
        if facts is not None and never_listed.is_exact(self._delivery, facts):
            return max((facts.files or 0) - files, 0)
        unheard = (so_far.total_suborders or 0) - so_far.heard_of
        ordered = self._plan.files if self._plan.told else 0
        return max(ordered - files, unheard, 0)

    def _addition(self) -> Addition:
        renamed = {int(product): folder for product, folder in self._plan.renamed.items()}
        return Addition(
            suffix=self._by.suffix_of(self._delivery.format),
            folders=self._plan.folders,
            renamed=renamed,
        )


def _place(file: MissingFile) -> int:
    return -1 if file.position is None else file.position
