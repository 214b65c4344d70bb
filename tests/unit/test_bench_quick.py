"""Counts that are kept: what has grown fails, what has shrunk is told."""

from __future__ import annotations

import json

from tests.bench.counted import NAMES
from tests.bench.quick import DELIVERY, FILE, KEPT, grown, shrunk

KEPT_ONES = {DELIVERY: {"SQL statements": 80.0}, FILE: {"tasks": 1.0}}


def test_what_is_as_it_was_is_neither() -> None:
    found = {DELIVERY: {"SQL statements": 80.9}, FILE: {"tasks": 1.05}}
    assert list(grown(KEPT_ONES, found)) == list(shrunk(KEPT_ONES, found)) == []


def test_one_statement_in_twenty_more_has_grown() -> None:
    found = {DELIVERY: {"SQL statements": 84.0}, FILE: {"tasks": 1.0}}
    (line,) = grown(KEPT_ONES, found)
    assert line == "SQL statements of a tiny delivery: 84 now, 80 kept"


def test_one_task_more_for_each_file_has_grown() -> None:
    found = {DELIVERY: {"SQL statements": 80.0}, FILE: {"tasks": 2.0}}
    (line,) = grown(KEPT_ONES, found)
    assert line == "tasks of a file of 20 KB: 2 now, 1 kept"


def test_what_is_far_less_can_be_lowered_and_is_no_failure() -> None:
    found = {DELIVERY: {"SQL statements": 60.0}, FILE: {"tasks": 1.0}}
    assert list(grown(KEPT_ONES, found)) == []
    (line,) = shrunk(KEPT_ONES, found)
    assert line == "SQL statements of a tiny delivery: 60 now, 80 kept"


def test_what_is_counted_and_not_kept_fails() -> None:
    found = {DELIVERY: {"SQL statements": 80.0, "tasks": 3.0}}
    (line,) = grown(KEPT_ONES, found)
    assert "none is kept" in line


def test_each_count_is_kept() -> None:
    kept = json.loads(KEPT.read_text())
    assert {what: set(counts) for what, counts in kept.items()} == {
        DELIVERY: set(NAMES),
        FILE: set(NAMES),
    }
