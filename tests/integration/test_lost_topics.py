"""Kafka loses everything: topics, events and the group's offsets. Nothing is lost with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import aiohttp

from compose.embedded.kafka import kafka
from compose.embedded.stack import Stack
from tests.client import Client, request_for
from tests.service import running_service
from tests.standin import StandIn

DELIVERIES = 50


async def test_all_deliveries_end_right_although_every_topic_is_wiped(
    stack: Stack,
    database: str,
    client: Client,
    standin: StandIn,
    make_product: Callable[..., str],
    tmp_path: Path,
) -> None:
    """Once with events in the topics that no agent has read, once with events that all have."""
    product = make_product({"a.txt": b"a", "b.txt": b"b"})
    bodies = [request_for(product) for _ in range(DELIVERIES)]
    ids = [str(body["correlationId"]) for body in bodies]
    async with kafka(tmp_path) as broker:
        extra = {
            "DELIVERY_DATABASE_URL": database,
            "DELIVERY_KAFKA_BOOTSTRAP_SERVERS": broker.url,
            "DELIVERY_KAFKA_GROUP": uuid4().hex[:8],
            "DELIVERY_KAFKA_STUCK_AFTER": "6",
            "DELIVERY_EVENT_ALLOWANCE": "5",
            "DELIVERY_RECONCILE_INTERVAL": "1",
        }
        async with running_service(stack, extra=extra) as (child, url):
            for body in bodies[: DELIVERIES // 2]:
                await client.send(body)
            await client.wait_for(ids[0], "GRANTED")
            await broker.child.stop()
            for body in bodies[DELIVERIES // 2 :]:
                await client.send(body)  # while there is no broker
            await broker.restart()
            for correlation_id in ids:
                await client.wait_for(correlation_id, "DONE", "ERROR", seconds=100)
            assert child.running
            async with aiohttp.ClientSession() as http, asyncio.timeout(60):
                while (ready := await http.get(f"{url}/health/ready")).status != 200:
                    await asyncio.sleep(0.2)
                assert (await ready.json())["components"]["events"] == {"status": "UP"}
    assert all(client.said(correlation_id) == ["GRANTED", "DONE"] for correlation_id in ids)
