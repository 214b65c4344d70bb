"""PostgreSQL, as `delivery doctor` looks at it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import asyncpg

from app.errors import ConfigurationError
from app.settings import Settings
from app.store.outbox import held_back
from app.store.parameters import parameters_of
from app.store.pool import advice
from app.store.rights import missing_rights
from app.store.schema import look
from app.store.sql import load
from app.views.findings import Finding, bad, good

SQL = load(__name__)

_PART = "postgresql"
_MIN_SERVER_VERSION = 130000  # server_version_num
_MAX_CLOCK_SKEW = 2.0  # seconds that clocks may differ


async def check_postgresql(settings: Settings) -> AsyncIterator[Finding]:
    """Look at reachability, encryption, version, schema, connections, clock and the outbox."""
    try:
        parameters = parameters_of(settings)
    except ConfigurationError as error:
        yield bad(_PART, "certificates", str(error), "see DELIVERY_DATABASE_CA and its neighbours")
        return
    # And the one by which a worker hears of work.
    pool_size = settings.database_pool_size + settings.web_database_pool_size + 1
    try:
        connection = await asyncpg.connect(**parameters.arguments, timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresError, ValueError) as error:
        refused = isinstance(error, asyncpg.InvalidAuthorizationSpecificationError)
        yield bad(
            _PART,
            "reachable",
            f"no connection to {parameters.place} ({parameters.explain(error)})",
            advice(error) if refused else "start PostgreSQL, or correct DELIVERY_DATABASE_URL",
        )
        return
    try:
        yield encryption(
            await connection.fetchrow(*SQL["encryption"]()),
            decided=settings.database_sslmode == "disable",
        )
        yield await _version(connection)
        schema = await _schema(connection)
        yield schema
        yield await _connections(connection, pool_size)
        yield await _clock(connection)
        if schema.ok:
            rights = await _rights(connection)
            yield rights
            if rights.ok:
                yield await _outbox(connection)
    finally:
        await connection.close()


def encryption(row: Mapping[str, Any] | None, *, decided: bool) -> Finding:
    """Report whether others can read along; `decided`: the operator said that it is plain text."""
    check = "encryption"
    if row is not None and row["ssl"]:
        return good(_PART, check, f"{row['version']}, {row['cipher']}")
    client = row["client"] if row is not None else None
    if client is None or client.is_loopback:
        return good(_PART, check, "none, but it is on this machine")
    if decided:
        return good(_PART, check, "none, as DELIVERY_DATABASE_SSLMODE=disable says")
    return bad(
        _PART,
        check,
        f"none: all that goes between here ({client}) and PostgreSQL can be read, and changed",
        "give DELIVERY_DATABASE_CA (it makes DELIVERY_DATABASE_SSLMODE verify-full); or say "
        "`disable` there, where the network is trusted",
    )


async def _version(connection: asyncpg.Connection[asyncpg.Record]) -> Finding:
    server = await connection.fetchrow(*SQL["version"]())
    assert server is not None  # noqa: S101 - it has a row
    if server["number"] < _MIN_SERVER_VERSION:
        return bad(_PART, "version", f"it is {server['name']}", "upgrade to 13 or newer")
    return good(_PART, "version", server["name"])


async def _schema(connection: asyncpg.Connection[asyncpg.Record]) -> Finding:
    try:
        found = await look(connection)
    except ConfigurationError as error:
        return bad(_PART, "schema", str(error), "see docs/least-rights.md")
    if found.advice is not None:
        return bad(_PART, "schema", found.sentence, found.advice)
    return good(_PART, "schema", found.sentence)


async def _rights(connection: asyncpg.Connection[asyncpg.Record]) -> Finding:
    role = await connection.fetchval(*SQL["role"]())
    missing = await missing_rights(connection)
    if missing:
        return bad(
            _PART,
            "rights",
            f"role {role} lacks {', '.join(missing)}",
            f"as the owner of the tables, run `delivery migrate --grant-to {role}`",
        )
    return good(_PART, "rights", f"role {role} has all that the service needs")


async def _connections(connection: asyncpg.Connection[asyncpg.Record], pool_size: int) -> Finding:
    row = await connection.fetchrow(*SQL["connections"]())
    assert row is not None  # noqa: S101 - it has a row
    used, most = row["used"], row["most"]
    summary = f"{used} of {most} in use; each process takes up to {pool_size}"
    if used + pool_size > most:
        return bad(
            _PART,
            "connections",
            summary,
            "raise max_connections, or lower DELIVERY_DATABASE_POOL_SIZE and "
            "DELIVERY_WEB_DATABASE_POOL_SIZE",
        )
    return good(_PART, "connections", summary)


async def _clock(connection: asyncpg.Connection[asyncpg.Record]) -> Finding:
    before = datetime.now(UTC)
    there = await connection.fetchval(*SQL["clock"]())
    middle = before + (datetime.now(UTC) - before) / 2
    apart = (there - middle).total_seconds()
    if abs(apart) > _MAX_CLOCK_SKEW:
        return bad(
            _PART,
            "clock",
            f"{apart:+.1f} s from the clock here",
            "set both by NTP; times of requests and expiry are mixed otherwise",
        )
    return good(_PART, "clock", f"{apart * 1000:+.0f} ms from the clock here")


async def _outbox(connection: asyncpg.Connection[asyncpg.Record]) -> Finding:
    if (later := await held_back(connection)) is not None:
        kinds, behind = later
        return bad(
            _PART,
            "outbox",
            f"messages are owed of a kind that only a later version knows ({', '.join(kinds)}), "
            f"and {behind} of the same deliveries wait behind them, to keep their order",
            "finish the upgrade; after a step back, run a worker of the later version until they "
            "are sent",
        )
    return good(_PART, "outbox", "nothing is owed that only a later version can send")
