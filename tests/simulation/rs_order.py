"""rs-order in memory (contract, section 2): it hears orders, tells how they go, serves their files.

Events come late, twice and out of order; an order may be denied, fail, be split, or never be
answered. It is never lost itself: what it does of its own accord survives each process of ours.
Where orders are cut into suborders, how they go is `tests.simulation.suborders`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from aio_pika import DeliveryMode, Message

from app.delivery.manifest import ListedFile, ManifestFile
from app.delivery.model import Delivery
from app.delivery.order_facts import OrderFacts, OrderFile
from app.errors import SourceGoneError, SourceRefusedError, SourceUnavailableError
from compose.rs_order.order import Order as Granted
from streams.amqp import names
from streams.channels import ORDER_CANCELS, ORDER_RESPONSES, ORDERS
from tests.simulation.rabbitmq import Broker, Stored
from tests.simulation.suborders import Suborders, files_of
from tests.simulation.weather import Link, Weather, by_no_process

PARTY = "rs-order"
# What may be wrong with a file for good.
LOST, REFUSED, WRONG, GONE = "lost", "refused", "wrong", "gone"
_FLAWS = {
    f"{PARTY} can't restore a file": LOST,
    f"{PARTY} refuses a file": REFUSED,
    f"{PARTY} has other bytes of a file": WRONG,
    f"{PARTY} has a file no more": GONE,
}
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_DEADLINE = 20.0  # seconds


@dataclass(kw_only=True, eq=False)
class Order:
    """An order that was granted."""

    number: int
    tenant: str
    correlation_id: str
    request: str  # the message id of the order request: of which delivery
    files: dict[int, bytes]  # by file id
    wrong: bool = False  # it never serves what it has listed
    fails: bool = False  # none of its files is restored
    flaws: dict[str, str] = field(default_factory=dict)  # of files, by their names
    failed: Counter[int] = field(default_factory=Counter)  # downloads that were, by file id
    cancelled: int = 0
    told: list[str] = field(default_factory=list)  # the events that were sent


class RsOrder:
    """The service."""

    def __init__(
        self,
        weather: Weather,
        broker: Broker,
        *,
        suborders: bool = False,
        knows_all: bool = False,
    ) -> None:
        """With `suborders`, orders are cut, and users have places; else each is there at once.

        See `Suborders` for `knows_all`.
        """
        self.weather = weather
        self.orders: dict[int, Order] = {}
        self.requests: dict[str, dict[str, Any]] = {}  # by message id
        self.taken: Counter[str] = Counter()  # how often a request came, by message id
        self.denied: Counter[str] = Counter()  # by message id
        self.answered_at: dict[str, float] = {}  # by message id
        self.on_cancel: Callable[[Order], object] = lambda _order: None  # who looks on
        self._last_files: dict[tuple[str, str], dict[int, bytes]] = {}  # by tenant and id
        self._draws = weather.draws.of(PARTY)
        self._suborders = (
            Suborders(weather.draws.of(f"{PARTY} cuts"), self._tell_more, knows_all=knows_all)
            if suborders
            else None
        )
        self._told_until: dict[int, float] = {}  # by order
        self._broker = broker
        self._numbers = itertools.count(1)
        self._file_ids = itertools.count(1)
        broker.hear(ORDERS.exchange.name, self._take)
        broker.hear(ORDER_CANCELS.exchange.name, self._cancel)

    def _take(self, stored: Stored) -> None:
        message = stored.message
        assert message.message_id is not None
        body = json.loads(message.body)
        self.requests[message.message_id] = body
        # Sent again, it is another order: rs-order tells none apart.
        self.taken[message.message_id] += 1
        tenant = str(message.headers[names.HEADER_TENANT])
        if self.weather.strikes(f"{PARTY} never answers an order"):
            self.weather.note(f"{PARTY} never answers the order of {body['correlationId']}")
            return
        late = self._draws.uniform(0.05, 2)
        if self.weather.strikes(f"{PARTY} is late"):
            late = self._draws.uniform(10, 90)
        by_no_process(late, partial(self._answer, message.message_id, tenant, body))

    def _answer(self, request: str, tenant: str, body: Mapping[str, Any]) -> None:
        correlation = {"correlationId": body["correlationId"]}
        self.answered_at[request] = asyncio.get_running_loop().time()
        if self.weather.strikes(f"{PARTY} denies"):
            self.denied[request] += 1
            self._tell(
                tenant,
                [correlation | {"status": "DENIED", "errorType": "FORBIDDEN", "message": "drawn"}],
            )
            return
        order = Order(
            number=next(self._numbers),
            tenant=tenant,
            correlation_id=body["correlationId"],
            request=request,
            files=self._files(tenant, body["correlationId"]),
        )
        order.wrong = self.weather.strikes(f"{PARTY} has wrong bytes")
        self.orders[order.number] = order
        if self._suborders is not None:
            self._grant(order, body["user"], self._suborders)
            return
        common = correlation | {"orderId": order.number, "totalSubOrders": 1}
        granted = common | {"status": "GRANTED"}
        if self.weather.strikes(f"{PARTY} fails orders"):
            events = [granted, common | {"status": "FAILED", "errors": 1, "message": "drawn"}]
        elif self.weather.strikes(f"{PARTY} splits orders"):
            split = common | {"totalSubOrders": 2}
            events = [granted, split | {"status": "SUBORDER_DONE"}, split | {"status": "DONE"}]
        else:
            events = [granted, common | {"status": "SUBORDER_DONE"}, common | {"status": "DONE"}]
        order.told = [event["status"] for event in events]
        self._tell(tenant, events)

    def _grant(self, order: Order, user: str, suborders: Suborders) -> None:
        """Begin an order, of which more is told as it goes."""
        files = {f"f{file_id}": content for file_id, content in order.files.items()}
        order.fails = self.weather.strikes(f"{PARTY} fails orders")
        order.flaws = {
            name: suborders.lost.get(name, flaw)
            for name in files
            for fault, flaw in _FLAWS.items()
            if self.weather.strikes(fault) or name in suborders.lost
        }
        suborders.lost |= {name: flaw for name, flaw in order.flaws.items() if flaw == LOST}
        if order.flaws:
            self.weather.note(f"{PARTY} has flaws in order {order.number}: {order.flaws}")
        suborders.grant(
            files,
            fails=order.fails,
            order_id=order.number,
            tenant=order.tenant,
            user=user,
            correlation_id=order.correlation_id,
        )

    def _tell_more(self, granted: Granted, event: dict[str, Any]) -> None:
        """Tell the next event of an order: after those before, unless they are mixed up."""
        order = self.orders[granted.order_id]
        if not order.told:
            order.files = files_of(granted)
        order.told.append(event["status"])
        now = asyncio.get_running_loop().time()
        if self.weather.strikes(f"{PARTY} mixes events up"):
            at = now + self._draws.uniform(0, 5)
        else:
            at = max(now, self._told_until.get(order.number, now)) + self._draws.uniform(0, 0.5)
            self._told_until[order.number] = at
        told = {name: value for name, value in event.items() if value is not None}
        self._say(order.tenant, told, at - now)

    def _files(self, tenant: str, correlation_id: str) -> dict[int, bytes]:
        """Return the files of a new order: now and then those of the one before of its id."""
        key = tenant, correlation_id
        if key in self._last_files and self.weather.strikes(f"{PARTY} has the same files again"):
            return self._last_files[key]
        count, many = self._draws.choice((1, 1, 2, 3)), False
        if self.weather.strikes(f"{PARTY} has many files"):
            count, many = self._draws.choice((6, 9)), True
        whole = many and self._draws.random() < 0.7
        files = {}
        for _ in range(count):
            file_id = next(self._file_ids)
            size = 900 if many else self._draws.choice((0, 1, 40, 900))  # bytes
            files[file_id] = self._draws.randbytes(_of_a_part(file_id) if whole else size)
        self._last_files[key] = files
        return files

    def _tell(self, tenant: str, events: list[dict[str, Any]]) -> None:
        if self.weather.strikes(f"{PARTY} mixes events up"):
            self._draws.shuffle(events)
        at = 0.0
        for event in events:
            at += self._draws.uniform(0, 0.5)
            self._say(tenant, event, at)

    def _say(self, tenant: str, event: Mapping[str, Any], at: float) -> None:
        """Send an event in so many seconds, and maybe once more."""
        message = self._message(tenant, event)
        self._send(message, at)
        if self.weather.strikes(f"{PARTY} says things twice"):
            if "orderId" in event and self._draws.random() < 0.5:
                message = self._message(tenant, event)  # which nothing else tells apart
            self._send(message, at + self._draws.uniform(0, 20))

    def _message(self, tenant: str, event: Mapping[str, Any]) -> Message:
        return Message(
            json.dumps(event).encode(),
            headers={
                names.HEADER_TENANT: tenant,
                names.HEADER_JAVA_TYPE: ORDER_RESPONSES.exchange.type_id,
            },
            content_type="application/json",
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=str(UUID(int=self._draws.getrandbits(128))),
            timestamp=_EPOCH,
        )

    def _send(self, message: Message, at: float) -> None:
        by_no_process(at, partial(self._broker.publish, ORDER_RESPONSES.exchange.name, message))

    def _cancel(self, stored: Stored) -> None:
        order = self.orders.get(json.loads(stored.message.body)["orderId"])
        if order is not None:
            self.on_cancel(order)
            order.cancelled += 1
            if self._suborders is not None:
                self._suborders.cancel(order.number)

    def listing(self, delivery: Delivery, suborder: int | None = None) -> list[ListedFile]:
        """Return the files of a delivery's order that can be downloaded, or of a suborder's.

        Raises SourceRefusedError, SourceNotReadyError.
        """
        order = self._order_of(delivery)
        if self._suborders is None:
            found = [(file_id, f"f{file_id}", content) for file_id, content in order.files.items()]
        else:
            found = list(self._suborders.available(order.number, suborder))
        return [_listed(*file, listed=len(found)) for file in found]

    def facts(self, delivery: Delivery) -> OrderFacts | None:
        """Tell about a delivery's order as a whole; None where it does not. Raises the same."""
        order = self._order_of(delivery)
        return None if self._suborders is None else self._suborders.facts(order.number)

    def every_file(self, delivery: Delivery) -> list[OrderFile]:
        """Return all files of a delivery's order. Raises the same."""
        order = self._order_of(delivery)
        assert self._suborders is not None
        found = list(self._suborders.every_file(order.number))
        return [
            OrderFile(
                file=replace(
                    _listed(file_id, name, content, listed=len(found)), crc32=zlib.crc32(content)
                ),
                state=state,
                suborder_id=suborder,
            )
            for file_id, name, content, state, suborder in found
        ]

    def content(self, delivery: Delivery, file_id: int) -> bytes:
        """Return a file, or another one. Raises SourceRefusedError, SourceNotReadyError."""
        order = self._order_of(delivery)
        if self._suborders is None:
            content, flaw = order.files[file_id], None
        else:
            flaw = self.flaw_of(order, file_id)
            self._refuse(order, file_id, flaw, self._suborders)
            content = self._suborders.download(order.number, file_id)
        if order.wrong or flaw == WRONG or self.weather.strikes(f"{PARTY} serves wrong bytes"):
            order.failed[file_id] += 1
            self.weather.note(f"{PARTY} serves wrong bytes of file {file_id}")
            return content + b"!"
        return content

    def flaw_of(self, order: Order, file_id: int) -> str | None:
        """Return what is wrong with a file for good."""
        if self._suborders is None:
            return None
        return order.flaws.get(self._suborders.name_of(order.number, file_id))

    def _refuse(self, order: Order, file_id: int, flaw: str | None, suborders: Suborders) -> None:
        """Raise SourceRefusedError where a download is refused."""
        refused = flaw in (REFUSED, GONE) or self.weather.strikes(f"{PARTY} refuses a download")
        if not refused:
            return
        order.failed[file_id] += 1
        suborders.break_off(order.number, file_id)
        self.weather.note(f"{PARTY} refuses file {file_id}")
        raise (SourceGoneError if flaw == GONE else SourceRefusedError)(f"file {file_id}: no")

    def kept(self) -> list[int]:
        """Return the orders that keep a place of their user, or wait for one."""
        return [] if self._suborders is None else list(self._suborders.kept())

    def _order_of(self, delivery: Delivery) -> Order:
        assert delivery.order_id is not None
        order = self.orders.get(delivery.order_id)
        if order is None or order.cancelled:
            raise SourceRefusedError(f"there is no order {delivery.order_id}")
        return order


class Source:
    """What one process asks it through; see `app.delivery.ports.OrderSource`."""

    def __init__(self, rs_order: RsOrder) -> None:
        self._rs_order = rs_order
        self._link = Link(party=PARTY, weather=rs_order.weather, deadline=_DEADLINE)

    async def listing(
        self, delivery: Delivery, suborder: int | None = None, *, so_far: bool = False
    ) -> AsyncIterator[ListedFile]:
        """Iterate over the files of a delivery's order, or of one of its suborders."""
        for file in await self._link.ask(
            f"list order {delivery.order_id}",
            partial(self._rs_order.listing, delivery, suborder),
            away=SourceUnavailableError,
        ):
            yield file

    async def order(self, delivery: Delivery) -> OrderFacts | None:
        """Tell about a delivery's order as a whole."""
        return await self._link.ask(
            f"order {delivery.order_id}",
            partial(self._rs_order.facts, delivery),
            away=SourceUnavailableError,
        )

    async def every_file(self, delivery: Delivery, facts: OrderFacts) -> AsyncIterator[OrderFile]:
        """Iterate over all files of a delivery's order."""
        del facts
        for file in await self._link.ask(
            f"every file of order {delivery.order_id}",
            partial(self._rs_order.every_file, delivery),
            away=SourceUnavailableError,
        ):
            yield file

    async def retry(self, delivery: Delivery) -> bool:
        """Refuse to: files do not leave the cache here."""
        return False

    @contextlib.asynccontextmanager
    async def download(
        self, delivery: Delivery, file: ManifestFile
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a file's bytes."""
        content = await self._link.ask(
            f"file {file.file_id}",
            partial(self._rs_order.content, delivery, file.file_id),
            away=SourceUnavailableError,
            takes=self._rs_order.weather.pace,
        )
        yield _pieces(content)


def _of_a_part(file_id: int) -> int:
    """Return the size of a file that is as large as a part, as it is archived.

    Behind such a one any kind of worker can go on: no member begins before it.
    """
    return 512 - len(f"f{file_id} 500\n")


def _listed(file_id: int, name: str, content: bytes, *, listed: int) -> ListedFile:
    return ListedFile(
        file_id=file_id,
        product_id="P",
        version=1,
        filename=name,
        size=len(content),
        md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
        listed=listed,
    )


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 400):
        yield content[start : start + 400]
