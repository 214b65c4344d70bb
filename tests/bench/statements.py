"""How many statements a delivery costs PostgreSQL, and how many more with what its client may get.

    make bench-statements

From a plan of nine files to DONE or ERROR, by a worker's own use-cases on a PostgreSQL of the
bench's own; archives are kept in memory. BEGIN and COMMIT count, too.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import structlog

from app.delivery.webhooks import WEBHOOKS
from app.errors import SourceRefusedError
from app.settings import Settings
from app.store import migrate, open_pool
from app.usecases.reports import Reports
from app.usecases.transfer import COMPLETION
from compose.embedded.postgres import postgres
from compose.embedded.stack import TENANT
from tests.deliveries import DeliveriesInPostgres
from tests.store.half_made import TARGET, HalfMade
from tests.store.test_partial import SMALL, FlawedSource

_CONNECTIONS = 4
_REFUSED = "4.bin"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A delivery, by what its tenant and client want."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the tenant
    options: Mapping[str, Any] | None = None  # of the request
    lacks: bool = False  # rs-order refuses a file
    webhooks: int = 0  # of the tenant


CASES = (
    Case(name="an archive"),
    Case(name="with `manifest`", settings={"manifest": True}),
    Case(name="with `sha256`", settings={"sha256": True}),
    Case(name="with `delivered_ttl`", settings={"delivered_ttl": timedelta(hours=1)}),
    Case(name="`partial`, all there", options={"partial": True}),
    Case(name="`partial`, one file refused", options={"partial": True}, lacks=True),
    Case(name="three webhooks", webhooks=3),
    Case(name="one file refused: ERROR", lacks=True),
    Case(name="the same, with `report`", lacks=True, settings={"report": True}),
)


class Counted:
    """Counts what all connections of a pool send."""

    def __init__(self) -> None:
        self.statements = 0

    async def watch(self, pool: asyncpg.Pool) -> None:
        """Count from now on; the pool has no more connections than it has open then."""
        connections = [await pool.acquire() for _ in range(_CONNECTIONS)]
        for connection in connections:
            connection.add_query_logger(self._count)
            await pool.release(connection)

    def _count(self, _query: Any) -> None:
        self.statements += 1


async def measure(case: Case, pool: asyncpg.Pool, counted: Counted) -> int:
    """Make one delivery; return how many statements that took."""
    await pool.execute("TRUNCATE delivery, outbox, tenant_setting, webhook_event CASCADE")
    deliveries = DeliveriesInPostgres(pool, Settings(tenants=(TENANT,)))
    made = HalfMade(deliveries, SMALL)
    made.source = source = FlawedSource(SMALL)
    deliveries.tenants.give(TENANT, target=TARGET, **case.settings)
    made.written = Reports(
        store=deliveries.store,
        tenants=deliveries.tenants,
        objects=made.store,
        uploads=made.transfers("w").uploads,
        source=made.orders,
        within=COMPLETION,
        kept=timedelta(days=7),
    )
    if case.webhooks:
        hooks = {f"w{number}": {"url": "https://a.example/"} for number in range(case.webhooks)}
        async with deliveries.configuration.change(TENANT) as change:
            await change.set(WEBHOOKS, hooks)
    if case.lacks:
        source.refuses[_REFUSED] = SourceRefusedError(f"404 for {_REFUSED}")
    await made.plan(options=case.options)
    before, attempts = counted.statements, 1
    while await made.attempt() is not None and case.options:
        attempts += 1
        assert attempts < 9, "it does not end"
    (told,) = [
        owed.body["status"]
        for owed in await deliveries.outgoing()
        if owed.body.get("status") in ("DONE", "ERROR")
    ]
    assert told == ("ERROR" if case.lacks and not case.options else "DONE")
    return counted.statements - before - 1  # the look at what is owed is the bench's own


async def main() -> None:
    """Print what each case costs."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # for the user that PostgreSQL runs as
        async with (
            postgres(folder) as database,
            open_pool(database.url, size=_CONNECTIONS, start_timeout=30) as pool,
        ):
            await migrate(pool)
            counted = Counted()
            await counted.watch(pool)
            for case in CASES:
                print(f"{await measure(case, pool, counted):5}  {case.name}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
