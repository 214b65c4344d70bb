"""The AMQP side: order requests and cancels come in, what is said of orders goes out."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from compose.rs_order import events
from compose.rs_order.behaviour import Behaviour
from compose.rs_order.catalog import Catalog, File, QueryError
from compose.rs_order.order import Order
from compose.rs_order.orders import Orders
from streams.amqp import names
from streams.amqp.topology import declare_queue, declare_topology
from streams.channels import ORDER_CANCELS, ORDER_RESPONSES, ORDERS

_BROADCAST = "regards.broadcast.rs-order.fr.cnes.regards.modules.order.service.handler"
REQUEST_QUEUE = f"{_BROADCAST}.OrderRequestEventHandler"
CANCEL_QUEUE = f"{_BROADCAST}.OrderCancelRequestEventHandler"
_PAUSE = 0.5  # seconds between attempts to publish


@dataclass(frozen=True)
class Denial:
    """Why there is no order."""

    error_type: str
    message: str


class Speaker:
    """Says what becomes of orders: of each in its order, late, twice or last first when told to."""

    def __init__(self, channel: AbstractChannel, behaviour: Behaviour) -> None:
        self._channel = channel
        self._behaviour = behaviour
        self._unsaid: defaultdict[Order, list[events.Body]] = defaultdict(list)
        self._sending: dict[Order, asyncio.Task[None]] = {}

    def tell(self, order: Order, event: events.Body) -> None:
        """Say something of an order. What happens to it at once is said together."""
        self._unsaid[order].append(event)
        asyncio.get_running_loop().call_soon(self._say, order)

    def _say(self, order: Order) -> None:
        faults = self._behaviour.faults
        if faults.events_reversed and not order.at_rest:
            return  # the last event of its rest says them all
        said = self._unsaid.pop(order, None)
        if said is None:
            return
        if faults.events_reversed:
            said.reverse()
        task = asyncio.create_task(self.send(order.tenant, said, after=self._sending.get(order)))
        self._sending[order] = task
        task.add_done_callback(lambda done: self._forget(order, done))

    def _forget(self, order: Order, done: asyncio.Task[None]) -> None:
        if self._sending.get(order) is done:
            del self._sending[order]

    async def send(
        self, tenant: str, said: Sequence[events.Body], *, after: asyncio.Task[None] | None = None
    ) -> None:
        """Publish events one after the other, behind those of a task."""
        if after is not None:
            await after
        for event in said:
            for _ in range(2 if self._behaviour.faults.events_twice else 1):
                await asyncio.sleep(self._behaviour.faults.events_late)
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


class Listener:
    """Takes order requests and cancels."""

    def __init__(
        self,
        channel: AbstractChannel,
        orders: Orders,
        speaker: Speaker,
        catalog: Catalog,
        behaviour: Behaviour,
    ) -> None:
        self._channel = channel
        self._orders = orders
        self._speaker = speaker
        self._catalog = catalog
        self._behaviour = behaviour
        self._denials: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Declare and consume."""
        await declare_topology(self._channel)
        requests = await declare_queue(self._channel, REQUEST_QUEUE, ORDERS.exchange.name)
        cancels = await declare_queue(self._channel, CANCEL_QUEUE, ORDER_CANCELS.exchange.name)
        await requests.consume(self._take)
        await cancels.consume(self._cancel)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        """Make an order of a request, of one that is sent again, too: rs-order tells none apart."""
        await self._answer(message)
        await message.ack()

    async def _cancel(self, message: AbstractIncomingMessage) -> None:
        self._orders.cancel(json.loads(message.body)["orderId"])
        await message.ack()

    async def _answer(self, message: AbstractIncomingMessage) -> None:
        if self._behaviour.faults.order == "silent":
            return
        tenant, body = str(message.headers[names.HEADER_TENANT]), json.loads(message.body)
        found = await asyncio.to_thread(self._find, body)
        if isinstance(found, Denial):
            said = [events.denied(body["correlationId"], found.error_type, found.message)]
            task = asyncio.create_task(self._speaker.send(tenant, said))
            self._denials.add(task)
            task.add_done_callback(self._denials.discard)
            return
        self._orders.grant(
            tenant=tenant, user=body["user"], correlation_id=body["correlationId"], files=found
        )

    def _find(self, body: dict[str, Any]) -> list[File] | Denial:
        """Return the files that are ordered, their digests known; in a thread."""
        if self._behaviour.faults.order == "deny":
            return Denial(self._behaviour.faults.error_type or "FORBIDDEN", "told to deny")
        try:
            files = self._catalog.search(body["queries"], body.get("filters"))
        except QueryError as error:
            return Denial("INVALID_CONTENT", str(error))
        if not files:
            return Denial("EMPTY_ORDER", "no file matches the queries and filters")
        limit = body.get("sizeLimitInBytes")
        size = sum(file.size for file in files)
        if limit and size > limit:
            return Denial(
                "ORDER_LIMIT_REACHED", f"the order has {size} bytes, the limit is {limit}"
            )
        for file in files:
            self._catalog.digests(file)
        return files
