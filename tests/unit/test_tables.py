"""What commands list for people: on a terminal, and through a pipe."""

from __future__ import annotations

from typing import Any

import pytest

from app.cli.tables import show_all
from app.views.view import View


class Row(View):
    """A line of a list."""

    correlation_id: str
    since: str
    why: str


ONE = Row(correlation_id="d-1", since="2026-01-31 12:00:00Z", why="word " * 60)


def shown(capsys: pytest.CaptureFixture[str], *rows: Row, **more: Any) -> list[str]:
    show_all(
        rows,
        ("correlationId", "since", "why"),
        as_json=False,
        what=more.get("what", "deliveries"),
        more="and so on",
    )
    return capsys.readouterr().out.splitlines()


def test_through_a_pipe_an_entry_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    heading, first, second, end = shown(capsys, ONE, ONE)
    assert heading.split() == ["correlationId", "since", "why"]
    assert first == second
    assert first.split()[:3] == ["d-1", "2026-01-31", "12:00:00Z"]
    assert end == "2 deliveries; and so on"


def test_on_a_narrow_terminal_headings_stay_whole_and_times_fold_behind_the_day(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")  # of a dumb one, rich takes no width
    monkeypatch.setenv("COLUMNS", "42")
    lines = shown(capsys, ONE)
    assert "correlationId" in lines[0]
    assert "2026-01-31 " in lines[1]
    assert "12:00:00Z" in lines[2]


@pytest.mark.parametrize(
    ("what", "end"),
    [("deliveries", "1 delivery"), ("dead letters", "1 dead letter"), ("changes", "1 change")],
)
def test_one_is_not_many(capsys: pytest.CaptureFixture[str], what: str, end: str) -> None:
    assert shown(capsys, ONE, what=what)[-1] == f"{end}; and so on"
