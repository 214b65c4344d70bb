"""What one process does for all is done by the one that leads."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from streams.work.timers import led


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
