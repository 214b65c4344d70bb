"""What is owed of a kind that only a later version knows is told to the operator."""

from __future__ import annotations

from uuid import uuid4

import asyncpg
from pydantic import SecretStr

from app.settings import Settings
from app.store.checkup import check_postgresql
from app.views.findings import Finding
from tests.builders import make_outgoing
from tests.integration.conftest import Deliveries

LATER = "of-a-later-version"


async def told(settings: Settings, database: str) -> Finding:
    """Return what the doctor says of the outbox."""
    own = settings.model_copy(update={"database_url": SecretStr(database)})
    (finding,) = [each async for each in check_postgresql(own) if each.check == "outbox"]
    return finding


async def test_the_doctor_names_a_later_kind_and_counts_what_it_holds_back(
    settings: Settings, database: str, pool: asyncpg.Pool, deliveries: Deliveries
) -> None:
    """At once: it waits for no broker, so it is never late by itself."""
    delivery = uuid4()
    before, later, *behind = (make_outgoing(delivery_id=delivery) for _ in range(4))
    async with deliveries.store.transaction() as tx:
        await tx.enqueue(before, later, *behind, make_outgoing())
    assert (await told(settings, database)).ok
    await deliveries.reword_message(later.message_id, LATER)
    finding = await told(settings, database)
    assert not finding.ok
    assert LATER in finding.message
    assert "2 of the same deliveries" in finding.message
    assert "later version" in finding.advice
