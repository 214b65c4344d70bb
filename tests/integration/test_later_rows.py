"""Rows with a word that only a later version knows end no process of this one."""

from __future__ import annotations

import asyncpg
from structlog.testing import capture_logs

from app.delivery.pauses import PauseScope, PauseSubject, Running
from app.store import PostgresConfiguration, PostgresDeadLetters
from app.tenants.vault import Vault, make_key
from app.views.dead_letters import DeadLetterFilter
from tests.builders import make_buried
from tests.store.test_later_words import LATER, told


async def test_pauses_of_a_later_version_are_kept_to_as_far_as_they_are_known(
    pool: asyncpg.Pool,
) -> None:
    store = PostgresConfiguration(pool, Vault([make_key()]))
    await pool.execute(
        "INSERT INTO pause (scope, tenant, name, reason, running, paused_by) VALUES"
        " ($1, 't', '', 'r', 'finish', 'ada'), ('tenant', 't', '', 'r', $1, 'ada')",
        LATER,
    )
    of_tenant = PauseSubject(scope=PauseScope.TENANT, tenant="t")
    with capture_logs() as logs:
        for _ in range(2):
            (pause,) = (await store.read()).pauses
            assert (pause.subject, pause.running) == (of_tenant, Running.FINISH)
    sentences = told(logs)
    assert len(sentences) == 2
    assert all(LATER in sentence and "finish the upgrade" in sentence for sentence in sentences)
    async with store.change("t") as change:
        ended = await change.resume(of_tenant)
    assert ended is not None
    assert (await store.read()).pauses == ()


async def test_dead_letters_of_a_later_kind_are_left_alone(pool: asyncpg.Pool) -> None:
    table = PostgresDeadLetters(pool)
    await table.keep([make_buried("amqp:a"), make_buried("later:b")], again=True)
    await pool.execute("UPDATE dead_letter SET kind = $1 WHERE id = 'later:b'", LATER)
    found = await table.browse(None, DeadLetterFilter(), after=0, limit=9)
    assert [kept.letter.id for kept in found] == ["amqp:a"]
    assert await table.count(None, DeadLetterFilter()) == 1
    assert await table.one(None, "later:b") is None
    assert [kept.letter.id for kept in await table.several(None, ["amqp:a", "later:b"])] == [
        "amqp:a"
    ]
