"""Statements: how their files are read, and that the code calls them as they are written."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from importlib.resources import files
from typing import NamedTuple

import pytest

from app.audit import AuditTrail
from app.delivery.states import State
from app.store.pool import PREPARED_STATEMENTS
from app.store.sql import Statement, in_full, parse
from app.store.transactions import advanced
from app.views.dead_letters import DeadLetterFilter
from app.views.deliveries import Filter
from tests.builders import make_delivery
from tests.statements import BY_MODULE, STATEMENTS, STORE

# What is given by `**`, where an argument is added without a change of the call.
NARROWED = frozenset(inspect.signature(AuditTrail.entries).parameters) - {"self", "tenant"}
ADVANCED = frozenset(advanced(make_delivery(), State.ERROR))
SPREAD = {
    **dict.fromkeys(("advance", "finish", "plan"), ADVANCED),
    **dict.fromkeys(
        (
            "audit",
            "audit_of_all",
            "audit_of_subject",
            "audit_of_both",
            "audit_of_actor",
            "audit_of_action",
        ),
        NARROWED,
    ),
    **dict.fromkeys(
        ("browse", "browse_open", "browse_begun", "browse_with_causes"),
        frozenset(Filter.model_fields) | {"tenants", "before_at", "before_id", "limit"},
    ),
    "browse_letters": frozenset(DeadLetterFilter.model_fields),
    "count_letters": frozenset(DeadLetterFilter.model_fields),
}


def only(text: str, **words: str) -> Statement:
    """Return the statement of a file that has one."""
    (statement,) = parse(f"-- name: a\n{text}\n", **words).values()
    return statement


def test_blocks_are_split_by_their_names() -> None:
    text = "-- about the file\n-- name: a\n-- what a is\nSELECT 1;\n\n-- name: b\nSELECT 2;\n"
    found = parse(text)
    assert {name: statement.text for name, statement in found.items()} == {
        "a": "-- what a is\nSELECT 1;",
        "b": "SELECT 2;",
    }


def test_a_name_that_is_used_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="named twice"):
        parse("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;\n")


def test_words_take_their_places_in_a_query() -> None:
    found = only("SELECT '{}' WHERE s IN ({ended});", ended="'A', 'B'")
    assert found.text == "SELECT '{}' WHERE s IN ('A', 'B');"


def test_a_word_that_stands_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"stands for nothing.*endet"):
        only("SELECT {endet};", ended="x")


def test_a_fragment_takes_its_place_without_its_sentence() -> None:
    """With its words and arguments, as if it were written there."""
    text = (
        "-- fragment: open\n-- Those that are open.\nstate NOT IN ({ended}) AND owner = :owner\n\n"
        "-- fragment: late\n{open} AND due < :now\n\n"
        "-- name: a\nSELECT :now WHERE {late};\n\n-- name: b\nSELECT 1 WHERE {open};\n"
    )
    found = parse(text, ended="'A'")
    assert found["a"].text == "SELECT $1 WHERE state NOT IN ('A') AND owner = $2 AND due < $1;"
    assert found["b"].text == "SELECT 1 WHERE state NOT IN ('A') AND owner = $1;"
    assert found.keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- fragment: a\nx\n-- name: a\nSELECT {a};\n", "named twice"),
        ("-- fragment: ended\nx\n-- name: a\nSELECT {ended};\n", "named twice"),
        ("-- fragment: f\nx\n-- name: a\nSELECT 1;\n", r"these fragments: \['f'\]"),
        ("-- name: a\nSELECT {f};\n-- fragment: f\nx\n", "stands for nothing: f"),
    ],
)
def test_a_fragment_that_is_of_no_use_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text, ended="'A'")


def test_arguments_are_numbered_as_they_appear_and_one_that_comes_again_is_the_same() -> None:
    found = only("SELECT :b, :a + :b, lower(:a_1);")
    assert found.text == "SELECT $1, $2 + $1, lower($3);"
    assert found.parameters == ("b", "a", "a_1")


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("SELECT :a::text[], now()::date", "SELECT $1::text[], now()::date"),
        ("SELECT ARRAY[:a, 1], t[:a], t[2:3]", "SELECT ARRAY[$1, 1], t[$1], t[2:3]"),
        ("SELECT t[i:j], t[lower(i):j]", "SELECT t[i:j], t[lower(i):j]"),
        ("SELECT ':a', 'it''s :a', :a", "SELECT ':a', 'it''s :a', $1"),
        (r"SELECT E'\':a', '\', :a", r"SELECT E'\':a', '\', $1"),
        ('SELECT ":a"."x"":a", :a', 'SELECT ":a"."x"":a", $1'),
        ("SELECT $$:a$$, $x$ $$ :a $x$, :a", "SELECT $$:a$$, $x$ $$ :a $x$, $1"),
        ("-- it's :a\nSELECT :a -- of :b", "-- it's :a\nSELECT $1 -- of :b"),
        ("SELECT /* it's :a\n:b */ :a", "SELECT /* it's :a\n:b */ $1"),
        ("SELECT f(x := :a), j ->> :a", "SELECT f(x := $1), j ->> $1"),
        ('SELECT :a <@ \'{"b":1, "c" :d}\'', 'SELECT $1 <@ \'{"b":1, "c" :d}\''),
        ("SELECT j #>> '{a,b}' ? :a", "SELECT j #>> '{a,b}' ? $1"),
        ("SELECT 1 WHERE x=:a AND y<:a", "SELECT 1 WHERE x=$1 AND y<$1"),
    ],
)
def test_only_arguments_are_taken_for_arguments(written: str, sent: str) -> None:
    assert only(written).text == sent


def test_an_argument_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"statement a has \$2"):
        only("SELECT :x, $2;")
    assert only("SELECT '$2', $$ $2 $$;").parameters == ()


def test_a_call_puts_the_arguments_in_their_order() -> None:
    statement = only("SELECT :b, :a;")
    assert statement(a=1, b=2) == ("SELECT $1, $2;", 2, 1)
    assert statement.arguments(a=1, b=2) == (2, 1)


def test_arguments_take_their_places_in_a_text_that_is_sent_with_others() -> None:
    asked = only("SELECT :a::bigint[], :b, :a, :c")(a=[1, -(2**63)], b="', \\é", c=["plan"])
    assert in_full(*asked) == (
        "SELECT ARRAY[1,-9223372036854775808]::bigint[], "
        "convert_from(decode('272c205cc3a9', 'hex'), 'UTF8'), ARRAY[1,-9223372036854775808], "
        "ARRAY[convert_from(decode('706c616e', 'hex'), 'UTF8')]"
    )


def test_each_call_gives_the_same_text() -> None:
    """By which asyncpg finds what it has prepared."""
    statement = only("SELECT :a;")
    assert statement(a=1)[0] is statement(a=2)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"a": 1}, "statement a lacks b"),
        ({"a": 1, "b": 2, "c": 3}, "statement a knows no c"),
        ({"b": 1, "c": 2}, "statement a lacks a and knows no c"),
        ({}, "statement a lacks a, b"),
    ],
)
def test_a_call_with_other_arguments_names_statement_and_argument(
    arguments: dict[str, int], message: str
) -> None:
    statement = only("SELECT :a, :b;")
    for call in (statement, statement.arguments):
        with pytest.raises(TypeError) as raised:
            call(**arguments)
        assert str(raised.value) == message


def test_every_statement_is_explained_and_has_a_name_of_its_own() -> None:
    for name, statement in STATEMENTS.items():
        assert statement.text.startswith("-- "), f"{name} has no sentence above it"
    assert len(STATEMENTS) == sum(map(len, BY_MODULE.values()))


class Use(NamedTuple):
    statement: str
    given: frozenset[str]


def named(node: ast.AST) -> str | None:
    """Return `x` of `SQL["x"]`."""
    match node:
        case ast.Subscript(value=ast.Name("SQL"), slice=ast.Constant(str(name))):
            return name
    return None


def uses(tree: ast.Module) -> Iterator[Use]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(called, "arguments")) | ast.Call(func=called):
                if (name := named(called)) is None:
                    continue
                assert node.args == [], f"{name} is called by places"
                given = {keyword.arg for keyword in node.keywords if keyword.arg is not None}
                spread = len(given) < len(node.keywords)
                yield Use(name, frozenset(given | (SPREAD[name] if spread else set())))


@pytest.mark.parametrize("module", BY_MODULE)
def test_statements_are_called_by_the_module_beside_them_as_they_are_written(module: str) -> None:
    tree = ast.parse((STORE / f"{module}.py").read_text("utf-8"))
    found = list(uses(tree))
    for use in found:
        assert use.statement in BY_MODULE[module], f"{module}.sql has no {use.statement}"
        parameters = frozenset(BY_MODULE[module][use.statement].parameters)
        assert use.given == parameters, f"{use.statement} has other arguments"
    assert {use.statement for use in found} == BY_MODULE[module].keys()


@pytest.mark.parametrize("module", BY_MODULE)
def test_which_statement_is_called_is_written_where_it_is_called(module: str) -> None:
    """Or the test above would not see it."""
    nodes = list(ast.walk(ast.parse((STORE / f"{module}.py").read_text("utf-8"))))
    loaded = sum(isinstance(n, ast.Name) and n.id == "SQL" for n in nodes)
    assert loaded == 1 + sum(named(node) is not None for node in nodes)


def test_no_module_takes_the_statements_of_another() -> None:
    for path in STORE.parents[1].glob("app/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("app.store"):
                assert "SQL" not in {alias.name for alias in node.names}, path


def test_a_field_of_the_query_is_an_argument_of_the_statement() -> None:
    assert Filter().arguments().keys() <= SPREAD["browse"]
    assert DeadLetterFilter().arguments().keys() == SPREAD["browse_letters"]
    for name, given in SPREAD.items():
        assert given <= set(STATEMENTS[name].parameters)


def test_a_connection_keeps_every_statement_prepared() -> None:
    # Those of tests and of the driver itself (types, listening) come on top.
    assert len(STATEMENTS) * 2 <= PREPARED_STATEMENTS


def test_statements_and_migrations_are_packaged() -> None:
    names = {path.name for path in files("app.store").iterdir()}
    assert {"leases.sql", "tracking.sql", "transactions.sql"} <= names
    names = {path.name for path in files("app.store").joinpath("migrations").iterdir()}
    assert "0001_deliveries.sql" in names
