"""Who changes the schema: `delivery migrate`, and a process that starts and may; no look does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from app.errors import ConfigurationError, StoreUnavailableError
from app.run.wiring.database import open_database, open_migrated
from app.settings import Settings
from app.store import PostgresTracking, migrate, open_pool
from app.store.schema import steps
from app.views.deliveries import Filter
from tests.command import delivery

NEWEST = steps()[-1][0]
LAST_RELEASED = 60  # the newest migration of the version before
GATE = 4711  # an advisory lock, at which a migration is held
LOOKS = [
    ("list",),
    ("show", "d-1"),
    ("stats",),
    ("watch", "--once"),
    ("settings", "get", "request_ttl"),
    ("cancel", "d-1"),
    ("rotate-keys",),
]


async def applied(database: str) -> set[int]:
    """Return the migrations of a database."""
    connection = await asyncpg.connect(database)
    try:
        if not await connection.fetchval("SELECT to_regclass('schema_migration') IS NOT NULL"):
            return set()
        return {row[0] for row in await connection.fetch("SELECT number FROM schema_migration")}
    finally:
        await connection.close()


def on(database: str, **fields: Any) -> Settings:
    """Return settings with a database of the test's own."""
    return Settings(database_url=database, start_timeout=30, **fields)


@pytest.mark.parametrize("arguments", LOOKS, ids=lambda arguments: arguments[0])
async def test_a_command_changes_no_schema_and_says_what_to_run(
    environment: None, database: str, arguments: tuple[str, ...]
) -> None:
    ended = await asyncio.to_thread(delivery, *arguments, DELIVERY_DATABASE_URL=database)
    assert ended.returncode == 2
    assert "run `delivery migrate`" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert await applied(database) == set()


async def test_a_command_of_a_version_before_reads_on_and_says_so(
    pool: asyncpg.Pool, database: str
) -> None:
    await pool.execute("INSERT INTO schema_migration (number, name) VALUES (9999, 'later')")
    ended = await asyncio.to_thread(delivery, "list", DELIVERY_DATABASE_URL=database)
    assert (ended.returncode, ended.stdout) == (0, "no deliveries\n"), ended.stderr
    assert f"at migration 9999, this program knows {NEWEST}" in ended.stderr


async def test_a_command_that_is_too_old_for_the_schema_says_so(
    pool: asyncpg.Pool, database: str
) -> None:
    await pool.execute("INSERT INTO schema_migration (number, name) VALUES (9999, 'later')")
    await pool.execute("ALTER TABLE delivery RENAME archive_name TO name_of_archive")
    ended = await asyncio.to_thread(delivery, "list", DELIVERY_DATABASE_URL=database)
    assert ended.returncode == 2
    assert "use the newer version" in ended.stderr
    assert "archive_name" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_a_fault_of_this_version_is_no_matter_of_the_schema(
    pool: asyncpg.Pool, database: str
) -> None:
    await pool.execute("ALTER TABLE delivery RENAME archive_name TO name_of_archive")
    with pytest.raises(asyncpg.UndefinedColumnError):
        async with open_database(on(database)) as opened:
            await opened.tracking.browse(["t"], Filter(), before=None, limit=1)


async def test_a_process_that_starts_migrates(database: str) -> None:
    async with open_migrated(on(database)):
        assert await applied(database) == {number for number, *_ in steps()}


async def test_deliveries_are_written_again_once_behind_the_last_release(database: str) -> None:
    """All that is new is one transaction: each time is lock and disk until its end."""
    connection = await asyncpg.connect(database)
    written = []
    for number, _, sql in steps():
        await connection.execute(sql)
        if number >= LAST_RELEASED:
            written.append(await connection.fetchval("SELECT pg_relation_filenode('delivery')"))
    await connection.close()
    assert len(set(written)) == 2


async def test_a_process_that_may_not_migrate_says_what_to_run(database: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"run `delivery migrate`.*MIGRATE_AT_START is off"
    ):
        async with open_migrated(on(database, migrate_at_start=False)):
            pass
    assert await applied(database) == set()
    async with open_pool(database, size=1, start_timeout=30) as pool:
        await migrate(pool)
    async with open_migrated(on(database, migrate_at_start=False)):
        pass


@pytest.mark.parametrize("command", ["worker", "web"])
async def test_a_service_that_may_not_migrate_ends_with_a_sentence(
    environment: None, database: str, command: str
) -> None:
    ended = await asyncio.to_thread(
        delivery, command, DELIVERY_DATABASE_URL=database, DELIVERY_MIGRATE_AT_START="false"
    )
    assert ended.returncode == 2
    assert "lacks migrations 1, 2, 3" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_migrations_of_two_processes_at_once_outlive_a_deadlock_with_a_worker(
    pool: asyncpg.Pool,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A transaction of a worker takes two tables in the other order; PostgreSQL ends one of both.

    It is the migration's that is ended here: it began to wait when the circle was closed.
    """
    module = sys.modules["app.store.migrate"]
    meeting = (
        "ALTER TABLE delivery ADD later integer; "
        f"SELECT pg_advisory_xact_lock({GATE}); "
        "ALTER TABLE outbox ADD later integer"
    )
    monkeypatch.setattr(module, "steps", lambda: [*steps(), (9999, "9999_later.sql", meeting)])

    async with open_pool(database, size=2, start_timeout=30) as other:
        async with pool.acquire() as keeper, pool.acquire() as worker:
            await keeper.execute("SELECT pg_advisory_lock($1)", GATE)
            async with worker.transaction():
                # It must not be the one that looks for the circle.
                await worker.execute("SET LOCAL deadlock_timeout = '10min'")
                await worker.execute("LOCK TABLE outbox IN ROW EXCLUSIVE MODE")
                migrating = [
                    asyncio.create_task(migrate(each, lock_timeout=60, retry_interval=0.01))
                    for each in (pool, other)
                ]
                await waiting(pool, f"locktype = 'advisory' AND objid = {GATE}")
                reading = asyncio.create_task(worker.fetchval("SELECT count(*) FROM delivery"))
                await waiting(pool, "relation = 'delivery'::regclass")
                await keeper.execute("SELECT pg_advisory_unlock($1)", GATE)
                assert await reading == 0
                assert not all(task.done() for task in migrating)
        done = await asyncio.gather(*migrating)
    assert sorted(done) == [[], ["9999_later.sql"]]
    assert "deadlock detected" in capsys.readouterr().out


@pytest.fixture
async def upgraded(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncpg.Pool]:
    """A database before migration 89, whose upgrade waits for a lock behind its indexes."""
    module = sys.modules["app.store.migrate"]
    known = steps()
    gate = (90, "0090_gate.sql", f"SELECT pg_advisory_xact_lock({GATE})")
    async with open_pool(database, size=5, start_timeout=30) as pool:
        monkeypatch.setattr(module, "steps", lambda: [step for step in known if step[0] < 89])
        await migrate(pool)
        monkeypatch.setattr(module, "steps", lambda: sorted([*known, gate]))
        yield pool


async def waiting(pool: asyncpg.Pool, what: str) -> int:
    """Return the process that waits for a lock, once one does."""
    looked = (
        "SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database "  # noqa: S608
        f"WHERE datname = current_database() AND NOT granted AND {what}"
    )
    async with asyncio.timeout(30):
        while (pid := await pool.fetchval(looked)) is None:
            await asyncio.sleep(0.01)
    return int(pid)


async def test_maintenance_can_be_read_while_an_upgrade_builds_indexes(
    upgraded: asyncpg.Pool,
) -> None:
    """What takes a message in asks for it; an index of many deliveries takes minutes."""
    async with upgraded.acquire() as keeper, upgraded.acquire() as worker:
        await keeper.execute("SELECT pg_advisory_lock($1)", GATE)
        migrating = asyncio.create_task(migrate(upgraded, lock_timeout=60))
        await waiting(upgraded, f"locktype = 'advisory' AND objid = {GATE}")
        async with worker.transaction():
            await worker.execute("LOCK TABLE tenant_maintenance IN ACCESS SHARE MODE NOWAIT")
        await keeper.execute("SELECT pg_advisory_unlock($1)", GATE)
    assert await migrating == [
        "0089_narrow_lists.sql",
        "0090_gate.sql",
        "0091_maintenance_announced.sql",
        "0092_steps_of_users.sql",
    ]


@pytest.mark.parametrize("table", ["tenant_maintenance", "delivery_history"])
async def test_indexes_are_not_built_while_a_backup_would_have_them_built_again(
    upgraded: asyncpg.Pool, table: str
) -> None:
    async with upgraded.acquire() as backup, backup.transaction():
        await backup.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - of this test
        migrating = asyncio.create_task(migrate(upgraded, lock_timeout=60))
        pid = await waiting(upgraded, f"relation = '{table}'::regclass")
        assert not await upgraded.fetchval(
            "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE pid = $1 AND mode = 'ShareLock' "
            "AND relation IN ('delivery'::regclass, 'audit'::regclass))",
            pid,
        )
    assert len(await migrating) == 4


async def test_a_right_that_is_missing_while_it_runs_is_named_and_waited_for(
    pool: asyncpg.Pool, database: str
) -> None:
    role = f"r{uuid4().hex}"
    await pool.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        await migrate(pool, grant_to=role)
        await pool.execute(f"REVOKE SELECT ON delivery FROM {role}")  # noqa: S608 - a name
        place = database.rpartition("@")[2]
        async with open_pool(f"postgresql://{role}:x@{place}", size=1, start_timeout=30) as limited:
            with pytest.raises(
                StoreUnavailableError, match=r"denied for table delivery.*--grant-to"
            ):
                await PostgresTracking(limited).depths()
            await migrate(pool, grant_to=role)
            assert await PostgresTracking(limited).depths() == []
    finally:
        await pool.execute(f"DROP OWNED BY {role}")
        await pool.execute(f"DROP ROLE {role}")
