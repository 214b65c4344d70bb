"""A stream ends soon after its caller would not be let in any more; others go on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.run.wiring.tenants import ConfigurationParts
from tests.builders import make_token
from tests.integration.conftest import Deliveries
from tests.web.conftest import PLENTY, SECRET, TENANT, Api, MakeClient, parts_for, serve
from tests.web.looks import Looks
from tests.web.test_events import Stream, streaming
from web.feed import Feed
from web.guard.auth import TokenVerifier
from web.guard.gate import Gate
from web.guard.keys import TokenKeys

OTHER = "another-secret-" * 6


@pytest.fixture
def looks() -> Looks:
    """When it is looked whether streams may go on."""
    return Looks()


@pytest.fixture
def gate(configuration: ConfigurationParts, looks: Looks) -> Gate:
    """What lets callers in, by one secret."""
    return Gate(
        TokenVerifier(secret=SECRET, public_key=""),
        configuration.tenants,
        limits=PLENTY,
        until_look=looks,
    )


@pytest.fixture
async def api(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, feed: Feed, gate: Gate
) -> Api:
    """The application behind that gate."""
    return await serve(aiohttp_client, parts_for(configuration, feed=feed, gate=gate))


@pytest.fixture
async def feed(deliveries: Deliveries) -> AsyncIterator[Feed]:
    """What happens to the deliveries of this test."""
    made = Feed(deliveries.changes, list)
    await made.start()
    yield made
    await made.stop()


async def events(stream: Stream) -> list[str]:
    """Return the names of all events up to the end."""
    found = []
    while (event := await stream.next()) is not None:
        found.append(event["event"])
    return found


async def test_a_stream_of_a_tenant_that_is_gone_ends(
    api: Api, configuration: ConfigurationParts, looks: Looks
) -> None:
    async with streaming(api, "/deliveries/events") as stream:
        await looks.one_that_changes_nothing()
        fewer = configuration.tenants.static.model_copy(update={"tenants": ("another",)})
        configuration.tenants.serve(fewer)
        await looks.one()
        assert await events(stream) == []
    answer = await api.call("GET", "/deliveries/events")  # as one who comes again is told
    assert answer.status == 403


async def test_a_stream_whose_key_was_withdrawn_ends_with_a_word_and_others_go_on(
    api: Api, gate: Gate, looks: Looks, deliveries: Deliveries
) -> None:
    async with streaming(api, "/deliveries/events") as stream:
        gate.check_with(TokenKeys(secrets=[SECRET, OTHER]))
        await looks.one_that_changes_nothing()
        await deliveries.granted("goes-on")
        assert [state for _, state in await stream.states(1)] == ["GRANTED"]
        gate.check_with(TokenKeys(secrets=[OTHER]))
        await looks.one()
        event = await stream.next()
        assert event is not None
        assert event["event"] == "expired"
        assert event["data"]["message"] == "the token is not valid"  # it has not run out
        assert await stream.next() is None
    token = make_token(OTHER, tenant=TENANT, role="ADMIN")
    headers = {"Authorization": f"Bearer {token}"}
    answer = await api.client.get("/deliveries/events", headers=headers)
    assert answer.status == 200
    answer.close()
