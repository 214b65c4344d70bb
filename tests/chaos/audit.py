"""Whether every request got its one right answer, and what was left behind."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg

from compose.embedded import s3
from compose.embedded.stack import Stack
from tests.chaos.client import Listener
from tests.chaos.plan import Ask
from tests.chaos.products import expected
from tests.client import contents
from tests.standin import StandIn

_ROWS = {
    "deliveries that have not ended": "SELECT count(*) FROM delivery "
    "WHERE state NOT IN ('DONE', 'ERROR')",
    "open leases": "SELECT count(*) FROM delivery WHERE lease_owner IS NOT NULL",
    "messages owed": "SELECT count(*) FROM outbox",
    "events not handled": "SELECT count(*) FROM arrival",
    "places of uploads kept": "SELECT count(*) FROM delivery WHERE upload_target IS NOT NULL "
    "AND (state = 'DONE' OR swept)",
}


@dataclass
class Findings:
    """What a run has to answer for; each list names correlation ids or keys, and what is wrong."""

    lost: list[str] = field(default_factory=list)
    conflicting: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    responses: int = 0
    repeats: int = 0  # of the same message, by its id

    @property
    def clean(self) -> bool:
        """Whether there is nothing to answer for."""
        return not (self.lost or self.conflicting or self.wrong or self.orphans)


def heard(asks: Sequence[Ask], listener: Listener) -> Findings:
    """Look at what the client heard."""
    found = Findings()
    for ask in asks:
        name = ask.correlation_id
        said = listener.heard[name]
        found.repeats += len(said) - len({message_id for message_id, _ in said})
        terminal = {(i, str(sorted(b.items()))): b for i, b in listener.terminal(name)}
        found.responses += len(terminal)
        if not terminal:
            found.lost.append(f"{name} ({ask.kind}): no terminal response")
            continue
        if len(terminal) > 1:
            found.conflicting.append(f"{name} ({ask.kind}): {list(terminal)}")
            continue
        (body,) = terminal.values()
        status, error_type, _ = expected(ask.kind)
        statuses = list(dict.fromkeys(b["status"] for _, b in said))
        due = [status] if status == "DENIED" else ["GRANTED", status]
        if statuses != due or body.get("errorType") != error_type:
            found.wrong.append(f"{name} ({ask.kind}): {statuses}, {body}")
    return found


async def stored(asks: Sequence[Ask], listener: Listener, stack: Stack, found: Findings) -> None:
    """Compare every archive with what it should hold; look for objects that none asked for."""
    urls: Counter[str] = Counter()
    async with s3.client(
        stack.environment["DELIVERY_S3_ENDPOINT"], s3.KEY, s3.SECRET, s3.REGION
    ) as store:
        for ask in asks:
            ends = listener.terminal(ask.correlation_id)
            if not ends or ends[0][1]["status"] != "DONE":
                continue
            body = ends[0][1]
            bucket, _, key = body["url"].removeprefix("s3://").partition("/")
            urls[key] += 1
            try:
                answer = await store.get_object(Bucket=bucket, Key=key)
                archive = await answer["Body"].read()
            except store.exceptions.NoSuchKey:
                found.wrong.append(f"{ask.correlation_id}: {body['url']} is not there")
                continue
            if hashlib.md5(archive).hexdigest() != body["md5"]:
                found.wrong.append(f"{ask.correlation_id}: not the MD5 that was told")
            elif contents(archive) != expected(ask.kind)[2]:
                found.wrong.append(f"{ask.correlation_id}: the archive holds something else")
        pages = store.get_paginator("list_objects_v2").paginate(Bucket=s3.BUCKET)
        keys = [entry["Key"] async for page in pages for entry in page.get("Contents", [])]
    found.orphans += [f"object {key}" for key in keys if key not in urls]


async def left(stack: Stack, standin: StandIn) -> list[str]:
    """Return what should be gone by now, and is not."""
    found = [
        f"place at rs-order of suborder {suborder['subOrderId']} of order {order['orderId']} "
        f"({order['correlationId']})"
        for order in await standin.all_orders()
        for suborder in order["subOrders"]
        if suborder["state"] != "ENDED"
    ]
    connection = await asyncpg.connect(stack.environment["DELIVERY_DATABASE_URL"])
    for name, query in _ROWS.items():
        if count := await connection.fetchval(query):
            found.append(f"{count} {name}")
    await connection.close()
    async with s3.client(
        stack.environment["DELIVERY_S3_ENDPOINT"], s3.KEY, s3.SECRET, s3.REGION
    ) as store:
        answer = await store.list_multipart_uploads(Bucket=s3.BUCKET)
    found += [f"upload of {upload['Key']}" for upload in answer.get("Uploads", [])]
    return found


async def attempts(stack: Stack) -> dict[str, int]:
    """Return how many transfers were begun, and how many of them again."""
    connection = await asyncpg.connect(stack.environment["DELIVERY_DATABASE_URL"])
    row = await connection.fetchrow(
        "SELECT coalesce(sum(attempt), 0) AS begun, "
        "coalesce(sum(greatest(attempt - 1, 0)), 0) AS again FROM delivery"
    )
    await connection.close()
    assert row is not None
    return {"transfers begun": row["begun"], "of these, again": row["again"]}
