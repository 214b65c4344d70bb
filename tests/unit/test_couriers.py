"""Couriers: how many webhooks are served at once, whose, and that a round leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast
from uuid import uuid4

import pytest

from app.delivery.webhooks import WEBHOOKS, Claim, Round, Webhook
from app.errors import StoreUnavailableError
from app.usecases.webhooks import Courier
from app.waiting.wakeup import Wakeup
from streams.work.couriers import Couriers


def _hook(tenant: str, host: str, *, path: str = "") -> Webhook:
    url = f"https://{host}/{path}"
    return Webhook(tenant=tenant, name=f"{host}{path}", url=url, secrets=("s",))


class Rounds:
    """A courier to whose webhooks something is due, and who is busy with each until it is told."""

    def __init__(self, *webhooks: Webhook) -> None:
        self.waiting = list(webhooks)
        self.under_way: dict[str, asyncio.Future[None]] = {}
        self.failing: set[str] = set()
        self.looked = asyncio.Event()  # and found nothing that there was room for
        self.ended = 0

    async def claim(self, *, steady: bool, has_room: Callable[[Webhook], bool]) -> Claim | None:
        for webhook in self.waiting:
            failing = webhook.name in self.failing
            if has_room(webhook) and not (steady and failing):
                self.waiting.remove(webhook)
                return Claim(id=uuid4(), webhook=webhook, failing=failing, due=[])
        self.looked.set()
        return None

    async def serve(self, claim: Claim, *, stopping: Callable[[], bool]) -> Round:
        del stopping
        over = self.under_way[claim.webhook.name] = asyncio.Future()
        try:
            async with asyncio.TaskGroup() as group:  # as a round has one
                group.create_task(_over(over))
        finally:
            del self.under_way[claim.webhook.name]
            self.ended += 1
        return Round(failure="no")

    async def settled(self) -> list[str]:
        """Return what is under way once no further round begins."""
        self.looked.clear()
        await self.looked.wait()
        return sorted(self.under_way)

    def end(self, name: str, error: Exception | None = None) -> None:
        over = self.under_way[name]
        if error is None:
            over.set_result(None)
        else:
            over.set_exception(error)


async def _over(over: asyncio.Future[None]) -> None:
    await over


@contextlib.asynccontextmanager
async def running(rounds: Rounds, *, places: int = 8) -> AsyncIterator[Wakeup]:
    owed = Wakeup()
    couriers = Couriers(
        cast("Courier", rounds), owed=owed, interval=3600, places=places, stop_timeout=0
    )
    await couriers.start()
    try:
        yield owed
    finally:
        await couriers.stop()


async def _settled(rounds: Rounds, owed: Wakeup) -> list[str]:
    settled = asyncio.create_task(rounds.settled())
    await asyncio.sleep(0)
    owed.notify({WEBHOOKS})
    return await settled


async def test_a_tenant_has_half_of_the_places_and_the_others_the_rest() -> None:
    ours = [_hook("ours", f"{number}.example") for number in range(9)]
    rounds = Rounds(*ours, _hook("theirs", "a.example"), _hook("others", "b.example"))
    async with running(rounds) as owed:
        under_way = await _settled(rounds, owed)
        assert under_way == [
            *(f"{number}.example" for number in range(4)),
            "a.example",
            "b.example",
        ]


async def test_a_host_has_a_quarter_of_the_places_whatever_tenants_have_webhooks_there() -> None:
    slow = [_hook(f"t{number}", "slow.example", path=str(number)) for number in range(5)]
    rounds = Rounds(*slow, _hook("t9", "well.example"))
    async with running(rounds) as owed:
        under_way = await _settled(rounds, owed)
        assert under_way == ["slow.example0", "slow.example1", "well.example"]


async def test_of_two_places_each_tenant_has_one() -> None:
    rounds = Rounds(_hook("ours", "a.example"), _hook("ours", "b.example"), _hook("t", "c.example"))
    async with running(rounds, places=2) as owed:
        while len(rounds.under_way) < 2:
            owed.notify({WEBHOOKS})
            await asyncio.sleep(0)
        assert sorted(rounds.under_way) == ["a.example", "c.example"]


async def test_webhooks_that_fail_have_half_of_the_places() -> None:
    hooks = [_hook(f"t{number}", f"{number}.example") for number in range(9)]
    rounds = Rounds(*hooks)
    rounds.failing = {hook.name for hook in hooks[:6]}
    async with running(rounds) as owed:
        under_way = await _settled(rounds, owed)
        assert under_way == [f"{number}.example" for number in (0, 1, 2, 3, 6, 7, 8)]


async def test_what_there_was_no_room_for_is_served_as_soon_as_a_round_is_over() -> None:
    """Not at the next poll: that is in an hour."""
    rounds = Rounds(*(_hook("ours", f"{number}.example") for number in range(5)))
    async with running(rounds) as owed:
        await _settled(rounds, owed)
        rounds.end("0.example")
        while "4.example" not in rounds.under_way:
            await asyncio.sleep(0)


@pytest.mark.parametrize("error", [None, StoreUnavailableError("away"), ValueError("a fault")])
async def test_a_round_that_is_over_leaves_no_traceback_and_its_place_free(
    unheard: list[dict[str, Any]], error: Exception | None
) -> None:
    rounds = Rounds(*(_hook("t", "a.example", path=str(number)) for number in range(20)))
    async with running(rounds, places=2):
        for ended in range(20):
            while not rounds.under_way:
                await asyncio.sleep(0)
            (name,) = rounds.under_way
            rounds.end(name, error)
            while rounds.ended == ended:
                await asyncio.sleep(0)
    assert rounds.ended == 20
    assert unheard == []
