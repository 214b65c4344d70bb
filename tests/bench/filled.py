"""A database as it is after many deliveries: rows by the thousand, as the service leaves them."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from app.store.sql import load

SQL = load(__name__)

_AT_ONCE = 50_000  # deliveries of one statement


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much there is of what a service has."""

    tenants: int = 10
    finished: int = 10_000  # deliveries that have ended, and are kept
    waiting: int = 1_000  # deliveries that have not
    workers: int = 1  # that ask at once
    uneven: bool = False  # the first tenant has a hundredth, the last one the rest


async def fill(connection: asyncpg.pool.PoolConnectionProxy, size: Size) -> None:
    """Empty the database, and fill it; PostgreSQL then knows what is in it."""
    await connection.execute(
        "TRUNCATE delivery, inbox, outbox, asked, place, content, audit, turn, figure CASCADE"
    )
    await connection.execute(
        "SET session_replication_role = replica"
    )  # no triggers, nothing checked
    for name, deliveries in (("finished", size.finished), ("waiting", size.waiting)):
        for first in range(1, deliveries + 1, _AT_ONCE):
            await connection.execute(
                *SQL[name](
                    deliveries=deliveries,
                    first=first,
                    last=min(deliveries, first + _AT_ONCE - 1),
                    tenants=size.tenants,
                    uneven=size.uneven,
                )
            )
    await connection.execute("RESET session_replication_role")
    await connection.execute("VACUUM ANALYZE")
