"""`/health/…`: whether this process lives, and whether it can work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Literal

from aiohttp import web

from app import __version__
from app.errors import DeliveryError
from app.telemetry.logs import get_logger
from app.views.view import Seconds, View
from web import schemas
from web.answers import shown
from web.endpoint import ACTOR, OPERATORS, READERS, Endpoint

log = get_logger(__name__)

# A check returns when its dependency works, and raises DeliveryError with the reason otherwise.
Check = Callable[[], Awaitable[None]]

_TIMEOUT = 5.0  # seconds that a check may take
_NOT_READ = "it could not be read again, and is as it was: its log says why"
_CACHE_LIFETIME = 1.0  # seconds that its outcome is told again: any client may ask


Status = Literal["UP", "DOWN"]


class Live(View):
    """The process lives."""

    status: Status
    version: str
    uptime: float


class LastErrorView(View):
    """What was wrong last."""

    at: Seconds
    error: str


class HealthComponentView(View):
    """Whether a dependency works."""

    status: Status
    error: str | None = None
    last_error: LastErrorView | None = None


class HealthView(View):
    """Whether the process can work, and each of its dependencies."""

    status: Status
    components: dict[str, HealthComponentView]


class Health:
    """Looks at every dependency, and remembers the last error of each."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        *,
        noted: Callable[[], Mapping[str, tuple[datetime, str]]] = dict,
        fresh: float = _CACHE_LIFETIME,
    ) -> None:
        """Take what is asked, and `noted`: what went wrong and keeps nothing from working."""
        self._checks = checks
        self._noted = noted
        self._fresh = fresh
        self._last: dict[str, LastErrorView] = {}
        self._broken: dict[str, str] = {}
        self._looked_at = 0.0
        self._looking = asyncio.Lock()
        self._started = time.monotonic()

    async def broken(self) -> dict[str, str]:
        """Return what does not work, and why."""
        async with self._looking:
            if time.monotonic() - self._looked_at > self._fresh:
                outcomes = await asyncio.gather(*map(self._outcome, self._checks.values()))
                before, self._broken = (
                    self._broken,
                    {
                        name: error
                        for name, error in zip(self._checks, outcomes, strict=True)
                        if error is not None
                    },
                )
                _log(before, self._broken)
                now = datetime.now(UTC)
                self._last |= {
                    name: LastErrorView(at=now, error=error) for name, error in self._broken.items()
                }
                self._looked_at = time.monotonic()
        return self._broken

    async def _outcome(self, check: Check) -> str | None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                await check()
        except DeliveryError as error:
            return str(error)
        except TimeoutError:
            return f"no answer within {_TIMEOUT:g} seconds"
        return None

    async def live(self, _request: web.Request) -> web.Response:
        """Answer while the event loop turns."""
        uptime = round(time.monotonic() - self._started, 1)
        return shown(Live(status="UP", version=__version__, uptime=uptime))

    async def ready(self, request: web.Request) -> web.Response:
        """Name every dependency; 503 when one is away.

        What is or was wrong with it may name addresses: that is for operators, whom the gate knows.
        """
        broken, told = await self.broken(), ACTOR in request
        components = {
            name: HealthComponentView(
                status="DOWN" if name in broken else "UP",
                error=broken.get(name) if told else None,
                last_error=self._last.get(name) if told else None,
            )
            for name in self._checks
        }
        if told:
            # A file names other tenants, and where it is.
            whole = request[ACTOR].role == "INSTANCE_ADMIN"
            components |= {
                name: HealthComponentView(
                    status="UP",
                    last_error=LastErrorView(at=at, error=error if whole else _NOT_READ),
                )
                for name, (at, error) in self._noted().items()
            }
        health = HealthView(status="DOWN" if broken else "UP", components=components)
        return shown(health, status=503 if broken else 200)

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        return [
            Endpoint(
                method="GET",
                path="/health/live",
                operation="getLiveness",
                handler=self.live,
                summary="Whether the process lives",
                tag="health",
                responses={200: schemas.answer("It does.", Live)},
            ),
            Endpoint(
                method="GET",
                path="/health/ready",
                operation="getReadiness",
                handler=self.ready,
                summary="Whether the process can work; the last error of each part for operators",
                tag="health",
                details=OPERATORS | READERS,
                whole_instance=True,
                responses={
                    200: schemas.answer("It can.", HealthView),
                    503: schemas.answer("Something is away.", HealthView),
                },
            ),
        ]


def _log(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Log what changed since the last look: strangers are not told the cause."""
    for name in now.keys() - before.keys():
        log.warning("part_down", part=name, cause=now[name])
    for name in before.keys() - now.keys():
        log.info("part_up", part=name)
