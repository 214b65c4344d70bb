"""The client library on the service itself: what it sends is taken, what it hears is understood."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.delivery.states import State, Work
from app.run.wiring.tenants import ConfigurationParts
from app.store import PostgresTracking
from rs_delivery_client import (
    DeliveryClient,
    DeliveryFailedError,
    Event,
    InvalidRequestError,
    Key,
    NotFoundError,
    NotSignedInError,
    StateEvent,
)
from tests.builders import make_stored
from tests.integration.conftest import Deliveries
from tests.web.conftest import SECRET, TENANT, MakeClient, parts_for, serve
from web.feed import Feed

ORDER = {"user": "someone@cnes.fr", "queries": ["providerId:P"]}
KEY = Key(secret=SECRET, tenant=TENANT, user="admin@example.org", role="ADMIN")


@pytest.fixture
async def url(
    pool: asyncpg.Pool, configuration: ConfigurationParts, aiohttp_client: MakeClient
) -> AsyncIterator[str]:
    """Where the service is."""
    feed = Feed(PostgresTracking(pool), list)
    await feed.start()
    api = await serve(aiohttp_client, parts_for(configuration, feed=feed))
    yield str(api.client.make_url(""))
    await feed.stop()


@pytest.fixture
async def client(url: str) -> AsyncIterator[DeliveryClient]:
    """An administrator's client of it."""
    async with DeliveryClient(url, token=KEY) as opened:
        yield opened


async def finish(deliveries: Deliveries) -> None:
    claimed = await deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(claimed, State.DONE, result=make_stored(url="s3://b/k"))


async def test_a_request_is_taken_in_once(client: DeliveryClient) -> None:
    first = await client.submit(ORDER, correlation_id="a/b é", format="tar", labels=["x", "y"])
    again = await client.submit(
        ORDER, correlation_id="a/b é", format="tar", labels=["x", "y"], idempotency_key="k"
    )
    assert first.id == again.id
    assert (first.state, first.format, first.labels) == ("GRANTED", "tar", ("x", "y"))
    assert await client.delivery(first) == await client.delivery("a/b é")


async def test_what_is_refused_is_told_rule_by_rule(client: DeliveryClient, url: str) -> None:
    with pytest.raises(InvalidRequestError, match="queries"):
        await client.submit({"user": "u", "queries": []}, correlation_id="d")
    with pytest.raises(NotFoundError, match="has no delivery 'd'"):
        await client.delivery("d")
    async with DeliveryClient(url) as stranger:
        with pytest.raises(NotSignedInError, match="sign in"):
            await stranger.delivery("d")


async def test_lists_are_read_page_after_page(
    client: DeliveryClient, deliveries: Deliveries
) -> None:
    for number in range(60):
        await deliveries.granted(f"d-{number}")
    await deliveries.ready("ready")
    granted = [delivery.correlation_id async for delivery in client.deliveries(states=["GRANTED"])]
    assert granted == [f"d-{number}" for number in reversed(range(60))]
    files = [file.path async for file in client.files("ready")]
    assert files
    assert len(files) == (await client.delivery("ready")).files


async def test_a_delivery_is_watched_to_its_end(
    client: DeliveryClient, deliveries: Deliveries
) -> None:
    await deliveries.ready("d")
    told: list[Event] = []
    ready = asyncio.Event()

    async def watch() -> None:
        async for event in client.watch("d"):
            told.append(event)
            if isinstance(event, StateEvent) and event.delivery.state == "READY":
                ready.set()

    watching = asyncio.create_task(watch())
    waiting = asyncio.create_task(client.wait("d", timeout=60))
    await asyncio.wait_for(ready.wait(), 60)
    await finish(deliveries)
    await watching
    states = [event.delivery.state for event in told if isinstance(event, StateEvent)]
    assert states == ["GRANTED", "AVAILABLE", "READY", "TRANSFERRING", "DONE"]
    assert (await waiting).url == "s3://b/k"


async def test_what_ends_in_error_says_why(client: DeliveryClient, deliveries: Deliveries) -> None:
    delivery = await deliveries.granted("d")
    await deliveries.fail(delivery, "no such bucket")
    with pytest.raises(DeliveryFailedError, match="no such bucket"):
        await client.wait("d", timeout=60)
