"""The states of a delivery, as data, and what else says the same."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path

from app.delivery.states import ADVANCES, CLAIMED, TRANSITIONS, State, Work

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "app" / "delivery" / "states.py"
# Both ends in one breath: `State.DONE, State.ERROR`, `'DONE', 'ERROR'`, `("ERROR", "DONE")`.
BOTH_ENDS = re.compile(r"\bDONE\W+(?:State\W+)?ERROR\b|\bERROR\W+(?:State\W+)?DONE\b")
ROW = re.compile(r"^\| `(\w+)` \| (\w*) ?\| (.*?) ?\| .+ \|$", re.MULTILINE)


def test_every_state_has_its_transitions() -> None:
    assert list(TRANSITIONS) == list(State)


def test_every_state_before_the_end_can_end_in_error() -> None:
    assert all(state.ended or State.ERROR in after for state, after in TRANSITIONS.items())


def test_no_transition_leads_back() -> None:
    order = list(State)
    assert all(
        order.index(state) <= order.index(to)
        for state, after in TRANSITIONS.items()
        for to in after
    )


def test_a_claim_makes_the_moves_to_transferring_and_advance_all_others() -> None:
    for before, after in product(State, State):
        claims = after is State.TRANSFERRING
        assert (after in ADVANCES[before]) == (after in TRANSITIONS[before] and not claims)


def test_what_is_claimed_for_a_transfer_can_be_claimed_from_there() -> None:
    for state in State:
        assert bool(TRANSITIONS[state] & CLAIMED) == (state.work is Work.TRANSFER)


def test_an_ended_delivery_has_no_work() -> None:
    assert [state for state in State if state.ended] == [State.DONE, State.ERROR]
    assert all(state.work is None for state in State if state.ended)


def test_the_ends_are_written_in_one_place() -> None:
    """Elsewhere it is `.ended`, and `{ended}` in SQL; only migrations never change."""
    spelt = [
        str(path.relative_to(ROOT))
        for folder in ("app", "streams", "sinks", "web")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".sql") and path != HOME and path.parent.name != "migrations"
        if ROOT / "web" / "client" not in path.parents  # it is a program of its own
        if BOTH_ENDS.search(path.read_text("utf-8"))
    ]
    assert spelt == []


def test_the_console_knows_the_same_states() -> None:
    script = (ROOT / "web" / "assets" / "console" / "filter.js").read_text("utf-8")
    lists = dict(re.findall(r"^export const (STATES|ENDED) = (\[.*?\]);$", script, re.MULTILINE))
    assert json.loads(lists["STATES"]) == list(State)
    assert json.loads(lists["ENDED"]) == [state for state in State if state.ended]


def test_the_overview_of_the_console_counts_the_same_states() -> None:
    script = (ROOT / "web" / "assets" / "console" / "overview.js").read_text("utf-8")
    assert re.findall(r"^ *([A-Z_]+): \"", script, re.MULTILINE) == list(State)


def test_the_documented_table_is_that_of_the_code() -> None:
    document = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = document.partition("\n## States\n")[2].partition("\n## ")[0]
    documented = [
        (state, work or None, set(re.findall(r"`(\w+)`", after)))
        for state, work, after in ROW.findall(section)
    ]
    assert documented == [(state, state.work, set(TRANSITIONS[state])) for state in State]
