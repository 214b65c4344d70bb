"""The schemas of settings say what forms need: what is a secret, and what a number counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from app.run.wiring.kinds import KINDS
from app.tenants.definitions import Definition, Definitions
from app.tenants.masks import MASK, masked

DEFINITIONS = list(Definitions(KINDS))


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Find the schemas of objects with fields in a schema."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema["properties"]
        for inner in schema.values():
            yield from objects(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from objects(inner)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.name)
def test_a_field_is_marked_as_a_secret_where_its_value_is_masked(definition: Definition) -> None:
    for fields in objects(definition.type.json_schema()):
        shown = masked(dict.fromkeys(fields, "a value"))
        secret = {name for name, value in shown.items() if value == MASK}
        assert {name for name in fields if fields[name].get("format") == "password"} == secret


def test_a_number_of_bytes_or_hours_says_so() -> None:
    schemas = {definition.name: definition.type.json_schema() for definition in DEFINITIONS}
    for definition in DEFINITIONS:
        unit = schemas[definition.name].get("x-unit")
        assert (unit is not None) == definition.title.endswith((" (bytes)", " (hours)"))
        assert unit is None or definition.title.endswith(f" ({unit})")
    ((_, allowance),) = schemas["quota"]["$defs"].items()
    assert allowance["properties"]["bytes_per_day"]["x-unit"] == "bytes"
