"""Waiting in place for what is away for a while: nothing that was done is thrown away for it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from app.errors import StoreUnavailableError, TargetUnavailableError
from app.telemetry.logs import get_logger
from app.telemetry.metrics import TARGET_RETRIES
from app.waiting.backoff import Backoff

log = get_logger(__name__)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_ANSWER_TIMEOUT = 10.0  # seconds that PostgreSQL has for a short statement of a transfer
_MAX_FIRST, _MAX_LONGEST = 0.5, 15.0  # seconds between two tries at a target
_STORE_BACKOFF = Backoff(first=0.1, longest=2.0)


class _Repeatable(Protocol[T_co]):
    def __call__(self, *, again: bool) -> Awaitable[T_co]: ...


class Retried(Generic[T]):
    """What has to know whether it is done again, for `until_answered` and `Waits.through`.

    `act` is told `again` by each call but the first: an earlier one may have been done, and only
    its answer was lost.
    """

    def __init__(self, act: _Repeatable[T]) -> None:
        self._act = act
        self._again = False

    async def __call__(self) -> T:
        """Do it, once. Raises what it raises."""
        again, self._again = self._again, True
        return await self._act(again=again)


async def until_answered(
    act: Callable[[], Awaitable[T]], *, good: Callable[[], bool] = lambda: True
) -> T:
    """Ask PostgreSQL, again and again while it is away and `good()`.

    Who has no other bound than its lease is cancelled when that is lost. `act` may have been done
    when its answer was lost: see `Retried`. Raises StoreUnavailableError.
    """
    for pause in _STORE_BACKOFF.pauses():
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                return await act()
        except TimeoutError:
            cause = StoreUnavailableError(f"PostgreSQL did not answer within {_ANSWER_TIMEOUT:g} s")
        except StoreUnavailableError as error:
            cause = error
        if not good():
            raise cause
        log.warning("store_waits", retry_in_seconds=pause, cause=str(cause))
        await asyncio.sleep(pause)
    raise AssertionError("pauses have no end")


async def out_of_slot(
    act: Callable[[], Awaitable[T]],
    aside: Callable[[], AbstractAsyncContextManager[None]],
    *,
    after: float,
    moved: Callable[[], float] = lambda: -math.inf,
) -> T:
    """Do something, and give up the slot when it takes longer than `after` seconds.

    They count from the last time, by the monotonic clock, at which anything `moved`.
    """
    acting = asyncio.ensure_future(act())
    began = time.monotonic()
    try:
        while (left := max(began, moved()) + after - time.monotonic()) > 0 and not acting.done():
            await asyncio.wait({acting}, timeout=left)
        if acting.done():
            return acting.result()
        async with aside():
            return await acting
    finally:
        if not acting.done():
            acting.cancel()
            await asyncio.wait({acting})


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long an object store may be away, in seconds."""

    limit: float  # then the transfer steps back
    backoff: Backoff  # between two tries
    in_slot: float = 5.0  # who waits longer gives up its slot
    silence: float = 30.0  # who has parts on their way of which nothing moves gives it up, too
    wanted: float = 60.0  # who waits longer steps back where others wait for its memory

    @classmethod
    def of(cls, limit: float, backoff: Backoff) -> Patience:
        """Return that of a running transfer, where work that steps back has this backoff.

        One request asks for all that wait, so a transfer that holds what it has asks more often.
        """
        first, longest = min(backoff.first, _MAX_FIRST), min(backoff.longest, _MAX_LONGEST)
        return cls(limit=limit, backoff=Backoff(first=first, longest=longest))


class Waits:
    """Waits of one transfer for its object store: one call asks again, the others wait for it."""

    def __init__(
        self,
        patience: Patience,
        aside: Callable[[], AbstractAsyncContextManager[None]],
        *,
        wanted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._patience = patience
        self._aside = aside
        self._wanted = wanted  # whether others wait for what this transfer holds
        self._turn = asyncio.Lock()

    async def through(self, act: Callable[[], Awaitable[T]]) -> T:
        """Do something, again and again while the store is away.

        Raises TargetUnavailableError when patience is over, and what `act` and `aside` raise.
        """
        began = time.monotonic()
        try:
            return await act()
        except TargetUnavailableError as error:
            cause = error
        behind = self._turn.locked()
        async with self._turn:
            if behind:  # the one before has found it back
                began = time.monotonic()
                try:
                    TARGET_RETRIES.inc()
                    return await act()
                except TargetUnavailableError as error:
                    cause = error
            return await self._wait(act, began, cause)

    async def _wait(
        self, act: Callable[[], Awaitable[T]], began: float, cause: TargetUnavailableError
    ) -> T:
        failed = time.monotonic()
        async with AsyncExitStack() as slot:
            aside = False
            for pause in self._patience.backoff.pauses():
                waited = time.monotonic() - began
                if waited + pause > self._patience.limit:
                    raise TargetUnavailableError(
                        f"{cause}; it was waited for, {waited:.0f} s long"
                    ) from cause
                if time.monotonic() - failed > self._patience.wanted and self._wanted():
                    raise TargetUnavailableError(
                        f"{cause}; others wait for the memory of this transfer, which steps back"
                    ) from cause
                if not aside and waited + pause > self._patience.in_slot:
                    try:
                        await slot.enter_async_context(self._aside())
                    except TargetUnavailableError as full:
                        raise TargetUnavailableError(f"{cause}; {full}") from cause
                    aside = True
                log.warning(
                    "target_waits", retry_in_seconds=pause, in_slot=not aside, cause=str(cause)
                )
                await asyncio.sleep(pause)
                TARGET_RETRIES.inc()
                try:
                    done = await act()
                except TargetUnavailableError as error:
                    cause = error
                else:
                    break
        return done
