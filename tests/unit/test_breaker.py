"""A server that does not answer is left alone, and asked by one probe at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError
from prometheus_client import CollectorRegistry, Gauge
from structlog.contextvars import bound_contextvars, get_contextvars

from app.errors import TargetForbiddenError, TargetRefusedError, TargetUnavailableError
from app.waiting.backoff import Backoff
from sinks.stores.breaker import BreakerPolicy, Breakers
from sinks.stores.s3.breaker import SIGNS
from sinks.stores.s3.target import S3Target
from tests.builders import make_target

TARGET = make_target(endpoint="http://s3.example:9000", bucket="b")
OTHER = replace(TARGET, endpoint="http://other.example")
REFUSAL = ClientError({"Error": {"Code": "403"}}, "HeadBucket")
QUICK = BreakerPolicy(backoff=Backoff(first=0.01, longest=0.05), probe=0.05)


class Server:
    """Answers probes when it is told to."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.silent = False
        self.probes = 0
        self.seen: list[dict[str, object]] = []  # what log lines of each probe carry
        self.most_at_once = 0
        self._now = 0

    async def probe(self, target: S3Target) -> None:
        self.probes += 1
        self.seen.append(get_contextvars())
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            if self.silent:
                await asyncio.Event().wait()
            with self.breakers.watching(target):
                if not self.answers.is_set():
                    raise TargetUnavailableError("no answer")
        finally:
            self._now -= 1

    breakers: Breakers[S3Target]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    made.breakers = Breakers(made.probe, SIGNS, policy=QUICK)
    yield made
    await made.breakers.close()


def fail(
    breakers: Breakers[S3Target], target: S3Target = TARGET, cause: Exception | None = None
) -> None:
    with pytest.raises(TargetUnavailableError), breakers.watching(target):
        raise TargetUnavailableError("S3 did not begin an upload") from cause


def answer(breakers: Breakers[S3Target], target: S3Target = TARGET) -> None:
    with breakers.watching(target):
        pass


async def changed(breakers: Breakers[S3Target]) -> None:
    """Wait for the next opening or closing."""
    happened = asyncio.Event()
    breakers.on_change.append(happened.set)
    async with asyncio.timeout(30):
        await happened.wait()
    breakers.on_change.remove(happened.set)


async def test_failures_in_a_row_open_a_circuit_unless_an_answer_comes_between(
    server: Server,
) -> None:
    for _ in range(2):
        fail(server.breakers)
        fail(server.breakers)
        answer(server.breakers)
    with pytest.raises(TargetRefusedError), server.breakers.watching(TARGET):
        raise TargetRefusedError("403: that is an answer, too") from REFUSAL
    fail(server.breakers)
    fail(server.breakers)
    assert server.breakers.trouble(TARGET) is None
    fail(server.breakers)
    trouble = server.breakers.trouble(TARGET)
    assert trouble is not None
    assert (trouble.server, trouble.cause) == ("s3.example:9000", "S3 did not begin an upload")
    assert trouble.asked_again > trouble.since
    assert server.breakers.trouble(replace(TARGET, bucket="another")) == trouble
    assert server.breakers.trouble(OTHER) is None


@pytest.mark.parametrize(
    "mistaken",
    [
        replace(TARGET, endpoint="https://s3.example:9000"),
        replace(TARGET, endpoint="http://s3.example"),
        replace(TARGET, addressing_style="virtual", bucket="no-such-host"),
    ],
    ids=["scheme", "port", "name"],
)
async def test_a_mistake_of_one_tenant_does_not_count_for_others_of_its_server(
    server: Server, mistaken: S3Target
) -> None:
    fail(server.breakers, mistaken, TimeoutError())
    assert server.breakers.trouble(mistaken) is not None
    assert server.breakers.trouble(TARGET) is None
    answer(server.breakers)
    assert server.breakers.trouble(mistaken) is not None


async def test_a_bucket_that_is_answered_with_errors_is_left_alone_and_no_other(
    server: Server,
) -> None:
    slow = ClientError({"Error": {"Code": "SlowDown"}}, "UploadPart")
    bad, good = replace(TARGET, bucket="bad"), replace(TARGET, bucket="good")
    for _ in range(3):
        fail(server.breakers, bad, slow)
    trouble = server.breakers.trouble(bad)
    assert trouble is not None
    assert trouble.server == "s3.example:9000/bad"
    assert server.breakers.trouble(good) is None
    answer(server.breakers, good)
    assert server.breakers.trouble(bad) == trouble
    answer(server.breakers, bad)
    assert server.breakers.trouble(bad) is None
    # Errors are answers, too: the server is there.
    fail(server.breakers, good, TimeoutError())
    fail(server.breakers, bad, slow)
    assert server.breakers.trouble(good) is None


async def test_a_probe_that_fails_unforeseen_is_made_again() -> None:
    server = Server()

    async def probe(target: S3Target) -> None:
        if not server.probes:
            server.probes += 1
            raise KeyError("unforeseen")
        await server.probe(target)

    server.breakers = Breakers(probe, SIGNS, policy=QUICK)
    server.answers.set()
    fail(server.breakers, cause=TimeoutError())
    await changed(server.breakers)
    assert server.breakers.trouble(TARGET) is None


async def test_a_probe_logs_of_no_delivery_and_no_request(server: Server) -> None:
    """What opened the circuit is over while it is probed: log lines must not name it."""
    with bound_contextvars(correlation_id="d-1", request_id="r-1"):
        fail(server.breakers, cause=TimeoutError())
    async with asyncio.timeout(30):
        while not server.seen:
            await asyncio.sleep(0.01)
    assert server.seen[0] == {}


async def test_silence_opens_a_circuit_at_once(server: Server) -> None:
    fail(server.breakers, cause=TimeoutError())
    assert server.breakers.trouble(TARGET) is not None


async def test_a_quick_request_without_an_answer_opens_a_circuit_before_its_deadline() -> None:
    server = Server()
    breakers = server.breakers = Breakers(server.probe, SIGNS, policy=replace(QUICK, silence=0.01))
    with breakers.watching(TARGET, quick=True):
        await changed(breakers)
        assert breakers.trouble(TARGET) is not None
    assert breakers.trouble(TARGET) is None  # it was answered after all
    await breakers.close()


async def test_a_cancelled_request_teaches_nothing(server: Server) -> None:
    for _ in range(5):
        with pytest.raises(asyncio.CancelledError), server.breakers.watching(TARGET):
            raise asyncio.CancelledError
    assert server.breakers.trouble(TARGET) is None


async def test_failures_far_apart_open_no_circuit() -> None:
    server = Server()
    server.breakers = Breakers(server.probe, SIGNS, policy=replace(QUICK, window=0))
    for _ in range(9):
        fail(server.breakers)
    assert server.breakers.trouble(TARGET) is None


async def test_probes_come_one_at_a_time_until_one_is_answered(server: Server) -> None:
    before = asyncio.all_tasks()
    server.silent = True
    for _ in range(9):
        fail(server.breakers)
    async with asyncio.timeout(30):
        while server.probes < 3:
            await asyncio.sleep(0)
    assert server.breakers.trouble(TARGET) is not None
    server.silent = False
    server.answers.set()
    await changed(server.breakers)
    assert server.breakers.trouble(TARGET) is None
    assert server.most_at_once == 1
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before


async def test_a_running_transfer_that_is_answered_closes_a_circuit(server: Server) -> None:
    fail(server.breakers, cause=TimeoutError())
    answer(server.breakers)
    assert server.breakers.trouble(TARGET) is None
    assert server.probes == 0


async def test_a_server_that_comes_back_for_a_moment_has_longer_pauses(server: Server) -> None:
    waits = []
    for _ in range(4):
        fail(server.breakers, cause=TimeoutError())
        trouble = server.breakers.trouble(TARGET)
        assert trouble is not None
        waits.append((trouble.asked_again - trouble.since).total_seconds())
        answer(server.breakers)
    assert waits == [0.01, 0.02, 0.04, 0.05]


async def test_a_probe_that_is_answered_does_not_count_as_one_in_vain(server: Server) -> None:
    server.answers.set()
    fail(server.breakers, cause=TimeoutError())
    await changed(server.breakers)
    fail(server.breakers, cause=TimeoutError())
    trouble = server.breakers.trouble(TARGET)
    assert trouble is not None
    assert (trouble.asked_again - trouble.since).total_seconds() == 0.02


async def test_a_circuit_that_opens_again_while_its_probe_ends_has_one_prober() -> None:
    """An answered probe gives its connection back, which takes a moment."""
    given_back, asked_twice = asyncio.Event(), asyncio.Event()

    async def probe(target: S3Target) -> None:
        if asked:
            asked_twice.set()
            await asyncio.Event().wait()
        asked.append(target)
        answer(breakers, target)
        await given_back.wait()

    asked: list[S3Target] = []
    before = asyncio.all_tasks()
    breakers = Breakers(probe, SIGNS, policy=replace(QUICK, probe=60))
    fail(breakers, cause=TimeoutError())
    await changed(breakers)
    fail(breakers, cause=TimeoutError())
    async with asyncio.timeout(30):
        await asked_twice.wait()
    given_back.set()
    for _ in range(9):
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks() - before) == 1
    await breakers.close()


async def test_a_gauge_shows_an_open_circuit() -> None:
    registry = CollectorRegistry()
    server = Server()
    gauge = Gauge("up", "Whether it answers.", ("server",), registry=registry)
    breakers = server.breakers = Breakers(server.probe, SIGNS, policy=QUICK, up=gauge)

    def up() -> float | None:
        return registry.get_sample_value("up", {"server": "s3.example:9000"})

    assert up() is None
    answer(breakers)
    assert up() == 1
    fail(breakers, cause=TimeoutError())
    assert up() == 0
    await breakers.close()
    answer(breakers)
    assert up() == 1


@pytest.mark.parametrize("kind", [TargetRefusedError, TargetForbiddenError])
async def test_a_request_that_could_not_be_sent_says_nothing_about_a_server(
    server: Server, kind: type[TargetRefusedError]
) -> None:
    fail(server.breakers, cause=TimeoutError())
    trouble = server.breakers.trouble(TARGET)
    assert trouble is not None
    with pytest.raises(kind), server.breakers.watching(TARGET):
        raise kind("no client can be made for it") from ValueError()
    assert server.breakers.trouble(TARGET) == trouble


async def test_a_target_that_no_tenant_has_any_more_is_neither_probed_nor_shown() -> None:
    registry = CollectorRegistry()
    server = Server()
    gauge = Gauge("up", "Whether it answers.", ("server",), registry=registry)
    breakers = server.breakers = Breakers(server.probe, SIGNS, policy=QUICK, up=gauge)
    used = [TARGET, OTHER]
    breakers.in_use = lambda: used
    answer(breakers, OTHER)
    fail(breakers, cause=TimeoutError())
    assert registry.get_sample_value("up", {"server": "s3.example:9000"}) == 0
    used.clear()
    await changed(breakers)  # without an answer: the next probe looks whom it is for
    assert breakers.trouble(TARGET) is None
    assert server.probes == 0
    assert next(iter(registry.collect())).samples == []


async def test_a_circuit_forgotten_at_a_change_of_settings_wakes_its_waiters(
    server: Server,
) -> None:
    fail(server.breakers, cause=TimeoutError())
    woken = asyncio.Event()
    server.breakers.on_change.append(woken.set)
    server.breakers.in_use = lambda: [OTHER]
    server.breakers.forget_unused()
    assert woken.is_set()
    assert server.breakers.trouble(TARGET) is None


async def test_a_probe_asks_with_the_credentials_that_hold_now() -> None:
    server, asked = Server(), asyncio.Queue[S3Target]()

    async def probe(target: S3Target) -> None:
        asked.put_nowait(target)
        await server.probe(target)

    breakers = server.breakers = Breakers(probe, SIGNS, policy=QUICK)
    fail(breakers, cause=TimeoutError())
    corrected = replace(TARGET, secret="corrected")
    breakers.in_use = lambda: [OTHER, corrected]
    async with asyncio.timeout(30):
        assert await asked.get() == corrected
    await breakers.close()


async def test_a_probe_that_can_not_be_sent_holds_nothing_back_any_more() -> None:
    async def probe(_target: S3Target) -> None:
        raise TargetForbiddenError("its name leads to loopback by now")

    breakers = Breakers(probe, SIGNS, policy=QUICK)
    fail(breakers, cause=TimeoutError())
    await changed(breakers)
    assert breakers.trouble(TARGET) is None


async def test_the_number_of_circuits_is_bounded() -> None:
    server = Server()
    breakers = server.breakers = Breakers(server.probe, SIGNS, policy=QUICK, most=3)
    fail(breakers, cause=TimeoutError())
    for number in range(9):
        answer(breakers, replace(OTHER, endpoint=f"http://h{number}.example"))
    assert len(breakers) == 3
    assert breakers.trouble(TARGET) is not None  # what is closed goes first
    await breakers.close()
