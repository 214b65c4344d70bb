"""The work that takes long: a worker's slots claim deliveries, work, and let go.

Transfers take minutes to hours, so they run here and not in an agent, which would hold up the
commits and rebalances of its partitions. Events only say "look again"; what to do is in PostgreSQL.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

from mode import Service
from structlog.contextvars import bind_contextvars

from app.delivery.lease import Lease
from app.delivery.model import Delivery
from app.delivery.ports import Leases
from app.delivery.states import Work
from app.errors import (
    UNFORESEEN,
    DeliveryError,
    LeaseLostError,
    RetryableError,
    StoreUnavailableError,
    WorkerStoppedError,
)
from app.telemetry import tracing
from app.telemetry.logs import get_logger
from app.telemetry.metrics import ASIDE, LEASES_LOST, RUNNING, SLOTS
from app.waiting.grace import Grace
from app.waiting.places import Places
from app.waiting.wakeup import Wakeup

log = get_logger(__name__)

_SETTLING = 10.0  # seconds in which what had to end says how


# Why a piece of work is to end where it can be gone on with; None: it goes on.
StoppedBy = Callable[[Work, Delivery], WorkerStoppedError | None]


def never_stopped(_work: Work, _delivery: Delivery) -> None:
    """Return that nothing is paused."""


async def without_lease(
    act: Callable[[Delivery], Awaitable[None]], delivery: Delivery, _lease: Lease
) -> None:
    """Do work that asks nothing of its lease: it is cancelled when that is lost, and no more."""
    await act(delivery)


class Slots(Service):
    """Runs up to `count` pieces of one kind of work at a time, each under its lease."""

    def __init__(
        self,
        *,
        kind: Work,
        count: int,
        work: Callable[[Delivery, Lease], Awaitable[None]],
        settle: Callable[[Delivery, DeliveryError], Awaitable[None]],
        leases: Leases,
        wake: Wakeup,
        interval: float,
        lease_ttl: float,
        grace: Grace,
        may_claim: Callable[[], bool] = lambda: True,
        stopped_by: StoppedBy = never_stopped,
        check_interval: float = 1.0,  # seconds between looks at a lease
    ) -> None:
        super().__init__()
        self._kind = kind
        self._work = work
        self._save_outcome = settle
        self._leases = leases
        self._wake = wake
        self._waiter = wake.waiter()
        self._interval = interval
        self._lease_ttl = lease_ttl
        self._grace = grace
        self._may_claim = may_claim  # false while the worker is drained
        self._stopped_by = stopped_by
        self._check_interval = check_interval
        self._claims = True
        self._due = True  # something may be: until a claim sees that nothing else was
        self._running: dict[asyncio.Task[None], Lease] = {}
        self._places = Places(count, self._freed)
        SLOTS.labels(kind.value).set(count)
        RUNNING.labels(kind.value).set_function(lambda: self._places.taken)

    @Service.task
    async def _claim_loop(self) -> None:
        """Claim whenever a slot is free and something may be due."""
        while self._claims and not self.should_stop:
            if self._due and self._may_claim() and self._places.take():
                self._due = False  # what comes from now on, this claim may not see
                began = await self._claim()
                self._due = self._leases.sees_more(self._kind) or self._due
                if began and self._due:
                    continue
            await self._waiter.wait(self._interval)
            self._due = True

    def _freed(self) -> None:
        """Look for more in a slot that is free again, unless nothing was due at the last look."""
        if self._due:
            self._waiter.event.set()

    async def _claim(self) -> bool:
        """Claim for the place that was just taken, or leave it. Returns whether work began."""
        claimed = None
        asked_at = time.monotonic()
        try:
            claimed = await self._leases.claim(self._kind)
            if claimed is not None and (self.should_stop or not self._claims):
                await self._settle(claimed, WorkerStoppedError())
                claimed = None
            elif claimed is not None and not self._may_claim():
                await self._settle(claimed, WorkerStoppedError("the worker was drained"))
                claimed = None
        except StoreUnavailableError as error:
            log.warning("claim_waits", cause=str(error))
        finally:
            if claimed is None:
                self._places.leave(unused=True)
        if claimed is not None:
            self._begin(claimed, asked_at)
        return claimed is not None

    def stop_claiming(self) -> None:
        """Begin nothing more, and tell what runs, which has the grace of a process that stops.

        It hands itself over, or ends, while the process closes its ways in: it needs none of them.
        """
        self._claims = False
        self._grace.begin()
        for lease in self._running.values():
            lease.stop()

    def _begin(self, delivery: Delivery, asked_at: float) -> None:
        lease = Lease(
            self._lease_ttl,
            self._places,
            waits=ASIDE.labels(self._kind.value).track_inprogress,
        )
        lease.renewed(asked_at)
        task = asyncio.create_task(self._hold(delivery, lease), name=str(delivery))
        self._running[task] = lease
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task).leave()
        if not task.cancelled() and task.exception() is not None:
            log.error("slot_failed", exc_info=task.exception())

    async def _hold(self, delivery: Delivery, lease: Lease) -> None:
        """Work while the lease holds; then settle how it went. Every line of the log says for whom.

        (The context of this task is that of all tasks that the work makes.)
        """
        bind_contextvars(tenant=delivery.tenant, correlation_id=delivery.correlation_id)
        with tracing.span(
            self._kind.value,
            parent=delivery.trace,
            attributes={
                "delivery.tenant": delivery.tenant,
                "delivery.correlation_id": delivery.correlation_id,
                "delivery.attempt": delivery.attempt,
                "delivery.files": delivery.file_count,
                "delivery.bytes": delivery.total_bytes,
            },
        ):
            await self._work_under_lease(delivery, lease)

    async def _work_under_lease(self, delivery: Delivery, lease: Lease) -> None:
        work = asyncio.ensure_future(self._work(delivery, lease))
        renewal_task = asyncio.create_task(self._renew(delivery, lease))
        try:
            await asyncio.wait({work, renewal_task}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
                if lease.stopped_by is not None and renewal_task.result():
                    raise lease.stopped_by
                LEASES_LOST.labels(self._kind.value).inc()
                raise LeaseLostError(f"{delivery} was taken over, or has ended")
            await work
            # It may have been parked as its next segment came.
            self._due = self._due or delivery.plan is not None
        except WorkerStoppedError as error:
            await self._settle(delivery, lease.stopped_by or error)
        except DeliveryError as error:
            await self._settle(delivery, error)
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait({work})
            await self._settle(delivery, lease.stopped_by or WorkerStoppedError())
            raise
        except Exception as error:
            log.exception(
                "work_failed", tenant=delivery.tenant, correlation_id=delivery.correlation_id
            )
            await self._settle(delivery, RetryableError(f"{UNFORESEEN}: {error!r}"))
        finally:
            renewal_task.cancel()

    async def _renew(self, delivery: Delivery, lease: Lease) -> bool:
        """Renew the lease at a third of its time; return when it is lost.

        Between renewals, look whether it is still ours: a delivery that was ended, or taken over,
        must not go on being transferred for more than a moment. And whether it is paused: then it
        has the grace of a process that stops. True: that has passed, and the lease is not lost.
        """
        renewal = time.monotonic() + self._lease_ttl / 3
        stops_at = math.inf
        while True:
            await asyncio.sleep(self._check_interval)
            asked_at = time.monotonic()
            if not lease.stopping.is_set() and (paused := self._stopped_by(self._kind, delivery)):
                lease.stop(paused)
                stops_at = asked_at + self._grace.seconds
                log.info("work_stops", **delivery.log_context, cause=str(paused))
            if asked_at >= stops_at and lease.ends_when_stopped():
                return True
            renews = asked_at >= renewal
            try:
                async with asyncio.timeout(self._lease_ttl / 3):
                    ask = self._leases.renew if renews else self._leases.holds
                    if not await ask(delivery) and lease.ends_when_gone():
                        return False
                if renews:
                    lease.renewed(asked_at)
                    renewal = asked_at + self._lease_ttl / 3
            except (StoreUnavailableError, TimeoutError) as error:
                log.warning(
                    "renewal_waits",
                    **delivery.log_context,
                    cause=str(error),
                )
                if lease.ends_when_silent():
                    return False

    async def _settle(self, delivery: Delivery, error: DeliveryError) -> None:
        try:
            await self._save_outcome(delivery, error)
        except StoreUnavailableError as failure:
            # The lease runs out, and the worker that claims it next comes to the same end.
            log.warning(
                "outcome_not_saved",
                **delivery.log_context,
                cause=str(failure),
            )
        finally:
            self._due = True  # what was let go of may be due at once

    async def on_stop(self) -> None:
        """Let what runs hand itself over, or end, while there is grace; then hand it back."""
        self.stop_claiming()
        if not self._running:
            return
        _, pending = await asyncio.wait(set(self._running), timeout=self._grace.left())
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=_SETTLING)
