"""Tries a target for a tenant before it relies on it: step by step, until one fails.

The tenant chooses the place itself, inside the operator's network: it is told what Google
Cloud Storage said, and of anything else the same words after the same time, or it could look
with this service's eyes which ports are open there. An operator is told everything, by `delivery
doctor` (`sinks/stores/gcs/rights.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from app.delivery.targets import TargetCheck
from app.errors import (
    DeliveryError,
    TargetForbiddenError,
    TargetRefusedError,
    TargetUnavailableError,
)
from app.telemetry.logs import get_logger
from sinks.stores.gcs.calls import GcsCalls
from sinks.stores.gcs.requests import by_google, said_anything
from sinks.stores.gcs.rights import try_to_write
from sinks.stores.gcs.target import PUBLIC, GcsTarget

log = get_logger(__name__)

_TOTAL_TIMEOUT = 5.0  # seconds of all steps together


class Prober:
    """Tries targets."""

    def __init__(self, calls: GcsCalls, *, seconds: float = _TOTAL_TIMEOUT) -> None:
        self._calls = calls
        self._seconds = seconds

    async def probe(self, target: GcsTarget) -> list[TargetCheck]:
        """Return what each step found that was taken.

        Steps: the server answers; it accepts the credentials and has the bucket; an object can be
        made, described and removed there. No message holds a secret.
        """
        began = time.monotonic()
        found: list[TargetCheck] = []
        error: DeliveryError | None = None
        try:
            async with asyncio.timeout(self._seconds):
                error = await self._try_steps(target, found)
        except TimeoutError:
            error = TargetUnavailableError(f"no answer from {target} within {self._seconds:g} s")
            found.append(TargetCheck(check="reachable", flaw=str(error)))
        if error is None or found[0].ok or _may_be_told(target, error):
            return found
        _tell_operator(target, error)
        await asyncio.sleep(began + self._seconds - time.monotonic())
        return [TargetCheck(check="reachable", flaw=_nothing_there(target))]

    async def _try_steps(self, target: GcsTarget, found: list[TargetCheck]) -> DeliveryError | None:
        """Take the steps, add what each found; return what ended them."""
        steps: tuple[tuple[str, Callable[[GcsTarget], Awaitable[None]]], ...] = (
            ("reachable", self._reach),
            ("credentials and bucket", self._calls.look_at_bucket),
            ("writable", self._write),
        )
        for check, take in steps:
            try:
                await take(target)
            except DeliveryError as error:
                found.append(TargetCheck(check=check, flaw=str(error)))
                return error
            found.append(TargetCheck(check=check))
        return None

    async def _reach(self, target: GcsTarget) -> None:
        """Raise DeliveryError unless Google answers, whatever it says."""
        try:
            await self._calls.look_at_bucket(target)
        except TargetRefusedError as error:
            if not by_google(error):
                raise

    async def _write(self, target: GcsTarget) -> None:
        for tried in await try_to_write(self._calls, target):
            if not tried.ok:
                raise TargetRefusedError(tried.flaw)

    def told(self, target: GcsTarget, error: DeliveryError) -> DeliveryError:
        """Return what a tenant is told in place of an error."""
        if _may_be_told(target, error):
            return error
        _tell_operator(target, error)
        return TargetUnavailableError(_nothing_there(target))


def _may_be_told(target: GcsTarget, error: DeliveryError) -> bool:
    """Whether an error tells a tenant nothing of the operator's network."""
    public = target.endpoint == PUBLIC and not said_anything(error)
    return public or isinstance(error, TargetForbiddenError) or by_google(error)


def _tell_operator(target: GcsTarget, error: DeliveryError) -> None:
    log.warning(
        "target_not_usable",
        endpoint=target.endpoint,
        bucket=target.container,
        cause=str(error),
        consequence="the tenant is told that there is no Google Cloud Storage",
    )


def _nothing_there(target: GcsTarget) -> str:
    return (
        f"no Google Cloud Storage can be used for {target}: see that the endpoint is right, and "
        "that it can be reached from here; the log of the service has the cause"
    )
