"""What can't be answered is kept where an operator finds it, can mend it and put it back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from pamqp.commands import Basic

from compose.embedded.stack import TENANT
from tests.client import ORDER_QUEUE, ORDER_RESPONSES, REQUEST_QUEUE, REQUESTS, Client, request_for
from tests.command import delivery

pytestmark = [pytest.mark.acceptance, pytest.mark.usefixtures("service", "environment")]


@contextlib.asynccontextmanager
async def dead_letter_in(
    client: Client, queue: str, body: bytes
) -> AsyncIterator[AbstractIncomingMessage]:
    """Wait for a dead letter by its body; it is removed at the end."""
    dead_letters = await client.channel.get_queue(f"{queue}.DLQ", ensure=False)
    async with dead_letters.iterator(timeout=30) as arriving:
        async for dead_letter in arriving:
            if dead_letter.body == body:
                yield dead_letter
                await dead_letter.ack()
                return
            await dead_letter.ack()


@pytest.mark.parametrize(
    ("body", "tenant", "reason"),
    [
        (b"this is no json", TENANT, "the body is no JSON"),
        (b"", TENANT, "the body is no JSON"),
        (b"[1]", TENANT, "the body is no JSON object"),
        (b'"text"', TENANT, "the body is no JSON object"),
        (b"null", TENANT, "the body is no JSON object"),
        (b"\xff{}", TENANT, "the body is not UTF-8"),
        (b'{"correlationId": "\\ud800"}', TENANT, "the body holds half of a surrogate pair"),
        (b'{"correlationId": "a\\u0000"}', TENANT, "the body holds a NUL character"),
        (b'{"correlationId": NaN}', TENANT, "the body is no JSON: NaN"),
        (b'{"correlationId": 1e999}', TENANT, "the body is no JSON: 1e999 is too large"),
        (b'{"a": ' * 50_000, TENANT, "the body is no JSON"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, TENANT, "the body is nested deeper than 64 levels"),
        (b'{"a": "' + b"x" * 2**20 + b'"}', TENANT, "the body has 1048585 bytes, more than"),
        (b'{"correlationId": 5}', TENANT, "the body has no correlationId"),
        (b'{"correlationId": " "}', TENANT, "the body has no correlationId"),
        (b'{"order": {}}', TENANT, "the body has no correlationId"),
        (b'{"correlationId": "x"}', None, "the header regards.tenant is missing"),
        (b'{"correlationId": "x"}', "nobody", "unknown tenant 'nobody'"),
    ],
)
async def test_a_message_that_cannot_be_answered_is_kept_untouched_with_the_reason(
    client: Client, body: bytes, tenant: str | None, reason: str
) -> None:
    headers = {"custom": "kept", "number": 5, "nothing": None, "bytes": bytearray(b"\xff")}
    await client.send(body, tenant=tenant, headers=headers, message_id="m-1", priority=3)
    async with dead_letter_in(client, REQUEST_QUEUE, body) as dead_letter:
        told = dict(dead_letter.headers)
        assert str(told.pop("x-exception-message")).startswith(reason)
        assert told.pop("x-death-queue") == REQUEST_QUEUE
        assert told.pop("x-death-exchange") == REQUESTS
        assert told == headers | ({"regards.tenant": tenant} if tenant else {})
        assert (dead_letter.message_id, dead_letter.priority) == ("m-1", 3)
        assert dead_letter.delivery_mode == 2


_DONE = {"correlationId": "x", "status": "DONE"}


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"status": "GRANTED"}, "the body has no correlationId"),
        (
            {"correlationId": "x", "status": "PAUSED"},
            "status must be GRANTED, DENIED, SUBORDER_DONE, DONE or FAILED",
        ),
        ({"correlationId": "x"}, "status is missing"),
        (_DONE | {"orderId": "7"}, "orderId must be a whole number"),
        (_DONE | {"errors": 2**70}, "errors is too large"),
    ],
)
async def test_an_order_event_that_says_nothing_to_us_is_kept(
    client: Client, event: dict[str, Any], reason: str
) -> None:
    await client.tell(event)
    async with dead_letter_in(client, ORDER_QUEUE, json.dumps(event).encode()) as dead_letter:
        assert dead_letter.headers["x-exception-message"] == reason
        assert dead_letter.headers["x-death-exchange"] == ORDER_RESPONSES


class RawProperties(Basic.Properties):
    """Properties as bytes: what no decent library would send."""

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        self.raw = raw

    def marshal(self) -> bytes:
        return self.raw


class RawMessage(aio_pika.Message):
    """A message with such properties."""

    def __init__(self, body: bytes, raw: bytes) -> None:
        super().__init__(body)
        self.raw = raw

    @property
    def properties(self) -> Basic.Properties:
        return RawProperties(self.raw)


def table(content: bytes) -> bytes:
    """Return properties that have only headers."""
    return struct.pack(">HI", 1 << 13, len(content)) + content


def nested(levels: int) -> bytes:
    content = b""
    for _ in range(levels):
        content = b"\x01aF" + struct.pack(">I", len(content)) + content
    return content


@pytest.mark.parametrize(
    "properties",
    [
        pytest.param(struct.pack(">HQ", 1 << 6, 1_764_000_000_000_000), id="microseconds"),
        pytest.param(struct.pack(">HQ", 1 << 6, 2**64 - 1), id="the last timestamp of all"),
        pytest.param(table(b"\x02\xe9\xe9t\x01"), id="a header name that is Latin-1"),
        pytest.param(struct.pack(">H", 1 << 3) + b"\x02\xe9\xe9", id="an app_id that is Latin-1"),
        pytest.param(table(nested(3000)), id="headers in headers in headers"),
        pytest.param(table(b"\x01aS\x00\x00\x00\x01\xe9"), id="a header that is Latin-1"),
    ],
)
async def test_properties_that_cannot_be_decoded_do_not_stop_the_service(
    client: Client, make_product: Callable[..., str], properties: bytes
) -> None:
    body = json.dumps(request_for("P")).encode()
    exchange = await client.channel.get_exchange(REQUESTS, ensure=False)
    await exchange.publish(RawMessage(body, properties), "")
    answer = await client.answer(request_for(make_product({"a": b"a"})))
    assert answer["status"] == "DONE"

    listed = await asyncio.to_thread(delivery, "dlq", "list", "--json")
    (dead_letter,) = [
        entry
        for entry in map(json.loads, listed.stdout.splitlines())
        if entry["correlationId"] == json.loads(body)["correlationId"]
    ]
    assert dead_letter["reason"].startswith("its AMQP properties can't be ")
    refused = await asyncio.to_thread(delivery, "dlq", "requeue", dead_letter["id"])
    assert refused.returncode == 1
    assert "give --tenant and --body" in refused.stderr
    async with dead_letter_in(client, REQUEST_QUEUE, body):
        pass


async def test_a_dead_letter_is_listed_shown_mended_put_back_and_answered(
    client: Client, make_product: Callable[..., str], tmp_path: Path
) -> None:
    good = request_for(make_product({"a.txt": b"text"}))
    broken = json.dumps(good).encode()[:-1]
    await client.send(broken, app_id="my-app", priority=4, headers={"custom": "kept"})
    # What is answered after it tells that it was looked at.
    await client.answer(request_for(make_product({"b": b"b"})))

    listed = await asyncio.to_thread(delivery, "dlq", "list", "--json", "--queue", "requests")
    entry = json.loads(listed.stdout.splitlines()[-1])
    assert entry["tenant"] == TENANT
    assert entry["reason"].startswith("the body is no JSON")
    table_ = await asyncio.to_thread(delivery, "dlq", "list")
    assert entry["id"] in table_.stdout

    shown = json.loads((await asyncio.to_thread(delivery, "dlq", "show", entry["id"])).stdout)
    assert shown["origin"] == REQUEST_QUEUE
    assert shown["headers"]["custom"] == "kept"
    assert shown["properties"] == {"app_id": "my-app", "priority": 4}
    raw = await asyncio.to_thread(delivery, "dlq", "show", entry["id"], "--body")
    assert raw.stdout.encode() == broken

    mended = tmp_path / "mended.json"
    mended.write_text(raw.stdout + "}")
    back = await asyncio.to_thread(delivery, "dlq", "requeue", entry["id"], "--body", str(mended))
    assert (back.returncode, back.stdout) == (0, f"{entry['id']} put back into {REQUEST_QUEUE}\n")
    answer = await client.wait_for(good["correlationId"], "DONE", "ERROR", "DENIED")
    assert answer["status"] == "DONE"
    (done,) = [m for m in client.messages(good["correlationId"]) if b"DONE" in m.body]
    assert (done.app_id, done.priority) == ("my-app", 4)
    gone = await asyncio.to_thread(delivery, "dlq", "show", entry["id"])
    assert gone.returncode == 1
    assert f"no dead letter {entry['id']} among the" in gone.stderr


async def test_a_tenant_that_was_forgotten_is_given_and_the_rest_is_removed(
    client: Client, make_product: Callable[..., str]
) -> None:
    body = request_for(make_product({"a": b"a"}))
    await client.send(body, tenant="unknown")
    await client.send(b"rubbish")
    await client.answer(request_for(make_product({"b": b"b"})))
    listed = await asyncio.to_thread(delivery, "dlq", "list", "--json")
    (entry,) = [
        entry
        for entry in map(json.loads, listed.stdout.splitlines())
        if entry["correlationId"] == body["correlationId"]
    ]
    back = await asyncio.to_thread(delivery, "dlq", "requeue", entry["id"], "--tenant", TENANT)
    assert back.returncode == 0, back.stderr
    assert (await client.wait_for(body["correlationId"], "DONE", "ERROR"))["status"] == "DONE"

    asked = await asyncio.to_thread(delivery, "dlq", "purge", "--all")
    assert asked.returncode == 130  # no user there to say yes
    purged = await asyncio.to_thread(delivery, "dlq", "purge", "--all", "--yes")
    assert purged.stdout.endswith(" dead letters removed\n")
    assert (await asyncio.to_thread(delivery, "dlq", "list")).stdout == "no dead letters\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("requeue",), "give IDs (`delivery dlq list` shows them), or --all"),
        (("purge", "x", "--all"), "give IDs (`delivery dlq list` shows them), or --all"),
        (("requeue", "--all", "--body", __file__), "--body is for one letter: give its ID"),
        (("requeue", "x", "--body", "/no/such/file"), "does not exist"),
        (("list", "--queue", "x"), "'x' is not one of"),
    ],
)
async def test_a_mistake_in_the_call_is_one_sentence(
    arguments: tuple[str, ...], sentence: str
) -> None:
    ended = await asyncio.to_thread(delivery, "dlq", *arguments)
    assert ended.returncode == 2
    assert sentence in ended.stderr
