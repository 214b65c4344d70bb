"""How often a tenant may have targets tried, and how many of them at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping

from app.delivery.targets import Probe, Target, TargetCheck
from web.guard.limits import RateLimit

_MAX_PER_MINUTE = 5  # checks of a tenant
_MAX_TARGETS = 10  # of a check
_CONCURRENCY = 5


class Checks:
    """Tries targets for tenants: one check of each at a time, a few a minute.

    A check makes this service connect to where a tenant says.
    """

    def __init__(self, probe: Probe, *, a_minute: int = _MAX_PER_MINUTE) -> None:
        self._probe = probe
        self._rate = RateLimit(a_minute / 60, burst=a_minute)
        self._under_way: set[str] = set()

    @contextlib.contextmanager
    def turn(self, tenant: str) -> Iterator[float]:
        """Give 0 where the tenant may have a check within the block, else the seconds to wait."""
        if tenant in self._under_way:
            yield 1.0
            return
        wait = self._rate.wait(tenant)
        if wait:
            yield wait
            return
        self._under_way.add(tenant)
        try:
            yield 0.0
        finally:
            self._under_way.discard(tenant)

    async def of(
        self, targets: Mapping[str, Target], known: Mapping[str, Target]
    ) -> dict[str, list[TargetCheck]]:
        """Try targets side by side; those that differ from the known ones first, and not too many.

        Returns what was found by their names.
        """
        turns = asyncio.Semaphore(_CONCURRENCY)

        async def probe(target: Target) -> list[TargetCheck]:
            async with turns:
                return await self._probe(target)

        names = sorted(targets, key=lambda name: targets[name] == known.get(name))
        chosen = names[:_MAX_TARGETS]
        found = await asyncio.gather(*(probe(targets[name]) for name in chosen))
        none = TargetCheck(
            check="reachable",
            flaw=f"not tried: a check tries {_MAX_TARGETS} targets, those that changed first",
        )
        return {name: [none] for name in names} | dict(zip(chosen, found, strict=True))
