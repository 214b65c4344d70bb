"""The table of progress: every process knows how far each transfer is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

from app.delivery.progress import Phase, Progress
from app.settings import Settings
from streams.kafka.log import EventLog, open_event_log
from streams.kafka.progress_table import ProgressTable
from streams.kafka.topics import ensure_topics
from tests.builders import make_progress, make_transfer

ONE = make_transfer(id=UUID(int=1))
NEXT = replace(ONE, id=UUID(int=2), user="another")  # of the same correlation id


def progress(number: int, *, attempt: int = 1, phase: Phase = Phase.TRANSFERRING) -> Progress:
    return make_progress(ONE, attempt=attempt, phase=phase, bytes_done=number)


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[ProgressTable]:
    table = ProgressTable(settings)
    await table.start()
    try:
        async with asyncio.timeout(30):
            await table.reading.wait()
        yield table
    finally:
        await table.stop()


async def told(events: EventLog, table: ProgressTable, report: Progress) -> None:
    """Report, and return once the table has it."""
    await events.report(report)
    async with asyncio.timeout(30):
        while table.of(ONE) != report:
            await asyncio.sleep(0.02)


async def test_the_last_report_is_known_and_news_are_told_once(settings: Settings) -> None:
    await ensure_topics(settings)
    async with open_event_log(settings) as events:
        await events.report(progress(1))  # before anybody reads: it needs no past
        async with running(settings) as one, running(settings) as other:
            await told(events, one, progress(2))
            await told(events, one, progress(3))
            await told(events, other, progress(3))
            assert one.news() == [progress(3)]
            assert one.news() == []
            assert one.of(NEXT) is None
            assert one.all() == [progress(3)]


async def test_a_worker_that_lost_its_lease_does_not_speak_for_its_successor(
    settings: Settings,
) -> None:
    await ensure_topics(settings)
    async with open_event_log(settings) as events, running(settings) as table:
        await told(events, table, progress(50))
        await told(events, table, progress(10, attempt=2))
        await events.report(progress(60))
        await told(events, table, progress(20, attempt=2))
        assert table.news() == [progress(20, attempt=2)]


async def test_a_report_of_the_version_before_is_known_by_its_correlation_id(
    settings: Settings,
) -> None:
    await ensure_topics(settings)
    async with open_event_log(settings) as events, running(settings) as table:
        unnamed = replace(progress(50), delivery=None)
        await told(events, table, unnamed)
        assert table.of(NEXT) == unnamed
        await told(events, table, progress(60))
        assert table.of(NEXT) == unnamed


async def test_a_transfer_that_reports_nothing_for_long_is_forgotten(settings: Settings) -> None:
    await ensure_topics(settings)
    async with open_event_log(settings) as events, running(settings) as table:
        await told(events, table, progress(50))
        table.kept = 0.0
        assert table.of(ONE) is None
        async with asyncio.timeout(30):
            while table.size:
                await asyncio.sleep(0.05)


async def test_a_table_waits_for_its_topic(settings: Settings) -> None:
    table = ProgressTable(settings, pause=0.1)
    await table.start()
    try:
        await asyncio.sleep(0.5)
        assert not table.reading.is_set()
        await ensure_topics(settings)
        async with asyncio.timeout(30), open_event_log(settings) as events:
            await table.reading.wait()
            await told(events, table, progress(1))
    finally:
        await table.stop()
