"""rs-admin over HTTP, as the stand-in answers, does what every directory of users does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from compose.rs_order.catalog import Catalog
from compose.rs_order.faults import Faults
from compose.rs_order.orders import Orders
from compose.rs_order.rest import Rest
from streams.regards.orders import open_session
from streams.regards.users import RsAdmin
from tests.contract.users import Directory, UsersContract
from tests.servers import SECRET, SIGNER, serving_application


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[Directory]:
    """The stand-in's users, without an order."""
    no_channel: Any = None  # nothing is taken over AMQP
    catalog = Catalog(tmp_path)
    orders = Orders(no_channel, catalog, Faults(), suborder_files=9)

    def misbehave(faults: Faults) -> None:
        orders.faults = faults

    application: web.Application = Rest(orders, catalog, secret=SECRET).application()
    async with serving_application(application) as port, open_session(stall_timeout=60) as session:
        users = RsAdmin(session, SIGNER, url=f"http://127.0.0.1:{port}")
        yield Directory(users=users, misbehave=misbehave)


class TestHttp(UsersContract):
    """All that is asked of rs-admin."""
