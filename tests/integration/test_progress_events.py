"""Progress over AMQP, by RabbitMQ itself: told while it is true, and to tenants that have it on."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from compose.embedded.stack import ROOT, Stack
from tests.client import RESPONSES, Client, request_for
from tests.command import delivery
from tests.conftest import noise
from tests.service import running_service
from tests.standin import StandIn

MIB = 1024 * 1024
PROGRESS = "regards.broadcast.fr.cnes.regards.modules.delivery.amqp.output.DeliveryProgressDtoEvent"


class Listener:
    """Hears progress and responses by one queue, in the order in which RabbitMQ had them."""

    def __init__(self, messages: AsyncIterator[AbstractIncomingMessage]) -> None:
        self.messages = messages

    async def next(self, correlation_id: str) -> AbstractIncomingMessage:
        """Return the next message about a delivery."""
        async with asyncio.timeout(60):
            async for message in self.messages:
                if json.loads(message.body).get("correlationId") == correlation_id:
                    return message
        raise AssertionError("the queue is gone")


@pytest.fixture
async def listener(stack: Stack) -> AsyncIterator[Listener]:
    connection = await aio_pika.connect(stack.environment["DELIVERY_AMQP_URL"])
    async with connection, connection.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        for name in (PROGRESS, RESPONSES):
            exchange = await channel.declare_exchange(
                name, aio_pika.ExchangeType.FANOUT, durable=True
            )
            await queue.bind(exchange)
        async with queue.iterator(no_ack=True) as messages:
            yield Listener(messages)


@pytest.fixture
async def told(stack: Stack, apart: dict[str, str]) -> AsyncIterator[dict[str, str]]:
    """A service whose tenant has it on; its environment."""
    extra = apart | {"DELIVERY_PROGRESS_INTERVAL": "1"}
    environment = {**stack.environment, **extra}
    async with running_service(stack, extra=extra):
        done = await asyncio.to_thread(
            delivery, "settings", "set", "progress_events", "true", **environment
        )
        assert done.returncode == 0, done.stderr
        yield environment


@pytest.fixture
async def slow(standin: StandIn, make_product: Callable[..., str]) -> dict[str, object]:
    """A request whose transfer takes minutes until the stand-in behaves again."""
    await standin.misbehave(bytes_per_second=400_000)
    return request_for(make_product({"a.bin": noise(20 * MIB), "b.txt": b"b"}))


async def test_a_client_hears_how_far_its_delivery_is_until_it_ends(
    told: dict[str, str],
    client: Client,
    listener: Listener,
    standin: StandIn,
    slow: dict[str, object],
) -> None:
    name = str(slow["correlationId"])
    await client.send(slow, app_id="a-client", priority=3)
    heard = [json.loads((await listener.next(name)).body)]
    assert heard[0]["status"] == "GRANTED"
    message = await listener.next(name)
    told_first = json.loads(message.body)
    assert message.exchange == PROGRESS
    assert (message.app_id, message.priority, message.correlation_id) == ("a-client", 3, name)
    assert message.delivery_mode == aio_pika.DeliveryMode.NOT_PERSISTENT
    assert message.expiration == 60
    assert str(message.headers["__TypeId__"]).endswith(
        "delivery.amqp.output.DeliveryProgressDtoEvent"
    )
    assert (told_first["activity"], told_first["attempt"]) == ("TRANSFERRING", 1)
    assert (told_first["filesTotal"], told_first["bytesTotal"]) == (2, 20 * MIB + 1)
    second = json.loads((await listener.next(name)).body)
    assert second["bytesDone"] >= told_first["bytesDone"]
    assert second["time"] > told_first["time"], "one in an interval"
    await standin.behave()
    while "status" not in (last := json.loads((await listener.next(name)).body)):
        assert last["deliveryId"] == told_first["deliveryId"]
    assert last["status"] == "DONE"


async def test_nothing_is_told_of_a_delivery_after_its_end_though_its_worker_goes_on(
    told: dict[str, str],
    client: Client,
    listener: Listener,
    slow: dict[str, object],
) -> None:
    """What cancels it tells its client at once, and its worker with the next renewal."""
    name = str(slow["correlationId"])
    await client.send(slow)
    while "activity" not in json.loads((await listener.next(name)).body):
        pass
    done = await asyncio.to_thread(delivery, "cancel", name, "--reason", "no more use", **told)
    assert done.returncode == 0, done.stderr
    while "status" not in (last := json.loads((await listener.next(name)).body)):
        pass
    assert last["status"] == "ERROR"
    # What is heard of it until another one was told of twice, is heard after its end.
    other = request_for(order=slow["order"])
    await client.send(other)
    heard: list[str] = []
    async with asyncio.timeout(60):
        async for message in listener.messages:
            body = json.loads(message.body)
            if "activity" in body:
                heard.append(body["correlationId"])
                if heard.count(str(other["correlationId"])) == 2:
                    break
    assert name not in heard


async def test_a_tenant_that_has_it_off_has_no_exchange_made_for_it(
    stack: Stack, apart: dict[str, str], client: Client, make_product: Callable[..., str]
) -> None:
    connection = await aio_pika.connect(stack.environment["DELIVERY_AMQP_URL"])
    async with connection, connection.channel() as channel:
        await channel.exchange_delete(PROGRESS)
        extra = apart | {"DELIVERY_PROGRESS_INTERVAL": "1"}
        async with running_service(stack, extra=extra):
            done = await client.answer(request_for(make_product({"a": b"a"})))
            assert done["status"] == "DONE"
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
            await channel.get_exchange(PROGRESS, ensure=True)


async def test_the_example_of_the_docs_follows_a_delivery(
    told: dict[str, str], stack: Stack, client: Client, standin: StandIn, slow: dict[str, object]
) -> None:
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    example = text.partition("<!-- tests run this -->\n```python\n")[2].partition("```")[0]
    name = str(slow["correlationId"])
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", example, stack.environment["DELIVERY_AMQP_URL"], name),
        stdout=asyncio.subprocess.PIPE,
    )
    assert program.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert await program.stdout.readline() == b"listening\n"
            await client.send(slow)
            first = await program.stdout.readline()
            assert first.startswith(b"TRANSFERRING ")
            assert b" of 20,971,521 bytes" in first
            await standin.behave()
            rest = (await program.stdout.read()).decode().splitlines()
            assert rest[-1].startswith("DONE s3://")
            assert await program.wait() == 0
    finally:
        if program.returncode is None:
            program.kill()
