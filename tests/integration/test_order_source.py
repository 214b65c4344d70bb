"""rs-order over HTTP, as the stand-in answers, does what every source of orders does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.delivery.model import Delivery
from compose.rs_order.behaviour import Behaviour
from compose.rs_order.catalog import Catalog, File
from compose.rs_order.faults import Faults
from compose.rs_order.service import Service
from compose.rs_order.switches import UNLIMITED
from streams.regards.orders import open_session
from tests.contract.order_source import Orders, OrderSourceContract
from tests.servers import SECRET, rs_order_at, serving_application


@pytest.fixture
async def orders(tmp_path: Path) -> AsyncIterator[Orders]:
    """The stand-in's REST side without orders, its client reading two files a page."""
    behaviour = Behaviour()
    service = Service(
        Catalog(tmp_path), behaviour, lambda *_: None, secret=SECRET, base=lambda: 0.0
    )

    def hold(delivery: Delivery, files: Mapping[str, bytes], **switches: Any) -> None:
        # It notices a moment later that a reader has left: the next is not refused for that.
        behaviour.switches = UNLIMITED.changed({"second_get": 0} | switches)
        ordered = []
        for name, content in files.items():
            product, _, filename = name.rpartition("/")
            path = tmp_path / str(delivery.order_id) / (product or "P") / filename
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            ordered.append(File(product_id=product or "P", path=path, data_type="RAWDATA"))
        service.orders.grant(
            order_id=delivery.order_id,
            tenant=delivery.tenant,
            user=delivery.user,
            correlation_id=delivery.correlation_id,
            files=ordered,
        )
        service.clock.run_due()

    def misbehave(faults: Faults) -> None:
        behaviour.faults = faults

    async with (
        serving_application(service.application()) as port,
        open_session(stall_timeout=60) as session,
    ):
        yield Orders(
            source=rs_order_at(port, session, page_size=2, dataset_page_size=2),
            hold=hold,
            misbehave=misbehave,
            advance=service.clock.advance,
        )


class TestHttp(OrderSourceContract):
    """All that is asked of rs-order."""
