"""What each test here runs on: PostgreSQL and its twin in memory."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from app.delivery.ports import Arrivals
from app.settings import Settings
from compose.embedded.stack import TENANT
from tests.deliveries import Deliveries, DeliveriesInMemory, DeliveriesInPostgres

OTHER = "swot"


@pytest.fixture(params=["memory", pytest.param("postgresql", marks=pytest.mark.stack)])
def deliveries(request: pytest.FixtureRequest) -> Deliveries:
    """Deliveries of two tenants with one bucket, in a store of the test's own."""
    tenants = (TENANT, OTHER)
    if request.param == "memory":
        return DeliveriesInMemory(Settings(tenants=tenants))
    settings = request.getfixturevalue("settings").model_copy(update={"tenants": tenants})
    return DeliveriesInPostgres(request.getfixturevalue("pool"), settings)


@pytest.fixture
async def one_day() -> None:
    """Let a midnight that is less than half a minute off go by: what counts by day is of one.

    Neither store's day can be given: PostgreSQL's is that of its own clock.
    """
    soon = datetime.now(UTC) + timedelta(seconds=30)
    while (now := datetime.now(UTC)).date() < soon.date():
        midnight = soon.replace(hour=0, minute=0, second=0, microsecond=0)
        await asyncio.sleep((midnight - now).total_seconds())


@pytest.fixture
def arrivals(deliveries: Deliveries) -> Arrivals:
    """What arrived; it counts as lost at once."""
    return deliveries.arrivals()
