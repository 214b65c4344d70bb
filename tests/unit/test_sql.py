"""Named queries."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from app.store.sql import QUERIES, load_queries

ROOT = Path(__file__).resolve().parents[2]


def test_blocks_are_split_by_their_names() -> None:
    text = "-- about the file\n-- name: a\n-- what a is\nSELECT 1;\n\n-- name: b\nSELECT 2;\n"
    assert load_queries(text) == {"a": "-- what a is\nSELECT 1;", "b": "SELECT 2;"}


def test_a_name_that_is_used_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="named twice"):
        load_queries("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;\n")


def test_words_are_put_in() -> None:
    text = "-- name: a\nSELECT '{}' WHERE s IN ({ended});\n"
    assert load_queries(text, ended="'A', 'B'") == {"a": "SELECT '{}' WHERE s IN ('A', 'B');"}


def test_a_word_that_stands_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"stand for nothing.*endet"):
        load_queries("-- name: a\nSELECT {endet};\n", ended="x")


def test_every_query_is_used_and_explained() -> None:
    code = "".join(path.read_text() for path in (ROOT / "app" / "store").glob("*.py"))
    used = set(re.findall(r'"(\w+)"', code))
    for name, query in QUERIES.items():
        assert name in used, f"{name} is not used"
        assert query.startswith("-- "), f"{name} has no sentence above it"


def test_queries_and_migrations_are_packaged() -> None:
    names = [path.name for path in files("app.store").joinpath("migrations").iterdir()]
    assert "0001_deliveries.sql" in names
