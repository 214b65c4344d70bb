"""Tables fit the terminal, JSON has the fields that are asked for, and times are in words."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta, timezone

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from app.views.attention import AttentionView
from app.views.targets import TargetView
from app.views.view import View
from rs_delivery_client.cli import fields
from rs_delivery_client.cli.ends import encoded
from rs_delivery_client.cli.tables import Column, fitted
from rs_delivery_client.cli.when import both, relative, span
from web.api.deliveries import DeliveryDetailView, DeliveryFileView

COLUMNS = (Column(title="ID"), Column(title="STATE", least=6), Column(title="WHY", least=8))
ROW = ("d-2041", "TRANSFERRING, retrying", "the object store does not answer")


@pytest.mark.parametrize(
    ("width", "says"),
    [
        (None, "d-2041  TRANSFERRING, retrying  the object store does not answer"),
        (50, "d-2041  TRANSFERRING, retrying  the object store …"),
        (30, "d-2041  TRANSFERRIN…  the obj…"),
        (18, "d-2041  TRANSFERR…"),
        (4, "d-2041"),
    ],
)
def test_a_table_is_cut_from_its_last_column_and_ids_stay_whole(
    width: int | None, says: str
) -> None:
    assert fitted(COLUMNS, [ROW], width)[1] == says


@given(
    rows=st.lists(st.tuples(*[st.text(max_size=30)] * 3), max_size=5),
    width=st.integers(min_value=40, max_value=120),
)
def test_no_line_is_longer_than_the_terminal(rows: list[tuple[str, str, str]], width: int) -> None:
    for line in fitted(COLUMNS, rows, width):
        assert cell_len(line) <= width


def called(*arguments: str, takes: bool = False) -> str:
    """Return the fields that a command is given, and its argument."""

    @click.command(cls=fields.JsonCommand)
    @fields.fields_option(("id", "state", "bytes"))
    @click.argument("name", required=False)
    def command(fields: object, name: str | None) -> None:
        click.echo(f"{fields} {name}")

    @click.command(cls=fields.JsonCommand)
    @fields.fields_option(("id", "state", "bytes"))
    def listing(fields: object) -> None:
        click.echo(f"{fields}")

    return CliRunner().invoke(command if takes else listing, list(arguments)).output.strip()


def test_fields_are_named_behind_json_or_are_all() -> None:
    assert called() == "None"
    assert called("--json") == "()"
    assert called("--json", "id,state") == "['id', 'state']"
    assert called("--json=id") == "['id']"
    assert called("--json", "help").split() == ["id", "state", "bytes"]
    assert "there is no field 'x'" in called("--json", "id,x")
    assert "there is no field 'x'" in called("--json", "x")


def test_what_follows_json_is_an_argument_where_no_field_is_called_so() -> None:
    assert called("--json", "d-1", takes=True) == "() d-1"
    assert called("--json", "id", "d-1", takes=True) == "['id'] d-1"
    assert called("d-1", "--json", takes=True) == "() d-1"
    assert called("--", "--json", takes=True) == "None --json"


@pytest.mark.parametrize(
    ("known", "view"),
    [
        (fields.WHOLE_DELIVERY, DeliveryDetailView),
        (fields.FILE, DeliveryFileView),
        (fields.FINDING, AttentionView),
        (fields.TARGET, TargetView),
    ],
)
def test_fields_are_those_of_the_service(known: tuple[str, ...], view: type[View]) -> None:
    schema = view.model_json_schema(by_alias=True, mode="serialization")
    assert list(known) == list(schema["properties"])


NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        *((0, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (4320, "1 h 12 min")),
        *((86400 * 3 + 7205, "3 d 2 h"), (-5, "0 s")),
    ],
)
def test_a_span_is_told_in_two_units(seconds: float, says: str) -> None:
    assert span(seconds) == says


def test_a_time_is_told_by_its_distance_and_with_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert relative("2026-01-31T11:48:00Z", NOW) == "12 min ago"
    assert relative("2026-01-31T12:00:40.000+00:00", NOW) == "in 40 s"
    assert relative("nonsense", NOW) is None
    here = datetime(2026, 1, 31, 13, 30, tzinfo=timezone(timedelta(hours=2)))
    said = both(here.isoformat(), NOW)
    assert said is not None
    at, _, ago = said.partition(" (")
    assert datetime.strptime(at, "%Y-%m-%d %H:%M %z") == here
    assert ago == "30 min ago)"


def test_json_at_a_terminal_does_not_drive_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients choose ids: one may begin a control sequence, or turn what follows round."""
    body = {"correlationId": "a\x9b2J\u202eb"}
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert encoded(body).isascii()
    assert json.loads(encoded(body)) == body
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert not encoded(body).isascii()
