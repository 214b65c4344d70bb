"""In which order tests run, and what stays together."""

from __future__ import annotations

import re
from itertools import groupby
from types import SimpleNamespace
from typing import cast

import pytest

from compose.embedded.stack import ROOT
from tests.order import _LONGEST, draw, unit_of

TESTS = [
    *(f"tests/acceptance/test_{file}.py::test_{n}" for file in "ab" for n in range(5)),
    *(f"tests/unit/test_{file}.py::test_{n}" for file in "ab" for n in range(5)),
    *(f"tests/integration/test_readers.py::test_it[{kind}, x-7-Zip]" for kind in "ab"),
    *(f"tests/integration/test_a.py::test_{n}[1-2]" for n in range(5)),
]


def drawn(seed: int) -> list[str]:
    items = [cast("pytest.Item", SimpleNamespace(nodeid=name)) for name in TESTS]
    return [item.nodeid for item in draw(items, seed)]


def test_a_seed_draws_one_order_of_all_tests() -> None:
    assert drawn(1) == drawn(1) != drawn(2)
    assert sorted(drawn(1)) == sorted(TESTS)


def test_tests_that_share_something_stay_together() -> None:
    units = [unit for unit, _ in groupby(drawn(3), unit_of)]
    assert len(units) == len(set(units)) == 1 + 2 + 2 + 5


@pytest.mark.parametrize("name", _LONGEST)
def test_the_tests_that_begin_first_exist(name: str) -> None:
    """A test that was renamed would begin last."""
    file, _, test = name.partition("::")
    if test:
        assert re.search(rf"def {test.partition('[')[0]}", (ROOT / file).read_text())
    else:
        assert (ROOT / file).exists()
