"""The HTTP API, as its OpenAPI document describes it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from tests.pages.markdown import sentence, table
from tests.pages.schemas import fields, kind
from tests.recorded.today.http import openapi

# What many endpoints may answer, in the same words.
_TOLD_ONCE = {
    "400": "The body is not JSON, or not such a form.",
    "401": "No token, or none that is accepted.",
    "403": "The token's role does not suffice, or its tenant is not served here.",
    "408": "The body did not come in time.",
    "413": "The body is too large.",
    "415": "The body has another type.",
    "429": "Too many requests; Retry-After says when to come back.",
    "503": "The tenant is in maintenance, the database is away, or too many streams are open.",
}


def told_once() -> str:
    """Return a table of what many endpoints may answer; no section repeats it."""
    return table(("status", "when"), _TOLD_ONCE.items())


def http_api() -> str:
    """Return a section for each group of paths, and one for the bodies."""
    document: Any = openapi()
    schemas: Mapping[str, Any] = document["components"]["schemas"]
    anchors = {name: f"body-{name.lower()}" for name in schemas}
    groups: dict[str, list[str]] = defaultdict(list)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            groups[operation["tags"][0]].append(_operation(path, method, operation, anchors))
    said = [f"## {tag.capitalize()}\n\n" + "\n".join(found) for tag, found in groups.items()]
    bodies = [
        f"### Body {name}\n\n{_described(schema)}{fields(schema, anchors)}"
        for name, schema in schemas.items()
    ]
    return "\n".join([*said, "## Bodies\n\n" + "\n".join(bodies)])


def _described(schema: Mapping[str, Any]) -> str:
    text = sentence(schema.get("description", ""))
    return f"{text}\n\n" if text else ""


def _operation(
    path: str, method: str, operation: Mapping[str, Any], anchors: Mapping[str, str]
) -> str:
    said = f"### `{method.upper()} {path}`\n\n{sentence(operation['summary'])}\n\n"
    lines = operation.get("description", "").split("\n")
    said += "".join(f"{sentence(line)}\n\n" for line in lines if line)
    if "requestBody" in operation:
        said += f"Body: {', '.join(_contents(operation['requestBody'], anchors))}.\n\n"
    parameters = operation.get("parameters", ())
    if parameters:
        said += table(
            ("parameter", "in", "type", "meaning"),
            (
                (
                    f"`{parameter['name']}`" + (" (required)" if parameter.get("required") else ""),
                    parameter["in"],
                    kind(parameter["schema"], anchors),
                    sentence(parameter.get("description", "")),
                )
                for parameter in parameters
            ),
        )
        said += "\n"
    return said + table(
        ("status", "body", "when"),
        (
            (status, ", ".join(_contents(answer, anchors)), sentence(answer["description"]))
            for status, answer in operation["responses"].items()
            if _TOLD_ONCE.get(status) != answer["description"]
        ),
    )


def _contents(body: Mapping[str, Any], anchors: Mapping[str, str]) -> Iterator[str]:
    for media, content in body.get("content", {}).items():
        schema = kind(content.get("schema", {}), anchors)
        yield schema if media == "application/json" else f"`{media}`"
