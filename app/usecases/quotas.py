"""What a tenant's quotas have no place for waits, is denied, or ends: as the tenant chooses.

Requests are saved first, held, and those that there is a place for are let through in the same
transaction; so are deliveries that are laid out, by their bytes. What is decided for one tenant
waits for no other, and nothing is asked of tenants without a quota.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from app.delivery import outgoing
from app.delivery.model import Delivery
from app.delivery.outgoing import Kind
from app.delivery.ports import DeliveryStore, UnitOfWork
from app.delivery.quotas import (
    Over,
    Quota,
    Usage,
    never_fits,
    over_bytes,
    over_requests,
)
from app.delivery.report_document import Failure
from app.delivery.states import Work
from app.errors import DayQuotaError, DeliveryError, OverQuotaError
from app.telemetry.logs import get_logger
from app.tenants.registry import ConfiguredTenants
from app.usecases.fail import fail
from app.usecases.reports import Reports, report_on, reported_until

log = get_logger(__name__)


async def let_in(
    tx: UnitOfWork,
    opened: Sequence[Delivery],
    *,
    tenants: ConfiguredTenants,
) -> tuple[list[Delivery], dict[UUID, Over]]:
    """Let new deliveries through that quotas have places for; return all, as they are now.

    And why those wait that are still held, by their ids. Of the places that there are by now, those
    that waited before may have some: workers are woken for them.
    """
    current = {delivery.id: delivery for delivery in opened}
    held = [delivery for delivery in opened if delivery.held]
    over: dict[UUID, Over] = {}
    # In the same order everywhere, as locks are held until the end.
    for tenant in sorted({delivery.tenant for delivery in held}):
        quota = tenants.settings(tenant).quota
        waiting = [delivery for delivery in held if delivery.tenant == tenant]
        while waiting and (admitted := await tx.admit(tenant, quota)):
            _tell(tx, [each for each in admitted if each.id not in current])
            current |= {delivery.id: delivery for delivery in admitted}
            waiting = [each for each in waiting if current[each.id].held]
            if quota.over_requests == "wait":
                break  # the next look lets through what there are places for still
        if not waiting:
            continue
        users = sorted({delivery.user for delivery in waiting})
        usage = await tx.usage(tenant, users, quota)
        for delivery in waiting:
            user = delivery.user
            why = over_requests(quota, usage[user], tenant=tenant, user=user, behind=True)
            over[delivery.id] = why or Over(words="others wait before it", retry_after=1.0)
    return [current[delivery.id] for delivery in opened], over


def _tell(tx: UnitOfWork, admitted: Sequence[Delivery]) -> None:
    """Tell of requests that waited and go on, and wake the workers that check their users."""
    for delivery in admitted:
        tx.on_commit(partial(_log_admitted, delivery))
    if admitted:
        tx.wake(Work.CHECK)


def _log_admitted(delivery: Delivery) -> None:
    log.info("request_admitted", **delivery.log_context)


async def note_waits(
    tx: UnitOfWork, deliveries: Sequence[Delivery], over: Mapping[UUID, Over]
) -> None:
    """Note why deliveries wait, for all who look at them."""
    if not deliveries:
        return
    await tx.note_held({delivery.id: in_words(over[delivery.id]) for delivery in deliveries})
    for delivery in deliveries:
        log.info("request_waits", **delivery.log_context, cause=over[delivery.id].words)


def refusal_of(correlation_id: str, why: Over) -> OverQuotaError:
    """Return what a request that is more is refused with where it may not wait: over HTTP."""
    return OverQuotaError(
        f"request {correlation_id} is over the quota: {why.words}; ask again in "
        f"{why.retry_after:.0f} seconds",
        retry_after=why.retry_after,
    )


def in_words(over: Over) -> str:
    """Return why something waits, as its cause."""
    return f"its quota is used up: {over.words}"


async def charge(tx: UnitOfWork, delivery: Delivery, size: int, quota: Quota) -> None:
    """Let a delivery that is READY since this transaction be transferred, or wait.

    It has so many bytes, as far as is known. Raises DayQuotaError when it is over the quota of its
    bytes and may not wait, or would wait for ever.
    """
    if not quota.limits_bytes:
        await tx.hint(outgoing.wake(delivery, Kind.TRANSFER))
        return
    _check_fits_any_day(delivery, size, quota)
    await tx.hold(delivery)
    while charged := await _charge(tx, delivery.tenant, quota):
        if delivery.id in charged:
            return
        if quota.over_bytes == "wait":
            break  # the next look lets through what there are bytes for still
    why = await _why_it_waits(tx, delivery, size, quota)
    await tx.note_held({delivery.id: in_words(why)})
    log.info("delivery_waits", **delivery.log_context, cause=why.words)


def _check_fits_any_day(delivery: Delivery, size: int, quota: Quota) -> None:
    """Raise DayQuotaError where a delivery would wait for ever."""
    never = never_fits(quota, size, tenant=delivery.tenant, user=delivery.user)
    if never is not None:
        raise DayQuotaError(f"{delivery} is over its quota: {never}")


async def _why_it_waits(tx: UnitOfWork, delivery: Delivery, size: int, quota: Quota) -> Over:
    """Return what a delivery waits for that is laid out. Raises DayQuotaError if it may not."""
    tenant, user = delivery.tenant, delivery.user
    usage = (await tx.usage(tenant, {user}, quota))[user]
    why = over_bytes(quota, usage, size, tenant=tenant, user=user)
    if why is None:  # it goes once those before it have gone, or have ended
        return Over(words="others that are laid out wait before it", retry_after=1.0)
    if quota.over_bytes == "error":
        raise DayQuotaError(
            f"{delivery} is over its quota: {why.words}; the day ends at {usage.resets_at:%FT%TZ}"
        )
    return why


async def _charge(tx: UnitOfWork, tenant: str, quota: Quota) -> set[UUID]:
    """Let through what there are bytes for; return which."""
    charged = await tx.charge(tenant, quota)
    await tx.hint(*(outgoing.wake(delivery, Kind.TRANSFER) for delivery in charged))
    return {delivery.id for delivery in charged}


@dataclass(frozen=True, kw_only=True)
class Quotas:
    """Lets through what waits, as soon as there is a place, and tells what is used."""

    store: DeliveryStore
    tenants: ConfiguredTenants

    def of(self, tenant: str) -> Quota:
        """Return the quota of a tenant, as all processes have it: also of one not worked for here.

        It may have left, with deliveries that wait still; or be new, and known to others by now.
        """
        return self.tenants.settings(tenant).quota

    def any_set(self) -> bool:
        """Whether a tenant that is worked for here has one."""
        return any(
            quota.limits_requests or quota.limits_bytes
            for quota in map(self.of, self.tenants.worked_for)
        )

    async def usage(self, tenant: str, user: str) -> Usage:
        """Tell what a tenant has now, and one user of it."""
        async with self.store.transaction() as tx:
            return (await tx.usage(tenant, {user}, self.of(tenant)))[user]

    async def over(self, tenant: str, user: str) -> Over | None:
        """Tell why a request of a user would be over a quota now; None if it would not."""
        quota = self.of(tenant)
        if not quota.limits_requests:
            return None
        return over_requests(quota, await self.usage(tenant, user), tenant=tenant, user=user)

    async def look(self) -> None:
        """Let through all that there are places for, and wake workers for it.

        Any number of processes may look at once. One tenant's failure is no other's. Raises
        StoreUnavailableError when it can't be known which tenants have something that waits.
        """
        async with self.store.transaction() as tx:
            held = await tx.held_tenants()
        for tenant in held:
            try:
                await self._let_through(tenant)
            except DeliveryError as error:
                log.warning("quota_waits", tenant=tenant, cause=str(error))

    async def end_over(self, *, reports: Reports | None = None) -> None:
        """End what waits for bytes and may not by now: a quota was lowered, or lets none wait.

        That is as it would have ended when it was laid out. Not by `look`: reports take a while,
        and after half a minute what else of a tenant is over ends without.
        """
        async with self.store.transaction() as tx:
            held = await tx.held_tenants()
        for tenant in held:
            quota = self.of(tenant)
            most = quota.largest_that_waits
            if most is None:
                continue
            try:
                # What there are bytes for by now goes; the rest is over.
                while await self._charge(tenant, quota):
                    pass
                async with self.store.transaction() as tx:
                    over = await tx.over_day(tenant, most)
                until = reported_until()
                for delivery in over:
                    await self._end(delivery, quota, reports, until)
            except DeliveryError as error:
                log.warning("quota_waits", tenant=tenant, cause=str(error))

    async def _end(
        self, delivery: Delivery, quota: Quota, reports: Reports | None, until: float
    ) -> None:
        try:
            _check_fits_any_day(delivery, delivery.total_bytes, quota)
            async with self.store.transaction() as tx:
                await _why_it_waits(tx, delivery, delivery.total_bytes, quota)
        except DayQuotaError as error:
            failure = Failure(error_type=error.error_type, message=str(error))
            code = error.code
        else:
            return
        async with (
            report_on(reports, delivery, failure, until=until) as report,
            self.store.transaction() as tx,
        ):
            current = await tx.lock(delivery.tenant, delivery.correlation_id)
            if current is None or current.id != delivery.id or not current.held:
                return  # it was let through, or ended, meanwhile
            told = failure.error_type, failure.message
            await fail(tx, current, *told, code=code, report=report)

    async def _let_through(self, tenant: str) -> None:
        """Let through what one tenant has waiting, some hundred in a transaction."""
        quota = self.of(tenant)
        while await self._admit(tenant, quota):
            pass
        while await self._charge(tenant, quota):
            pass

    async def _admit(self, tenant: str, quota: Quota) -> list[Delivery]:
        async with self.store.transaction() as tx:
            admitted = await tx.admit(tenant, quota)
            _tell(tx, admitted)
        return admitted

    async def _charge(self, tenant: str, quota: Quota) -> set[UUID]:
        async with self.store.transaction() as tx:
            return await _charge(tx, tenant, quota)
