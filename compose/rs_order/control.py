"""What tests and demos steer the stand-in by, and look into it: `/control/…`."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from compose.rs_order.behaviour import Behaviour
from compose.rs_order.faults import Faults
from compose.rs_order.order import Order
from compose.rs_order.orders import Orders
from compose.rs_order.switches import SwitchError


class _Step(BaseModel):
    model_config = ConfigDict(extra="forbid")

    advance: float = Field(ge=0)  # seconds


class Control:
    """No token is asked for: it listens on loopback, or inside of a demo."""

    def __init__(self, orders: Orders, behaviour: Behaviour) -> None:
        self._orders = orders
        self._behaviour = behaviour
        self._at_start = behaviour.switches

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/control/faults", self.show_faults),
            web.put("/control/faults", self.set_faults),
            web.delete("/control/faults", self.reset_faults),
            web.get("/control/switches", self.show_switches),
            web.put("/control/switches", self.set_switches),
            web.delete("/control/switches", self.reset_switches),
            web.post("/control/clock", self.advance),
            web.get("/control/orders", self.show_orders),
            web.get("/control/orders/{order:\\d+}/files", self.show_files),
        ]

    async def show_faults(self, _request: web.Request) -> web.Response:
        """Tell what goes wrong now."""
        return web.json_response(self._behaviour.faults.model_dump())

    async def set_faults(self, request: web.Request) -> web.Response:
        """Change what goes wrong; a name that is unknown is refused."""
        try:
            self._behaviour.faults = Faults.model_validate(await request.json())
        except ValueError as error:
            return web.Response(status=422, text=str(error))
        return await self.show_faults(request)

    async def reset_faults(self, request: web.Request) -> web.Response:
        """Behave from now on."""
        self._behaviour.faults = Faults()
        return await self.show_faults(request)

    async def show_switches(self, _request: web.Request) -> web.Response:
        """Tell how it is set up."""
        return web.json_response(self._behaviour.switches.model_dump())

    async def set_switches(self, request: web.Request) -> web.Response:
        """Change the switches that are named. What has begun goes on as it began."""
        try:
            given = await request.json()
            if not isinstance(given, dict):
                raise SwitchError("give a JSON object of switches and their values")
            self._behaviour.switches = self._behaviour.switches.changed(given)
        except ValueError as error:
            return web.Response(status=422, text=str(error))
        return await self.show_switches(request)

    async def reset_switches(self, request: web.Request) -> web.Response:
        """Set it up as at its start."""
        self._behaviour.switches = self._at_start
        return await self.show_switches(request)

    async def advance(self, request: web.Request) -> web.Response:
        """Let `{"advance": seconds}` pass at once; tell the time."""
        try:
            step = _Step.model_validate(await request.json())
        except ValueError as error:
            return web.Response(status=422, text=str(error))
        self._orders.clock.advance(step.advance)
        return web.json_response({"now": self._orders.clock.now()})

    async def show_orders(self, _request: web.Request) -> web.Response:
        """List the orders that were granted."""
        return web.json_response([_order(order) for order in self._orders.by_id.values()])

    async def show_files(self, request: web.Request) -> web.Response:
        """List the files of an order: their states, and the downloads of each."""
        order = self._orders.by_id.get(int(request.match_info["order"]))
        if order is None:
            raise web.HTTPNotFound(text="no such order")
        return web.json_response(
            [
                {
                    "id": file.file_id,
                    "filename": file.file.path.name,
                    "subOrderId": file.suborder.suborder_id,
                    "state": file.state,
                    "begun": file.begun,
                    "ended": file.ended,
                    "open": file.open,
                    "refused": {str(status): n for status, n in file.refused.items()},
                }
                for file in order.files.values()
            ]
        )


def _order(order: Order) -> dict[str, Any]:
    return {
        "orderId": order.order_id,
        "tenant": order.tenant,
        "user": order.user,
        "correlationId": order.correlation_id,
        "files": len(order.files),
        "cancelled": order.cancelled,
        "status": order.status,
        "subOrders": [
            {"subOrderId": suborder.suborder_id, "state": suborder.state}
            for suborder in order.suborders
        ],
    }
