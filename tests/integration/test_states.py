"""The states of a delivery are the same in code and in PostgreSQL."""

from __future__ import annotations

import re

import asyncpg

from app.delivery.states import State
from tests.builders import make_delivery

ENDED = {state for state in State if state.ended}
_LITERAL = re.compile(r"'(\w+)'::text")


async def test_postgresql_takes_these_states_and_no_other(pool: asyncpg.Pool) -> None:
    check = await pool.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'delivery_state_check'"
    )
    assert _LITERAL.findall(check) == list(State)


async def test_postgresql_computes_the_same_work(pool: asyncpg.Pool) -> None:
    work = await pool.fetchval(
        "SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d JOIN pg_attribute a "
        "ON a.attrelid = d.adrelid AND a.attnum = d.adnum "
        "WHERE a.attrelid = 'delivery'::regclass AND a.attname = 'work' AND a.attgenerated = 's'"
    )
    computed = await pool.fetch(
        f"SELECT state, parked, {work} AS work "  # noqa: S608 - its own
        "FROM unnest($1::text[]) AS state, unnest(array[false, true]) AS parked",
        list(State),
    )
    assert {(row["state"], row["parked"]): row["work"] for row in computed} == {
        (state, parked): make_delivery(state=state, parked=parked).work
        for state in State
        for parked in (False, True)
    }


async def test_indexes_on_a_part_of_the_deliveries_know_the_same_ends(pool: asyncpg.Pool) -> None:
    """They are used only for queries that say the same."""
    rows = await pool.fetch(
        "SELECT indexrelid::regclass::text AS name, pg_get_expr(indpred, indrelid) AS predicate "
        "FROM pg_index WHERE indrelid = 'delivery'::regclass AND indpred IS NOT NULL"
    )
    listed = {
        row["name"]: set(_LITERAL.findall(states))
        for row in rows
        for states in re.findall(r"state (?:=|<>) (?:ANY|ALL) \(ARRAY\[(.*?)\]\)", row["predicate"])
    }
    assert {"delivery_one_active", "delivery_expiring", "delivery_finished"} <= listed.keys()
    assert all(states == ENDED for states in listed.values()), listed
