"""The parts put together: over HTTP alone, or with AMQP, too."""

from __future__ import annotations

import time
from collections.abc import Callable

from aiohttp import web

from compose.rs_order.admin import Admin
from compose.rs_order.behaviour import Behaviour
from compose.rs_order.catalog import Catalog
from compose.rs_order.clock import Clock
from compose.rs_order.control import Control
from compose.rs_order.downloads import Downloads
from compose.rs_order.orders import Orders, Tell
from compose.rs_order.rest import Rest


class Service:
    """The stand-in without AMQP; what it says of orders is handed to `tell`."""

    def __init__(
        self,
        catalog: Catalog,
        behaviour: Behaviour,
        tell: Tell,
        *,
        secret: str,
        base: Callable[[], float] = time.time,
    ) -> None:
        self.clock = Clock(base)
        self.orders = Orders(clock=self.clock, behaviour=behaviour, tell=tell)
        downloads = Downloads(self.orders, behaviour)
        self._routes = [
            *Rest(self.orders, downloads, catalog, behaviour, secret=secret).routes(),
            *Admin(behaviour, secret=secret).routes(),
            *Control(self.orders, behaviour).routes(),
        ]

    def application(self) -> web.Application:
        """Make the aiohttp application."""
        application = web.Application()
        application.add_routes(self._routes)
        return application
