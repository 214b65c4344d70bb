"""`/schema`: which migrations are applied, and what the database is to the programs that run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from app import __version__
from app.store import PostgresWorkers
from app.store.schema import steps
from tests.web.conftest import Api

NUMBERS = [number for number, *_ in steps()]
KNOWN = NUMBERS[-1]


async def told(api: Api, **caller: Any) -> dict[str, Any]:
    answer = await api.call("GET", "/schema", **caller)
    assert answer.status == 200, await answer.text()
    return dict((await answer.json())["content"])


async def starts(pool: asyncpg.Pool, worker: str, version: str) -> None:
    """Let a worker record that it is there."""
    await PostgresWorkers(pool, worker=worker, version=version, slots=1).heartbeat()


async def test_all_that_is_applied_is_told_with_its_time(api: Api, pool: asyncpg.Pool) -> None:
    await starts(pool, "w", __version__)
    schema = await told(api, role="EXPLOIT")
    applied = schema.pop("applied")
    assert [each["number"] for each in applied] == NUMBERS[::-1]
    assert applied[0]["name"] == steps()[-1][1]
    assert datetime.fromisoformat(applied[0]["appliedAt"]) <= datetime.now(UTC)
    assert schema == {
        "version": __version__,
        "known": KNOWN,
        "count": len(NUMBERS),
        "newest": KNOWN,
        "standing": "same",
        "sentence": f"the database is at migration {KNOWN}, the newest that this program knows",
        "workers": [
            {
                "version": __version__,
                "workers": 1,
                "known": KNOWN,
                "standing": "same",
                "sentence": f"1 worker of {__version__} knows migration {KNOWN}, as the database",
            }
        ],
    }


async def test_a_rolling_upgrade_is_told_with_what_each_version_knows(
    api: Api, pool: asyncpg.Pool
) -> None:
    """A worker does not start before all that it knows is applied, nor where there is more."""
    now = datetime.now(UTC)
    await pool.execute(
        "UPDATE schema_migration "
        "SET applied_at = CASE WHEN number <= 60 THEN $1::timestamptz ELSE $2 END",
        now - timedelta(days=9),
        now - timedelta(days=2),
    )
    await pool.execute("INSERT INTO schema_migration (number, name) VALUES (9999, 'later')")
    for name, version in (
        ("left out", "0.0.9"),
        ("a", __version__),
        ("b", __version__),
        ("new", "9.0.0"),
        ("gone", "0.0.8"),
    ):
        await starts(pool, name, version)
    await pool.execute(
        "UPDATE worker SET started_at = $1 WHERE id = 'left out'", now - timedelta(days=5)
    )
    await pool.execute("UPDATE worker SET seen_at = now() - interval '5 min' WHERE id = 'gone'")
    schema = await told(api)
    assert (schema["standing"], schema["newest"], schema["known"]) == ("newer", 9999, KNOWN)
    sentence = f"the database is at migration 9999, this program knows {KNOWN}"
    assert schema["sentence"] == sentence
    assert schema["advice"].startswith("finish the upgrade")
    assert [each["sentence"] for each in schema["workers"]] == [
        "1 worker of 0.0.9 knows migration 60: the database is newer",
        f"2 workers of {__version__} know migration {KNOWN}: the database is newer",
        "1 worker of 9.0.0 knows migration 9999, as the database",
    ]
    assert [each["standing"] for each in schema["workers"]] == ["newer", "newer", "same"]


async def test_a_database_that_lacks_a_migration_is_older(api: Api, pool: asyncpg.Pool) -> None:
    """As after a backup of the version before was put back under a program that runs."""
    await starts(pool, "w", __version__)
    await pool.execute("DELETE FROM schema_migration WHERE number = $1", KNOWN)
    schema = await told(api)
    assert (schema["standing"], schema["missing"]) == ("older", [KNOWN])
    assert schema["sentence"] == f"the database lacks migration {KNOWN} of this program"
    assert schema["advice"].startswith("run `delivery migrate`")
    (workers,) = schema["workers"]
    assert workers["standing"] == "older"
    assert workers["sentence"].endswith(f"knows migration {KNOWN}: the database is older")


async def test_it_is_for_operators(api: Api) -> None:
    assert (await api.call("GET", "/schema", role="REGISTERED_USER")).status == 403
    assert (await told(api, tenant="instance", role="INSTANCE_ADMIN"))["standing"] == "same"
    assert (await told(api, role="READ_ONLY"))["standing"] == "same"
