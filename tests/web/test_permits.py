"""A stream ends soon after its caller would not be let in any more; others go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientError
from aiohttp.test_utils import make_mocked_request
from structlog.testing import capture_logs

from app.audit import Actor
from app.run.wiring.tenants import ConfigurationParts
from tests.builders import make_token
from tests.integration.conftest import Deliveries
from tests.web.conftest import PLENTY, SECRET, TENANT, Api, MakeClient, parts_for, serve
from tests.web.looks import Looks
from tests.web.test_events import Stream, streaming
from web.api.events import StreamLimits, _Stream
from web.endpoint import ACTOR
from web.feed import Feed, Frame, Subscriber
from web.guard.auth import TokenVerifier
from web.guard.gate import Gate
from web.guard.keys import TokenKeys
from web.guard.permits import PERMIT, Permit

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


async def test_a_stream_whose_watching_breaks_off_ends_and_that_is_told(
    configuration: ConfigurationParts, aiohttp_client: MakeClient, feed: Feed
) -> None:
    looks = Looks()

    async def look() -> None:
        await looks()
        raise RuntimeError("a fault of the watching")

    gate = Gate(
        TokenVerifier(secret=SECRET, public_key=""),
        configuration.tenants,
        limits=PLENTY,
        until_look=look,
    )
    api = await serve(aiohttp_client, parts_for(configuration, feed=feed, gate=gate))
    async with streaming(api, "/deliveries/events") as stream:
        with capture_logs() as logs:
            await looks.one()
            with pytest.raises(ClientError):  # it is broken off: its client comes again
                await events(stream)
    (told,) = [line for line in logs if line["event"] == "stream_not_watched"]
    assert (told["log_level"], told["tenant"], told["exc_info"]) == ("error", TENANT, True)


async def test_a_permit_that_is_withdrawn_as_the_time_is_over_ends_the_stream_with_its_word() -> (
    None
):
    faults: list[dict[str, Any]] = []
    loop, permit = asyncio.get_running_loop(), Permit()
    loop.set_exception_handler(lambda _, context: faults.append(context))

    class Withdrawn(Subscriber):
        async def frames(self) -> list[Frame] | None:
            # In the turn in which the time is over, right behind that.
            loop.call_soon(lambda: permit.withdraw("the key was taken away", signed_out=True))
            return await super().frames()

    request = make_mocked_request("GET", "/deliveries/events")
    request[PERMIT], request[ACTOR] = permit, Actor(name="u", role="ADMIN", tenant=TENANT)
    stream = _Stream(
        request, Withdrawn(TENANT, None, None), lambda _: False, StreamLimits(), ends=False
    )
    await stream.write([], until=time.time())
    assert faults == []
    writer: Any = request.writer
    written = b"".join(call.args[0] for call in writer.write.call_args_list)
    assert b"the key was taken away" in written
