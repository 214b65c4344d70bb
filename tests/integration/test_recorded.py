"""PostgreSQL keeps what was recorded, and recorded rows are read (see `tests.recorded`)."""

from __future__ import annotations

import asyncpg
import pytest

from tests.recorded import book, today
from tests.recorded.today import rows


@pytest.mark.parametrize("name", today.STORED)
async def test_what_is_kept_is_as_it_was_recorded(name: str, pool: asyncpg.Pool) -> None:
    changed = book.difference(name, await today.STORED[name](pool))
    if changed:
        pytest.fail(changed, pytrace=False)


async def test_recorded_rows_of_outbox_and_arrival_are_read(pool: asyncpg.Pool) -> None:
    kept = book.kept("postgres_rows")
    await rows.put(pool, {table: kept[table] for table in ("outbox", "arrival")})
    sent, meant = await rows.owed(pool)
    assert len(sent) == len(meant)
    assert all(message in sent for message in meant)
    found, arrived = await rows.arrived(pool)
    assert found == arrived


async def test_a_recorded_delivery_is_read_and_its_sealed_target_opened(pool: asyncpg.Pool) -> None:
    recorded = book.kept(today.SEALED)
    kept = {"delivery": book.kept("postgres_rows")["delivery"]}
    await rows.put(pool, kept, upload_target=recorded["upload_target"]["sealed"])
    delivery, meant = await rows.under_way(pool)
    assert delivery == meant
    assert rows.place(recorded, delivery) == recorded["upload_target"]["opened"]


async def test_a_recorded_setting_with_a_sealed_secret_is_read(pool: asyncpg.Pool) -> None:
    recorded = book.kept(today.SEALED)
    assert await rows.setting(recorded, pool) == recorded["tenant_setting"]["opened"]


def test_what_is_sealed_is_as_it_was_recorded() -> None:
    recorded = book.kept(today.SEALED)
    now = rows.sealed_now()
    changed = book.difference(
        today.SEALED, recorded | {k: recorded[k] | {"opened": v} for k, v in now.items()}
    )
    if changed:
        pytest.fail(changed, pytrace=False)
