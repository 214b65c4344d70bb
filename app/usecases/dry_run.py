"""A request is tried: what would become of it is told; nothing is kept, ordered or delivered."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from app.delivery.ingress import DeliveryRequest
from app.delivery.manifest import archive_of_many
from app.delivery.marks import check_replaceable, marks_of
from app.delivery.messages import MAX_TARGET, MAX_USER
from app.delivery.model import Delivery
from app.delivery.naming import object_key
from app.delivery.object_store import FoundObject
from app.delivery.own_ids import as_own, prefix_of
from app.delivery.ports import SuffixOf, Users
from app.delivery.requests import parse_request
from app.delivery.targets import DEFAULT_TARGET, Target, TargetCheck
from app.delivery.templates import pattern_of, place_of
from app.errors import (
    DeliveryError,
    ErrorType,
    ForeignObjectError,
    InvalidRequestError,
    SecretUnreadableError,
    TargetUnavailableError,
    as_cause,
)
from app.tenants.registry import ConfiguredTenants
from app.usecases.limits import limits_of
from app.usecases.quotas import Quotas, refusal_of
from app.usecases.submit import not_taken, opening, unknown_target
from app.views.deliveries import Tracking
from app.views.dry_runs import (
    ActiveView,
    DryRunView,
    PlaceSeenView,
    TargetStepView,
    TargetTriedView,
    UserSeenView,
)

_PATIENCE = 5.0  # seconds that rs-admin, or one look at a place, may take

# Tries a target of a tenant; tells in words why it does not, where it may not now.
Trial = Callable[[str, Target], Awaitable[Sequence[TargetCheck] | str]]
Find = Callable[[Target, str], Awaitable[FoundObject | None]]


@dataclass
class _Found:
    """What speaks against a request, so far."""

    broken: list[str] = field(default_factory=list)
    error_type: ErrorType | None = None  # of a denial
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class DryRuns:
    """Judges requests as they would be if they came in now."""

    tracking: Tracking
    tenants: ConfiguredTenants
    users: Users
    find: Find
    suffix_of: SuffixOf
    quotas: Quotas
    patience: float = _PATIENCE

    async def judge(
        self,
        tenant: str,
        body: Mapping[str, Any],
        *,
        trial: Trial,
        user: str | None = None,
        priority: int = 1,
        details: bool = False,
        over_http: bool = False,
    ) -> DryRunView:
        """Tell what would become of a request; of one `user` who sees only their own, if given.

        The rules are those of the request itself, in its words. With `details`, what a target says
        is told, too: for those who may set it. `over_http`: it would be made there, where nothing
        waits for a quota; else over AMQP. Raises StoreUnavailableError.
        """
        found, now = _Found(), datetime.now(UTC)
        request = self._read(tenant, body, now, found, user=user, priority=priority)
        target, ordering = _named(body)
        if found.broken:
            found.error_type = ErrorType.INVALID_CONTENT
        known, tried = await asyncio.gather(
            self._user(tenant, ordering, found, user=user, details=details),
            self._target(tenant, target, found, trial, details=details),
        )
        shown: dict[str, Any] = {}
        if request is not None:
            delivery = self._would_be(request, now)
            look = tried is not None and tried.ok is True
            shown = {
                "correlation_id": request.correlation_id,
                "format": delivery.format,
                "expires_at": delivery.expires_at,
                "place": await self._place(delivery, found, look=look),
                "active": await self._active(request, found, user=user),
                "retry_after": await self._quota(request, found, over_http=over_http),
            }
        if self.tenants.paused(tenant):
            found.problems.append(
                f"tenant {tenant} is in maintenance: its requests wait until that is over"
            )
        return DryRunView(
            granted=not found.broken,
            error_type=found.error_type,
            broken=found.broken or None,
            problems=found.problems or None,
            user=known,
            target=tried,
            limits=limits_of(tenant, tenants=self.tenants, user=user),
            **shown,
        )

    def _read(
        self,
        tenant: str,
        body: Mapping[str, Any],
        now: datetime,
        found: _Found,
        *,
        user: str | None,
        priority: int,
    ) -> DeliveryRequest | None:
        """Return the request, where it is one that its caller may make; note which rules it breaks.

        Of another's correlation id nothing is to be told.
        """
        whole, is_own = body, True
        if user is not None:
            try:
                whole = as_own(user, body, priority=priority)
            except InvalidRequestError as error:
                found.broken += error.reasons
                is_own = False
                if body.get("correlationId") is None:  # it would be given one
                    whole = {**body, "correlationId": prefix_of(user)}
        try:
            request = parse_request(whole, delivery_id=uuid4(), tenant=tenant, priority=priority)
        except InvalidRequestError as error:
            found.broken += error.reasons
            named, _ = _named(body)
            flaw = unknown_target(tenant, named, tenants=self.tenants) if named else None
            found.broken += [] if flaw is None else [flaw]
            return None
        found.broken += not_taken(request, now, tenants=self.tenants)
        return request if is_own else None

    def _would_be(self, request: DeliveryRequest, now: datetime) -> Delivery:
        """Return the delivery that the request would open."""
        opened = opening(request, now, tenants=self.tenants, users=self.users)
        expires_at = now + opened.ttl
        return Delivery(
            id=request.id,
            tenant=request.tenant,
            correlation_id=request.correlation_id,
            state=opened.state,
            user=request.user,
            target=request.target,
            order=request.order,
            origin_app=request.origin_app,
            priority=request.priority,
            requested_at=now,
            expires_at=min(expires_at, request.deadline or expires_at),
            format=opened.format,
            archive_template=opened.archive_template,
            prefix_template=opened.prefix_template,
        )

    async def _user(
        self,
        tenant: str,
        name: str | None,
        found: _Found,
        *,
        user: str | None,
        details: bool,
    ) -> UserSeenView | None:
        """Tell whether the ordering user is known; who sees only their own asks about no other."""
        if name is None or (user is not None and name != user):
            return None
        try:
            async with asyncio.timeout(self.patience):
                known = await self.users.known(tenant, name)
        except (DeliveryError, TimeoutError) as error:
            late = f"rs-admin did not answer within {self.patience:g} seconds"
            why = f": {str(error) or late}" if details else ""
            message = f"that can't be told now{why}; a request waits until it can be"
            return UserSeenView(name=name, known=None, message=message)
        if not known:
            found.error_type = found.error_type or ErrorType.FORBIDDEN
            found.broken.append(as_cause(f"order.user {name} is not a user of tenant {tenant}"))
        return UserSeenView(name=name, known=known)

    async def _target(
        self, tenant: str, name: str | None, found: _Found, trial: Trial, *, details: bool
    ) -> TargetTriedView | None:
        """Tell what trying the target finds; None: there is no such one."""
        if name is None:
            return None
        try:
            target = self.tenants.settings(tenant).target_named(name)
            if target is None:
                return None
            self.tenants.check_secrets(tenant)
            tried = await trial(tenant, target)
        except (TargetUnavailableError, SecretUnreadableError) as error:
            why = str(error) if details else "its settings can't be used now"
            found.problems.append(f"target {name} can't be tried: {why}")
            return TargetTriedView(name=name, ok=None, message=why)
        if isinstance(tried, str):
            return TargetTriedView(name=name, ok=None, message=tried)
        flaws = [f"{check.check}: {check.flaw}" for check in tried if not check.ok]
        if flaws:
            why = flaws[0] if details else "an administrator of the tenant is told why, by a check"
            found.problems.append(f"nothing can be put at target {name} now ({why})")
        return TargetTriedView(
            name=name,
            ok=not flaws,
            checks=[
                TargetStepView(
                    check=check.check, ok=check.ok, message=check.message if details else None
                )
                for check in tried
            ],
        )

    async def _place(
        self, delivery: Delivery, found: _Found, *, look: bool
    ) -> PlaceSeenView | None:
        """Tell where the archive would go, and whether another client's object is there."""
        try:
            target = self.tenants.settings(delivery.tenant).target_named(delivery.target)
            suffix = self.suffix_of(delivery.format)
        except DeliveryError as error:  # another version's target, or format
            found.problems.append(f"the delivery waits for another version: {error}")
            return None
        if target is None:
            return None
        of_one, of_several = (
            target.prefix + object_key(delivery.correlation_id, name, prefix=prefix)
            for prefix, name in (
                pattern_of(delivery, suffix=suffix),
                place_of(
                    delivery,
                    None,
                    suffix=suffix,
                    default=archive_of_many(delivery.correlation_id, suffix),
                ),
            )
        )
        is_known = of_one == of_several  # whatever the products are
        free, message = None, None if is_known else "its name is known once its products are"
        if look:
            try:
                async with asyncio.timeout(self.patience):
                    there = await self.find(target, of_several)
                if there is not None:
                    check_replaceable(there.marks, marks_of(delivery), target, of_several)
                    message = f"{of_several} is there, and would be replaced"
                free = True if is_known else None
            except ForeignObjectError as error:
                free, message = False, str(error)
                found.problems.append(str(error))
            except (DeliveryError, TimeoutError):
                message = "it could not be looked at just now"
        return PlaceSeenView(
            key=of_one,
            key_of_several=None if is_known else of_several,
            free=free,
            message=message,
        )

    async def _quota(
        self, request: DeliveryRequest, found: _Found, *, over_http: bool
    ) -> int | None:
        """Note what a quota makes of the request; its bytes are not known before it is laid out.

        Return after how many seconds it is worth another try; None: it is not refused for a quota,
        or for something else, too, which no time mends.
        """
        over = await self.quotas.over(request.tenant, request.user)
        if over is None:
            return None
        is_denied = self.quotas.of(request.tenant).over_requests == "deny"
        is_all = not found.broken
        if is_denied:
            found.error_type = found.error_type or ErrorType.INVALID_CONTENT
        if over_http:
            found.broken.append(str(refusal_of(request.correlation_id, over)))
            amqp = "denied" if is_denied else "taken in, and waits for a place"
            found.problems.append(f"that is over HTTP; over AMQP it is {amqp}")
            return math.ceil(over.retry_after) if is_all else None
        if is_denied:
            found.broken.append(f"over the quota: {over.words}; ask again later")
        else:
            found.problems.append(f"over the quota: {over.words}; it waits for a place")
        return None

    async def _active(
        self, request: DeliveryRequest, found: _Found, *, user: str | None
    ) -> ActiveView | None:
        """Tell which delivery has the correlation id now."""
        kept = await self.tracking.of(request.tenant, request.correlation_id)
        active = next((each.delivery for each in kept if not each.ended), None)
        if active is None:
            return None
        found.broken.append(
            f"a delivery {request.correlation_id} of tenant {request.tenant} is still active: over "
            "AMQP another request of this id is ignored; over HTTP the very same one is answered "
            "with that delivery, and another one refused (409)"
        )
        if user is not None and active.user != user:
            return None
        return ActiveView(id=str(active.id), state=active.state)


def _named(body: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the target and the user that a request names, whatever else is wrong with it.

    None for what can be no name of one.
    """
    target = body.get("targetDelivery")
    if target is None or (isinstance(target, str) and not target.strip()):
        target = DEFAULT_TARGET
    order = body.get("order")
    user = order.get("user") if isinstance(order, dict) else None
    return (
        target if isinstance(target, str) and len(target) <= MAX_TARGET else None,
        user if isinstance(user, str) and user.strip() and len(user) <= MAX_USER else None,
    )
