"""Every test that docs/threat-model.md names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/\S+\.py::\w+)`", TEXT)))


@pytest.mark.parametrize("named", NAMED)
def test_a_test_that_is_named_is_there(named: str) -> None:
    file, _, name = named.partition("::")
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {node.name for node in tree.body if isinstance(node, functions)}


def test_every_row_names_one() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| ")]
    fences = [row for row in rows if not row.startswith(("| who |", "| --- "))]
    assert len(fences) > 20
    for row in fences:
        assert re.search(r"`tests/\S+::\w+`", row), row
