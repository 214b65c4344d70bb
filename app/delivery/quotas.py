"""How much a tenant and each of its users may have: at once, a minute, a day.

0 is no limit. What is used is read from the deliveries themselves: no figure is kept beside them
that a crash could leave wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

OverRequests = Literal["wait", "deny"]
OverBytes = Literal["wait", "error"]

# Deliveries that one statement lets through: they are read whole, with their orders.
BATCH_SIZE = 500
MINUTE = timedelta(minutes=1)
_ENDS_WITHIN = 30.0  # seconds: when a delivery ends is not known; then it is worth another try


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """What one tenant may have, or one user; 0: as much as they like."""

    active: int = 0  # deliveries at once
    requests_per_minute: int = 0  # that are taken in, within any minute
    bytes_per_day: int = 0  # that are laid out for transfer, in a day of UTC


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """What a tenant may have, and each of its users, and what comes of more than that."""

    tenant: Allowance = field(default_factory=Allowance)
    user: Allowance = field(default_factory=Allowance)
    over_requests: OverRequests = "wait"  # over AMQP; over HTTP they are refused
    over_bytes: OverBytes = "wait"

    @property
    def limits_requests(self) -> bool:
        """Whether a request may have to wait."""
        limits = (self.tenant, self.user)
        return any(limit.active or limit.requests_per_minute for limit in limits)

    @property
    def limits_bytes(self) -> bool:
        """Whether a delivery that is laid out may have to wait."""
        return bool(self.tenant.bytes_per_day or self.user.bytes_per_day)

    @property
    def largest_that_waits(self) -> int | None:
        """The most bytes of a delivery that may wait for a day; -1: none may, None: any."""
        limits = (self.tenant.bytes_per_day, self.user.bytes_per_day)
        if not any(limits):
            return None
        return -1 if self.over_bytes == "error" else min(limit for limit in limits if limit)


NO_QUOTA = Quota()


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """What one tenant has, or one user of it."""

    active: int = 0  # deliveries that were admitted and have not ended
    requests: int = 0  # admitted within the last minute
    bytes: int = 0  # of deliveries that were charged since the day began
    waiting: int = 0  # requests that wait
    waiting_bytes: int = 0  # deliveries that wait, laid out
    # When the first of the requests that fill the minute was admitted; None: they do not fill it.
    filled_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What a tenant has, and one user of it, at one moment of the store's clock."""

    at: datetime
    tenant: Use
    user: Use

    @property
    def resets_at(self) -> datetime:
        """Return when the next day of UTC begins."""
        return day_of(self.at) + timedelta(days=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Over:
    """Why something is over a quota."""

    words: str
    retry_after: float  # seconds after which it is worth another try


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A delivery that waits for bytes of the day."""

    id: UUID
    user: str
    size: int  # bytes


def fitting(
    quota: Quota, waiting: Sequence[Waiting], *, of_tenant: int, of_users: Mapping[str, int]
) -> list[UUID]:
    """Return which of those that wait the day has bytes for, in their order.

    One that does not fit bars those behind it of its own user alone: today it goes no more,
    whatever smaller ones of others use. `of_tenant` and `of_users` are bytes that were taken today.
    """
    total, shares, barred = of_tenant, dict(of_users), set[str]()
    chosen = []
    for delivery in waiting:
        user, size = delivery.user, delivery.size
        share = shares.get(user, 0)
        sides = (quota.tenant.bytes_per_day, total), (quota.user.bytes_per_day, share)
        # A size of 0 is one that is not known: it goes while any bytes are left.
        fits = all(not most or (has < most and has + size <= most) for most, has in sides)
        if not fits:
            barred.add(user)
        elif user not in barred:
            chosen.append(delivery.id)
            total, shares[user] = total + size, share + size
    return chosen


def day_of(at: datetime) -> datetime:
    """Return when the day of UTC began that a moment (in UTC) is in."""
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def over_requests(
    quota: Quota, usage: Usage, *, tenant: str, user: str, behind: bool = False
) -> Over | None:
    """Return why one request more is over a quota; None if it is not.

    `behind`: it waits already, so that others that wait may just be before it.
    """
    sides = (
        (f"user {user}", quota.user, usage.user),
        (f"tenant {tenant}", quota.tenant, usage.tenant),
    )
    for whose, limit, use in sides:
        if limit.active and use.active >= limit.active:
            return Over(
                words=f"{whose} has {use.active} of {limit.active} active deliveries",
                retry_after=_ENDS_WITHIN,
            )
        if limit.requests_per_minute and use.requests >= limit.requests_per_minute:
            after = (use.filled_at or usage.at) + MINUTE - usage.at
            return Over(
                words=f"{whose} has made {use.requests} of {limit.requests_per_minute} requests "
                "within a minute",
                retry_after=max(1.0, math.ceil(after.total_seconds())),
            )
    for whose, limit, use in sides:
        ahead = use.waiting - behind
        counts = (limit.active, use.active), (limit.requests_per_minute, use.requests)
        places = [most - has for most, has in counts if most]
        # Without a limit they wait for another's; with more places than they take, it has one, too.
        if places and ahead >= min(places):
            return Over(
                words=f"{ahead} requests of {whose} wait before it", retry_after=_ENDS_WITHIN
            )
    return None


def over_bytes(quota: Quota, usage: Usage, size: int, *, tenant: str, user: str) -> Over | None:
    """Return why a delivery of so many bytes is over a quota of the day; None if it is not."""
    after = (usage.resets_at - usage.at).total_seconds()
    for whose, limit, use in (
        (f"user {user}", quota.user, usage.user),
        (f"tenant {tenant}", quota.tenant, usage.tenant),
    ):
        most = limit.bytes_per_day
        if most and (use.bytes >= most or use.bytes + size > most):
            return Over(
                words=f"{whose} has taken {use.bytes} of {most} bytes today, and it has {size}",
                retry_after=max(1.0, math.ceil(after)),
            )
    return None


def never_fits(quota: Quota, size: int, *, tenant: str, user: str) -> str | None:
    """Return why a delivery of so many bytes fits into no day; None if it does."""
    for whose, limit in ((f"user {user}", quota.user), (f"tenant {tenant}", quota.tenant)):
        if limit.bytes_per_day and size > limit.bytes_per_day:
            return (
                f"it has {size} bytes, and {whose} may have {limit.bytes_per_day} a day; ask for "
                "less data at once"
            )
    return None
