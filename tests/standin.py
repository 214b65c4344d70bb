"""The switches of the stand-in rs-order."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp


class StandIn:
    """Tells the stand-in to misbehave, and to behave."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, url: str) -> AsyncIterator[StandIn]:
        async with aiohttp.ClientSession(url, raise_for_status=True) as session:
            yield cls(session)

    async def misbehave(self, **faults: Any) -> None:
        """Set faults; those that are not named are off."""
        await self._session.put("/control/faults", json=faults)

    async def behave(self) -> None:
        """Turn all faults off."""
        await self._session.delete("/control/faults")

    async def faults(self) -> dict[str, Any]:
        """Return the faults that are set; counters have gone down by what was used."""
        async with self._session.get("/control/faults") as response:
            found: dict[str, Any] = await response.json()
            return found

    async def switch(self, **switches: Any) -> None:
        """Set it up in another way; switches that are not named stay."""
        await self._session.put("/control/switches", json=switches)

    async def reset(self) -> None:
        """Turn all faults off, and set it up as at its start."""
        await self.behave()
        await self._session.delete("/control/switches")

    async def advance(self, seconds: float) -> None:
        """Let time pass at once."""
        await self._session.post("/control/clock", json={"advance": seconds})

    async def files(self, order_id: int) -> list[dict[str, Any]]:
        """Return the files of an order, with their states and how often each was read."""
        async with self._session.get(f"/control/orders/{order_id}/files") as response:
            found: list[dict[str, Any]] = await response.json()
            return found

    async def all_orders(self) -> list[dict[str, Any]]:
        """Return the orders that were granted."""
        async with self._session.get("/control/orders") as response:
            found: list[dict[str, Any]] = await response.json()
            return found

    async def orders(self, correlation_id: str) -> list[dict[str, Any]]:
        """Return the orders granted for a delivery."""
        orders = await self.all_orders()
        return [order for order in orders if order["correlationId"] == correlation_id]
