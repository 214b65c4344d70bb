"""Seen and steered: the command line, events, figures and cancels, on the whole service."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import aio_pika
import aiohttp
import pytest

from app.delivery.targets import DEFAULT_TARGET
from compose.embedded.stack import TENANT, Stack
from streams.channels import CANCELS
from tests.caller import instance_admin
from tests.client import Client, request_for
from tests.command import delivery
from tests.conftest import noise
from tests.standin import StandIn

pytestmark = [pytest.mark.acceptance, pytest.mark.usefixtures("service")]

MakeProduct = Callable[..., str]


async def run(stack: Stack, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run the command beside this loop, which must hear on."""
    ended = await asyncio.to_thread(
        delivery, *arguments, **{**stack.environment, "DELIVERY_START_TIMEOUT": "30", **environment}
    )
    return ended.returncode, ended.stdout, ended.stderr


async def transferring(client: Client, body: dict[str, Any]) -> None:
    """Ask for it, and return once its transfer is under way."""
    await client.send(body)
    async with asyncio.timeout(60):
        while not await client.open_uploads(body["correlationId"]):
            await asyncio.sleep(0.1)


async def ask_to_cancel(client: Client, body: dict[str, Any] | bytes, tenant: str = TENANT) -> None:
    exchange = await client.channel.get_exchange(CANCELS.exchange.name, ensure=False)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    message = aio_pika.Message(raw, headers={"regards.tenant": tenant}, app_id="a-client")
    await exchange.publish(message, "")


@pytest.fixture
async def session(stack: Stack, service: str) -> Any:
    """An operator's HTTP session."""
    _, token, _ = await run(stack, "token")
    headers = {"Authorization": f"Bearer {token.strip()}"}
    async with aiohttp.ClientSession(service, headers=headers) as opened:
        yield opened


async def test_a_client_cancels_over_amqp_and_the_upload_is_aborted(
    client: Client, standin: StandIn, make_product: MakeProduct
) -> None:
    await standin.misbehave(bytes_per_second=200_000)  # for minutes, until it is cancelled
    body = request_for(make_product({"a.bin": noise(30_000_000)}))
    name = body["correlationId"]
    await transferring(client, body)
    await ask_to_cancel(client, {"correlationId": name, "reason": "wrong dates"})
    answer = await client.wait_for(name, "DONE", "ERROR")
    assert answer["message"] == "cancelled by a-client: wrong dates"
    async with asyncio.timeout(30):
        while await client.open_uploads(name):
            await asyncio.sleep(0.1)
    await ask_to_cancel(client, {"correlationId": name})  # there is nothing left to cancel
    await ask_to_cancel(client, {"correlationId": "never-heard-of"})
    other = request_for(make_product({"b": b"b"}))
    await standin.behave()
    assert (await client.answer(other))["status"] == "DONE"
    assert client.said(name) == ["GRANTED", "ERROR"]


async def test_a_cancel_that_cannot_be_read_is_a_dead_letter(stack: Stack, client: Client) -> None:
    await ask_to_cancel(client, b'{"reason": "no id"}')
    async with asyncio.timeout(60):
        while "no correlationId" not in (found := (await run(stack, "dlq", "list", "--json"))[1]):
            await asyncio.sleep(0.2)
    (dead_letter,) = [json.loads(line) for line in found.splitlines() if "no correlationId" in line]
    assert dead_letter["queue"] == "cancels"
    code, out, _ = await run(stack, "dlq", "purge", "--yes", dead_letter["id"])
    assert (code, out) == (0, "1 dead letters removed\n")


async def test_progress_and_states_come_as_events_while_it_runs(
    session: aiohttp.ClientSession, client: Client, standin: StandIn, make_product: MakeProduct
) -> None:
    await standin.misbehave(bytes_per_second=200_000)  # for minutes, until enough is told
    body = request_for(make_product({"a.bin": noise(30_000_000)}))
    await client.send(body)
    await client.wait_for(body["correlationId"], "GRANTED")
    states, done = [], []
    async with asyncio.timeout(60):
        answer = await session.get(f"/deliveries/{body['correlationId']}/events")
        async for block in blocks(answer):
            if block["event"] == "state":
                states.append(block["data"]["state"])
            else:
                done.append(block["data"]["bytesDone"])
                if len(done) >= 3 and done[-1]:
                    await standin.behave()
    assert states[-2:] == ["TRANSFERRING", "DONE"]
    assert len(done) >= 3
    assert done == sorted(done)
    assert 0 < done[-1] <= 30_000_000


async def blocks(answer: aiohttp.ClientResponse) -> Any:
    block: dict[str, Any] = {}
    async for line in answer.content:
        name, _, value = line.decode().rstrip("\r\n").partition(": ")
        if name == "data":
            block["data"] = json.loads(value)
        elif name:
            block[name] = value
        elif "data" in block:
            yield block
            block = {}


async def test_a_running_transfer_is_watched_shown_cancelled_and_tried_again(
    stack: Stack,
    session: aiohttp.ClientSession,
    client: Client,
    standin: StandIn,
    make_product: MakeProduct,
) -> None:
    await standin.misbehave(bytes_per_second=200_000)  # for minutes, until it is cancelled
    body = request_for(make_product({"a.bin": noise(30_000_000)}))
    name = body["correlationId"]
    await transferring(client, body)
    async with asyncio.timeout(60):  # until it has a rate
        async for block in blocks(events := await session.get(f"/deliveries/{name}/events")):
            if block["event"] == "progress" and block["data"]["bytesDone"]:
                break
        events.close()
    code, out, error = await run(stack, "watch", "--once")
    assert code == 0, error
    assert re.search(rf"{TENANT}/{name}  transferring .*30\.0 MB  0/1 files  .*/s", out), out
    assert "1 TRANSFERRING" in out
    code, out, _ = await run(stack, "list", "--active", "--text", name, "--json")
    assert [json.loads(line)["correlationId"] for line in out.splitlines()] == [name]
    code, out, _ = await run(stack, "cancel", name, "--reason", "not needed")
    assert (code, out) == (0, f"{name} cancelled\n")
    answer = await client.wait_for(name, "ERROR")
    assert answer["message"].endswith(": not needed")
    await standin.behave()
    code, out, _ = await run(stack, "show", name)
    assert code == 0
    assert "INTERNAL_ERROR" in out
    assert "TRANSFERRING, attempt 1, for" in out
    code, out, _ = await run(stack, "retry", name)
    assert (code, out) == (0, f"{name} is tried again (RECEIVED)\n")
    await client.wait_for(name, "DONE")
    code, out, _ = await run(stack, "show", name, "--json")
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["DONE", "ERROR"]
    code, out, _ = await run(stack, "stats", "--json")
    found = json.loads(out)
    assert {"state": "DONE", "errorType": None}.items() <= found["ended"][0].items()
    assert found["workers"][0]["running"] == "0/2"


async def test_an_unknown_delivery_or_tenant_is_told_in_a_sentence(stack: Stack) -> None:
    for command in ("show", "cancel", "retry"):
        code, _, error = await run(stack, command, "no-such-delivery")
        assert code == 1
        assert "has no delivery 'no-such-delivery'" in error
        assert "Traceback" not in error
    code, _, error = await run(stack, "list", "--tenant", "nobody")
    assert code == 2
    assert "unknown tenant nobody" in error
    code, out, _ = await run(stack, "list", "--text", "no-such-delivery")
    assert (code, out) == (0, "no deliveries\n")


async def test_the_command_tells_how_it_goes_with_targets(
    stack: Stack, client: Client, make_product: MakeProduct
) -> None:
    await client.answer(request_for(make_product({"a.txt": b"a"})))
    code, out, error = await run(stack, "targets", "--tenant", TENANT, "--json")
    assert code == 0, error
    (found,) = [
        target for target in map(json.loads, out.splitlines()) if target["name"] == DEFAULT_TARGET
    ]
    assert (found["tenant"], found["type"], found["state"]) == (TENANT, "s3", "works")
    assert found["goodLastHour"] >= 1
    assert found["place"].startswith("http")
    code, out, error = await run(stack, "targets")
    assert code == 0, error
    assert re.search(rf"^ *{TENANT} +{DEFAULT_TARGET} +s3 +works ", out, re.MULTILINE)
    assert "went well at" in out


async def test_the_doctor_finds_nothing_where_all_is_well(stack: Stack) -> None:
    code, out, error = await run(stack, "doctor")
    problems = [line for line in out.splitlines() if line.startswith("PROBLEM")]
    # Letters and failures that other tests left are no fault of the stack.
    others = re.compile(
        "dead letters|ended in|attention, (DEAD_LETTER|TRANSFERS_FAIL|WORKER_SILENT):"
    )
    left = [line for line in problems if not others.search(line)]
    assert left == []
    assert code == bool(problems), error
    for part in ("postgresql, schema", "rabbitmq, exchanges", "kafka, topics", "workers, alive"):
        assert f"ok       {part}: " in out
    assert f"ok       s3, {TENANT} default: writable: " in out
    assert f"ok       s3, {TENANT} default: If-Match of a completion: not by this store: " in out


async def test_the_doctor_names_five_faults_and_what_to_do(stack: Stack) -> None:
    code, out, error = await run(
        stack,
        "doctor",
        "--json",
        DELIVERY_AMQP_QUEUE_TYPE="quorum",
        DELIVERY_DELIVERY_BUCKET="no-such-bucket",
        DELIVERY_RS_ORDER_TOKEN_SECRET="another-secret-than-that-of-rs-order-0123456789-abcdef-ghi",
        DELIVERY_KAFKA_TOPIC_PREFIX="not-there.",
        DELIVERY_DATABASE_POOL_SIZE="1000",
    )
    assert code == 1, error
    found = [json.loads(line) for line in out.splitlines()]
    told = {(finding["part"], finding["check"]): finding for finding in found if not finding["ok"]}
    for part, check, message, advice in (
        ("rabbitmq", "queue DeliveryRequestEventHandler", "other arguments", "QUEUE_TYPE"),
        ("s3", f"{TENANT} default: credentials and bucket", "no-such-bucket", "settings"),
        ("rs-order", "token", "401", "TOKEN_SECRET"),
        ("kafka", "topics", "not-there.delivery.requests", "topics apply"),
        ("postgresql", "connections", "in use", "max_connections"),
    ):
        finding = told[part, check]
        assert message in finding["message"]
        assert advice in finding["advice"]


async def test_prometheus_is_given_figures(
    stack: Stack, service: str, client: Client, make_product: MakeProduct
) -> None:
    request = request_for(make_product({"a.bin": noise(100_000)}))
    await client.answer(request)
    headers = instance_admin(stack)
    async with (
        aiohttp.ClientSession(service, headers=headers) as http,
        http.get("/metrics") as answer,
    ):
        text = await answer.text()
    assert answer.status == 200

    def figure(name: str) -> float:
        (line,) = [line for line in text.splitlines() if line.startswith(name + " ")]
        return float(line.rpartition(" ")[2])

    done = f'delivery_finished_total{{error_type="",state="DONE",tenant="{TENANT}"}}'
    assert figure(done) >= 1
    assert figure(f'delivery_source_bytes_total{{tenant="{TENANT}"}}') >= 100_000
    labels = f'target="{DEFAULT_TARGET}",tenant="{TENANT}"'
    assert figure(f"delivery_target_bytes_total{{{labels}}}") >= 100_000
    assert figure(f"delivery_transfer_seconds_count{{{labels}}}") >= 1
    assert figure('delivery_slots{work="transfer"}') == 2
    assert figure("delivery_workers") >= 1
    assert figure("delivery_database_up") == 1
    assert request["correlationId"] not in text
