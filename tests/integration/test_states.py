"""The states of a delivery are the same in code and in PostgreSQL."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product

import asyncpg
import pytest

from app.delivery.model import Delivery
from app.delivery.states import ADVANCES, CLAIMED, TRANSITIONS, State, Work
from tests.integration.conftest import Deliveries

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
        f"SELECT state, {work} AS work FROM unnest($1::text[]) AS state",  # noqa: S608 - its own
        list(State),
    )
    assert {row["state"]: row["work"] for row in computed} == {one: one.work for one in State}


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


async def put(deliveries: Deliveries, delivery: Delivery, state: State) -> Delivery:
    """Put a delivery into a state, whatever it was in: due now, and under no lease."""
    await deliveries.pool.execute(
        "UPDATE delivery SET state = $2, lease_owner = NULL, lease_until = NULL WHERE id = $1",
        delivery.id,
        state,
    )
    attempt = await deliveries.pool.fetchval(
        "SELECT attempt FROM delivery WHERE id = $1", delivery.id
    )
    return replace(delivery, state=state, attempt=attempt)


async def test_advance_makes_its_transitions_and_refuses_the_rest(deliveries: Deliveries) -> None:
    delivery = await deliveries.granted()
    for before, after in product(State, State):
        seen = await put(deliveries, delivery, before)
        async with deliveries.store.transaction() as tx:
            if after in ADVANCES[before]:
                assert await tx.advance(seen, after), (before, after)
                assert not await tx.advance(seen, after) or after is before  # a lost race
            else:
                with pytest.raises(ValueError, match=f"can't go from {before} to {after}"):
                    await tx.advance(seen, after)
        expected = after if after in ADVANCES[before] else before
        assert await deliveries.states() == [expected]


@pytest.mark.parametrize("state", State)
async def test_what_is_claimed_is_the_work_of_its_state(
    deliveries: Deliveries, state: State
) -> None:
    delivery = await deliveries.granted()
    for work in Work:
        await put(deliveries, delivery, state)
        claimed = await deliveries.leases("w").claim(work)
        assert (claimed is not None) == (work is state.work)
        if claimed is not None:
            begun = claimed.attempt - delivery.attempt
            assert begun == (1 if work is Work.TRANSFER else 0)
            assert claimed.state is state or claimed.state in TRANSITIONS[state]
            # An attempt is a move, also from TRANSFERRING to itself.
            assert not begun or claimed.state in TRANSITIONS[state] & CLAIMED
