"""`/health/targets`: whether the places that a tenant's archives are put on answer.

No part of readiness: a tenant's server is a foreign machine, and the service works without it.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web
from cachetools import TTLCache

from app.delivery.targets import Target, TargetTrouble
from app.errors import DeliveryError, SecretUnreadableError, TargetUnavailableError
from app.tenants.registry import ConfiguredTenants
from app.views.view import Seconds, View
from web import schemas
from web.answers import shown
from web.api.health import Status
from web.endpoint import ACTOR, ADMINS, READERS, Endpoint

# Returns when the target answers and takes the credentials; raises DeliveryError with the reason.
Look = Callable[[Target], Awaitable[None]]
Trouble = Callable[[Target], TargetTrouble | None]
# Returns what a tenant is told in place of an error, so that ports can't be told apart.
Told = Callable[[Target, DeliveryError], DeliveryError]

_PROBE_TIMEOUT = 3.0  # seconds that a target may take
_CACHE_LIFETIME = 10.0  # seconds that its answer is told again, to any caller
_PROBE_CONCURRENCY = 8  # targets of a tenant
_CACHE_SIZE = 1000  # remembered


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    """What a target said, and when."""

    at: datetime
    error: str | None


class HeldBackView(View):
    """What this process sends nothing to for a while."""

    since: Seconds
    asked_again: Seconds
    cause: str


class TargetHealthView(View):
    """A target, with what it said just now."""

    name: str
    endpoint: str
    bucket: str
    status: Status
    checked_at: Seconds
    error: str | None = None
    held_back: HeldBackView | None = None


class Targets(View):
    """The targets of a tenant."""

    content: list[TargetHealthView]


class TargetsApi:
    """The handler. `trouble` tells what this process holds back from a target."""

    def __init__(
        self,
        tenants: ConfiguredTenants,
        *,
        look: Look,
        trouble: Trouble,
        told: Told = lambda _target, error: error,
        patience: float = _PROBE_TIMEOUT,
        fresh: float = _CACHE_LIFETIME,
        at_once: int = _PROBE_CONCURRENCY,
    ) -> None:
        self._tenants = tenants
        self._look = look
        self._trouble = trouble
        self._told = told
        self._patience = patience
        self._answers: TTLCache[Target, asyncio.Task[_Answer]] = TTLCache(_CACHE_SIZE, ttl=fresh)
        # Each tenant has its own: silent ones of another are no reason to wait.
        self._turns = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(at_once))

    async def targets(self, request: web.Request) -> web.Response:
        """Return every target of the tenant, with what it said just now."""
        tenant = request[ACTOR].tenant
        settings = self._tenants.settings(tenant)
        named = {"default": settings.target, **settings.targets}
        try:
            self._tenants.check_secrets(tenant)
        except SecretUnreadableError as error:
            answers = dict.fromkeys(named, _Answer(at=datetime.now(UTC), error=str(error)))
        else:
            turns = self._turns[tenant]
            outcomes = await asyncio.gather(
                *(self._look_once(target, turns) for target in named.values())
            )
            answers = dict(zip(named, outcomes, strict=True))
        content = [self._shown(name, target, answers[name]) for name, target in named.items()]
        return shown(Targets(content=content))

    async def _look_once(self, target: Target, turns: asyncio.Semaphore) -> _Answer:
        """Look at a target, once for all requests that want to know now."""
        asked = self._answers.get(target)
        if asked is None:
            asked = self._answers[target] = asyncio.create_task(self._look_at(target, turns))
        return await asyncio.shield(asked)

    async def _look_at(self, target: Target, turns: asyncio.Semaphore) -> _Answer:
        async with turns:
            # By its own clock: what waited for its turn is looked at no shorter for that.
            at, began = datetime.now(UTC), time.monotonic()
            try:
                async with asyncio.timeout(self._patience):
                    await self._look(target)
            except DeliveryError as refused:
                error = refused
            except TimeoutError:
                error = TargetUnavailableError(
                    f"no answer from {target} within {self._patience:g} seconds"
                )
            else:
                return _Answer(at=at, error=None)
            told = self._told(target, error)
            if told is not error:  # what is not told must not show by the time that it takes
                await asyncio.sleep(began + self._patience - time.monotonic())
        return _Answer(at=at, error=str(told))

    def _shown(self, name: str, target: Target, answer: _Answer) -> TargetHealthView:
        trouble, held_back = self._trouble(target), None
        # Left out where the cause is not told: that it is held back, and since when, tells a port
        # that refuses connections from one that takes them and is silent.
        if trouble is not None and self._tells(target, trouble):
            held_back = HeldBackView(
                since=trouble.since, asked_again=trouble.asked_again, cause=trouble.cause
            )
        return TargetHealthView(
            name=name,
            endpoint=target.endpoint,
            bucket=target.container,
            status="DOWN" if answer.error else "UP",
            checked_at=answer.at,
            error=answer.error or None,
            held_back=held_back,
        )

    def _tells(self, target: Target, trouble: TargetTrouble) -> bool:
        error = TargetUnavailableError(trouble.cause)
        return self._told(target, error) is error

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        return [
            Endpoint(
                method="GET",
                path="/health/targets",
                operation="listTargets",
                handler=self.targets,
                summary="Whether the tenant's targets answer, and what is held back from them",
                tag="health",
                roles=ADMINS | READERS,
                in_maintenance=True,
                responses={
                    200: schemas.answer("Each target, by its name.", Targets),
                    **schemas.errors(401, 403, 429),
                },
            )
        ]
