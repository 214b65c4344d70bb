"""Orders: taken over AMQP, answered over AMQP, their files numbered for REST."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from typing import Any

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from compose.rs_order.catalog import Catalog, File, QueryError
from compose.rs_order.faults import Faults
from streams.amqp import names
from streams.amqp.topology import declare_queue, declare_topology
from streams.channels import ORDER_CANCELS, ORDER_RESPONSES, ORDERS

_BROADCAST = "regards.broadcast.rs-order.fr.cnes.regards.modules.order.service.handler"
REQUEST_QUEUE = f"{_BROADCAST}.OrderRequestEventHandler"
CANCEL_QUEUE = f"{_BROADCAST}.OrderCancelRequestEventHandler"
_PAUSE = 0.5  # seconds between attempts to publish


@dataclass(kw_only=True)
class Order:
    """An order that was granted."""

    order_id: int
    tenant: str
    user: str
    correlation_id: str
    files: dict[int, File] = field(default_factory=dict)  # by file id
    cancelled: bool = False


class Orders:
    """Takes orders and tells what becomes of them."""

    def __init__(
        self, channel: AbstractChannel, catalog: Catalog, faults: Faults, *, suborder_files: int
    ) -> None:
        self._channel = channel
        self._catalog = catalog
        self.faults = faults
        self._suborder_files = suborder_files
        self.orders: dict[int, Order] = {}
        self._file_id = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._seen: set[str] = set()  # message ids of requests that were taken

    async def start(self) -> None:
        """Declare and consume."""
        await declare_topology(self._channel)
        requests = await declare_queue(self._channel, REQUEST_QUEUE, ORDERS.exchange.name)
        cancels = await declare_queue(self._channel, CANCEL_QUEUE, ORDER_CANCELS.exchange.name)
        await requests.consume(self._take)
        await cancels.consume(self._cancel)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        if message.message_id in self._seen:  # sent again: its sender did not get the confirmation
            await message.ack()
            return
        body = json.loads(message.body)
        tenant = str(message.headers[names.HEADER_TENANT])
        events = await self._events(tenant, body)
        if self.faults.events_reversed:
            events.reverse()
        if self.faults.events_twice:
            events = [event for event in events for _ in range(2)]
        task = asyncio.create_task(self._send(tenant, events))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if message.message_id is not None:
            self._seen.add(message.message_id)
        await message.ack()

    async def _cancel(self, message: AbstractIncomingMessage) -> None:
        order = self.orders.get(json.loads(message.body)["orderId"])
        if order is not None:
            order.cancelled = True
        await message.ack()

    async def _events(self, tenant: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return all that rs-order will say of an order."""
        correlation = {"correlationId": body["correlationId"]}
        if self.faults.order == "silent":
            return []
        refused = await self._refusal(body)
        if refused is not None:
            error_type, text = refused
            return [correlation | {"status": "DENIED", "errorType": error_type, "message": text}]
        files = await asyncio.to_thread(self._catalog.search, body["queries"], body.get("filters"))
        for file in files:
            await asyncio.to_thread(self._catalog.md5, file)
        order = Order(
            order_id=len(self.orders) + 1,
            tenant=tenant,
            user=body["user"],
            correlation_id=body["correlationId"],
        )
        for file in files:
            self._file_id += 1
            order.files[self._file_id] = file
        self.orders[order.order_id] = order
        total = max(1, -(-len(files) // self._suborder_files))
        common = correlation | {
            "orderId": order.order_id,
            "totalSubOrders": total,
            "errors": self.faults.order_errors,
        }
        granted = common | {"status": "GRANTED"}
        if self.faults.order == "fail":
            return [
                granted,
                common
                | {
                    "status": "FAILED",
                    "errorType": self.faults.error_type,
                    "message": "told to fail",
                },
            ]
        done = [
            common | {"status": "SUBORDER_DONE", "subOrderId": number + 1}
            for number in range(total)
        ]
        return [granted, *done, common | {"status": "DONE"}]

    async def _refusal(self, body: dict[str, Any]) -> tuple[str, str] | None:
        if self.faults.order == "deny":
            return self.faults.error_type or "FORBIDDEN", "told to deny"
        try:
            files = await asyncio.to_thread(
                self._catalog.search, body["queries"], body.get("filters")
            )
        except QueryError as error:
            return "INVALID_CONTENT", str(error)
        if not files:
            return "EMPTY_ORDER", "no file matches the queries and filters"
        limit = body.get("sizeLimitInBytes")
        size = sum(file.size for file in files)
        if limit and size > limit:
            return "ORDER_LIMIT_REACHED", f"the order has {size} bytes, the limit is {limit}"
        return None

    async def _send(self, tenant: str, events: list[dict[str, Any]]) -> None:
        for event in events:
            await asyncio.sleep(self.faults.events_late)
            message = Message(
                json.dumps({k: v for k, v in event.items() if v is not None}).encode(),
                headers={
                    names.HEADER_TENANT: tenant,
                    names.HEADER_JAVA_TYPE: ORDER_RESPONSES.exchange.type_id,
                },
                content_type="application/json",
                delivery_mode=DeliveryMode.PERSISTENT,
            )
            while not await self._published(message):  # noqa: ASYNC110 - nothing tells when
                await asyncio.sleep(_PAUSE)

    async def _published(self, message: Message) -> bool:
        try:
            exchange = await self._channel.get_exchange(ORDER_RESPONSES.exchange.name, ensure=False)
            await exchange.publish(message, "", timeout=10)
        except (TimeoutError, *CONNECTION_EXCEPTIONS) as error:
            logging.getLogger(__name__).warning("RabbitMQ is away: %r", error)
            return False
        return True
