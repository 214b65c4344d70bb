"""The rights that a role needs: each statement is allowed by them, and none is for nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import cast
from uuid import uuid4

import asyncpg
import pytest

from app.delivery.states import Work
from app.settings import Settings
from app.store import PostgresLeases, migrate
from app.store.rights import NEEDED, missing_rights
from tests.deliveries import DeliveriesInPostgres
from tests.statements import STATEMENTS

# By a trigger, and by COPY.
IN_NO_STATEMENT = {
    ("delivery_attempt", "INSERT"),
    ("delivery_attempt", "DELETE"),
    ("delivery_history", "DELETE"),
    ("told_crc32", "INSERT"),
}
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
PAIRS = [(name, right) for name, rights in NEEDED.items() for right in rights]


@pytest.fixture
async def role(pool: asyncpg.Pool) -> AsyncIterator[str]:
    """A role with those rights, in a database of the test's own."""
    name = f"r{uuid4().hex}"
    await pool.execute(f"CREATE ROLE {name}")
    await migrate(pool, grant_to=name)
    yield name
    await pool.execute(f"DROP OWNED BY {name}")
    await pool.execute(f"DROP ROLE {name}")


@pytest.fixture
async def limited(pool: asyncpg.Pool, role: str) -> AsyncIterator[Connection]:
    """A connection that acts as that role, and that a superuser may change it over."""
    async with pool.acquire() as connection:
        await connection.execute(f"SET ROLE {role}")
        for name, statement in STATEMENTS.items():
            await connection.execute(f'PREPARE "{name}" AS {statement.text.rstrip(";")}')
        yield connection
        await connection.execute("RESET ROLE")
        await connection.execute("DEALLOCATE ALL")


async def refused(connection: Connection) -> set[str]:
    """Return the statements that need a right that the role has not. None is executed."""
    counts = await connection.fetch(
        "SELECT name, cardinality(parameter_types) AS count FROM pg_prepared_statements "
        "WHERE from_sql"
    )
    assert {row["name"]: row["count"] for row in counts} == {
        name: len(statement.parameters) for name, statement in STATEMENTS.items()
    }
    found = set()
    for row in counts:
        nothing = ", ".join(["NULL"] * row["count"])
        arguments = f"({nothing})" if nothing else ""
        try:
            await connection.execute(f'EXPLAIN EXECUTE "{row["name"]}"{arguments}')
        except asyncpg.InsufficientPrivilegeError:
            found.add(row["name"])
    return found


async def test_every_statement_is_allowed_and_every_right_is_needed(
    pool: asyncpg.Pool, role: str, limited: Connection
) -> None:
    assert await missing_rights(limited) == []
    assert await refused(limited) == set()
    in_vain = []
    for name, right in PAIRS:
        kind = "SEQUENCE" if right == "USAGE" else "TABLE"
        await pool.execute(f"REVOKE {right} ON {kind} {name} FROM {role}")
        assert await missing_rights(limited) == [f"{right} on {name}"]
        # The functions that a statement calls are not asked when it is explained.
        if right != "USAGE" and not await refused(limited):
            in_vain.append((name, right))
        await pool.execute(f"GRANT {right} ON {kind} {name} TO {role}")
    assert set(in_vain) == IN_NO_STATEMENT


async def test_the_role_may_do_what_the_triggers_of_a_lease_do(
    pool: asyncpg.Pool, limited: Connection, settings: Settings
) -> None:
    """What a statement sets off is done with the rights of the role that sends it."""
    deliveries = DeliveriesInPostgres(pool, settings)
    await deliveries.ready()
    leases = PostgresLeases(cast("asyncpg.Pool", limited), owner="w", ttl=timedelta(seconds=30))
    for tries in (1, 2):
        claimed = await leases.claim(Work.TRANSFER)
        assert claimed is not None
        await leases.release(claimed, after=timedelta(), failed=False, cause="away")
        assert (await deliveries.row(claimed)).tries == tries


async def test_every_table_is_among_those_with_rights(pool: asyncpg.Pool) -> None:
    """A migration that makes a table names what the service needs of it in app/store/rights.py."""
    tables = await pool.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    sequences = await pool.fetch(  # those of identity columns need no right
        "SELECT relname FROM pg_class c WHERE relkind = 'S' AND relnamespace = "
        "'public'::regnamespace AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid "
        "AND d.deptype = 'i')"
    )
    assert {row["relname"] for row in [*tables, *sequences]} == set(NEEDED)


async def test_the_role_can_change_no_table(limited: Connection) -> None:
    for statement in (
        "CREATE TABLE mine (a integer)",
        "ALTER TABLE delivery ADD mine integer",
        "DROP TABLE turn",
        "TRUNCATE inbox",
        "INSERT INTO schema_migration (number, name) VALUES (9999, 'mine')",
        "UPDATE audit SET actor = 'another'",
        "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await limited.execute(statement)


async def test_tables_of_others_in_the_same_database_are_not_taken_for_the_own_ones(
    pool: asyncpg.Pool, role: str
) -> None:
    own, others = f"Own {role}", f"x{role}"
    async with pool.acquire() as connection:
        for schema in (own, others):
            await connection.execute(f'CREATE SCHEMA "{schema}"')
            await connection.execute(f'CREATE TABLE "{schema}".schema_migration (number integer)')
        await connection.execute(f"SET ROLE {role}")
        try:
            found = {}
            for path in ("public", f'"$user", "{own}", public', f"{others},public", "''"):
                await connection.execute(f"SET search_path = {path}")
                row = await connection.fetchrow(*STATEMENTS["hidden_schema"]())
                found[path] = row and row["schema"]
        finally:
            await connection.execute("RESET ROLE")
            await connection.execute("RESET search_path")
    assert list(found.values()) == [None, own, others, None]
