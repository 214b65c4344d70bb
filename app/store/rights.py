"""What a role needs to do the service's work: no more, so that it can't change the schema.

`delivery migrate --grant-to` grants it, a worker that starts and `delivery doctor` look for it.
A test holds it to the statements: each is allowed by it, and none of it is for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from app.store.sql import load

SQL = load(__name__)

_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")

# By table or sequence. Sequences of identity columns need none.
NEEDED: Mapping[str, Sequence[str]] = {
    "arrival": _ALL,
    "asked": ("SELECT", "INSERT", "DELETE"),
    "audit": ("SELECT", "INSERT", "DELETE"),
    "checkpoint": ("SELECT", "INSERT", "DELETE"),
    "content": _ALL,
    "dead_letter": _ALL,
    "dead_letter_look": ("SELECT", "INSERT", "UPDATE"),
    "delivery": _ALL,
    "delivery_attempt": _ALL,
    "delivery_file": _ALL,
    "delivery_history": ("SELECT", "INSERT", "DELETE"),
    "figure": _ALL,
    "file_checkpoint": ("SELECT", "INSERT", "DELETE"),
    "file_contents": _ALL,
    "inbox": _ALL,
    "missing_file": ("SELECT", "INSERT", "DELETE"),
    "outbox": _ALL,
    "pause": _ALL,
    "place": ("SELECT", "INSERT", "UPDATE"),
    "schema_migration": ("SELECT",),
    "segment": ("SELECT", "INSERT", "UPDATE"),
    "setting_version": ("USAGE",),
    "tenant_maintenance": ("SELECT", "INSERT", "UPDATE"),
    "tail": _ALL,
    "tenant_setting": _ALL,
    "told_crc32": ("SELECT", "INSERT", "DELETE"),
    "turn": ("SELECT", "INSERT", "UPDATE"),
    "webhook": _ALL,
    "webhook_event": _ALL,
    "worker": _ALL,
}


_PAIRS = [(name, right) for name, rights in NEEDED.items() for right in rights]
_NAMES, _RIGHTS = [name for name, _ in _PAIRS], [right for _, right in _PAIRS]


async def missing_rights(
    connection: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy,
) -> list[str]:
    """Return what the role of this connection has not, such as "UPDATE on delivery"."""
    rows = await connection.fetch(*SQL["missing_rights"](names=_NAMES, rights=_RIGHTS))
    return [f"{row['right_to']} on {row['name']}" for row in rows]


def lacking(missing: Sequence[str]) -> str:
    """Say what is missing, and what to do."""
    return (
        f"PostgreSQL's role of DELIVERY_DATABASE_URL lacks {', '.join(missing)}; the owner of the "
        "tables grants it by `delivery migrate --grant-to ROLE`"
    )


async def grant(
    connection: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy, role: str
) -> None:
    """Give another role what it needs. Only the owner of the tables may."""
    statements = SQL["grants"](names=_NAMES, rights=_RIGHTS, role=role)
    for row in await connection.fetch(*statements):
        await connection.execute(row["statement"])
