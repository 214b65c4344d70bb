"""rs-admin over HTTP, as the stand-in answers, does what every directory of users does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from compose.rs_order.admin import Admin
from compose.rs_order.behaviour import Behaviour
from compose.rs_order.faults import Faults
from streams.regards.orders import open_session
from streams.regards.users import RsAdmin
from tests.contract.users import Directory, UsersContract
from tests.servers import SECRET, SIGNER, serving_application


@pytest.fixture
async def directory() -> AsyncIterator[Directory]:
    """The stand-in's users, without an order."""
    behaviour = Behaviour()
    application = web.Application()
    application.add_routes(Admin(behaviour, secret=SECRET).routes())

    def misbehave(faults: Faults) -> None:
        behaviour.faults = faults

    async with serving_application(application) as port, open_session(stall_timeout=60) as session:
        users = RsAdmin(session, SIGNER, url=f"http://127.0.0.1:{port}")
        yield Directory(users=users, misbehave=misbehave)


class TestHttp(UsersContract):
    """All that is asked of rs-admin."""
