"""Transfers that are paused under load and resumed, and workers that are drained: by commands."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import asyncpg
import pytest

from app.delivery.targets import DEFAULT_TARGET
from compose.embedded.stack import TENANT, Stack
from tests.chaos.workers import Worker, running_workers
from tests.client import Client, contents, request_for
from tests.command import delivery
from tests.standin import StandIn
from tests.unit.test_assembler import goes_on

pytestmark = [pytest.mark.stack, goes_on]

MIB = 1024 * 1024
# A transfer takes half a minute of them, at their pace; a file five seconds.
FILES = {f"{number:02}.bin": random.Random(number).randbytes(3 * MIB) for number in range(20)}
PACE = 600_000  # bytes a second, of a file
RUNS = "upload_id IS NOT NULL AND lease_owner IS NOT NULL"
WHY = ("--reason", "disks are exchanged")


@pytest.fixture
def patient(apart: dict[str, str]) -> dict[str, str]:
    """Settings of workers whose transfers take a while."""
    return apart | {
        "DELIVERY_SHUTDOWN_GRACE": "30",
        "DELIVERY_PART_SIZE": str(5 * MIB),
        "DELIVERY_MAX_TRANSFERS": "2",
    }


@pytest.fixture
def command(environment: None, apart: dict[str, str]) -> Callable[..., str]:
    """A command that goes well, as an operator calls it; what it prints."""

    def run(*arguments: str) -> str:
        ended = delivery(*arguments, **apart)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run


def said(workers: Sequence[Worker], event: str) -> list[dict[str, Any]]:
    """Return what workers have logged of a kind."""
    lines = [line for worker in workers for line in worker.child.output().splitlines()]
    return [json.loads(line) for line in lines if f'"event": "{event}"' in line]


async def all_ready(workers: Sequence[Worker]) -> list[str]:
    """Return the ids of workers, once they read events."""
    async with asyncio.timeout(60):
        while not all(said([worker], "consumer_ready") for worker in workers):
            await asyncio.sleep(0.1)
    ready = [said([worker], "worker_ready") for worker in workers]
    return [line["worker"] for (line,) in ready]


async def until(pool: asyncpg.Pool, condition: str) -> None:
    """Return once a condition on the deliveries holds."""
    async with asyncio.timeout(60):
        while not await pool.fetchval(f"SELECT {condition} FROM delivery"):  # noqa: S608
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("of", [("tenant",), ("target", DEFAULT_TARGET)], ids="-".join)
async def test_transfers_paused_under_load_stop_and_go_on_where_they_were(
    stack: Stack,
    patient: dict[str, str],
    pool: asyncpg.Pool,
    command: Callable[..., str],
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
    of: tuple[str, ...],
) -> None:
    await standin.misbehave(bytes_per_second=PACE)
    product = make_product(FILES)
    bodies = [request_for(product) for _ in range(5)]
    ids = [body["correlationId"] for body in bodies]
    async with running_workers(stack, 2, patient) as workers:
        await all_ready(workers)
        for body in bodies[:4]:
            await client.send(body)
        await until(pool, f"count(*) FILTER (WHERE {RUNS}) = 4")
        told = await asyncio.to_thread(command, "pause", *of, *WHY, "--stop")
        assert "disks are exchanged (what runs stops, and goes on where it stopped)" in told
        # What runs lets go of its lease, at once or with the file that it reads.
        await until(pool, "count(lease_owner) = 0")
        assert all(said([worker], "pause_begins") for worker in workers)
        attempts = await pool.fetchval("SELECT sum(attempt) FROM delivery")
        uploads = [await client.open_uploads(name) for name in ids[:4]]
        await client.send(bodies[4])  # it is granted and planned all the same
        await until(pool, "count(*) FILTER (WHERE state = 'READY') = 1")
        waits = await pool.fetch("SELECT * FROM delivery WHERE state NOT IN ('DONE', 'READY')")
        assert len(waits) > 1
        assert all((row["tries"], row["failures"]) == (0, 0) for row in waits)
        await until(pool, "bool_and(last_cause LIKE '%disks are exchanged' OR state = 'DONE')")
        (listed,) = command("pauses", "--json").splitlines()
        assert json.loads(listed)["scope"] == of[0]
        assert await pool.fetchval("SELECT sum(attempt) FROM delivery") == attempts
        assert [await client.open_uploads(name) for name in ids[:4]] == uploads
        await asyncio.to_thread(command, "resume", *of)
        done = [await client.wait_for(name, "DONE", "ERROR", seconds=120) for name in ids]
        resumed = {line["correlation_id"] for line in said(workers, "transfer_resumed")}
        assert resumed >= {row["correlation_id"] for row in waits}
        assert said(workers, "work_paused")
        assert [len(said([worker], "pause_ends")) for worker in workers] == [1, 1]
        assert [worker.exits for worker in workers] == [Counter(), Counter()]
    await standin.behave()
    assert len({answer["md5"] for answer in done}) == 1  # as if nothing had been paused
    assert contents(await client.fetch(done[0]["url"])) == FILES
    for name in ids:
        assert client.said(name) == ["GRANTED", "DONE"]
        (order,) = await standin.orders(name)
        reads = [file["begun"] for file in await standin.files(order["orderId"])]
        assert reads == [1] * len(FILES)


async def test_a_drained_worker_hands_over_what_it_has_stays_and_works_again_when_resumed(
    stack: Stack,
    patient: dict[str, str],
    pool: asyncpg.Pool,
    command: Callable[..., str],
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
) -> None:
    await standin.misbehave(bytes_per_second=PACE)
    product = make_product(FILES)
    bodies = [request_for(product) for _ in range(6)]
    ids = [body["correlationId"] for body in bodies]
    async with running_workers(stack, 2, patient) as workers:
        drained, _ = await all_ready(workers)
        for body in bodies[:3]:
            await client.send(body)
        own = f"lease_owner = '{drained}'"
        await until(pool, f"count(*) FILTER (WHERE {RUNS}) = 3")
        await until(pool, f"count(*) FILTER (WHERE {RUNS} AND {own}) > 0")
        told = await asyncio.to_thread(command, "worker", "drain", drained, *WHY, "--wait")
        assert told.splitlines()[-1] == f"worker {drained} has no transfer under way"
        assert await pool.fetchval(f"SELECT count(*) FROM delivery WHERE {own}") == 0  # noqa: S608
        for name in ids[:3]:
            await client.wait_for(name, "DONE", "ERROR", seconds=120)
        causes = {line["cause"] for line in said(workers[:1], "work_handed_over")}
        assert all(re.match(f"worker {drained} is drained by .*: disks", cause) for cause in causes)
        stats = json.loads(command("stats", "--json"))
        (seen,) = [worker for worker in stats["workers"] if worker["worker"] == drained]
        assert (seen["running"], seen["silentForSeconds"] < 30) == ("0/2", True)
        await asyncio.to_thread(command, "resume", "worker", drained)
        for body in bodies[3:]:  # more than the other has slots
            await client.send(body)
        await until(pool, f"count(*) FILTER (WHERE {own}) > 0")
        for name in ids:
            await client.wait_for(name, "DONE", "ERROR", seconds=120)
        assert [worker.exits for worker in workers] == [Counter(), Counter()]
    assert [client.said(name) for name in ids] == [["GRANTED", "DONE"]] * len(ids)


def test_what_can_not_be_paused_is_told_in_a_sentence(
    environment: None, pool: asyncpg.Pool, apart: dict[str, str]
) -> None:
    call = partial(delivery, **apart)
    for arguments, sentence in (
        (("pause", "target", "nowhere", *WHY), f"tenant {TENANT} has no target nowhere"),
        (("pause", "worker", "w-9", *WHY), "there is no worker w-9"),
        (("resume", "tenant"), f"the transfers of tenant {TENANT} are not paused"),
        (("pause", "tenant"), "Missing option '--reason'"),
        (("pause", "tenant", *WHY, "--for", "soon"), "no time such as 30m, 2h or 1d"),
        (("pause", "tenant", *WHY, "--until", "2020-01-01"), "is over by now"),
    ):
        ended = call(*arguments)
        assert ended.returncode != 0
        assert sentence in ended.stderr
        assert "Traceback" not in ended.stderr
    assert call("pauses").stdout == "no pauses\n"
