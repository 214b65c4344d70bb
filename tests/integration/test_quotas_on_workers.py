"""Three workers under a quota: none lets in more than there are places for; all ends once."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from compose.embedded.stack import Stack
from tests.chaos.workers import running_workers
from tests.client import Client, request_for
from tests.command import delivery
from tests.standin import StandIn
from tests.unit.test_assembler import goes_on

pytestmark = [pytest.mark.stack, goes_on]

A, B = "a@example.org", "b@example.org"
FILES = {f"{number}.bin": random.Random(number).randbytes(400_000) for number in range(3)}
SMALL = {"small.bin": b"of b"}
PACE = 1000  # bytes a second, of a file: a small one takes no time, the others minutes

AT_ONCE = """
SELECT max(others) FROM (
    SELECT count(*) AS others FROM delivery d
    JOIN delivery o ON o.user_email = d.user_email
        AND o.admitted_at <= d.admitted_at AND o.finished_at > d.admitted_at
    WHERE d.user_email = $1
    GROUP BY d.id
) moments
"""


async def test_no_moment_has_more_of_a_user_than_places_and_no_other_waits_for_them(
    stack: Stack,
    environment: None,
    apart: dict[str, str],
    pool: asyncpg.Pool,
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
) -> None:
    quota = json.dumps({"user": {"active": 2}})
    changed = await asyncio.to_thread(delivery, "settings", "set", "quota", quota, **apart)
    assert changed.returncode == 0, changed.stderr
    await standin.misbehave(bytes_per_second=PACE)
    large, small = make_product(FILES), make_product(SMALL)

    def asked_by(user: str, product: str) -> dict[str, Any]:
        order = request_for(product)["order"] | {"user": user}
        return request_for(product, order=order)

    bodies = [*(asked_by(A, large) for _ in range(8)), asked_by(B, small)]
    ids = [body["correlationId"] for body in bodies]
    async with running_workers(stack, 3, apart) as workers:
        for body in bodies:
            await client.send(body)
        await client.wait_for(ids[-1], "DONE", "ERROR", "DENIED", seconds=120)
        waits = "SELECT count(*) FROM delivery WHERE held AND user_email = $1"
        assert await pool.fetchval(waits, A) > 0
        await standin.behave()
        for name in ids:
            await client.wait_for(name, "DONE", "ERROR", "DENIED", seconds=120)
        assert [worker.exits for worker in workers] == [Counter()] * 3
    assert [client.said(name) for name in ids] == [["GRANTED", "DONE"]] * len(ids)
    rows = await pool.fetch("SELECT state, held, admitted_at FROM delivery")
    assert [(row["state"], row["held"]) for row in rows] == [("DONE", False)] * len(ids)
    assert all(row["admitted_at"] is not None for row in rows)
    assert await pool.fetchval(AT_ONCE, A) == 2  # and no fewer: both places were used
