"""What one process does for all is done by the one that leads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from streams.work.timers import Timer, led


@pytest.mark.parametrize("leads", [True, False])
async def test_a_job_is_done_by_the_process_that_leads_it_and_while_it_does(leads: bool) -> None:
    happened: list[str] = []

    @contextlib.asynccontextmanager
    async def leading(job: str) -> AsyncIterator[bool]:
        happened.append(f"{job} is asked for")
        yield leads
        happened.append("let go")

    async def job() -> None:
        happened.append("done")

    await led("sweep", job, leading=leading)
    assert happened == ["sweep is asked for", *(["done"] if leads else []), "let go"]


async def test_a_timer_goes_on_where_what_its_job_waited_for_was_cancelled() -> None:
    again = asyncio.Event()
    turns = 0

    async def job() -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            raise asyncio.CancelledError
        again.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(30), Timer(name="x", job=job, interval=0.01):
        await again.wait()
    assert turns == 2  # and the end, while the job waits, is the timer's own
