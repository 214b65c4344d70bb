"""No event is skipped: it is handled, waited for, or put where an operator finds it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from app.delivery import outgoing
from app.delivery.outgoing import Kind
from app.delivery.states import Work
from app.errors import BrokerUnavailableError, StoreUnavailableError, UnreadableMessageError
from app.waiting.wakeup import Wakeup
from streams.channels import INCOMING, KAFKA, REQUESTS, IncomingChannel
from streams.events import RequestReceived
from streams.kafka.agents import (
    HANDLERS,
    Dependencies,
    agent,
    handler_of,
    process,
    wake_planners,
    wake_transfers,
)
from streams.kafka.dispatch import PendingEvent
from streams.kafka.topics import Topics
from tests.builders import make_delivery, make_event, make_message
from tests.recorded import book


class Log:
    """Keeps what is appended; fails as often as told first."""

    topics = Topics()

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.appended: list[tuple[str, dict[str, Any]]] = []

    async def append(self, topic: str, **event: Any) -> str:
        if self.failures:
            self.failures -= 1
            raise BrokerUnavailableError("told to fail")
        self.appended.append((topic, event))
        return f"0:{len(self.appended) - 1}"


class ForgottenArrivals:
    """Keeps what is to be forgotten."""

    def __init__(self) -> None:
        self.forgotten: list[UUID] = []

    async def forget(self, ids: Sequence[UUID]) -> None:
        self.forgotten.extend(ids)


ONE_TENANT: Any = SimpleNamespace(**dict.fromkeys(("known", "works_for"), "t".__eq__))
UNTOUCHED: Any = SimpleNamespace()  # has nothing that could be asked


def dependencies(store: Any = UNTOUCHED) -> Dependencies:
    """Return what use-cases of one tenant are called with."""
    wake = {work: Wakeup() for work in Work}
    return Dependencies(store=store, tenants=ONE_TENANT, users=UNTOUCHED, wake=wake)


class Handler:
    """Fails with each of some errors, one a call, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self, values: Sequence[bytes]) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)


async def handled(
    handler: Any, log: Log, *events: PendingEvent, arrivals: ForgottenArrivals | None = None
) -> None:
    await process(
        events or [make_event(b"value")],
        topic="delivery.requests",
        handler=handler,
        events=log,  # type: ignore[arg-type]
        arrivals=arrivals or ForgottenArrivals(),  # type: ignore[arg-type]
    )


def dead_letter(reason: str) -> tuple[str, dict[str, Any]]:
    headers = [("origin-topic", b"delivery.requests"), ("reason", reason.encode())]
    return "delivery.dead-letters", {"key": b"t/c", "value": b"value", "headers": headers}


async def test_an_outage_is_waited_for() -> None:
    handler, log = Handler(*[StoreUnavailableError("away")] * 3), Log()
    await handled(handler, log)
    assert (handler.calls, log.appended) == (4, [])


async def test_an_event_that_cannot_be_read_goes_to_the_dead_letters_at_once() -> None:
    handler, log = Handler(UnreadableMessageError("no JSON")), Log()
    await handled(handler, log)
    assert (handler.calls, log.appended) == (1, [dead_letter("no JSON")])


async def test_an_event_that_keeps_failing_goes_to_the_dead_letters() -> None:
    handler, log = Handler(*[KeyError("x")] * 9), Log()
    await handled(handler, log)
    assert (handler.calls, log.appended) == (5, [dead_letter("KeyError('x')")])


@pytest.mark.parametrize("name", ["ingressId", "eventId"])
async def test_what_is_in_the_dead_letters_is_not_appended_again(name: str) -> None:
    arrival, arrivals = uuid4(), ForgottenArrivals()
    value = f'{{"{name}":"{arrival}"}}'.encode()
    handler = Handler(UnreadableMessageError("no"))
    await handled(handler, Log(), make_event(value), arrivals=arrivals)
    assert arrivals.forgotten == [arrival]


@pytest.mark.parametrize("failures", [1, 3])
async def test_a_dead_letter_that_kafka_does_not_take_is_offered_again(failures: int) -> None:
    log = Log(failures)
    with capture_logs() as logs:
        await handled(Handler(UnreadableMessageError("no JSON")), log)
    assert log.appended == [dead_letter("no JSON")]
    pauses = [entry["retry_in_seconds"] for entry in logs if entry["event"] == "dead_letter_waits"]
    assert pauses == [0.2 * 2**number for number in range(failures)]


async def test_a_bad_event_takes_no_other_of_its_batch_with_it() -> None:
    done: list[bytes] = []

    async def handler(values: Sequence[bytes]) -> None:
        if b"bad" in values:
            raise UnreadableMessageError("no JSON")
        done.extend(values)

    log = Log()
    await handled(
        handler,
        log,
        make_event(b"good", key=b"t/1"),
        make_event(b"bad"),
        make_event(b"better", key=b"t/2"),
    )
    assert done == [b"good", b"better"]
    assert [entry["value"] for _, entry in log.appended] == [b"bad"]


async def test_a_bad_event_costs_the_others_of_its_batch_few_transactions() -> None:
    """One in each batch would else make a burst a hundred times as slow."""
    batches: list[int] = []

    async def handler(values: Sequence[bytes]) -> None:
        if b"bad" in values:
            raise UnreadableMessageError("no JSON")
        batches.append(len(values))

    good = [make_event(b"good", key=f"t/{number}".encode()) for number in range(63)]
    await handled(handler, Log(), *good, make_event(b"bad"))
    assert batches == [32, 16, 8, 4, 2, 1]


async def test_a_dead_letter_that_no_longer_fits_with_its_reason_goes_without() -> None:
    """The reason is in the log, too; trying for ever would hold up the partition."""

    class Full(Log):
        async def append(self, topic: str, **event: Any) -> str:
            if event.get("headers"):
                raise UnreadableMessageError("larger than Kafka takes")
            return await super().append(topic, **event)

    log = Full()
    async with asyncio.timeout(30):
        await handled(Handler(UnreadableMessageError("no JSON")), log)
    assert [entry["value"] for _, entry in log.appended] == [b"value"]


async def test_an_arrival_that_cannot_be_forgotten_ends_nothing() -> None:
    """The event is in the dead letters; should it be appended again, it ends there again."""

    class Broken(ForgottenArrivals):
        async def forget(self, ids: Sequence[UUID]) -> None:
            raise KeyError(ids)

    log, value = Log(), f'{{"eventId":"{uuid4()}"}}'.encode()
    with capture_logs() as logs:
        await handled(
            Handler(UnreadableMessageError("no")), log, make_event(value), arrivals=Broken()
        )
    assert [entry["value"] for _, entry in log.appended] == [value]
    assert [entry["log_level"] for entry in logs if entry["event"] == "arrival_kept"] == ["error"]


async def test_an_agent_that_fails_takes_its_app_along() -> None:
    """The app is replaced, and reads the event again; alone, the agent would be missed by none."""

    class Broken(Log):
        async def append(self, topic: str, **event: Any) -> str:
            raise KeyError(topic)

    class Stream:
        channel = SimpleNamespace(get_topic_name=lambda: "delivery.requests")

        def noack(self) -> Stream:
            return self

        async def events(self) -> AsyncIterator[Any]:
            message = SimpleNamespace(tp=0)
            yield SimpleNamespace(key=b"t/c", value=b"v", message=message, ack=lambda: None)
            await asyncio.Event().wait()

    crashes: list[BaseException] = []

    async def crash(reason: BaseException) -> None:
        crashes.append(reason)

    run = agent(
        Handler(UnreadableMessageError("no")),
        events=Broken(),  # type: ignore[arg-type]
        arrivals=ForgottenArrivals(),  # type: ignore[arg-type]
        register=lambda _dispatcher: None,
        crash=crash,
        concurrency=1,
        batch=1,
    )
    with pytest.raises(ExceptionGroup) as raised, capture_logs() as logs:
        await run(Stream())
    assert crashes == [raised.value]
    assert "agent_failed" in [entry["event"] for entry in logs]


def test_every_channel_that_an_agent_reads_has_a_handler() -> None:
    assert set(HANDLERS) == {channel for channel in KAFKA if channel.agent is not None}


@pytest.mark.parametrize("channel", INCOMING)
async def test_an_event_of_a_tenant_that_is_not_served_here_is_not_handled(
    channel: IncomingChannel,
) -> None:
    """A client that can write to a topic can name any tenant."""
    event = book.kept("kafka_events")[channel.topic.name] | {"tenant": "other"}
    value, arrivals, log = json.dumps(event).encode(), ForgottenArrivals(), Log()
    handler = handler_of(channel, dependencies())
    await handled(handler, log, make_event(value, key=b"other/c"), arrivals=arrivals)
    ((topic, dead_letter),) = log.appended
    assert (topic, dead_letter["value"]) == ("delivery.dead-letters", value)
    assert dict(dead_letter["headers"])["reason"].startswith(b"unknown tenant 'other'; add it to")
    assert [str(id_) for id_ in arrivals.forgotten] == [event.get("ingressId") or event["eventId"]]


async def test_the_loop_gets_its_turn_between_the_events_of_a_batch() -> None:
    """Else a hundred large ones hold up the renewal of leases."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    class Store:
        def transaction(self, **_: object) -> Any:
            raise StoreUnavailableError(f"after {turns}")

    value = RequestReceived.read(make_message("c", tenant="t")).encode()
    handle = handler_of(REQUESTS, dependencies(Store()))
    async with asyncio.TaskGroup() as group:
        counting = group.create_task(count())
        with pytest.raises(StoreUnavailableError) as raised:
            await handle([value] * 50)
        counting.cancel()
    assert int(str(raised.value).removeprefix("after ")) >= 49


@pytest.mark.parametrize("notified", [True, False])
async def test_an_event_of_work_wakes_unless_postgresql_has_told_every_worker(
    *, notified: bool
) -> None:
    """An older version told of it on Kafka alone; one that can't be read wakes, too."""
    to = dependencies()
    plan, transfer = (to.wake[work].waiter() for work in (Work.PLAN, Work.TRANSFER))
    told = outgoing.wake(make_delivery(), Kind.ORDER_READY).body
    if not notified:
        del told["notified"]
    await wake_planners([json.dumps(told).encode()], to)
    assert plan.event.is_set() is not notified
    await wake_transfers([b"no JSON"], to)
    assert transfer.event.is_set()
