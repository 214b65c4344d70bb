"""The states of a delivery are the same in code and in PostgreSQL."""

from __future__ import annotations

import re

import asyncpg

from app.delivery.states import State, Work
from app.store.leases import words_of
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
        "SELECT state, parked, held, partial, order_error_type IS NOT NULL AS with_errors, "  # noqa: S608
        f"{work} AS work "
        "FROM unnest($1::text[]) AS state, unnest(array[false, true]) AS parked, "
        "unnest(array[false, true]) AS held, "
        "unnest(array[false, true]) AS partial, "
        "unnest(array[NULL, 'INTERNAL_ERROR']) AS order_error_type",
        list(State),
    )
    assert {
        (row["state"], row["parked"], row["held"], row["partial"], row["with_errors"]): row["work"]
        for row in computed
    } == {
        (state, parked, held, partial, with_errors): words_of(due)[-1 if of_a_part else 0]
        if due
        else None
        for state in State
        for parked in (False, True)
        for held in (False, True)
        for partial in (False, True)
        for with_errors in (False, True)
        for due in [make_delivery(state=state, parked=parked, held=held).work]
        # What an order with errors may still give is for the worker to find out that lays it out.
        for of_a_part in [partial or (with_errors and due is Work.PLAN)]
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
