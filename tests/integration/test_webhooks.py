"""Events go to a real consumer: one that verifies, is slow, refuses, redirects, or is gone."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import standardwebhooks
from aiohttp import web

from app.delivery.webhooks import (
    GIVEN_UP_AFTER,
    WEBHOOKS,
    Claim,
    DeliveryEvent,
    Webhook,
    WebhookSeen,
)
from app.network.callbacks import Callbacks
from app.network.hosts import AllowedHosts
from app.network.resolver import Lookup, NameService
from app.usecases.webhooks import Courier
from app.waiting.wakeup import Wakeup
from compose.embedded.stack import TENANT
from streams.webhooks.sender import HttpWebhooks
from streams.work.couriers import Couriers
from tests.integration.conftest import Deliveries
from tests.servers import serving
from tests.statements import STATEMENTS

_SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
_LOOPBACK = Callbacks(hosts=AllowedHosts.of(["127.0.0.0/8"]))


@dataclass
class Consumer:
    """A consumer as docs/webhooks.md has it: it verifies, and knows repeats by their id."""

    port: int = 0
    answers: list[int | dict[str, str]] = field(default_factory=list)  # before it takes events
    heard: list[dict[str, Any]] = field(default_factory=list)  # each time
    ids: list[str] = field(default_factory=list)  # the header's, each time
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def hear(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        event = standardwebhooks.Webhook(_SECRET).verify(body, dict(request.headers))
        assert request.content_type == "application/cloudevents+json"
        assert event["id"] == request.headers["webhook-id"]
        self.ids.append(event["id"])
        self.heard.append(event)
        self.came.set()
        match self.answers.pop(0) if self.answers else 204:
            case int() as status:
                return web.Response(status=status)
            case headers:
                return web.Response(status=int(headers.pop("status")), headers=headers)

    def hook(self, name: str = "ops", **changes: Any) -> Webhook:
        url = f"http://127.0.0.1:{self.port}/hooks?token=1"
        return replace(Webhook(tenant=TENANT, name=name, url=url, secrets=(_SECRET,)), **changes)


@contextlib.asynccontextmanager
async def consuming(*answers: int | dict[str, str]) -> AsyncIterator[Consumer]:
    consumer = Consumer(answers=list(answers))
    async with serving(consumer.hear) as consumer.port:
        yield consumer


def _courier(
    deliveries: Deliveries,
    webhooks: Callable[[], Iterable[Webhook]],
    *,
    timeout: float = 30,
    callbacks: Callbacks = _LOOPBACK,
    lookup: Lookup = socket.getaddrinfo,
) -> Courier:
    sender = HttpWebhooks(callbacks, timeout=timeout, names=NameService(lookup=lookup))
    return Courier(outbox=deliveries.webhooks(), webhooks=webhooks, sender=sender)


async def _subscribe(deliveries: Deliveries, *names: str, url: str = "http://x/") -> None:
    async with deliveries.configuration.change(TENANT) as change:
        await change.set(WEBHOOKS, {name: {"url": url, "secret": _SECRET} for name in names})


async def _tell(deliveries: Deliveries, *types: str) -> DeliveryEvent:
    delivery = uuid4()
    events = [
        DeliveryEvent(
            id=uuid4(),
            type=word,
            tenant=TENANT,
            delivery_id=delivery,
            correlation_id="c",
            data={"word": word},
        )
        for word in types or ("done",)
    ]
    async with deliveries.store.transaction() as tx:
        await tx.tell(*events)
    return events[0]


async def _serve(courier: Courier) -> int:
    """Serve until nothing is due; return how many rounds."""
    rounds = 0
    while (claim := await courier.claim()) is not None:
        await courier.serve(claim)
        rounds += 1
    return rounds


async def _seen_of(deliveries: Deliveries, hook: Webhook) -> WebhookSeen:
    """Return what is known of a webhook once the settings have its URL."""
    await _subscribe(deliveries, hook.name, url=hook.url)
    return await _seen(deliveries, hook.name)


async def _seen(deliveries: Deliveries, name: str = "ops") -> WebhookSeen:
    (found,) = [
        webhook for webhook in await deliveries.webhooks().seen([TENANT]) if webhook.name == name
    ]
    return found


async def test_a_consumer_that_verifies_hears_what_becomes_of_a_delivery_in_order(
    deliveries: Deliveries,
) -> None:
    await _subscribe(deliveries, "ops")
    delivery = await deliveries.granted()
    await deliveries.fail(delivery, "why")
    async with consuming() as consumer:
        await _serve(_courier(deliveries, lambda: [consumer.hook()]))
    accepted, error = consumer.heard
    assert accepted["type"] == "fr.cnes.regards.delivery.accepted"
    assert error["type"] == "fr.cnes.regards.delivery.error"
    assert error["subject"] == delivery.correlation_id
    assert error["data"]["status"] == "ERROR"
    assert error["data"]["message"] == "why"
    assert error["deliveryid"] == str(delivery.id)
    assert datetime.fromisoformat(error["time"]) <= datetime.now(UTC)
    seen = await _seen_of(deliveries, consumer.hook())
    assert (seen.owed, seen.dead, seen.failing_since) == (0, 0, None)
    assert seen.last_success_at is not None


async def test_an_event_that_is_not_taken_is_sent_again_with_the_same_id(
    deliveries: Deliveries,
) -> None:
    await _subscribe(deliveries, "ops")
    event = await _tell(deliveries)
    redirect = {"status": "302", "Location": "/elsewhere"}
    async with consuming(500, redirect, 404) as consumer:
        courier = _courier(deliveries, lambda: [consumer.hook()])
        told = []
        for pause in (timedelta(), timedelta(seconds=5), timedelta(minutes=5), timedelta(hours=1)):
            await deliveries.elapse(pause)
            assert await _serve(courier) == 1
            assert await _serve(courier) == 0  # not before its time
            told.append((await _seen_of(deliveries, consumer.hook())).last_error)
    assert consumer.ids == [str(event.id)] * 4
    assert told == [
        "it answered 500",
        "it answered 302: redirects are not followed; give the URL that it leads to",
        "it answered 404",
        None,
    ]
    assert [heard["data"] for heard in consumer.heard] == [event.data] * 4


async def test_a_consumer_that_is_slow_is_given_up_for_now_and_heard_of_as_failing(
    deliveries: Deliveries,
) -> None:
    await _subscribe(deliveries, "ops")
    await _tell(deliveries)

    async def wait(_request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(wait) as port:
        hook = Consumer(port=port).hook()
        await _serve(_courier(deliveries, lambda: [hook], timeout=0.05))
    assert (await _seen_of(deliveries, hook)).last_error == "no answer within 0.05 seconds"


async def test_a_consumer_whose_answer_has_no_end_has_taken_the_event(
    deliveries: Deliveries,
) -> None:
    await _subscribe(deliveries, "ops")
    await _tell(deliveries)
    sent = []

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"x" * 65536)
                sent.append(65536)
        return response

    async with serving(flood) as port:
        hook = Consumer(port=port).hook()
        await _serve(_courier(deliveries, lambda: [hook]))
    assert (await _seen(deliveries)).owed == 0
    assert sum(sent) < 64 * 1024 * 1024  # what sockets hold; not more than was read


async def test_a_consumer_that_is_silent_behind_a_good_answer_has_taken_the_event(
    deliveries: Deliveries,
) -> None:
    """A gateway may send its answer's headers at once, and the body late."""
    await _subscribe(deliveries, "ops")
    await _tell(deliveries)

    async def begin(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(begin) as port:
        hook = Consumer(port=port).hook()
        await _serve(_courier(deliveries, lambda: [hook]))
    seen = await _seen_of(deliveries, hook)
    assert (seen.owed, seen.last_error) == (0, None)


async def test_a_consumer_that_is_silent_behind_a_refusal_has_refused(
    deliveries: Deliveries,
) -> None:
    """What follows is not waited for: the next event has its turn."""
    await _subscribe(deliveries, "ops")
    await _tell(deliveries)

    async def begin(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(begin) as port:
        hook = Consumer(port=port).hook()
        await _serve(_courier(deliveries, lambda: [hook]))
    seen = await _seen_of(deliveries, hook)
    assert (seen.owed, seen.last_error) == (1, "it answered 500")


@pytest.mark.parametrize("status", ["429", "503"])
async def test_a_consumer_that_asks_for_time_has_it(deliveries: Deliveries, status: str) -> None:
    await _subscribe(deliveries, "ops")
    await _tell(deliveries)
    async with consuming({"status": status, "Retry-After": "120"}) as consumer:
        courier = _courier(deliveries, lambda: [consumer.hook()])
        await _serve(courier)
        asked = (await _seen_of(deliveries, consumer.hook())).tried_again_at
        assert asked is not None
        assert timedelta(seconds=60) < asked - datetime.now(UTC) <= timedelta(seconds=120)
        await _tell(deliveries)
        await deliveries.elapse(timedelta(seconds=60))
        assert await _serve(courier) == 0
        await deliveries.elapse(timedelta(seconds=60))
        await _serve(courier)
    assert len(consumer.heard) == 3
    assert len(set(consumer.ids)) == 2


async def test_a_consumer_that_is_gone_is_sent_nothing_more(deliveries: Deliveries) -> None:
    async with consuming(410) as consumer:
        await _subscribe(deliveries, "ops", url=consumer.hook().url)
        await _tell(deliveries)
        courier = _courier(deliveries, lambda: [consumer.hook()])
        await _serve(courier)
        await _tell(deliveries)
        await deliveries.elapse(timedelta(hours=1))
        assert await _serve(courier) == 0
        seen = await _seen(deliveries)
        assert (seen.gone_url, seen.dead, seen.owed) == (consumer.hook().url, 1, 1)
        # Elsewhere it is told again.
        courier = _courier(deliveries, lambda: [consumer.hook(url=consumer.hook().url + "2")])
        await _serve(courier)
    assert len(consumer.heard) == 2


async def test_an_event_whose_worker_died_before_the_note_is_sent_again_with_the_same_id(
    deliveries: Deliveries,
) -> None:
    await _subscribe(deliveries, "ops")
    event = await _tell(deliveries)
    async with consuming() as consumer:
        courier = _courier(deliveries, lambda: [consumer.hook()])
        claim = await courier.claim()
        assert claim is not None
        async with courier.sender.to(claim.webhook) as post:
            answer = await post(claim.due[0].event, claim.due[0].happened_at)
        assert answer.taken  # and here it dies
        other = _courier(deliveries, lambda: [consumer.hook()])
        assert await other.claim() is None
        await deliveries.elapse(timedelta(minutes=2, seconds=1))
        assert await _serve(other) == 1
    assert consumer.ids == [str(event.id)] * 2
    first, second = consumer.heard
    # (The time is that of the row, which the test has made older.)
    assert {**first, "time": ""} == {**second, "time": ""}


async def test_a_silent_consumer_holds_up_no_other(deliveries: Deliveries) -> None:
    silent = [f"s{number}" for number in range(6)]
    await _subscribe(deliveries, *silent, "well")
    for _ in range(3):
        await _tell(deliveries)
    asked = asyncio.Event()

    async def be_silent(_request: web.Request) -> web.StreamResponse:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    owed = Wakeup()
    async with consuming() as consumer, serving(be_silent) as port:
        hooks = [Consumer(port=port).hook(name) for name in silent]
        hooks.append(consumer.hook("well"))
        courier = _courier(deliveries, lambda: hooks, timeout=0.2)
        couriers = Couriers(courier, owed=owed, interval=0.05, places=2, stop_timeout=0)
        await couriers.start()
        try:
            await asked.wait()
            # (What it answers late is sent again, with the same id.)
            while len(set(consumer.ids)) < 3:
                await consumer.came.wait()
                consumer.came.clear()
            await _tell(deliveries)  # now that all others are known to fail
            owed.notify({WEBHOOKS})
            while len(set(consumer.ids)) < 4:
                await consumer.came.wait()
                consumer.came.clear()
        finally:
            await couriers.stop()


async def test_a_round_that_is_cut_off_loses_nothing(deliveries: Deliveries) -> None:
    await _subscribe(deliveries, "ops")
    event = await _tell(deliveries)
    asked = asyncio.Event()

    async def wait(_request: web.Request) -> web.StreamResponse:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(wait) as port:
        hook = Consumer(port=port).hook()
        couriers = Couriers(
            _courier(deliveries, lambda: [hook]),
            owed=Wakeup(),
            interval=9,
            places=2,
            stop_timeout=0,
        )
        await couriers.start()
        await asked.wait()
        await couriers.stop()
    await deliveries.elapse(timedelta(minutes=3))
    async with consuming() as consumer:
        await _serve(_courier(deliveries, lambda: [consumer.hook()]))
    assert consumer.ids == [str(event.id)]


# Where nothing is sent.


_REBOUND = "hooks.rebound.example"


def _rebound(host: str, port: int, **_: Any) -> list[Any]:
    """Look up a name that leads to loopback by now."""
    assert host == _REBOUND
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1", "169.254.169.254", "[::1]"])
async def test_nothing_is_sent_where_no_webhook_may_be(deliveries: Deliveries, host: str) -> None:
    await _subscribe(deliveries, "ops")
    await _tell(deliveries)
    async with consuming() as consumer:
        url = f"http://{host or _REBOUND}:{consumer.port}/"
        callbacks = Callbacks(hosts=AllowedHosts.of(["*"]), plain=True)
        hook = consumer.hook(url=url)
        await _serve(_courier(deliveries, lambda: [hook], callbacks=callbacks, lookup=_rebound))
    assert consumer.heard == []
    seen = await _seen_of(deliveries, hook)
    assert seen.last_error is not None
    assert seen.last_error.startswith("nothing is sent: ")
    assert seen.owed == 1


@pytest.mark.parametrize(("scheme", "is_asked"), [("http", True), ("https", False)])
async def test_addresses_are_judged_here_unless_there_is_a_proxy_that_is_asked(
    deliveries: Deliveries,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    is_asked: bool,
) -> None:
    """A proxy that is spoken to over TLS is none that aiohttp goes by: it connects by itself."""
    await _subscribe(deliveries, "ops")
    await _tell(deliveries)
    async with consuming() as consumer, consuming({"status": "502"}) as proxy:
        monkeypatch.setenv("http_proxy", f"{scheme}://127.0.0.1:{proxy.port}")
        hook = consumer.hook(url=f"http://{_REBOUND}:{consumer.port}/")
        callbacks = Callbacks(hosts=AllowedHosts.of(["*"]), plain=True)
        await _serve(_courier(deliveries, lambda: [hook], callbacks=callbacks, lookup=_rebound))
    assert consumer.heard == []
    assert len(proxy.heard) == is_asked
    error = (await _seen_of(deliveries, hook)).last_error or ""
    assert error.startswith("it answered 502" if is_asked else "nothing is sent: "), error


@pytest.mark.parametrize("is_named", [True, False])
async def test_what_a_proxy_can_not_reach_is_told_where_the_list_names_its_host(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch, is_named: bool
) -> None:
    """Else it would tell a tenant which ports are open behind the proxy."""
    await _subscribe(deliveries, "ops")
    await _tell(deliveries)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    proxy = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with proxy:
        address = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        monkeypatch.setenv("http_proxy", address)
        hook = Consumer(port=80).hook(url="http://hooks.example.org/")
        hosts = AllowedHosts.of(["hooks.example.org" if is_named else "*.example.org"])
        callbacks = Callbacks(hosts=hosts, plain=True)
        await _serve(_courier(deliveries, lambda: [hook], callbacks=callbacks, timeout=2))
    error = (await _seen_of(deliveries, hook)).last_error or ""
    words = "no connection, or one" if is_named else "no answer from its address, which is not"
    assert error.startswith(words), error


async def test_a_host_that_is_not_there_is_told_alike_whether_it_refuses_or_hangs_up(
    deliveries: Deliveries,
) -> None:
    await _subscribe(deliveries, "refuses", "hangs")

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        hooks = [
            Consumer(port=free.getsockname()[1]).hook("refuses"),
            Consumer(port=server.sockets[0].getsockname()[1]).hook("hangs"),
        ]
        await _tell(deliveries)
        async with server:
            await _serve(_courier(deliveries, lambda: hooks))
    told = {(await _seen_of(deliveries, hook)).last_error for hook in hooks}
    assert told == {"no connection, or one that broke off before the answer"}


def _claimed(claim: Claim | None) -> Claim:
    assert claim is not None
    return claim


async def test_an_event_that_is_given_up_is_dead_and_sent_no_more(deliveries: Deliveries) -> None:
    await _subscribe(deliveries, "ops")
    event = await _tell(deliveries)
    async with consuming(500) as consumer:
        courier = replace(
            _courier(deliveries, lambda: [consumer.hook()]), given_up_after=timedelta()
        )
        await courier.serve(_claimed(await courier.claim()))
        (dead,) = await courier.outbox.dead(TENANT, "ops", before=2**62, limit=9)
        assert (dead.id, dead.last_error) == (event.id, "it answered 500")
        await deliveries.elapse(GIVEN_UP_AFTER)
        assert await _serve(courier) == 0


async def test_many_events_are_not_read_to_tell_of_webhooks_or_to_tidy(
    deliveries: Deliveries,
) -> None:
    await deliveries.pool.execute(
        "INSERT INTO webhook_event (tenant, webhook, message_id, type, delivery_id, "
        "correlation_id, data, dead_at) SELECT $1, 'w' || n % 40, gen_random_uuid(), 'done', "
        "gen_random_uuid(), 'c', '{}', CASE WHEN n % 7 = 0 THEN now() END "
        "FROM generate_series(1, 20000) AS n",
        TENANT,
    )
    await deliveries.pool.execute("VACUUM ANALYZE webhook_event")
    month = timedelta(days=30)
    statements: dict[str, dict[str, Any]] = {
        "webhooks_seen": {"tenants": [TENANT]},
        "give_up_events": {"error": "no", "after": month, "limit": 5000},
        "forget_dead_events": {"age": month, "limit": 5000},
        "forget_unnamed_events": {"limit": 5000},
        "drop_oldest_events": {"most": 100_000, "limit": 5000},
    }
    for name, arguments in statements.items():
        text, *values = STATEMENTS[name](**arguments)
        rows = await deliveries.pool.fetch(f"EXPLAIN (COSTS OFF) {text}", *values)
        plan = "\n".join(row[0] for row in rows)
        assert "Seq Scan on webhook_event" not in plan, (name, plan)
    seen = await _seen(deliveries, "w1")
    dead = sum(number % 40 == 1 and number % 7 == 0 for number in range(1, 20001))
    assert (seen.owed, seen.dead) == (500 - dead, dead)
    assert seen.oldest_owed_at is not None
