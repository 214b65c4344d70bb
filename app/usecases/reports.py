"""The report of a delivery that fails: written as it ends, and before its client is told.

It appears in the transaction that ends the delivery, so none has changed its mind by then, and what
its client is told is there. Where one may come is noted before: should the worker die in between,
it is none that a client knows of, and removed, by what is delivered under the same id, or after a
while (`look`). It holds up no response: what does not take it in a few seconds is left alone, or in
a minute where a million files are to be told of.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from app.delivery import report_document
from app.delivery.content import end_of
from app.delivery.formats import AS_FILES
from app.delivery.manifest import REPORT_NAME, ListedFile, ManifestFile
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.delivery.naming import safe_name
from app.delivery.object_store import ObjectStore
from app.delivery.order_facts import FileState
from app.delivery.ports import DeliveryStore, OrderSource, UnitOfWork
from app.delivery.report_document import Failure, Fate, Told
from app.delivery.reports import (
    StoredReport,
    is_own_report,
    is_replaceable_report,
    report_key_of,
    report_marks,
    report_of,
)
from app.delivery.states import State
from app.delivery.targets import Target
from app.errors import (
    UNFORESEEN,
    DeliveryError,
    ErrorType,
    ForeignObjectError,
    OrderNotToldError,
    PermanentError,
    RetryableError,
    StoreUnavailableError,
    TargetRefusedError,
    TargetUnavailableError,
    UploadLostError,
    as_cause,
)
from app.telemetry import metrics
from app.telemetry.logs import get_logger
from app.tenants.registry import ConfiguredTenants
from app.usecases.delivered import DeliveredStore
from app.usecases.documents import PART, Document
from app.usecases.never_listed import why_not_listed
from app.usecases.uploads import Uploads

log = get_logger(__name__)

_BOUND = 15.0  # seconds that a response waits for its report, at most
_A_FILE = 50e-6  # and that long more for each of its files: twice what one takes on a busy machine
_MAX_BOUND = 60.0  # however many there are
_LEFT_ALONE = 60.0  # seconds that nothing is asked of a target that did not take one in time
# That appear at a time, at one endpoint each: each keeps a connection to the database.
_CONCURRENCY = 2
# Of `_BOUND`, for what is done while the delivery is locked: events of other tenants wait behind
# those of this one. It is more than `_HAD`.
_UNDER_LOCK = 1 / 2
# Of what a report may take: a target that had less, as all else took long, is not silent.
_HAD = 1 / 3
REPORTED_FOR = 30.0  # seconds, of one look that ends many
_CONSEQUENCE = "its client is told of the error without a report"
_LATER = timedelta(hours=1)  # until there is another look at what could not be removed
_ABORT = 5.0  # seconds that an abort is waited for


@dataclass(frozen=True, kw_only=True)
class Reports:
    """Writes reports, and removes those that no client was told of."""

    store: DeliveryStore
    tenants: ConfiguredTenants
    objects: DeliveredStore
    uploads: Uploads
    source: OrderSource  # is asked for the files of an order that was never laid out
    within: timedelta  # after that, what was asked for has happened, or never will
    kept: timedelta  # for so long after its end a delivery waits for what may be left of its report
    bound: float = _BOUND  # seconds
    part_size: int = PART  # bytes
    limit: int = 100  # reports in one look
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_CONCURRENCY))
    # By endpoint: one that does not answer keeps one place; what waits for it keeps none.
    _turns: defaultdict[str, asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )
    _silent: dict[str, float] = field(default_factory=dict)  # until when, by endpoint

    @asynccontextmanager
    async def of(self, delivery: Delivery, failure: Failure) -> AsyncIterator[Report | None]:
        """Prepare the report of a delivery that is about to fail; None: there is none.

        Whatever speaks against it is told in the log, and raised to none.
        """
        if delivery.ending is not None:
            ending = delivery.ending
            failure = Failure(error_type=ending.error_type, message=ending.message)
        else:
            failure = replace(failure, message=as_cause(failure.message))
        report = await self._prepared(delivery, failure)
        try:
            yield report
        finally:
            if report is not None:
                await report.close()

    async def _prepared(self, delivery: Delivery, failure: Failure) -> Report | None:
        known = self.tenants.works_for(delivery.tenant)
        if not known or not self.tenants.settings(delivery.tenant).report:
            return None
        ends = asyncio.get_running_loop().time() + self.bound_of(delivery)
        report = None
        try:
            report = self._report(delivery, failure, ends)
            async with asyncio.timeout_at(ends):
                if await report.prepare():
                    return report
        except Exception as error:  # noqa: BLE001 - whatever it is: the delivery ends as it does
            self._tell_not_written(delivery, report, error)
        if report is not None:
            await report.close()
        return None

    def bound_of(self, delivery: Delivery) -> float:
        """Return how many seconds the report of a delivery may take: many files take longer."""
        return min(self.bound + delivery.file_count * _A_FILE, max(self.bound, _MAX_BOUND))

    def _report(self, delivery: Delivery, failure: Failure, ends: float) -> Report:
        self.tenants.check_secrets(delivery.tenant)
        settings = self.tenants.settings(delivery.tenant)
        target = settings.target_named(delivery.target)
        if target is None:
            raise TargetRefusedError(f"target {delivery.target} is not set any more")
        trouble = self.objects.trouble(target)
        if trouble is not None:
            raise TargetUnavailableError(f"{trouble.server} does not answer: {trouble.cause}")
        self._check_answers(target)
        return Report(
            by=self,
            delivery=delivery,
            failure=failure,
            target=target,
            place=report_of(delivery, target),
            stays=settings.delivered_ttl,
            within=self.bound_of(delivery),
            ends=ends,
        )

    @asynccontextmanager
    async def turn(self, target: Target) -> AsyncIterator[None]:
        """Wait for a turn at a target. Raises TargetUnavailableError if it is silent by then."""
        async with self._turns[target.endpoint], self._places:
            self._check_answers(target)
            yield

    def _check_answers(self, target: Target) -> None:
        if self._silent.get(target.endpoint, 0.0) > time.monotonic():
            raise TargetUnavailableError(f"{target} did not answer just now, and is left alone")

    def _tell_not_written(
        self, delivery: Delivery, report: Report | None, error: Exception
    ) -> None:
        cause = str(error)
        if isinstance(error, TimeoutError):
            within = self.bound_of(delivery) if report is None else report.within
            cause = f"it took more than {round(within, 1):g} seconds"
        elif not isinstance(error, DeliveryError):
            cause = f"{UNFORESEEN}: {error!r}"
        consequence = _CONSEQUENCE
        if isinstance(error, UploadLostError):
            consequence += ", unless another worker ended it meanwhile with one"
        if (
            report is not None
            and report.waits_for_target
            and (
                isinstance(error, TargetUnavailableError)
                or (isinstance(error, TimeoutError) and report.asked_for >= _HAD * self.bound)
            )
        ):
            self._silent[report.target.endpoint] = time.monotonic() + _LEFT_ALONE
        metrics.REPORTS.labels(delivery.tenant, "not-written").inc()
        log.warning(
            "report_not_written",
            **delivery.log_context,
            url=None if report is None else report.place.url,
            cause=cause,
            consequence=consequence,
        )

    async def look(self) -> int:
        """Remove reports that no client was told of; return how many there were."""
        removed = 0
        away: set[tuple[str, str]] = set()  # targets that did not answer in this look
        for delivery, noted in await self.store.untold_reports(limit=self.limit):
            place = delivery.tenant, delivery.target
            if place in away:
                cause = TargetUnavailableError("the target did not answer for another one just now")
                await self._postpone(delivery, noted, cause, is_logged=True)
                continue
            try:
                async with asyncio.timeout(2 * self.bound):
                    removed += await self._remove_untold(delivery, noted)
            except StoreUnavailableError:
                raise
            except (RetryableError, TimeoutError) as error:
                away.add(place)
                await self._postpone(delivery, noted, error)
            except DeliveryError as error:
                await self.store.forget_report(delivery)
                _tell_forgotten(delivery, noted, error)
            else:
                await self.store.forget_report(delivery)
        return removed

    async def _postpone(
        self,
        delivery: Delivery,
        noted: StoredReport,
        error: DeliveryError | TimeoutError,
        *,
        is_logged: bool = False,
    ) -> None:
        """Leave one for later whose target does not answer: no longer than its delivery is kept."""
        if not await self.store.postpone_report(delivery, _LATER, kept=self.kept):
            _tell_forgotten(delivery, noted, error)
        elif not is_logged:
            _tell_left(delivery, noted, error, "it is tried again")

    async def _remove_untold(self, delivery: Delivery, noted: StoredReport) -> bool:
        if not self.tenants.works_for(delivery.tenant):
            raise PermanentError(f"tenant {delivery.tenant} is not served any more")
        self.tenants.check_secrets(delivery.tenant)
        target = self.tenants.settings(delivery.tenant).target_named(delivery.target)
        if target is None or (target.url_of(noted.key), target.namespace) != (
            noted.url,
            noted.namespace,
        ):
            raise PermanentError(
                f"target {delivery.target} does not lead to where it was put any more"
            )
        if not await self.uploads.abort_orphans(delivery, target, noted.key):
            raise RetryableError("another delivery may have an upload of it open")
        found = await self.objects.find(target, noted.key)
        if found is None or not is_own_report(found, delivery):
            return False
        async with self.store.transaction() as tx:  # one of a later delivery waits meanwhile
            await tx.lock_object(noted.url, noted.namespace)
            found = await self.objects.find(target, noted.key)
            if found is None or not is_own_report(found, delivery):
                return False
            await self.objects.delete(target, noted.key, etag=found.etag)
        log.info("report_removed", **delivery.log_context, url=noted.url)
        return True


def _tell_left(
    delivery: Delivery, noted: StoredReport, error: DeliveryError | TimeoutError, outcome: str
) -> None:
    log.warning(
        "report_left",
        **delivery.log_context,
        target=delivery.target,
        url=noted.url,
        cause=_cause_of(error),
        consequence="a report that no client was told of may stay, or an open upload of it: "
        + outcome,
    )


def _tell_forgotten(
    delivery: Delivery, noted: StoredReport, error: DeliveryError | TimeoutError
) -> None:
    """Log that it is not looked for any more; what may stay is for a person, if it is likely."""
    if not noted.is_there:
        _tell_left(delivery, noted, error, "remove it by hand")
        return
    log.info(
        "report_not_sought",
        **delivery.log_context,
        target=delivery.target,
        url=noted.url,
        cause=_cause_of(error),
        consequence="the report that was told is removed; whether one of an attempt that died came "
        "in its place after that is not known",
    )


def _cause_of(error: DeliveryError | TimeoutError) -> str:
    return str(error) or "the target did not answer in time"


@asynccontextmanager
async def report_on(
    reports: Reports | None, delivery: Delivery, failure: Failure, *, until: float | None = None
) -> AsyncIterator[Report | None]:
    """Prepare the report of a delivery that is about to fail, as `Reports.of` does.

    None where none are written, or, as `reported_until` has it, not any more.
    """
    if reports is None or (until is not None and time.monotonic() > until):
        yield None
        return
    async with reports.of(delivery, failure) as report:
        yield report


def reported_until() -> float:
    """Return until when one look writes reports: the ends of others wait behind them."""
    return time.monotonic() + REPORTED_FOR


async def clear_report(
    objects: ObjectStore[Any], delivery: Delivery, target: Target, archive_key: str
) -> None:
    """Remove the report of an earlier delivery, or attempt, that this one makes up for.

    Raises TargetUnavailableError. One that is refused is told in the log, and stays.
    """
    key = report_key_of(archive_key)
    try:
        found = await objects.find(target, key)
        if found is None or not is_replaceable_report(found, delivery):
            return
        await objects.delete(target, key, etag=found.etag)
    except PermanentError as error:
        log.warning(
            "report_left",
            **delivery.log_context,
            url=target.url_of(key),
            cause=str(error),
            consequence="it tells of a failure that this delivery makes up for",
        )
    else:
        log.info("report_removed", **delivery.log_context, url=target.url_of(key))


@dataclass(kw_only=True)
class Report:
    """The report of one delivery, on its way."""

    by: Reports
    delivery: Delivery
    failure: Failure
    target: Target
    place: StoredReport
    stays: timedelta  # none: for ever
    within: float  # seconds, in all; or, from then on, while the delivery is locked
    ends: float  # by the loop's clock: after that it is done without
    _document: Document | None = field(default=None, init=False)
    _turn: AsyncExitStack = field(default_factory=AsyncExitStack, init=False)
    _is_complete: bool = field(default=False, init=False)
    _is_told: bool = field(default=False, init=False)
    _looks: bool = field(default=False, init=False)  # at its place; stays, where that fails
    _asked_at: float = field(default=0.0, init=False)  # for its place, by the loop's clock

    @property
    def waits_for_target(self) -> bool:
        """Whether it is the target that is waited for, or that has not answered: no other."""
        return self._looks or (self._document is not None and self._document.waits_for_target)

    @property
    def asked_for(self) -> float:
        """For how many seconds the target has been asked, since that began the last time."""
        document = self._document
        asked_at = self._asked_at if document is None else max(self._asked_at, document.asked_at)
        return asyncio.get_running_loop().time() - asked_at

    async def prepare(self) -> bool:
        """Do all that can be done before the delivery ends; False: that has moved on.

        Raises what speaks against it.
        """
        noted = await self.by.store.note_report(self.delivery, self.place, until=self.by.within)
        if noted is None:
            return False
        # Laid out since an earlier try, its archive would come elsewhere; the report does not.
        self.place = noted
        if (self.target.url_of(noted.key), self.target.namespace) != (noted.url, noted.namespace):
            raise TargetRefusedError(
                f"the report of an earlier try may be at {noted.url}, where {self.target} does not "
                "lead any more"
            )
        await self._check_place()
        self._document = Document(
            objects=self.by.objects,
            target=self.target,
            key=self.place.key,
            marks=report_marks(self.delivery),
            media_type=report_document.MEDIA_TYPE,
            part_size=self.by.part_size,
        )
        await self._document.send(self._pieces(), opens=_may, may=_may)
        await self._turn.enter_async_context(self.by.turn(self.target))
        return True

    async def close(self) -> None:
        """Abort what was sent, and is not to appear; also of other tries, once this one is told."""
        await self._turn.aclose()
        if self._document is not None and self._document.left_open:
            with suppress(TimeoutError):  # what stays open is found by `look`
                async with asyncio.timeout(_ABORT):
                    await self._document.abort()
        if self._is_told and self._document is not None and self._document.opened:
            with suppress(TimeoutError, DeliveryError):  # a rule of the store ends it then
                async with asyncio.timeout(_ABORT):
                    await self._abort_others()

    async def appear(
        self, tx: UnitOfWork, error_type: ErrorType, message: str
    ) -> StoredReport | None:
        """Let it appear, now that the delivery is locked and ends; return it, None: it does not.

        It raises nothing but what the transaction raises.
        """
        if (error_type, message) != (self.failure.error_type, self.failure.message):
            moved_on = RetryableError("the delivery ends otherwise than it was to")
            self.by._tell_not_written(self.delivery, self, moved_on)  # noqa: SLF001
            return None
        assert self._document is not None  # noqa: S101 - it is prepared
        loop = asyncio.get_running_loop()
        if self.ends > (locked_until := loop.time() + self.by.bound * _UNDER_LOCK):
            self.ends, self.within = locked_until, self.by.bound * _UNDER_LOCK
        left = timedelta(seconds=max(0.0, self.ends - loop.time()))
        if not await tx.lock_object_within(self.place.url, self.place.namespace, left):
            kept = RetryableError(f"another delivery keeps {self.place.url} meanwhile")
            self.by._tell_not_written(self.delivery, self, kept)  # noqa: SLF001
            return None
        try:
            async with asyncio.timeout_at(self.ends):
                await self._check_place()
                etag = await self._document.appear(_may)
        except Exception as error:  # noqa: BLE001 - whatever it is: the delivery ends as it does
            self.by._tell_not_written(self.delivery, self, error)  # noqa: SLF001
            return None
        return replace(self.place, size=self._document.size, etag=etag)

    async def record(self, tx: UnitOfWork, stored: StoredReport) -> None:
        """Note that it is there, and for how long it stays, in the transaction that tells it."""
        await tx.record_report(self.delivery, stored)
        until = end_of(await tx.now(), self.stays)
        if until is not None:
            await tx.keep_content(self.delivery, until=until)
        tx.on_commit(self._note_told)
        tx.on_commit(metrics.REPORTS.labels(self.delivery.tenant, "written").inc)
        tx.on_commit(
            lambda: log.info(
                "report_written",
                **self.delivery.log_context,
                url=stored.url,
                bytes=stored.size,
            )
        )

    def _note_told(self) -> None:
        self._is_told = True

    async def _abort_others(self) -> None:
        """Abort the uploads of all other tries: of a worker that died, or one that comes late.

        Not before it is told: another worker may be ending the same delivery, and be the first.
        """
        await self.by.uploads.abort_orphans(self.delivery, self.target, self.place.key)

    async def _check_place(self) -> None:
        """Raise ForeignObjectError where there is something else than a report of this client."""
        self._looks, self._asked_at = True, asyncio.get_running_loop().time()
        found = await self.by.objects.find(self.target, self.place.key)
        self._looks = False
        if found is not None and not is_replaceable_report(found, self.delivery):
            raise ForeignObjectError(
                f"{self.place.url} is no report of this client, and is not replaced"
            )

    async def _pieces(self) -> AsyncIterator[bytes]:
        yield report_document.begin(self.delivery, self.failure)
        async with aclosing(self._files()) as files:
            async for piece in report_document.lines(files):
                yield piece
        yield report_document.end(complete=self._is_complete)

    async def _files(self) -> AsyncGenerator[Told, None]:
        """Iterate over what is known of the files, in the order of the manifest."""
        delivery = self.delivery
        missing = self.by.store.missing(delivery)
        left_out = await anext(missing, None)
        known = 0
        async for file in self.by.store.files(delivery):
            known += 1
            while left_out is not None and _is_before(left_out, file):
                known += 1
                yield _missing(left_out)
                left_out = await anext(missing, None)
            if delivery.format == AS_FILES and file.member.casefold() == REPORT_NAME:
                raise ForeignObjectError(f"{self.place.url} is the place of a file of the order")
            yield self._told(file)
        while left_out is not None:
            known += 1
            yield _missing(left_out)
            left_out = await anext(missing, None)
        if not known and delivery.order_id is not None:
            async for told in self._never_laid_out():
                yield told
        else:
            # What is made as it becomes available has all its files once the last is listed.
            tells_all = delivery.plan is None or delivery.plan.told or delivery.order_done
            self._is_complete = bool(known) and tells_all and known >= delivery.file_count

    def _told(self, file: ManifestFile) -> Told:
        failure, delivery = self.failure, self.delivery
        if failure.position is None:
            return Told(file=file, fate=Fate.AVAILABLE)
        if file.position == failure.position:
            return Told(file=file, fate=failure.fate, cause=failure.message)
        # Archives are made in this order: what is before the one that failed was read to its end.
        archived = delivery.state is State.TRANSFERRING and delivery.format != AS_FILES
        verified = archived and file.position < failure.position
        return Told(file=file, fate=Fate.VERIFIED if verified else Fate.AVAILABLE)

    async def _never_laid_out(self) -> AsyncIterator[Told]:
        """Iterate over what rs-order tells of an order whose archive was never laid out."""
        said = self.delivery.order_error.message if self.delivery.order_error else None
        told_all = True
        try:
            facts = await self.by.source.order(self.delivery)
            if facts is None:
                told_all = False
                async for file in self.by.source.listing(self.delivery, so_far=True):
                    yield Told(file=_named(file), fate=Fate.AVAILABLE)
                return
            async for ordered in self.by.source.every_file(self.delivery, facts):
                known = _named(ordered.file)
                if ordered.state == FileState.AVAILABLE:
                    yield Told(file=known, fate=Fate.AVAILABLE)
                else:
                    cause = why_not_listed(ordered, said)
                    yield Told(file=known, fate=Fate.NEVER_LISTED, cause=cause)
        except (OrderNotToldError, PermanentError, RetryableError) as error:
            told_all = False
            log.info("order_not_told", **self.delivery.log_context, cause=str(error))
        finally:
            self._is_complete = told_all


def _named(file: ListedFile) -> MissingFile:
    """Return a file that has no name in an archive, by its own."""
    name = safe_name(file.filename, fallback=f"file-{file.file_id}")
    return MissingFile.never_listed(file, name, "")


def _is_before(missing: MissingFile, file: ManifestFile) -> bool:
    return missing.position is not None and missing.position < file.position


def _missing(missing: MissingFile) -> Told:
    fate = Fate.NEVER_LISTED if missing.position is None else Fate.MISSING
    return Told(file=missing, fate=fate, cause=missing.cause)


async def _may() -> None:
    """Return: where it comes is noted, and only what has locked the delivery lets it appear."""
