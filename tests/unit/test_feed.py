"""The feed: nothing is missed, nothing is told twice, and a slow subscriber holds up no other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

import web.feed
from app.delivery.content import ContentSeen, ContentState
from app.delivery.progress import Progress
from app.delivery.states import State
from app.errors import ErrorType
from app.views.deliveries import Change, Step, Tracked
from app.views.events import EVENTS
from app.waiting.slices import SLICE
from tests.builders import make_delivery, make_progress
from tests.recorded.today import examples
from web.feed import (
    Feed,
    Frame,
    Subscriber,
    expired_frame,
    progress_frame,
    reload_frame,
    step_frame,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def change(
    number: int,
    correlation_id: str = "d",
    tenant: str = "t",
    delivery_id: int = 1,
    user: str = "u",
) -> Change:
    delivery = make_delivery(
        id=UUID(int=delivery_id),
        tenant=tenant,
        correlation_id=correlation_id,
        state=State.READY,
        user=user,
        target="x",
        requested_at=NOW,
        expires_at=NOW,
    )
    return Change(
        step=Step(id=number, state=State.READY, attempt=0, at=NOW),
        tracked=Tracked(
            delivery=delivery,
            updated_at=NOW,
            state_since=NOW,
            not_before=NOW,
            finished_at=None,
            worker=None,
            result=None,
            error=None,
        ),
    )


class Log:
    """Changes as a database shows them: some appear later than larger numbers."""

    def __init__(self) -> None:
        self.visible: dict[int, Change] = {}
        self.progress: list[Progress] = []
        self.asked = 0
        self.missing: Sequence[int] = ()  # that were asked for the last time

    def appear(self, *changes: Change) -> None:
        self.visible |= {new.step.id: new for new in changes}

    async def last(self) -> int:
        return max(self.visible, default=0)

    async def last_of(self, tenant: str, user: str, *, until: int) -> int:
        raise AssertionError("a stream asks where it begins")

    async def since(self, last: int, *, missing: Sequence[int], limit: int) -> list[Change]:
        self.asked += 1
        self.missing = missing
        found = [n for n in sorted(self.visible) if n > last or n in missing]
        return [self.visible[n] for n in found[:limit]]

    async def replay(
        self, tenant: str, last: int, *, limit: int, user: str | None = None
    ) -> list[Change]:
        raise AssertionError("the feed reads what is new alone; a stream asks for what it missed")

    def news(self) -> list[Progress]:
        news, self.progress = self.progress, []
        return news


def event_of(frame: Frame) -> tuple[str, dict[str, Any]]:
    """Return the name of an event, and what it tells."""
    *_, name, data = frame.data.decode().strip().split("\r\n")
    told: dict[str, Any] = json.loads(data.removeprefix("data: "))
    return name.removeprefix("event: "), told


def ids(frames: list[Frame] | None) -> list[int]:
    assert frames is not None
    return [frame.id for frame in frames]


def test_a_step_that_is_over_tells_nothing_of_what_came_after_it() -> None:
    later = NOW + timedelta(hours=1)
    one = change(7)
    ended = replace(
        one.tracked,
        delivery=replace(one.tracked.delivery, state=State.ERROR),
        state_since=later,
        finished_at=later,
        error=(ErrorType.EXPIRED, "too late"),
    )
    _, told = event_of(step_frame(replace(one, tracked=ended)))
    assert told["state"] == "READY"
    assert not {"stateSince", "finishedAt", "errorType", "errorMessage"} & set(told)


STATE = (
    'id: 7\r\nevent: state\r\ndata: {"id": "00000000-0000-0000-0000-000000000001", '
    '"tenant": "t", "correlationId": "d", "state": "READY", "activity": "waiting", '
    '"user": "u", "target": "x", '
    '"priority": 1, "requestedAt": "2026-01-01T00:00:00.000+00:00", '
    '"expiresAt": "2026-01-01T00:00:00.000+00:00", '
    '"updatedAt": "2026-01-01T00:00:00.000+00:00", '
    '"stateSince": "2026-01-01T00:00:00.000+00:00", "format": "zip", "files": 0, "bytes": 0, '
    '"attempt": 3, "at": "2026-01-01T00:00:00.000+00:00", "cause": "S3 is away"}\r\n\r\n'
)
CONTENT = (
    STATE.replace("event: state", "event: content")
    .replace('"attempt": 3', '"attempt": 0')
    .replace('"cause": "S3 is away"', '"news": "content.removed"')
    .replace(
        '"attempt": 0, "at"',
        '"attempt": 0, "content": "removed", "removedAt": "2026-01-01T00:00:00.000+00:00", "at"',
    )
)
PROGRESS = (
    'event: progress\r\ndata: {"correlationId": "d-001", "phase": "transferring", "attempt": 2, '
    '"bytesDone": 10, "bytesTotal": 20, "filesDone": 1, "filesTotal": 2, "bytesPerSecond": 7, '
    '"secondsLeft": 1.5, "id": "00000000-0000-4000-8000-000000000001"}\r\n\r\n'
)
RELOAD = (
    'id: 9\r\nevent: reload\r\ndata: {"message": "more has happened than is told here; '
    'look it up again"}\r\n\r\n'
)
EXPIRED = 'event: expired\r\ndata: {"message": "the token has expired; sign in again"}\r\n\r\n'
REMOVED = replace(
    change(7),
    step=replace(change(7).step, news="content.removed"),
    tracked=replace(
        change(7).tracked,
        content=ContentSeen(state=ContentState.REMOVED, removed_at=NOW, cause=None),
    ),
)
GIVEN_UP = replace(change(7), step=replace(change(7).step, attempt=3, cause="S3 is away"))


@pytest.mark.parametrize(
    ("frame", "written"),
    [
        (step_frame(GIVEN_UP), STATE),
        (step_frame(REMOVED), CONTENT),
        (progress_frame(examples.PROGRESS), PROGRESS),
        (reload_frame(9, last=False), RELOAD),
        (expired_frame("the token has expired; sign in again"), EXPIRED),
    ],
    ids=list(EVENTS),
)
def test_an_event_is_written_as_it_always_was(frame: Frame, written: str) -> None:
    assert frame.data.decode() == written


@pytest.mark.parametrize("written", [STATE, CONTENT, PROGRESS, RELOAD, EXPIRED])
def test_an_event_has_the_fields_of_its_view_and_no_other(written: str) -> None:
    name, told = event_of(Frame(written.encode()))
    EVENTS[name].model_validate_json(json.dumps(told))
    with pytest.raises(ValidationError, match="Extra inputs"):
        EVENTS[name].model_validate_json(json.dumps(told | {"unknown": 1}))


def test_progress_of_an_older_worker_names_no_delivery() -> None:
    _, told = event_of(progress_frame(replace(examples.PROGRESS, delivery=None)))
    assert "id" not in told


async def heard(subscriber: Subscriber) -> list[int]:
    async with asyncio.timeout(30):
        return ids(await subscriber.frames())


def told(frame: Frame) -> Any:
    return json.loads(frame.data.split(b"data: ")[1])


async def test_changes_reach_their_tenants_watchers_only() -> None:
    log = Log()
    feed = Feed(log, log.news)
    log.appear(change(1))
    async with (
        feed.watching("t") as all_,
        feed.watching("t", UUID(int=2)) as one,
        feed.watching("u") as no,
    ):
        log.appear(change(2, "a"), change(3, "b", delivery_id=2))
        await feed.tick()
        assert await heard(all_) == [2, 3]
        assert await heard(one) == [3]
        log.appear(change(4, tenant="u"))
        await feed.tick()
        assert await heard(no) == [4]


def report(delivery: UUID | None, number: int = 1) -> Progress:
    return make_progress(
        tenant="t",
        correlation_id="d",
        bytes_done=number,
        bytes_total=10,
        delivery=delivery,
    )


async def test_deliveries_that_share_a_correlation_id_are_told_apart() -> None:
    log = Log()
    feed = Feed(log, log.news)
    first, second = UUID(int=1), UUID(int=2)
    async with feed.watching("t", first) as one, feed.watching("t", second) as other:
        log.appear(change(1, delivery_id=1), change(2, delivery_id=2))
        log.progress += [report(first, 1), report(second, 2), report(None, 3)]
        await feed.tick()
        for subscriber, step, done in ((one, 1, 1), (other, 2, 2)):
            frames = await subscriber.frames()
            assert ids(frames) == [step, 0]
            assert frames is not None
            assert told(frames[1])["bytesDone"] == done


async def test_a_user_hears_of_their_own_deliveries_and_how_far_those_are() -> None:
    log = Log()
    feed = Feed(log, log.news)
    mine, theirs = UUID(int=1), UUID(int=2)
    async with feed.watching("t", user="me") as subscriber, feed.watching("t") as all_:
        log.progress += [report(mine, 1), report(theirs, 1), report(None, 1)]
        await feed.tick()
        log.appear(
            change(1, delivery_id=1, user="me"),
            change(2, delivery_id=2, user="you"),
            change(3, delivery_id=3, user="me", tenant="u"),
            change(4, delivery_id=4, user=""),
        )
        log.progress += [report(mine, 2), report(theirs, 3), report(UUID(int=3)), report(None, 4)]
        await feed.tick()
        # Before a step has told whose it is, nothing of it is.
        frames = await subscriber.frames()
        assert ids(frames) == [1, 0]
        assert frames is not None
        assert told(frames[1])["bytesDone"] == 2
        assert len(await all_.frames() or ()) == 3
        assert ids(await all_.frames()) == [1, 2, 4, 0, 0, 0, 0]


async def test_a_user_without_a_name_hears_of_nothing() -> None:
    log = Log()
    feed = Feed(log, log.news)
    async with feed.watching("t", user="") as subscriber, feed.watching("t") as all_:
        log.appear(change(1), change(2, user="v"))
        log.progress += [report(UUID(int=1)), report(None)]
        await feed.tick()
        assert ids(await all_.frames()) == [1, 2, 0, 0]
        subscriber.close()
        assert await subscriber.frames() is None


async def test_a_watcher_whose_connection_is_closed_is_let_go_though_nothing_happens() -> None:
    log = Log()
    feed = Feed(log, log.news)
    async with feed.watching("t") as subscriber:
        subscriber.gone = lambda: True
        await feed.tick()
        assert await subscriber.frames() is None


async def test_a_change_that_appears_after_a_larger_number_is_told_once() -> None:
    log = Log()
    feed = Feed(log, log.news)
    async with feed.watching("t") as subscriber:
        log.appear(change(1), change(4))
        await feed.tick()
        assert await heard(subscriber) == [1, 4]
        log.appear(change(3), change(5))
        await feed.tick()
        assert await heard(subscriber) == [3, 5]
        log.appear(change(2))
        await feed.tick()
        assert await heard(subscriber) == [2]
        await feed.tick()
        log.appear(change(6))
        await feed.tick()
        assert await heard(subscriber) == [6]


async def test_a_change_under_way_when_the_first_watcher_comes_is_told() -> None:
    log = Log()
    feed = Feed(log, log.news)
    log.appear(change(1), change(3))
    async with feed.watching("t") as subscriber:
        log.appear(change(2))
        await feed.tick()
        assert await heard(subscriber) == [2]


async def test_a_number_that_never_appears_is_forgotten() -> None:
    log = Log()
    feed = Feed(log, log.news)
    async with feed.watching("t"):
        log.appear(change(1), change(3))
        for _ in range(25):
            await feed.tick()
        assert log.missing == []


async def test_the_database_is_not_asked_while_no_client_watches() -> None:
    log = Log()
    feed = Feed(log, log.news)
    async with feed.watching("t"):
        await feed.tick()
    asked = log.asked
    await feed.tick()
    await feed.tick()
    assert log.asked == asked


async def test_a_watcher_that_reads_nothing_is_let_go_and_the_others_hear_on() -> None:
    log = Log()
    feed = Feed(log, log.news)
    async with feed.watching("t") as slow, feed.watching("t") as good:
        for number in range(1, 70):
            log.appear(change(number))
            await feed.tick()
            assert await heard(good) == [number]
        assert slow.lost
        batches = []
        while (batch := await slow.frames()) is not None:
            batches.append(ids(batch))
        assert batches == [[number] for number in range(1, 65)]


async def test_progress_tells_rate_and_time_left() -> None:
    log = Log()
    feed = Feed(log, log.news)
    async with feed.watching("t", UUID(int=1)) as subscriber:
        log.progress.append(
            make_progress(
                tenant="t",
                correlation_id="d",
                attempt=2,
                bytes_done=250,
                bytes_total=1000,
                files_done=1,
                files_total=4,
                elapsed=0.5,
                delivery=UUID(int=1),
            )
        )
        await feed.tick()
        frames = await subscriber.frames()
        assert frames is not None
        assert told(frames[0]) == {
            "id": str(UUID(int=1)),
            "correlationId": "d",
            "phase": "transferring",
            "attempt": 2,
            "bytesDone": 250,
            "bytesTotal": 1000,
            "filesDone": 1,
            "filesTotal": 4,
            "bytesPerSecond": 500,
            "secondsLeft": 1.5,
        }


async def test_all_watchers_are_let_go_when_the_feed_stops() -> None:
    log = Log()
    feed = Feed(log, log.news)
    async with feed.watching("t") as subscriber:
        await feed.on_stop()
        assert await subscriber.frames() is None


async def test_a_thousand_changes_leave_the_loop_to_others_and_a_newcomer_misses_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, made, most = Log(), 0, 0
    feed = Feed(log, log.news)
    encoded = web.feed.step_frame

    def counted(one: Change) -> Frame:
        nonlocal made
        made += 1
        return encoded(one)

    monkeypatch.setattr(web.feed, "step_frame", counted)
    async with feed.watching("t") as first:
        log.appear(*(change(number) for number in range(1, 1001)))
        tick = asyncio.create_task(feed.tick())
        while not made:
            await asyncio.sleep(0)
        async with feed.watching("t") as second:
            since = second.since
            while not tick.done():
                before = made
                await asyncio.sleep(0)
                most = max(most, made - before)
            told = ids(await first.frames()), ids(await second.frames())
    assert most == SLICE
    assert since == 0
    assert told == (list(range(1, 1001)), list(range(1, 1001)))
