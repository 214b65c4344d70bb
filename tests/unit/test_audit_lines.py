"""The audit trail as files: CSV that any reader takes, and that no spreadsheet computes."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app.audit import INSTANCE, Actor, AuditEntry
from app.cli.who import caller
from app.views.audit import COLUMNS, csv_head, csv_lines, json_lines, of_dead_letter
from tests.builders import make_actor, make_dead_letter


def entry(**changes: Any) -> AuditEntry:
    fields = {
        "id": 7,
        "at": datetime(2026, 1, 31, 12, tzinfo=UTC),
        "tenant": "sentinel",
        "actor": "admin@example.org",
        "role": "ADMIN",
        "action": "set",
        "subject": "request_ttl",
        "before": 12,
        "after": {"a": 'with "quotes", commas\nand lines'},
    }
    return AuditEntry(**{**fields, **changes})


def test_csv_is_read_back_as_it_was_written() -> None:
    text = csv_head() + csv_lines([entry(), entry(id=6, before=None)])
    first, second = csv.DictReader(io.StringIO(text))
    assert tuple(first) == COLUMNS
    assert first["at"] == "2026-01-31T12:00:00+00:00"
    assert json.loads(first["after"]) == {"a": 'with "quotes", commas\nand lines'}
    assert (first["before"], second["before"], second["id"]) == ("12", "", "6")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_text_in_csv_is_a_formula(text: str) -> None:
    """Clients choose correlation ids and names."""
    (row,) = csv.reader(io.StringIO(csv_lines([entry(subject=text, actor=text)]), newline=""))
    assert row[COLUMNS.index("subject")] == f"'{text}"
    assert row[COLUMNS.index("actor")] == f"'{text}"


@pytest.mark.parametrize(
    "text", ["x;=1+1", "x; =1+1", "x\n=1+1", "x\r\n=1+1", "x\r=1+1", ";-1;+1;y"]
)
def test_no_text_in_csv_is_a_formula_where_semicolons_part_cells(text: str) -> None:
    line = csv_lines([entry(subject=text, actor=text, before={"a": text}, after=text)])
    for row in csv.reader(io.StringIO(line, newline=""), delimiter=";"):
        assert not [cell for cell in row if cell.strip().startswith(("=", "+", "-", "@"))]


def test_json_lines_are_one_object_each() -> None:
    first, second = json_lines([entry(), entry(id=6)]).splitlines()
    assert json.loads(first)["after"] == {"a": 'with "quotes", commas\nand lines'}
    assert json.loads(second)["id"] == 6


@pytest.mark.parametrize(
    ("tenant", "served", "owner"),
    [("sentinel", True, "sentinel"), ("x\0y", False, INSTANCE), (None, False, INSTANCE)],
)
def test_a_dead_letter_is_noted_for_its_tenant_if_there_is_such_a_one(
    tenant: str | None, served: bool, owner: str
) -> None:
    dead_letter = make_dead_letter(
        id="amqp:1", tenant=tenant, correlation_id="d\0\ud800", reason="r" * 5000
    )
    actor = make_actor(name="a", role="INSTANCE_ADMIN", tenant="other")
    done = of_dead_letter(actor, "requeue", dead_letter, served=served, after="q")
    assert (done.actor.tenant, done.actor.name, done.subject) == (owner, "a", "dead letter amqp:1")
    assert done.before["correlationId"] == "d\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
    assert len(done.before["reason"]) == 1000


def test_who_calls_a_command_is_a_name_and_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "somebody")
    assert caller("t") == Actor(name="somebody", role="COMMAND_LINE", tenant="t")
