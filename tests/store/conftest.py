"""What each test here runs on: PostgreSQL and its twin in memory."""

from __future__ import annotations

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
def arrivals(deliveries: Deliveries) -> Arrivals:
    """What arrived; it counts as lost at once."""
    return deliveries.arrivals()
