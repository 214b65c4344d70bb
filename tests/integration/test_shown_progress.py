"""What `delivery submit --wait` shows: the end of a transfer, too, should it come late."""

from __future__ import annotations

import asyncio
import contextlib
import io

from rich.console import Console

from app.cli.submit import show_progress
from app.delivery.progress import Phase, Progress
from app.settings import Settings
from streams.kafka.log import open_event_log
from streams.kafka.topics import ensure_topics
from tests.builders import make_progress, make_transfer

TRANSFER = make_transfer()
LONG = 60.0  # seconds


def report(phase: Phase, files: int) -> Progress:
    return make_progress(TRANSFER, phase=phase, files_done=files, files_total=1)


async def test_the_end_of_a_transfer_is_shown_though_its_report_comes_behind_the_answer(
    settings: Settings,
) -> None:
    await ensure_topics(settings)
    shown = io.StringIO()
    async with open_event_log(settings) as events, contextlib.AsyncExitStack() as showing:
        await showing.enter_async_context(
            show_progress(
                settings,
                TRANSFER.tenant,
                TRANSFER.correlation_id,
                console=Console(file=shown),
                last_report=LONG,
            )
        )
        await events.report(report(Phase.TRANSFERRING, 0))
        async with asyncio.timeout(30):
            while "0/1 files" not in shown.getvalue():
                await asyncio.sleep(0.02)
        answered = asyncio.create_task(showing.aclose())
        await asyncio.wait([answered], timeout=0.5)  # it does not end by itself
        assert not answered.done()
        await events.report(report(Phase.DONE, 1))
        async with asyncio.timeout(30):
            await answered
    assert "1/1 files" in shown.getvalue()


async def test_nothing_is_waited_for_where_nothing_was_told(settings: Settings) -> None:
    await ensure_topics(settings)
    async with (
        asyncio.timeout(30),
        show_progress(
            settings,
            TRANSFER.tenant,
            TRANSFER.correlation_id,
            console=Console(file=io.StringIO()),
            last_report=LONG,
        ),
    ):
        pass
