"""Dead letters of tenants that are not served are one finding: any message may name a tenant."""

from __future__ import annotations

import asyncio
import json

import pytest

from app.run.doctor import examine
from app.settings import Settings
from app.views.attention import Need
from tests.builders import make_buried
from tests.command import delivery
from tests.integration.conftest import Deliveries


@pytest.fixture
async def buried(deliveries: Deliveries, settings: Settings) -> None:
    """Letters of three invented tenants, of no tenant, and of one that is served."""
    letters = [make_buried(name, tenant=f"stranger-{name}") for name in ("a", "b", "c")]
    letters += [make_buried("d", tenant=None), make_buried("e", tenant=settings.tenants[0])]
    await deliveries.dead_letters().keep(letters, again=True)


@pytest.mark.usefixtures("buried")
async def test_the_doctor_tells_dead_letters_of_invented_tenants_at_once(
    settings: Settings, database: str
) -> None:
    here = Settings(**{**settings.model_dump(), "database_url": database})
    found = [finding async for finding in examine(here) if finding.check == Need.DEAD_LETTER]
    assert {finding.message.partition(", since")[0] for finding in found} == {
        "Messages and events that could not be handled wait: 4",
        f"tenant {settings.tenants[0]}: Messages and events that could not be handled wait: 1",
    }
    assert len(found) == 2


@pytest.mark.usefixtures("buried")
async def test_so_does_the_command_that_tells_what_is_wrong_now(
    settings: Settings, database: str
) -> None:
    told = await asyncio.to_thread(delivery, "attention", "--json", DELIVERY_DATABASE_URL=database)
    views = [json.loads(line) for line in told.stdout.splitlines()]
    letters = [view for view in views if view["code"] == Need.DEAD_LETTER]
    assert sorted((view.get("tenant") or "", view["count"]) for view in letters) == [
        ("", 4),
        (settings.tenants[0], 1),
    ], told.stderr
