"""When it is looked whether what waits for a quota may go on."""

from __future__ import annotations

import asyncio

from app.delivery.outgoing import Lane
from app.waiting.wakeup import Wakeup
from streams.work.admissions import Admissions

LONG = 3600.0  # seconds: no test waits for it


class Looks:
    """Counts looks; fails as often as told."""

    def __init__(self, *, failures: int = 0) -> None:
        self.count = 0
        self.failures = failures
        self.happened = asyncio.Event()

    async def __call__(self) -> None:
        self.count += 1
        self.happened.set()
        if self.count <= self.failures:
            raise ConnectionError("told to fail")

    async def next(self) -> None:
        async with asyncio.timeout(30):
            await self.happened.wait()
        self.happened.clear()


def admissions(looks: Looks, owed: Wakeup, *, quota: bool, interval: float = LONG) -> Admissions:
    return Admissions(
        look=looks,
        any_set=lambda: quota,
        ended=owed.waiter(Lane.RESPONSES),
        interval=interval,
    )


async def test_it_looks_when_a_delivery_may_have_ended() -> None:
    looks, owed = Looks(failures=1), Wakeup()
    async with admissions(looks, owed, quota=True):
        await looks.next()
        owed.notify({Lane.RESPONSES})
        await looks.next()
    assert looks.count == 2


async def test_where_there_is_no_quota_nothing_that_ends_makes_it_look() -> None:
    looks, owed = Looks(), Wakeup()
    service = admissions(looks, owed, quota=False)
    async with service:
        await looks.next()  # what waits may have been left by a quota that there was
        for _ in range(3):
            owed.notify({Lane.RESPONSES})
            for _ in range(10):
                await asyncio.sleep(0)
    assert looks.count == 1


async def test_without_a_quota_it_looks_after_its_interval() -> None:
    looks = Looks()
    async with admissions(looks, Wakeup(), quota=False, interval=0.001):
        for _ in range(3):
            await looks.next()
