"""How long a claim takes while very many deliveries wait, and by which indexes.

    make bench-claims [DELIVERIES=100000]

Rows go straight into PostgreSQL; then workers' claims are timed, one after the other, each taking
its delivery. The plan of the last is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import asyncpg

from app.delivery.states import Work
from app.delivery.targets import Blocked
from app.store import PostgresLeases, migrate, open_pool
from app.store.leases import SQL, words_of
from compose.embedded.postgres import postgres

_CLAIMS = 300
_FILL = """
INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, order_request,
                      priority, requested_at, expires_at, rank, archive_name)
SELECT gen_random_uuid(), 'tenant-' || n % $2, 'd-' || n, 'READY', 'user@example.org',
       'target-' || n / $2 % 2,
       '{}', 1, at, at + interval '12 hours', at - interval '1 minute', 'a.zip'
FROM (SELECT n, now() - n * interval '10 ms' AS at FROM generate_series(1, $1) AS n) AS asked
"""


_NOTHING = Blocked()
# What half of the deliveries wait for does not answer: all of some tenants', or some of all.
_TENANTS = Blocked(tenants=tuple(f"tenant-{n}" for n in range(0, 10, 2)))
_TARGETS = Blocked(
    tenants=tuple(f"tenant-{n}" for n in range(10)),
    spared=tuple((f"tenant-{n}", "target-1") for n in range(10)),
)


async def measure(
    pool: asyncpg.Pool,
    *,
    deliveries: int,
    tenants: int,
    limit: int | None,
    blocked: Blocked = _NOTHING,
) -> None:
    """Fill the table, claim, print."""
    await pool.execute("TRUNCATE delivery CASCADE")
    await pool.execute("TRUNCATE turn")
    await pool.execute("ALTER TABLE delivery DISABLE TRIGGER USER")  # history is not looked at
    await pool.execute(_FILL, deliveries, tenants)
    await pool.execute("ALTER TABLE delivery ENABLE TRIGGER USER")
    await pool.execute("VACUUM ANALYZE delivery")
    leases = PostgresLeases(
        pool,
        owner="bench",
        ttl=timedelta(hours=1),
        transfers_per_tenant=limit,
        blocked=lambda: blocked,
    )
    took = []
    for _ in range(_CLAIMS):
        began = time.monotonic()
        assert await leases.claim(Work.TRANSFER) is not None
        took.append((time.monotonic() - began) * 1000)
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    limited = f"at most {limit} a tenant" if limit else "no limit"
    if blocked.tenants:
        limited = "a target of each away" if blocked.spared else "half of them away"
    print(
        f"{deliveries:7} waiting, {tenants:4} tenants, {limited:<21} p50 {cuts[49]:5.1f} ms   "
        f"p99 {cuts[98]:5.1f} ms"
    )


async def _explain(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        text, *arguments = SQL["claim"](
            owner="bench",
            ttl=timedelta(hours=1),
            work=Work.TRANSFER.value,
            words=words_of(Work.TRANSFER),
            most=None,
            blocked=[],
            spared_tenants=[],
            spared_targets=[],
        )
        transaction = connection.transaction()
        await transaction.start()
        rows = await connection.fetch(
            f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY ON) {text}", *arguments
        )
        await transaction.rollback()
    print("\n".join(row[0] for row in rows))


async def _main(deliveries: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # for the user that PostgreSQL runs as
        async with (
            postgres(folder) as server,
            open_pool(server.url, size=2, start_timeout=5) as pool,
        ):
            await migrate(pool)
            for tenants, limit in ((1, None), (10, None), (10, 1000), (100, None)):
                await measure(pool, deliveries=deliveries, tenants=tenants, limit=limit)
            for blocked in (_TENANTS, _TARGETS):
                await measure(pool, deliveries=deliveries, tenants=10, limit=None, blocked=blocked)
            await _explain(pool)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--deliveries", type=int, default=100_000)
    asyncio.run(_main(parser.parse_args().deliveries))
