"""JSON Schemas as tables of fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.pages.markdown import sentence, table

Schema = Mapping[str, Any]


def fields(schema: Schema, anchors: Mapping[str, str]) -> str:
    """Return the fields of an object, or the values of a word; of another, what it is.

    `anchors` are those of the schemas that it may refer to, by their names.
    """
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"]) + "\n"
    if "properties" not in schema:
        return kind(schema, anchors) + "\n"
    required = set(schema.get("required", ()))
    return table(
        ("field", "type", "meaning"),
        (
            (
                f"`{name}`" + ("" if name in required else " (optional)"),
                kind(inner, anchors),
                sentence(inner.get("description", "")),
            )
            for name, inner in schema["properties"].items()
        ),
    )


def kind(schema: Schema, anchors: Mapping[str, str]) -> str:
    """Return what a value is, in few words."""
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(kind(option, anchors) for option in schema[choice]))
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{anchors[name]})" if name in anchors else name
    words = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return ", ".join(f"`{json.dumps(word)}`" for word in words) or _plain(schema, anchors)


def _plain(schema: Schema, anchors: Mapping[str, str]) -> str:
    match schema.get("type"):
        case "array":
            return f"list of {kind(schema.get('items', {}), anchors)}"
        case "object" if isinstance(inner := schema.get("additionalProperties"), Mapping):
            return f"object of {kind(inner, anchors)}"
        case None:
            return "any"
        case word:
            return f"{word} ({schema['format']})" if "format" in schema else str(word)
