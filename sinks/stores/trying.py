"""Tries a target of a store whose answers can be told from those of whatever else may be there.

A tenant chooses the place itself, inside the operator's network: it is told what a server of the
store said, and of anything else the same words after the same time, or it could look with this
service's eyes which ports are open there. An operator is told everything, by `delivery doctor`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.delivery.targets import Target, TargetCheck
from app.errors import (
    DeliveryError,
    TargetForbiddenError,
    TargetRefusedError,
    TargetUnavailableError,
)
from app.telemetry.logs import get_logger

log = get_logger(__name__)

TargetT = TypeVar("TargetT", bound=Target)

_TOTAL_TIMEOUT = 5.0  # seconds of all steps together, for a tenant
_STEP_TIMEOUT = 10.0  # seconds of each, for an operator


@dataclass(frozen=True, kw_only=True)
class Trying(Generic[TargetT]):
    """How targets of a store are tried; no message holds a secret."""

    store: str  # what no server of it can be used as, in words
    container: str  # what the store calls one; also the field of the log
    advice: str  # what to see to where there is none
    look: Callable[[TargetT], Awaitable[None]]  # raises DeliveryError unless it may be listed
    write: Callable[[TargetT], Awaitable[list[TargetCheck]]]  # tries each right there
    said: Callable[[DeliveryError], bool]  # whether an error is what a server of the store said
    public: Callable[[TargetT, DeliveryError], bool]  # whether it tells nothing of inner hosts
    seconds: float = _TOTAL_TIMEOUT

    async def probe(self, target: TargetT) -> list[TargetCheck]:
        """Return what each step found that was taken, for a tenant.

        Steps: the server answers; it accepts the credentials and has the container; an object can
        be made, described and removed there.
        """
        began = time.monotonic()
        found: list[TargetCheck] = []
        error: DeliveryError | None = None
        try:
            async with asyncio.timeout(self.seconds):
                error = await self._try_steps(target, found)
        except TimeoutError:
            error = TargetUnavailableError(f"no answer from {target} within {self.seconds:g} s")
            found.append(TargetCheck(check="reachable", flaw=str(error)))
        if error is None or found[0].ok or self._may_be_told(target, error):
            return found
        self._tell_operator(target, error)
        await asyncio.sleep(began + self.seconds - time.monotonic())
        return [TargetCheck(check="reachable", flaw=self._nothing_there(target))]

    async def examine(self, target: TargetT) -> list[TargetCheck]:
        """Return what each step found, for an operator; then each right."""
        found: list[TargetCheck] = []
        for check, take in self._steps:
            if flaw := await flaw_of(target, take(target)):
                return [*found, TargetCheck(check=check, flaw=flaw)]
            found.append(TargetCheck(check=check))
        return found + await self.write(target)

    def told(self, target: TargetT, error: DeliveryError) -> DeliveryError:
        """Return what a tenant is told in place of an error."""
        if self._may_be_told(target, error):
            return error
        self._tell_operator(target, error)
        return TargetUnavailableError(self._nothing_there(target))

    @property
    def _steps(self) -> tuple[tuple[str, Callable[[TargetT], Awaitable[None]]], ...]:
        return ("reachable", self._reach), (f"credentials and {self.container}", self.look)

    async def _try_steps(self, target: TargetT, found: list[TargetCheck]) -> DeliveryError | None:
        """Take the steps, add what each found; return what ended them."""
        for check, take in (*self._steps, ("writable", self._write)):
            try:
                await take(target)
            except DeliveryError as error:
                found.append(TargetCheck(check=check, flaw=str(error)))
                return error
            found.append(TargetCheck(check=check))
        return None

    async def _reach(self, target: TargetT) -> None:
        """Raise DeliveryError unless a server of the store answers, whatever it says."""
        try:
            await self.look(target)
        except TargetRefusedError as error:
            if not self.said(error):
                raise

    async def _write(self, target: TargetT) -> None:
        for tried in await self.write(target):
            if not tried.ok:
                raise TargetRefusedError(tried.flaw)

    def _may_be_told(self, target: TargetT, error: DeliveryError) -> bool:
        """Whether an error tells a tenant nothing of the operator's network."""
        return (
            self.public(target, error)
            or isinstance(error, TargetForbiddenError)
            or self.said(error)
        )

    def _tell_operator(self, target: TargetT, error: DeliveryError) -> None:
        log.warning(
            "target_not_usable",
            endpoint=target.endpoint,
            **{self.container: target.container},
            cause=str(error),
            consequence=f"the tenant is told that there is no {self.store}",
        )

    def _nothing_there(self, target: TargetT) -> str:
        return (
            f"no {self.store} can be used for {target}: see that {self.advice}, and that it can be "
            "reached from here; the log of the service has the cause"
        )


async def flaw_of(target: Target, asked: Awaitable[object]) -> str:
    """Return why something was not done; empty if it was."""
    try:
        async with asyncio.timeout(_STEP_TIMEOUT):
            await asked
    except DeliveryError as error:
        return str(error)
    except TimeoutError:
        return f"no answer from {target} within {_STEP_TIMEOUT:g} seconds"
    return ""
