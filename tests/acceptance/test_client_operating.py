"""The client operates the service with an address and a token: no key, no database of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from app.delivery.targets import DEFAULT_TARGET
from compose.embedded.stack import Stack
from tests.client import Client, request_for
from tests.client_library.program import called
from tests.command import delivery

pytestmark = pytest.mark.acceptance

Call = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def operate(service: str, stack: Stack) -> Call:
    """`rs-delivery`, as who administers the instance."""
    arguments = ("token", "--role", "INSTANCE_ADMIN")
    given = await asyncio.to_thread(delivery, *arguments, **stack.environment)
    environment = {"DELIVERY_URL": service, "DELIVERY_TOKEN": given.stdout.strip()}

    async def call(*words: object) -> tuple[int, str, str]:
        return await called("rs-delivery", *words, environment=environment)

    return call


async def workers(operate: Call) -> dict[str, str | None]:
    """Return the workers that are there, with why each is drained."""
    code, out, err = await operate("worker", "list", "--json", "id,alive,pause")
    assert code == 0, err
    told = [json.loads(line) for line in out.splitlines()]
    return {
        worker["id"]: (worker["pause"] or {}).get("reason") for worker in told if worker["alive"]
    }


async def test_a_worker_is_drained_and_takes_what_was_asked_meanwhile_once_it_works_again(
    operate: Call, client: Client, make_product: Callable[..., str]
) -> None:
    there = await workers(operate)
    assert there
    body = request_for(make_product({"a": b"a"}))
    try:
        for worker in there:
            code, _, err = await operate("worker", "drain", worker, "--reason", "disks", "--wait")
            assert code == 0, err
        assert await workers(operate) == dict.fromkeys(there, "disks")
        await client.send(body)
    finally:  # other tests have the same workers
        resumed = [(await operate("worker", "resume", worker))[0] for worker in there]
    assert resumed == [0] * len(there)
    assert await workers(operate) == dict.fromkeys(there)
    assert (await client.wait_for(body["correlationId"], "DONE", "ERROR"))["status"] == "DONE"


async def test_a_dead_letter_is_found_read_and_removed(operate: Call, client: Client) -> None:
    rubbish = b"rubbish of this test"
    await client.send(rubbish)
    async with asyncio.timeout(60):
        while True:
            _, out, _ = await operate("letter", "list", "--json", "id,text")
            letters = [json.loads(line) for line in out.splitlines()]
            if found := [letter["id"] for letter in letters if letter["text"] == rubbish.decode()]:
                break
            await asyncio.sleep(0.5)
    code, out, _ = await operate("letter", "show", found[0], "--body")
    assert (code, out) == (0, rubbish.decode())
    assert (await operate("letter", "remove", found[0]))[0] == 2  # there is no terminal to ask at
    code, _, err = await operate("letter", "remove", found[0], "--yes")
    assert (code, err) == (0, "1 of 1 dead letter removed\n")
    assert (await operate("letter", "show", found[0]))[0] == 3


async def test_a_target_is_tried_and_a_setting_put_back(operate: Call) -> None:
    code, out, err = await operate("target", "check", DEFAULT_TARGET)
    assert (code, err) == (0, ""), out
    before = await operate("setting", "get", "request_ttl")
    assert (await operate("setting", "set", "request_ttl", "7"))[0] == 0
    assert (await operate("setting", "get", "request_ttl"))[1] == "7\n"
    code, _, err = await operate("setting", "reset", "request_ttl", "--yes")
    assert (code, err) == (0, "request_ttl has its default\n")
    assert await operate("setting", "get", "request_ttl") == before
