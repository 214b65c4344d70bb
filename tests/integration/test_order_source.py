"""rs-order over HTTP, as the stand-in answers, does what every source of orders does."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from app.delivery.model import Delivery
from compose.rs_order.catalog import Catalog, File
from compose.rs_order.faults import Faults
from compose.rs_order.orders import Order
from compose.rs_order.orders import Orders as TakenOrders
from compose.rs_order.rest import Rest
from streams.regards.orders import open_session
from tests.contract.order_source import Orders, OrderSourceContract
from tests.servers import SECRET, rs_order_at, serving_application


@pytest.fixture
async def orders(tmp_path: Path) -> AsyncIterator[Orders]:
    """The stand-in's REST side without orders, its client reading two files a page."""
    no_channel: Any = None  # orders are given here, not taken over AMQP
    catalog = Catalog(tmp_path)
    taken = TakenOrders(no_channel, catalog, Faults(), suborder_files=9)
    file_ids = itertools.count(1)

    def hold(delivery: Delivery, files: Mapping[str, bytes]) -> None:
        assert delivery.order_id is not None
        folder = tmp_path / str(delivery.order_id)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        taken.orders[delivery.order_id] = Order(
            order_id=delivery.order_id,
            tenant=delivery.tenant,
            user=delivery.user,
            correlation_id=delivery.correlation_id,
            files={
                next(file_ids): File(product_id="P", path=folder / name, data_type="RAWDATA")
                for name in files
            },
        )

    def misbehave(faults: Faults) -> None:
        taken.faults = faults

    application: web.Application = Rest(taken, catalog, secret=SECRET).application()
    async with serving_application(application) as port, open_session(stall_timeout=60) as session:
        yield Orders(source=rs_order_at(port, session, page_size=2), hold=hold, misbehave=misbehave)


class TestHttp(OrderSourceContract):
    """All that is asked of rs-order."""
