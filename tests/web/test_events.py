"""Server-sent events: what has happened, then what happens, each once, up to the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType, SimpleNamespace
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp import ClientResponse

from app.audit import Actor
from app.delivery.model import Delivery
from app.delivery.progress import Progress
from app.delivery.states import State, Work
from app.run.wiring.tenants import ConfigurationParts
from app.store import PostgresTracking
from app.views.events import EVENTS
from tests.builders import make_progress, make_stored
from tests.integration.conftest import Deliveries
from tests.web.conftest import (
    PLENTY,
    SECRET,
    Api,
    MakeClient,
    bearer,
    parts_for,
    serve,
)
from web.api.events import StreamLimits
from web.feed import Feed
from web.guard.auth import TokenVerifier
from web.guard.gate import Gate
from web.guard.limits import Turns
from web.site import Site, create_site


@pytest.fixture
def reports() -> list[Progress]:
    """What transfers report; the feed takes it away."""
    return []


@pytest.fixture
async def feed(pool: asyncpg.Pool, reports: list[Progress]) -> AsyncIterator[Feed]:
    """A running feed."""

    def news() -> list[Progress]:
        taken = list(reports)
        reports.clear()
        return taken

    made = Feed(PostgresTracking(pool), news)
    await made.start()
    yield made
    await made.stop()


MakeApi = Callable[[StreamLimits], Awaitable[Api]]


@pytest.fixture
def make_api(configuration: ConfigurationParts, aiohttp_client: MakeClient, feed: Feed) -> MakeApi:
    """Makes the application with that feed."""

    async def make(limits: StreamLimits) -> Api:
        return await serve(aiohttp_client, parts_for(configuration, feed=feed, streams=limits))

    return make


@pytest.fixture
async def api(make_api: MakeApi) -> Api:
    """The application with that feed."""
    return await make_api(StreamLimits())


def check_event(name: str, data: str) -> None:
    """Raise ValidationError where an event has a field that its view has not, or lacks one."""
    EVENTS[name].model_validate_json(data)


class Stream:
    """Reads events of an answer; each is held against the view that it is made of."""

    def __init__(self, answer: ClientResponse) -> None:
        self._answer = answer

    async def next(self) -> dict[str, Any] | None:
        """Return the next event; None at the end."""
        event: dict[str, Any] = {}
        async with asyncio.timeout(30):
            while line := await self._answer.content.readline():
                text = line.decode().rstrip("\r\n")
                if not text and "event" in event:
                    return event
                name, _, value = text.partition(": ")
                if name == "event" or (name == "id" and value):
                    event[name] = value
                elif name == "data":
                    check_event(event["event"], value)
                    event["data"] = json.loads(value)
        return None

    async def states(self, count: int) -> list[tuple[str, str]]:
        """Return id and state of the next events."""
        found: list[tuple[str, str]] = []
        while len(found) < count:
            event = await self.next()
            assert event is not None
            if event["event"] == "state":
                found.append((event["id"], event["data"]["state"]))
        return found


@contextlib.asynccontextmanager
async def streaming(
    api: Api, path: str, last: str = "", *, caller: Mapping[str, Any] = MappingProxyType({})
) -> AsyncIterator[Stream]:
    headers = {"Last-Event-ID": last} if last else {}
    answer = await api.call("GET", path, headers=headers, **caller)
    assert answer.status == 200
    assert answer.content_type == "text/event-stream"
    try:
        yield Stream(answer)
    finally:
        answer.close()


async def finish(deliveries: Deliveries) -> None:
    claimed = await deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(
            claimed, State.DONE, result=make_stored(url="s3://b/k", md5="0" * 32)
        )


async def test_a_delivery_is_told_from_its_beginning_to_its_end(
    api: Api, deliveries: Deliveries
) -> None:
    await deliveries.granted("d")
    async with streaming(api, "/deliveries/d/events") as stream:
        assert [state for _, state in await stream.states(1)] == ["GRANTED"]
        await deliveries.ready("other")
        delivery = await deliveries.active("d")
        await deliveries.fail(delivery, "no such bucket")
        ((_, state),) = await stream.states(1)
        assert state == "ERROR"
        assert await stream.next() is None  # it ends by itself


async def test_the_last_event_tells_the_result(api: Api, deliveries: Deliveries) -> None:
    await deliveries.ready("d")
    async with streaming(api, "/deliveries/d/events") as stream:
        await stream.states(3)
        await finish(deliveries)
        await stream.states(1)
        last = await stream.next()
    assert last is not None
    assert (last["data"]["url"], last["data"]["md5"]) == ("s3://b/k", "0" * 32)


async def test_a_reader_who_was_away_hears_what_it_missed_and_nothing_twice(
    api: Api, deliveries: Deliveries
) -> None:
    await deliveries.ready("d")
    async with streaming(api, "/deliveries/d/events") as stream:
        heard = await stream.states(2)
    await finish(deliveries)
    async with streaming(api, "/deliveries/d/events", heard[-1][0]) as stream:
        rest = await stream.states(3)
        assert await stream.next() is None
    assert [state for _, state in heard + rest] == [
        *("GRANTED", "AVAILABLE", "READY", "TRANSFERRING", "DONE"),
    ]
    numbers = [int(number) for number, _ in heard + rest]
    assert numbers == sorted(set(numbers))


async def test_an_attempt_that_is_given_up_is_told_at_once_and_its_cause_goes_with_the_state(
    api: Api, deliveries: Deliveries
) -> None:
    await deliveries.ready("d")
    async with streaming(api, "/deliveries/d/events") as stream:
        await stream.states(3)
        leases = deliveries.leases("w")
        claimed = await leases.claim(Work.TRANSFER)
        assert claimed is not None
        begun = await stream.next()
        await leases.release(claimed, after=timedelta(), failed=False, cause="S3 is away")
        given_up = await stream.next()
        await finish(deliveries)
        again, done = await stream.next(), await stream.next()
    assert begun is not None
    assert given_up is not None
    assert "cause" not in begun["data"]
    told = given_up["data"]
    assert (told["state"], told["cause"], told["lastCause"]) == (
        "TRANSFERRING",
        *("S3 is away",) * 2,
    )
    assert "nextAttemptAt" in told
    assert told["stateSince"] == begun["data"]["stateSince"]
    assert again is not None
    assert "cause" not in again["data"]
    assert done is not None
    assert "lastCause" not in done["data"]


async def test_a_reader_who_has_heard_the_end_is_told_not_to_come_again(
    api: Api, deliveries: Deliveries
) -> None:
    await deliveries.done("d")
    async with streaming(api, "/deliveries/d/events") as stream:
        *_, (last, _) = await stream.states(5)
    answer = await api.call("GET", "/deliveries/d/events", headers={"Last-Event-ID": last})
    assert answer.status == 204


async def test_progress_is_told_in_between(
    api: Api, deliveries: Deliveries, reports: list[Progress]
) -> None:
    delivery = await deliveries.ready("d")
    async with streaming(api, "/deliveries/d/events") as stream:
        await stream.states(3)
        reports.append(make_progress(delivery, bytes_done=1, bytes_total=4, elapsed=1))
        event = await stream.next()
    assert event is not None
    assert (event["event"], "id" in event) == ("progress", False)
    assert event["data"]["secondsLeft"] == 3


async def test_all_deliveries_of_the_tenant_are_told_and_no_others(
    api: Api, deliveries: Deliveries
) -> None:
    async with streaming(api, "/deliveries/events") as stream:
        await deliveries.granted("foreign", tenant="swot")
        await deliveries.granted("a")
        await deliveries.granted("b")
        first = [await stream.next() for _ in range(2)]
    names = [event["data"]["correlationId"] for event in first if event]
    assert names == ["a", "b"]
    last = first[0]["id"] if first[0] else ""
    async with streaming(api, "/deliveries/events", last) as stream:
        event = await stream.next()
        assert event is not None
        assert event["data"]["correlationId"] == "b"


OWNER: dict[str, Any] = {"role": "REGISTERED_USER"}  # admin@example.org, by the token


async def own(deliveries: Deliveries, delivery: Delivery) -> None:
    """Make the delivery that of the caller's token, and its steps."""
    await deliveries.pool.execute(
        "WITH own AS (UPDATE delivery SET user_email = 'admin@example.org' WHERE id = $1) "
        "UPDATE delivery_history SET user_email = 'admin@example.org' WHERE delivery_id = $1",
        delivery.id,
    )


async def test_a_user_hears_of_their_own_deliveries_alone(
    api: Api, deliveries: Deliveries, reports: list[Progress]
) -> None:
    theirs, mine = await deliveries.ready("theirs"), await deliveries.ready("mine")
    await own(deliveries, mine)
    namesake = await deliveries.granted("abroad", tenant="swot")
    await own(deliveries, namesake)
    # Whatever the query names.
    path = f"/deliveries/events?user={theirs.user}&id={theirs.id}&tenant=swot"
    async with streaming(api, path, caller=OWNER) as stream:
        for delivery in (theirs, namesake):
            reports.append(make_progress(delivery, bytes_done=1, bytes_total=4))
            await deliveries.fail(delivery, "no such bucket")
        await deliveries.fail(mine, "no such bucket")
        event = await stream.next()
    assert event is not None
    assert (event["event"], event["data"]["correlationId"]) == ("state", "mine")


async def test_a_user_who_missed_too_much_is_not_told_how_much_happens_to_others(
    make_api: MakeApi, deliveries: Deliveries
) -> None:
    api = await make_api(StreamLimits(replayed=5))
    mine = await deliveries.ready("mine")
    await own(deliveries, mine)
    first = await deliveries.pool.fetchval("SELECT min(id) FROM delivery_history")
    await history(deliveries, mine, 20)
    newest = await deliveries.changes.last()
    await history(deliveries, await deliveries.ready("theirs"), 20)
    async with streaming(api, "/deliveries/events", str(first), caller=OWNER) as stream:
        numbers, event = await told_until_reload(stream)
    assert len(numbers) == 5
    assert int(event["id"]) == newest  # of their own; what comes again begins there


async def test_a_user_hears_how_far_their_own_transfer_is_that_began_before(
    api: Api, deliveries: Deliveries, reports: list[Progress]
) -> None:
    theirs, mine = await deliveries.claimed("theirs"), await deliveries.claimed("mine")
    await own(deliveries, mine)
    async with streaming(api, "/deliveries/events", caller=OWNER) as stream:
        reports += [make_progress(each, bytes_done=1, bytes_total=4) for each in (theirs, mine)]
        event = await stream.next()
        assert event is not None
        assert (event["event"], event["data"]["id"]) == ("progress", str(mine.id))
        await deliveries.fail(await deliveries.active("mine"), "no such bucket")
        ended = await stream.next()
    assert ended is not None
    assert (ended["event"], ended["data"]["state"]) == ("state", "ERROR")


async def test_a_user_who_was_away_hears_what_they_missed_of_their_own(
    make_api: MakeApi, deliveries: Deliveries
) -> None:
    api = await make_api(StreamLimits(replayed=2))
    for name in ("theirs", "theirs too"):
        await deliveries.ready(name)
    mine = await deliveries.granted("mine")
    await own(deliveries, mine)
    first = await deliveries.pool.fetchval("SELECT min(id) FROM delivery_history")
    async with streaming(api, "/deliveries/events", str(first), caller=OWNER) as stream:
        event = await stream.next()  # not that more was missed: that was of others
        assert event is not None
        assert (event["event"], event["data"]["id"]) == ("state", str(mine.id))


async def test_how_much_happens_to_others_is_not_told_to_a_user(
    api: Api, deliveries: Deliveries
) -> None:
    await deliveries.granted("theirs")
    mine = await deliveries.granted("mine")
    await own(deliveries, mine)
    answer = await api.call("GET", "/deliveries/events", **OWNER)
    assert answer.status == 200
    await deliveries.fail(mine, "no such bucket")
    said = b""
    async with asyncio.timeout(20):
        while not (line := await answer.content.readline()).startswith(b"event: "):
            said += line
    answer.close()
    steps = await deliveries.pool.fetch(
        "SELECT id FROM delivery_history WHERE delivery_id = $1 ORDER BY id", mine.id
    )
    assert re.findall(rb"id: ([0-9]+)", said) == [str(step["id"]).encode() for step in steps]


class Nameless(TokenVerifier):
    """Lets in a caller whom a token does not name, as no verifier does."""

    def verify(self, token: str) -> Actor:
        return replace(super().verify(token), name="")


async def test_a_caller_without_a_name_hears_of_nothing(
    configuration: ConfigurationParts,
    feed: Feed,
    deliveries: Deliveries,
    reports: list[Progress],
    aiohttp_client: MakeClient,
) -> None:
    """Should a token without a name ever get so far, it is told of no user's deliveries."""
    theirs = await deliveries.claimed("theirs")
    first = await deliveries.pool.fetchval("SELECT min(id) FROM delivery_history")
    gate = Gate(Nameless(secret=SECRET, public_key=""), configuration.tenants, limits=PLENTY)
    api = await serve(
        aiohttp_client,
        parts_for(configuration, feed=feed, gate=gate, streams=StreamLimits(ping_interval=0.1)),
    )
    for last in ("", str(first)):
        headers = {"Last-Event-ID": last} if last else {}
        answer = await api.call("GET", "/deliveries/events", headers=headers, **OWNER)
        async with streaming(api, "/deliveries/theirs/events", caller={}) as told:
            reports.append(make_progress(theirs, bytes_done=1, bytes_total=4))
            while (event := await told.next()) is not None and event["event"] != "progress":
                pass
        lines = [await answer.content.readline() for _ in range(6)]
        assert not [line for line in lines if line.startswith((b"event: ", b"data: "))]
        answer.close()


async def test_a_thousand_readers_hear_the_same(api: Api, deliveries: Deliveries) -> None:
    await deliveries.granted("d")
    url = api.client.make_url("/deliveries/events")
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=bearer()) as session:
        answers = [await session.get(url) for _ in range(1000)]
        await deliveries.granted("e")
        heard = await asyncio.gather(*(Stream(answer).next() for answer in answers))
        for answer in answers:
            answer.close()
    assert {event["data"]["correlationId"] for event in heard if event} == {"e"}
    assert len({event["id"] for event in heard if event}) == 1


@contextlib.asynccontextmanager
async def real_server(parts: Any) -> AsyncIterator[str]:
    """Serve as in production: the server of the tests cancels handlers whose client is gone."""
    site = Site(create_site(parts), host="127.0.0.1", port=0, tls=None)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site.port}"
    finally:
        await site.stop()


@pytest.mark.parametrize("abruptly", [False, True])
async def test_a_place_of_a_reader_is_free_once_it_is_gone_though_nothing_happens(
    configuration: ConfigurationParts,
    feed: Feed,
    abruptly: bool,
) -> None:
    silent = StreamLimits(ping_interval=3600.0)  # no comment finds out
    gate = Gate(
        TokenVerifier(secret=SECRET, public_key=""),
        configuration.tenants,
        limits=replace(PLENTY, all_streams=Turns(1)),
    )
    parts = parts_for(configuration, feed=feed, gate=gate, streams=silent)
    async with real_server(parts) as server:
        url = f"{server}/deliveries/events"
        async with (
            aiohttp.ClientSession(headers=bearer()) as session,
            aiohttp.ClientSession(headers=bearer(tenant="swot")) as other,
        ):
            answer = await session.get(url)
            assert answer.status == 200
            assert (await other.get(url)).status == 503
            if abruptly:
                assert answer.connection is not None
                assert answer.connection.transport is not None
                answer.connection.transport.abort()
            answer.close()
            async with asyncio.timeout(20):
                while (again := await other.get(url)).status == 503:
                    await asyncio.sleep(0.05)
            again.close()


async def test_a_stream_ends_with_its_token_and_says_so(
    configuration: ConfigurationParts, feed: Feed
) -> None:
    """What clocks that differ are granted is not enough to begin another one."""
    expires = int(time.time())
    async with (
        real_server(parts_for(configuration, feed=feed)) as url,
        aiohttp.ClientSession(url, headers=bearer(exp=expires)) as session,
    ):
        with pytest.MonkeyPatch.context() as patched:  # the clock of streams stands just before
            clock = SimpleNamespace(time=lambda: expires - 0.2)
            patched.setattr("web.api.events.time", clock)
            stream = Stream(await session.get("/deliveries/events"))
        event = await stream.next()
        assert event is not None
        assert event["event"] == "expired"
        assert "sign in again" in event["data"]["message"]
        assert await stream.next() is None
        again = await session.get("/deliveries/events")
        assert again.status == 401
        assert "sign in again" in (await again.json())["message"]
        assert (await session.get("/settings")).status == 200


async def test_a_stream_lasts_an_hour_at_most(make_api: MakeApi) -> None:
    assert StreamLimits().duration == 3600  # seconds
    api = await make_api(StreamLimits(duration=0.2))
    async with streaming(api, "/deliveries/events") as stream:
        assert await stream.next() is None  # and come again, with the same token


async def history(deliveries: Deliveries, delivery: Delivery, count: int) -> None:
    """Write steps as if attempts had been given up."""
    await deliveries.pool.execute(
        "INSERT INTO delivery_history (delivery_id, state, attempt, cause, at)"
        " SELECT $1, 'READY', n, 'S3 is away', now() - interval '1 hour' + n * interval '10 s'"
        " FROM generate_series(1, $2) n",
        delivery.id,
        count,
    )


async def told_until_reload(stream: Stream) -> tuple[list[int], dict[str, Any]]:
    numbers: list[int] = []
    while (event := await stream.next()) is not None:
        if event["event"] == "reload":
            return numbers, event
        numbers.append(int(event["id"]))
    raise AssertionError("no event says so")


async def test_a_reader_who_missed_too_much_is_told_to_look_it_up_again(
    make_api: MakeApi, deliveries: Deliveries
) -> None:
    api = await make_api(StreamLimits(replayed=5))
    delivery = await deliveries.ready("d")
    first = await deliveries.pool.fetchval("SELECT min(id) FROM delivery_history")
    await history(deliveries, delivery, 20)
    newest = await deliveries.pool.fetchval("SELECT max(id) FROM delivery_history")
    for path in ("/deliveries/events", "/deliveries/d/events"):
        async with streaming(api, path, str(first)) as stream:
            numbers, event = await told_until_reload(stream)
            assert len(numbers) == 5
            assert "look it up again" in event["data"]["message"]
            assert int(event["id"]) == newest  # what comes again begins there
        async with streaming(api, path, event["id"]) as stream:
            await history(deliveries, delivery, 1)
            number = newest  # some of the moments before may come again
            while number <= newest:
                following = await stream.next()
                assert following is not None
                assert following["event"] == "state"
                number = int(following["id"])
            newest = number


async def test_a_stream_of_what_has_ended_ends_though_not_all_is_told(
    make_api: MakeApi, deliveries: Deliveries
) -> None:
    api = await make_api(StreamLimits(replayed=2))
    await deliveries.done("d")
    async with streaming(api, "/deliveries/d/events") as stream:
        numbers, event = await told_until_reload(stream)
        assert len(numbers) == 2
        assert await stream.next() is None
    answer = await api.call("GET", "/deliveries/d/events", headers={"Last-Event-ID": event["id"]})
    assert answer.status == 204


async def test_a_number_that_was_never_told_hides_nothing(api: Api, deliveries: Deliveries) -> None:
    """As of a database that was put back to an earlier moment."""
    delivery = await deliveries.ready("d")
    async with streaming(api, "/deliveries/d/events", "99999999") as stream:
        await deliveries.fail(delivery, "no such bucket")
        assert [state for _, state in await stream.states(1)] == ["ERROR"]
        assert await stream.next() is None


@pytest.mark.parametrize("before", [0, 1], ids=["the first", "not the first"])
@pytest.mark.parametrize("caller", [{}, OWNER], ids=["of all", "of their own"])
async def test_a_reader_who_has_heard_nothing_yet_misses_nothing_when_it_comes_again(
    api: Api, deliveries: Deliveries, caller: dict[str, Any], before: int
) -> None:
    for _ in range(before):
        await own(deliveries, await deliveries.granted("before"))
    answer = await api.call("GET", "/deliveries/events", **caller)
    async with asyncio.timeout(30):
        while not (line := await answer.content.readline()).startswith(b"id: "):
            assert line
    answer.close()
    await own(deliveries, await deliveries.granted("meanwhile"))
    last = line.decode().strip().removeprefix("id: ")
    async with streaming(api, "/deliveries/events", last, caller=caller) as stream:
        while (event := await stream.next()) is not None:
            if event["data"]["correlationId"] == "meanwhile":
                return
    raise AssertionError("it was not told")


async def test_a_stream_is_of_one_delivery_however_its_id_is_used_next(
    api: Api, deliveries: Deliveries, reports: list[Progress]
) -> None:
    """Neither hears of the other: not of states, not of how far it is."""
    first = await deliveries.ready("d")
    async with streaming(api, "/deliveries/d/events") as stream:
        await stream.states(3)
        await deliveries.fail(first, "no such bucket")
        second = await deliveries.granted("d")
        rest = []
        while (event := await stream.next()) is not None:
            rest.append(event["data"])
        assert [(data["id"], data["state"]) for data in rest] == [(str(first.id), "ERROR")]
    async with streaming(api, "/deliveries/d/events") as stream:
        event = await stream.next()
        assert event is not None
        assert event["data"]["id"] == str(second.id)
    async with streaming(api, f"/deliveries/d/events?id={first.id}") as stream:
        assert [state for _, state in await stream.states(4)][-1] == "ERROR"
        assert await stream.next() is None


async def test_streams_end_when_the_server_stops(
    api: Api, deliveries: Deliveries, feed: Feed
) -> None:
    async with streaming(api, "/deliveries/events") as stream:
        feed.release()
        assert await stream.next() is None
