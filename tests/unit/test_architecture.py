"""What the description of the architecture names is there."""

from __future__ import annotations

import ast
import re

import pytest

from app.delivery.states import State
from compose.embedded.stack import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text("utf-8")
NAMED = sorted(
    set(re.findall(r"`((?:app|streams|sinks|web|tests)/[\w/.-]+\.\w+)(?::([\w.]+))?`", TEXT))
)


def test_the_life_of_a_delivery_names_what_moves_it() -> None:
    life = ast.get_docstring(ast.parse((ROOT / "app/delivery/__init__.py").read_text("utf-8")))
    named = re.findall(r"usecases\.(\w+)", life or "")
    assert len(set(named)) >= 6
    for module in named:
        assert (ROOT / "app" / "usecases" / f"{module}.py").is_file()
    assert all(state in (life or "") for state in State)


def test_the_hop_table_names_functions() -> None:
    assert len([name for _, name in NAMED if name]) > 20


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_every_named_function_exists(path: str, name: str) -> None:
    file = ROOT / path
    assert file.is_file()
    if name and file.suffix == ".sql":
        assert f"-- name: {name}\n" in file.read_text("utf-8")
        return
    body: list[ast.stmt] = ast.parse(file.read_text("utf-8")).body if name else []
    for part in filter(None, name.split(".")):
        (found,) = [
            statement
            for statement in body
            if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and statement.name == part
        ]
        body = found.body
