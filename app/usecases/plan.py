"""Some of an order is available, or all: lay out its archive, and make it ready for transfer.

Of an order that is done, all is written down at once. Its delivery's own row is not touched before
the end of that, so that its lease can be renewed meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice

from app.delivery import outgoing
from app.delivery.listing import Listing
from app.delivery.manifest import (
    Addition,
    Extent,
    Layout,
    ListedFile,
    Manifest,
    ManifestFile,
    archive_of_many,
    ids_of,
)
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.delivery.order_facts import OrderFacts
from app.delivery.outgoing import Kind
from app.delivery.ports import DeliveryStore, OrderSource, SuffixOf
from app.delivery.quotas import NO_QUOTA, Quota
from app.delivery.segments import OrderPlan, too_many_suborders
from app.delivery.states import State
from app.delivery.templates import place_of
from app.errors import (
    EmptyOrderError,
    LeaseLostError,
    OrderFailedError,
    OrderNotToldError,
    SourceNotReadyError,
    SourceUnavailableError,
    TooManySubordersError,
)
from app.telemetry.logs import get_logger
from app.usecases import never_listed
from app.usecases.laying_out import (
    BATCH_SIZE,
    Checks,
    Room,
    Written,
    keep_told,
    known_size,
    write,
)
from app.usecases.quotas import charge
from app.usecases.segments import extent_of, most_files_of
from app.usecases.untold import Question, Unanswered

log = get_logger(__name__)

# An order of which rs-order does not tell all files may be done soon, and is known then.
END_AWAITED = timedelta(seconds=60)
_MADE_MEANWHILE = timedelta(seconds=10)  # what an order is given that is still being cut
_SHORTEST_LIFE = timedelta(hours=6)  # of an order of one suborder, by rs-order's defaults


@dataclass(frozen=True, kw_only=True)
class Planning:
    """What archives are laid out with."""

    source: OrderSource
    store: DeliveryStore
    room: Room
    suffix_of: SuffixOf
    max_suborders: Callable[[str], int] = lambda _tenant: 0  # of an order; 0: any number
    quota_of: Callable[[str], Quota] = lambda _tenant: NO_QUOTA
    unanswered: Unanswered = field(default_factory=Unanswered)
    # Bytes that the transfer of a delivery holds while its segments are listed.
    memory_of: Callable[[Delivery, Extent], int] = lambda _delivery, _extent: 0

    async def plan(self, delivery: Delivery) -> None:
        """Lay out the archive, and make the delivery ready for transfer.

        Raises EmptyOrderError, OrderTooLargeError, ArchiveTooLargeError, TooManySubordersError,
        OrderFailedError where its end was left to a worker, DayQuotaError, SourceNotReadyError
        when it is too early, LeaseLostError when the delivery moved on meanwhile, and what reading
        the listing raises.
        """
        if delivery.order_error is not None and not delivery.partial:
            raise OrderFailedError(delivery.order_error.message)
        async with AsyncExitStack() as stack:
            if delivery.announced and not delivery.order_done:
                await self._plan_ahead(delivery, stack)
            else:
                await self._plan_all(delivery, stack)

    async def _plan_all(self, delivery: Delivery, stack: AsyncExitStack) -> None:
        """Write the manifest of an order that is done."""
        listing = await self.room.read(delivery, self.source.listing(delivery), stack)
        unlisted = await self._unlisted(delivery, listing)
        if isinstance(unlisted, never_listed.Unlisted) and unlisted.readable:
            await asyncio.to_thread(listing.add, unlisted.readable)
        if not listing:
            raise EmptyOrderError(f"order {delivery.order_id} is done, but holds no file")
        layout = await self._laid_out(delivery, listing)
        missing = await self._missing(delivery, layout, unlisted)
        few = await self._all_at_once(delivery, layout)
        if few is None:
            manifest = await self._write_by_batches(delivery, layout, missing)
        else:
            manifest = await self._write_at_once(delivery, layout, few)
        log.info(
            "delivery_planned",
            **delivery.log_context,
            files=manifest.file_count,
            bytes=manifest.total_bytes,
        )

    async def _all_at_once(self, delivery: Delivery, layout: Layout) -> list[ManifestFile] | None:
        """Return the files of a manifest that is all that is to be written; None: there is more."""
        if delivery.partial or self.quota_of(delivery.tenant).limits_bytes:
            return None
        files = await asyncio.to_thread(lambda: list(islice(layout, BATCH_SIZE + 1)))
        return files if len(files) <= BATCH_SIZE else None

    async def _write_at_once(
        self, delivery: Delivery, layout: Layout, files: Sequence[ManifestFile]
    ) -> Manifest:
        written = Written(files=len(files), size=known_size(files))
        manifest = self._manifest(delivery, layout, written)
        wake = outgoing.wake(delivery, Kind.TRANSFER)
        if not await self.store.plan(delivery, manifest, files, wake):
            raise LeaseLostError(f"{delivery} moved on while it was planned")
        checks = Checks()
        checks.look_at(files)
        checks.tell(delivery)
        return manifest

    async def _write_by_batches(
        self, delivery: Delivery, layout: Layout, missing: Sequence[MissingFile]
    ) -> Manifest:
        async with self.store.transaction() as tx:
            manifest = self._manifest(delivery, layout, await write(tx, delivery, layout))
            await never_listed.write(tx, delivery, missing)
            if not await tx.advance(delivery, State.READY, manifest=manifest):
                raise LeaseLostError(f"{delivery} moved on while it was planned")
            await charge(tx, delivery, manifest.total_bytes, self.quota_of(delivery.tenant))
        return manifest

    def _manifest(self, delivery: Delivery, layout: Layout, written: Written) -> Manifest:
        prefix, archive_name = self._place_of(delivery, layout)
        return Manifest(
            archive_name=archive_name,
            prefix=prefix,
            file_count=written.files,
            total_bytes=written.size,
        )

    async def _unlisted(
        self, delivery: Delivery, listing: Listing
    ) -> never_listed.Unlisted | never_listed.Counted | None:
        """Return what is in no list of an order that ended with errors: by name, or as a number.

        None: the delivery is all or nothing, or nothing speaks for that.
        """
        error = delivery.order_error
        if not delivery.partial or error is None:
            return None
        known = await asyncio.to_thread(lambda: {file.file_id for file in listing})
        facts = unlisted = None
        question = Question.ORDER
        try:
            facts = await self.source.order(delivery)
            if facts is not None:
                question = Question.FILES
                async with self.room.of(delivery, facts.files or 0):
                    unlisted = await never_listed.never_listed(self.source, delivery, facts, known)
        except SourceUnavailableError as silent:
            if not await self.unanswered.is_untold(delivery, question, self.source, silent):
                raise
        if unlisted is not None:
            return unlisted
        exact = never_listed.is_exact(delivery, facts)
        least = ((facts.files if facts else None) or 0) - len(known) if exact else 0
        return never_listed.Counted(
            least=least, said=error.message, in_error=error.files, exact=exact
        )

    async def _missing(
        self,
        delivery: Delivery,
        layout: Layout,
        unlisted: never_listed.Unlisted | never_listed.Counted | None,
    ) -> list[MissingFile]:
        """Return what a partial delivery is without."""
        if unlisted is None:
            return []
        if isinstance(unlisted, never_listed.Counted):
            return never_listed.unnamed(delivery, unlisted)
        addition = await asyncio.to_thread(self._behind, delivery, layout)
        said = delivery.order_error.message if delivery.order_error else None
        return await never_listed.named(unlisted.missing, addition, said)

    def _behind(self, delivery: Delivery, layout: Layout) -> Addition:
        """Return what gives names behind those of an archive."""
        suffix = self.suffix_of(delivery.format)
        addition = Addition(suffix=suffix, folders=not layout.single, renamed=layout.renamed)
        for file in layout:
            addition.behind(file)
        return addition

    async def _plan_ahead(self, delivery: Delivery, stack: AsyncExitStack) -> None:
        """Plan the archive of an order of which a part is available: its name, and what it needs.

        Its files come into the manifest segment by segment, while it is transferred.
        """
        facts, listing = await self._told(delivery, stack)
        if listing is None:
            why = (
                f"rs-order does not tell all files of order {delivery.order_id} before it is done; "
                "its archive begins then"
            )
            await self._await_end(delivery, why, pause=END_AWAITED)
            prefix, archive_name = self._place_of(delivery, None)
            plan = OrderPlan(told=False, folders=True)
        else:
            layout = await self._laid_out(delivery, listing)
            prefix, archive_name = self._place_of(delivery, layout)
            plan = await asyncio.to_thread(_plan_of, layout, ordered=facts.files if facts else None)
        manifest = Manifest(
            archive_name=archive_name,
            prefix=prefix,
            file_count=plan.files,
            total_bytes=plan.total_bytes,
        )
        if plan.told:
            self._check_room(delivery, manifest, plan)
        async with self.store.transaction() as tx:
            if listing is not None:
                await keep_told(tx, delivery, listing)
            if not await tx.advance(
                delivery, State.READY, manifest=manifest, plan=plan, begins_by=_begins_by(facts)
            ):
                raise LeaseLostError(f"{delivery} moved on while it was planned")
            await charge(tx, delivery, manifest.total_bytes, self.quota_of(delivery.tenant))
        log.info(
            "delivery_planned",
            **delivery.log_context,
            files=plan.files,
            bytes=plan.total_bytes,
            whole_order_known=plan.told,
        )

    def _check_room(self, delivery: Delivery, manifest: Manifest, plan: OrderPlan) -> None:
        """Raise OrderTooLargeError if its last suborder can't be listed beside its transfer.

        And ArchiveTooLargeError if there is no memory for that itself: before anything is sent.
        """
        most = most_files_of(plan, plan.files)
        transfer = replace(
            delivery,
            archive_name=manifest.archive_name,
            file_count=most,
            total_bytes=manifest.total_bytes,
        )
        taken = self.memory_of(transfer, extent_of(plan, most))
        self.room.beside(taken).check(delivery, plan.files)

    def _place_of(self, delivery: Delivery, layout: Layout | None) -> tuple[str, str]:
        """Return prefix and name of an archive; None: not all of its files are known yet."""
        suffix = self.suffix_of(delivery.format)
        if layout is None:
            product, default = None, archive_of_many(delivery.correlation_id, suffix)
        else:
            product, default = layout.product, layout.archive_name
        return place_of(delivery, product, suffix=suffix, default=default)

    async def _laid_out(self, delivery: Delivery, listing: Listing) -> Layout:
        suffix = self.suffix_of(delivery.format)
        return await asyncio.to_thread(Layout, delivery.correlation_id, listing, suffix=suffix)

    async def _told(
        self, delivery: Delivery, stack: AsyncExitStack
    ) -> tuple[OrderFacts | None, Listing | None]:
        """Return what rs-order tells of the order, and all its files; None for what it does not."""
        facts = listing = None
        question = Question.ORDER
        try:
            facts = await self.source.order(delivery)
            self.unanswered.answered(delivery, question)
            if facts is None:
                return None, None
            question = Question.FILES
            files = self._files(delivery, facts)
            listing = await self.room.read(delivery, files, stack) or None
        except OrderNotToldError as error:
            log.info("order_not_told", **delivery.log_context, cause=str(error))
        except SourceUnavailableError as error:
            if not await self.unanswered.is_untold(delivery, question, self.source, error):
                raise
            return facts, None
        self.unanswered.answered(delivery, question)
        return facts, listing

    async def _files(self, delivery: Delivery, facts: OrderFacts) -> AsyncIterator[ListedFile]:
        suborders: set[int] = set()
        told = 0
        async for ordered in self.source.every_file(delivery, facts):
            told += 1
            if ordered.suborder_id is not None:
                suborders.add(ordered.suborder_id)
            yield ordered.file
        # What rs-order says of their number counts only those that it has begun.
        most = self.max_suborders(delivery.tenant)
        if many := too_many_suborders(len(suborders), most):
            raise TooManySubordersError(f"order {delivery.order_id} {many}")
        # The number is that of all files of what was ordered, also of those that are filtered out.
        if told < (facts.files or 0) and not never_listed.filters_files(delivery):
            few = f"order {delivery.order_id} has {facts.files} files, and tells {told} of them"
            why = f"{few}; its archive begins once it tells all"
            await self._await_end(delivery, why, pause=_MADE_MEANWHILE)
            raise OrderNotToldError(few)

    async def _await_end(self, delivery: Delivery, why: str, *, pause: timedelta) -> None:
        """Raise SourceNotReadyError while the order may still tell all its files."""
        left = END_AWAITED - (await self.store.order_so_far(delivery)).age
        if left > timedelta():
            raise SourceNotReadyError(
                f"{why}, or once some of it is available for a minute",
                retry_after=min(left, pause).total_seconds(),
            )


def _begins_by(facts: OrderFacts | None) -> datetime | None:
    """Return when an archive is to begin, so that its order does not expire before its end.

    An order lives for so long at least: one that expires sooner has waited.
    """
    if facts is None or facts.expires_at is None:
        return None
    return facts.expires_at - _SHORTEST_LIFE


def _plan_of(layout: Layout, *, ordered: int | None) -> OrderPlan:
    """Return what is planned of an archive whose files are all known; so many were ordered."""
    files = total = names = ids = 0
    sizes_known = True
    for file in layout:
        files += 1
        total += file.size or 0
        names += len(file.member.encode())
        sizes_known = sizes_known and file.size is not None
        ids = ids_of([file], ids)
    return OrderPlan(
        told=True,
        short=files < (ordered or 0),
        folders=not layout.single,
        files=files,
        total_bytes=total,
        name_bytes=names,
        sizes_known=sizes_known,
        ids=ids,
        renamed={str(product): folder for product, folder in layout.renamed.items()},
    )
