"""When a Faust app is replaced, and when it is left alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from app.errors import BrokerUnavailableError, ConfigurationError, NotReachableError
from app.settings import load_settings
from streams.kafka.lag import GroupLag, positions
from streams.kafka.supervisor import Consumer

HERE, ELSEWHERE = TopicPartition("t", 0), TopicPartition("t", 1)
Lags = dict[TopicPartition, tuple[int, int]]


@dataclass
class App:
    """Stands for a Faust app: as a dispatcher it holds partitions, as a consumer it has some."""

    held: set[TopicPartition] = field(default_factory=set)
    assigned: set[TopicPartition] = field(default_factory=lambda: {HERE})
    no_start: bool = False
    lost_at_start: bool = False
    endless_start: bool = False
    no_stop: bool = False
    parts: int = 0  # that don't stop: each is passed over when it is cancelled, as mode does
    running: bool = False
    crashed: bool = False
    crash_reason: Exception | None = None

    @property
    def dispatchers(self) -> list[App]:
        return [self]

    @property
    def consumer(self) -> App:
        return self

    def holds(self, partition: TopicPartition) -> bool:
        return partition in self.held

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    async def start(self) -> None:
        if self.no_start:
            raise ConnectionError("no broker")
        if self.lost_at_start:
            raise KafkaConnectionError("gone")
        if self.endless_start:
            await asyncio.Event().wait()
        self.running = True

    async def stop(self) -> None:
        if self.no_stop:
            await asyncio.Event().wait()
        for _ in range(self.parts):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        self.running = False


class Lag:
    """Tells what it is told, the last thing for ever; counts how often it was asked.

    It stands for who makes topics, too.
    """

    def __init__(self, *answers: Lags | GroupLag | Exception) -> None:
        self.answers = deque(answers)
        self.asked = asyncio.Semaphore(0)
        self.topics_made = 0

    async def make_topics(self) -> None:
        self.topics_made += 1

    async def measure(self) -> GroupLag:
        self.asked.release()
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, GroupLag) else GroupLag(behind=answer)

    async def was_asked(self, times: int) -> None:
        async with asyncio.timeout(30):
            for _ in range(times):
                await self.asked.acquire()


@contextlib.asynccontextmanager
async def consuming(
    lag: Lag, *apps: App, stuck_after: float = 0.06, **timeouts: float
) -> AsyncIterator[tuple[Consumer, list[App]]]:
    """Give the consumer, and the apps that are left to be started."""
    left = list(apps)
    made: Any = lambda: left.pop(0)  # noqa: E731
    consumer = Consumer(
        make=made,
        lag=lag,  # type: ignore[arg-type]
        make_topics=lag.make_topics,
        stuck_after=stuck_after,
        rebalance_timeout=0,
        **timeouts,
    )
    await consumer.start()
    try:
        yield consumer, left
    finally:
        await consumer.stop()


async def until_taken(left: list[App]) -> None:
    async with asyncio.timeout(30):
        while left:
            await asyncio.sleep(0.001)


async def test_an_app_that_never_starts_is_replaced_too() -> None:
    """Seen when brokers came back empty: the group took it in and never answered."""
    last = App()
    apps = [App(), App(endless_start=True), last]
    async with consuming(Lag({HERE: (3, 5)}), *apps, start_timeout=0.01) as (_, left):
        await until_taken(left)
        async with asyncio.timeout(30):
            while not last.running:
                await asyncio.sleep(0.001)


async def test_an_app_that_its_group_does_not_let_in_is_replaced_before_one_would_look_stuck() -> (
    None
):
    """Seen when two workers were started again at once: the broker let neither of them in."""
    apps = [App(endless_start=True), App()]
    hour = 3600.0
    async with consuming(Lag({HERE: (3, 5)}), *apps, start_timeout=0.01, stuck_after=hour) as (
        consumer,
        left,
    ):
        await until_taken(left)
        async with asyncio.timeout(30):
            while not await is_read(consumer):
                await asyncio.sleep(0.001)


async def is_read(consumer: Consumer) -> bool:
    """Whether events are read."""
    with contextlib.suppress(BrokerUnavailableError):
        await consumer.check()
        return True
    return False


async def test_an_app_that_may_not_join_its_group_says_so() -> None:
    """Faust tries for ever, and says so nowhere."""
    lag = Lag(BrokerUnavailableError("this user may not use the group"))
    first, second = App(endless_start=True), App(endless_start=True)
    async with (
        consuming(lag, first, second, App(), start_timeout=0.01) as (consumer, left),
        asyncio.timeout(30),
    ):
        while len(left) > 1:
            await asyncio.sleep(0.001)
        with pytest.raises(BrokerUnavailableError, match="does not answer: this user may not"):
            await consumer.check()


async def test_an_app_that_makes_no_progress_is_replaced_by_one_that_starts() -> None:
    stuck, broken, good = App(), App(no_start=True), App()
    lag = Lag({HERE: (3, 5)})
    async with consuming(lag, stuck, broken, good) as (consumer, left):
        async with asyncio.timeout(30):
            while len(left) == 2:
                await asyncio.sleep(0.001)
            with pytest.raises(BrokerUnavailableError, match="t/0 at 3 of 5"):
                await consumer.check()
        lag.answers[0] = {HERE: (5, 5)}
        await until_taken(left)
        async with asyncio.timeout(30):
            while not good.running:
                await asyncio.sleep(0.001)
        await consumer.check()
        assert not stuck.running
    assert not good.running


@pytest.mark.parametrize(
    ("app", "lags"),
    [
        (App(), {HERE: (5, 5)}),  # nothing to read
        (App(held={HERE}), {HERE: (3, 5)}),  # being handled, or waiting for PostgreSQL
        (App(), {ELSEWHERE: (3, 5)}),  # another worker's
    ],
)
async def test_an_app_whose_turn_it_is_not_is_left_alone(app: App, lags: Lags) -> None:
    lag = Lag(lags)
    async with consuming(lag, app, App()) as (_, left):
        await lag.was_asked(30)
        assert len(left) == 1


async def test_an_app_that_was_given_no_partition_is_replaced() -> None:
    async with consuming(Lag({HERE: (3, 5)}), App(assigned=set()), App(held={HERE})) as (_, left):
        await until_taken(left)


async def test_an_app_that_is_beyond_the_end_is_replaced() -> None:
    """It would read nothing until the log is as long again."""
    async with consuming(Lag({HERE: (6, 5)}), App(), App(held={HERE})) as (_, left):
        await until_taken(left)


async def test_an_app_whose_topics_were_missing_is_replaced() -> None:
    """Where it was in those that are gone says nothing of those that were made."""
    lag = Lag(GroupLag(behind={}, missing=["t", "u"], unread=["t"]), {HERE: (0, 0)})
    async with consuming(lag, App(), App(), App()) as (_, left):
        await lag.was_asked(30)
        assert len(left) == 1
    assert lag.topics_made == 1


async def test_topics_that_agents_do_not_read_are_made_under_an_app_that_stays() -> None:
    lag = Lag(GroupLag(behind={HERE: (5, 5)}, missing=["u"]), {HERE: (5, 5)})
    async with consuming(lag, App(), App()) as (_, left):
        await lag.was_asked(30)
        assert len(left) == 1
    assert lag.topics_made == 1


async def test_topics_that_are_missing_are_made_while_a_group_is_silent() -> None:
    lag = Lag(GroupLag(behind={}, missing=["t"], unread=["t"]), {HERE: (5, 5)})
    async with consuming(lag, App(endless_start=True), App(), start_timeout=0.01) as (_, left):
        await until_taken(left)
    assert lag.topics_made == 1


class EmptiedKafka:
    """Answers for partitions that nothing was committed of."""

    async def end_offsets(self, partitions: list[TopicPartition]) -> Lags:
        return dict.fromkeys(partitions, 5000)  # type: ignore[arg-type]

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> Lags:
        return {HERE: 5000, ELSEWHERE: 4998}  # type: ignore[dict-item]

    async def committed(self, _partition: TopicPartition) -> int | None:
        return None


async def test_a_partition_that_kafka_emptied_has_nothing_to_read() -> None:
    """Its events were too old, and the group's offsets forgotten; it looked stuck for ever."""
    assert await positions(EmptiedKafka(), [HERE, ELSEWHERE]) == {
        HERE: (5000, 5000),
        ELSEWHERE: (4998, 5000),
    }


async def test_an_app_that_moves_is_left_alone() -> None:
    lag = Lag(*({HERE: (number, 100)} for number in range(60)))
    async with consuming(lag, App(), App()) as (_, left):
        await lag.was_asked(50)
        assert len(left) == 1


async def test_the_start_waits_for_no_group_and_readiness_says_so() -> None:
    joining = App(endless_start=True)
    async with consuming(Lag({HERE: (5, 5)}), joining) as (consumer, _):
        with pytest.raises(BrokerUnavailableError, match="joins its consumer group"):
            await consumer.check()
    assert not consumer.crashed


async def test_an_app_that_kafka_leaves_in_its_start_ends_the_process() -> None:
    async with consuming(Lag({}), App(lost_at_start=True)) as (consumer, _):
        async with asyncio.timeout(30):
            await consumer.wait_for_stopped(asyncio.Event().wait())
        assert isinstance(consumer.crash_reason, NotReachableError)


async def test_no_app_is_replaced_while_kafka_does_not_answer() -> None:
    lag = Lag(BrokerUnavailableError("away"))
    async with consuming(lag, App(), App()) as (_, left):
        await lag.was_asked(30)
        assert len(left) == 1


async def test_an_app_that_cannot_be_stopped_ends_the_process() -> None:
    app = App(no_stop=True)
    async with consuming(Lag({HERE: (3, 5)}), app, App(), stop_timeout=0.01) as (consumer, _):
        async with asyncio.timeout(30):
            await consumer.wait_for_stopped(asyncio.Event().wait())
        assert isinstance(consumer.crash_reason, TimeoutError)
        app.no_stop = False


async def test_an_app_that_stops_but_for_a_part_is_left_and_replaced() -> None:
    app, other = App(parts=1), App()
    async with consuming(Lag({HERE: (3, 5)}), app, other, stop_timeout=0.01) as (consumer, _):
        async with asyncio.timeout(30):
            while not other.running:
                await asyncio.sleep(0.01)
        assert not consumer.crashed
        app.parts = 0


async def test_an_app_whose_parts_do_not_stop_ends_the_process() -> None:
    app = App(parts=2)
    async with consuming(
        Lag({HERE: (3, 5)}), app, App(), stop_timeout=0.01, leave_timeout=0.01
    ) as (consumer, _):
        async with asyncio.timeout(30):
            await consumer.wait_for_stopped(asyncio.Event().wait())
        assert isinstance(consumer.crash_reason, TimeoutError)
        app.parts = 0


def test_a_rebalance_must_not_look_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELIVERY_KAFKA_REBALANCE_TIMEOUT", "60")
    monkeypatch.setenv("DELIVERY_KAFKA_STUCK_AFTER", "60")
    with pytest.raises(ConfigurationError, match="DELIVERY_KAFKA_STUCK_AFTER"):
        load_settings()
