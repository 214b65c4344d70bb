"""Sends what is owed to webhooks: some of them at once, with a bound for each tenant and host."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

from mode import Service

from app.delivery.webhooks import WEBHOOKS, Claim, Webhook
from app.errors import StoreUnavailableError
from app.telemetry.logs import get_logger
from app.usecases.webhooks import Courier
from app.waiting.wakeup import Wakeup

log = get_logger(__name__)

_STOP_TIMEOUT = 5.0  # seconds that a stop waits for answers; what is cut off is sent again


class Couriers(Service):
    """Claims webhooks one after the other, and serves up to `places` of them side by side.

    One that is silent keeps one place for as long as it may take to answer, then it counts as
    failing; of those, no more than half of the places are full at any time. Nor does a tenant have
    more than half, or a host more than a quarter: one that is slow, and takes what it is sent, does
    not fail.
    """

    def __init__(
        self,
        courier: Courier,
        *,
        owed: Wakeup,
        interval: float,
        places: int,
        stop_timeout: float = _STOP_TIMEOUT,
    ) -> None:
        super().__init__()
        self._courier = courier
        self._owed = owed.waiter(WEBHOOKS)
        self._interval = interval
        self._places = places
        self._stop_timeout = stop_timeout
        self._rounds: dict[asyncio.Task[None], Claim] = {}

    async def on_stop(self) -> None:
        """Begin nothing more; let what was sent be answered and noted, else it is sent again."""
        rounds = list(self._rounds)
        if rounds:
            await asyncio.wait(rounds, timeout=self._stop_timeout)
        for task in rounds:
            task.cancel()
        await asyncio.gather(*rounds, return_exceptions=True)

    @Service.task
    async def _run(self) -> None:
        while not self.should_stop:
            if len(self._rounds) >= self._places:
                await asyncio.wait(self._rounds, return_when=asyncio.FIRST_COMPLETED)
                continue
            claim = await self._claim()
            if claim is None:
                await self._owed.wait(self._interval)
                continue
            task = asyncio.create_task(self._serve(claim))
            self._rounds[task] = claim
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        """Note that a round is over; most have said so themselves, before who waits is woken."""
        self._rounds.pop(task, None)

    async def _claim(self) -> Claim | None:
        claims = self._rounds.values()
        tenants = Counter(claim.webhook.tenant for claim in claims)
        hosts = Counter(claim.webhook.host for claim in claims)
        half, quarter = max(1, self._places // 2), max(1, self._places // 4)

        def has_room(webhook: Webhook) -> bool:
            return tenants[webhook.tenant] < half and hosts[webhook.host] < quarter

        failing = sum(claim.failing for claim in claims)
        try:
            return await self._courier.claim(steady=failing >= half, has_room=has_room)
        except StoreUnavailableError as error:
            log.warning("webhooks_wait", cause=str(error))
            return None

    async def _serve(self, claim: Claim) -> None:
        webhook = claim.webhook
        try:
            await self._courier.serve(claim, stopping=lambda: self.should_stop)
        except* StoreUnavailableError as errors:
            log.warning("webhooks_wait", cause=str(errors.exceptions[0]))
        except* Exception:
            # Its claim runs out: it holds up no other webhook, and is tried again.
            log.exception("webhook_not_served", tenant=webhook.tenant, webhook=webhook.name)
        with contextlib.suppress(KeyError):
            self._rounds.pop(asyncio.current_task())  # type: ignore[arg-type]
        self._owed.event.set()  # there is room; and what is sent may free what follows it
