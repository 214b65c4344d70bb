"""Quotas in memory: what a tenant and its users have is read from the deliveries themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from uuid import UUID

from app.codes import Code
from app.delivery.model import Delivery
from app.delivery.quotas import BATCH_SIZE, MINUTE, Quota, Usage, Use, Waiting, day_of, fitting
from app.delivery.states import State
from app.store.memory import deliveries
from app.store.memory.locks import Mode
from app.store.memory.rows import DeliveryRow
from app.store.memory.statements import Statements, statement

_ANY_NUMBER = 2**31 - 1


class QuotasInTransaction(Statements):
    """The part of a `UnitOfWork` that is about quotas."""

    at_once = BATCH_SIZE  # that one statement lets through

    @statement
    async def _lock_quota(self, tenant: str) -> None:
        await self._session.lock(("quota", tenant))

    async def admit(self, tenant: str, quota: Quota) -> list[Delivery]:
        """Let requests through that wait, as many as a tenant's quotas have places for."""
        await self._lock_quota(tenant)
        return await self._admit(tenant, quota)

    @statement
    async def _admit(self, tenant: str, quota: Quota) -> list[Delivery]:
        at = self._database.clock()
        rows = self._rows_of(tenant)
        active = Counter(row.delivery.user for row in rows if _is_active(row))
        lately = Counter(row.delivery.user for row in rows if _is_lately(row, at))

        def places(limit: int, used: int) -> int:
            return max(0, limit - used) if limit else _ANY_NUMBER

        free = min(
            places(quota.tenant.active, active.total()),
            places(quota.tenant.requests_per_minute, lately.total()),
        )
        foremost = []
        for user, waiting in _held(rows, State.RECEIVED):
            free_of_user = min(
                free,
                self.at_once,
                places(quota.user.active, active[user]),
                places(quota.user.requests_per_minute, lately[user]),
            )
            foremost += [
                (active[user] + place, row.rank, row.delivery.id)
                for place, row in enumerate(waiting[:free_of_user], 1)
            ]
        return await self._let_through(
            self._unlocked(chosen for *_, chosen in sorted(foremost))[: min(free, self.at_once)],
            State.RECEIVED,
            lambda row: replace(row, admitted_at=at),
        )

    async def charge(self, tenant: str, quota: Quota) -> list[Delivery]:
        """Let deliveries through that wait, laid out, as far as a tenant's bytes of the day go."""
        await self._lock_quota(tenant)
        return await self._charge(tenant, quota)

    @statement
    async def _charge(self, tenant: str, quota: Quota) -> list[Delivery]:
        at = self._database.clock()
        rows = self._rows_of(tenant)
        spent: Counter[str] = Counter()
        for row in rows:
            if _is_charged(row, at):
                spent[row.delivery.user] += row.delivery.total_bytes
        in_order = sorted(self._chargeable(rows, spent, quota, at))[: self.at_once]
        chosen = fitting(
            quota,
            [waiting for *_, waiting in in_order],
            of_tenant=spent.total(),
            of_users=spent,
        )
        chosen = self._unlocked(chosen)
        return await self._let_through(chosen, State.READY, lambda row: replace(row, charged_at=at))

    def _chargeable(
        self, rows: Sequence[DeliveryRow], spent: Counter[str], quota: Quota, at: datetime
    ) -> Iterator[tuple[bool, int, datetime, UUID, Waiting]]:
        """Yield what a user's bytes have room for up to there, by the order in which it may go."""
        of_tenant, of_user = quota.tenant.bytes_per_day, quota.user.bytes_per_day
        if of_tenant and spent.total() >= of_tenant:
            return
        for user, waiting in _held(rows, State.READY):
            if of_user and spent[user] >= of_user:
                continue
            so_far = 0
            for row in sorted(waiting, key=lambda row: _is_new(row, at))[: self.at_once]:
                so_far += row.delivery.total_bytes
                share = spent[user] + so_far
                if of_user and share > of_user:
                    break
                if of_tenant and spent.total() + so_far > of_tenant:
                    break
                new, delivery = _is_new(row, at), row.delivery
                size = delivery.total_bytes
                it = Waiting(id=delivery.id, user=user, size=size)
                yield new, share if new else 0, row.rank, delivery.id, it

    def _unlocked(self, chosen: Iterable[UUID]) -> list[UUID]:
        """Return those that no other transaction has locked."""
        rows, mode = self._database.deliveries, Mode.NO_KEY_UPDATE
        return [each for each in chosen if not self._session.skips(rows, each, mode)]

    async def _let_through(
        self,
        chosen: Sequence[UUID],
        state: State,
        change: Callable[[DeliveryRow], DeliveryRow],
    ) -> list[Delivery]:
        now = self._session.now
        through = []
        for delivery_id in chosen:
            row = await deliveries.update(
                self._database,
                self._session,
                delivery_id,
                lambda row: replace(
                    change(row).having(held=False, last_cause=None),
                    not_before=now,
                    updated_at=now,
                ),
                lambda row: row.delivery.held and row.state is state,
            )
            if row is not None:
                through.append(row.delivery)
        return through

    @statement
    async def over_day(self, tenant: str, most: int) -> list[Delivery]:
        """Return deliveries that wait, laid out, and have more bytes than that."""
        held = [row for _, rows in _held(self._rows_of(tenant), State.READY) for row in rows]
        over = [row for row in held if row.delivery.total_bytes > most]
        over.sort(key=lambda row: (row.rank, row.delivery.id))
        return [row.delivery for row in over[: self.at_once]]

    @statement
    async def hold(self, delivery: Delivery) -> None:
        """Let a delivery that is laid out wait for its quota of bytes."""
        await deliveries.update(
            self._database,
            self._session,
            delivery.id,
            lambda row: row.having(held=True),
            lambda row: row.state is State.READY,
        )

    @statement
    async def note_held(self, causes: Mapping[UUID, str]) -> None:
        """Note why deliveries wait for their quota."""
        for delivery_id, cause in causes.items():
            await deliveries.update(
                self._database,
                self._session,
                delivery_id,
                partial(DeliveryRow.having, last_cause=cause, last_code=Code.QUOTA_AWAITED),
                lambda row: row.delivery.held,
            )

    @statement
    async def usage(self, tenant: str, users: Collection[str], quota: Quota) -> dict[str, Usage]:
        """Tell what a tenant has, and each of some users of it."""
        at = self._database.clock()
        rows = self._rows_of(tenant)
        of_tenant = _use(rows, at, quota.tenant.requests_per_minute)
        return {
            user: Usage(
                at=at,
                tenant=of_tenant,
                user=_use(
                    [row for row in rows if row.delivery.user == user],
                    at,
                    quota.user.requests_per_minute,
                ),
            )
            for user in users
        }

    @statement
    async def held_tenants(self) -> list[str]:
        """Return the tenants with deliveries that wait for a quota."""
        held = self._session.where(
            self._database.deliveries, lambda row: row.delivery.held and not row.state.ended
        )
        return sorted({row.delivery.tenant for _, row in held})

    def _rows_of(self, tenant: str) -> list[DeliveryRow]:
        found = self._session.where(
            self._database.deliveries, lambda row: row.delivery.tenant == tenant
        )
        return [row for _, row in found]


def _is_active(row: DeliveryRow) -> bool:
    """Whether it was let in and has not ended: also one that waits for bytes, which was ordered."""
    waits = row.delivery.held and row.state is State.RECEIVED
    return not row.state.ended and not waits


def _is_lately(row: DeliveryRow, at: datetime) -> bool:
    return row.admitted_at is not None and row.admitted_at > at - MINUTE


def _is_charged(row: DeliveryRow, at: datetime) -> bool:
    """Whether its bytes count today: not of one that ended before anything of it was sent."""
    gives_back = row.state is State.ERROR and row.delivery.attempt == 0
    return row.charged_at is not None and row.charged_at >= day_of(at) and not gives_back


def _is_new(row: DeliveryRow, at: datetime) -> bool:
    """Whether it waits since this day alone."""
    return row.state_since >= day_of(at)


def _held(rows: Sequence[DeliveryRow], state: State) -> list[tuple[str, list[DeliveryRow]]]:
    """Return what is held in a state, by user, the first first."""
    by_user: dict[str, list[DeliveryRow]] = {}
    for row in sorted(rows, key=lambda row: (row.rank, row.delivery.id)):
        if row.delivery.held and row.state is state:
            by_user.setdefault(row.delivery.user, []).append(row)
    return list(by_user.items())


def _use(rows: Sequence[DeliveryRow], at: datetime, requests_per_minute: int) -> Use:
    lately = sorted(
        (row.admitted_at for row in rows if row.admitted_at is not None and _is_lately(row, at)),
        reverse=True,
    )
    place = max(requests_per_minute, 1)
    return Use(
        active=sum(map(_is_active, rows)),
        requests=len(lately),
        bytes=sum(row.delivery.total_bytes for row in rows if _is_charged(row, at)),
        waiting=sum(row.delivery.held and row.state is State.RECEIVED for row in rows),
        waiting_bytes=sum(row.delivery.held and row.state is State.READY for row in rows),
        filled_at=lately[place - 1] if len(lately) >= place else None,
    )
