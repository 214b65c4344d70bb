"""Pieces of the OpenAPI document that endpoints are described with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from app.codes import PAGE
from app.tenants.definitions import Definitions
from app.views.view import View

_REFERENCE = "#/components/schemas/{model}"
_ERRORS = {
    400: "The body is not JSON, or not such a form.",
    401: "No token, or none that is accepted.",
    403: "The token's role does not suffice, or its tenant is not served here.",
    404: "There is no such delivery.",
    408: "The body did not come in time.",
    409: "It is not in a state for that.",
    410: "It is not there any more.",
    412: "It has another version than If-Match says.",
    413: "The body is too large.",
    415: "The body has another type.",
    416: "There are no such bytes.",
    422: "The value breaks rules; every reason is named.",
    429: "Too many requests; Retry-After says when to come back.",
    503: "The tenant is in maintenance, the database is away, or too many streams are open.",
}

IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "ETag that it must still have; left out, or *: any.",
    "schema": {"type": "string"},
}

IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "ETag of what the caller has already.",
    "schema": {"type": "string"},
}


class ErrorView(View):
    """What went wrong; each reason where there are several."""

    message: str
    messages: list[str] | None = None
    code: str = Field(description=f"Looked up in {PAGE}; there may be more of them later.")


def _reference(name: str) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=name)}


def setting_change(definitions: Definitions) -> dict[str, Any]:
    """Return the schemas of a new value: a setting's name, and the type that it has."""
    found: dict[str, Any] = {}
    changes = []
    for definition in definitions:
        schema = definition.type.json_schema(ref_template=_REFERENCE)
        found |= schema.pop("$defs", {})
        properties = {"value": schema, "name": {"const": definition.name}}
        changes.append({"type": "object", "required": ["value"], "properties": properties})
    found["SettingChange"] = {"description": "A new value.", "anyOf": changes}
    return found


class _Generator(GenerateJsonSchema):
    """Describes views by their names without `View`, and fields that may be missing as not null."""

    def normalize_name(self, name: str) -> str:
        return super().normalize_name(name).removesuffix("View")

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - of none
        return False

    def default_schema(self, schema: Any) -> dict[str, Any]:
        described = super().default_schema(schema)
        if schema.get("default", ...) is None and "anyOf" in described:
            options = [option for option in described.pop("anyOf") if option != {"type": "null"}]
            described |= options[0] if len(options) == 1 else {"anyOf": options}
        described.pop("default", None)
        return described


def of_models(
    answered: Collection[type[BaseModel]], asked: Collection[type[BaseModel]]
) -> dict[str, Any]:
    """Return the schemas of what is answered, and of bodies and queries, by name."""
    models: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        *((model, "serialization") for model in answered),
        *((model, "validation") for model in asked),
    ]
    _, found = models_json_schema(
        models, ref_template=_REFERENCE, schema_generator=_Generator, by_alias=True
    )
    return {name: _for_others(schema) for name, schema in found.get("$defs", {}).items()}


def _for_others(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what docstrings tell developers, and the promise that no field is ever added."""
    return {
        key: value
        for key, value in schema.items()
        if key not in ("title", "description") and (key, value) != ("additionalProperties", False)
    }


def reference(model: type[BaseModel]) -> dict[str, str]:
    """Return where the schema of a model is."""
    return _reference(model.__name__.removesuffix("View"))


def answer(description: str, model: type[BaseModel], *, etag: str | None = None) -> dict[str, Any]:
    """Return an answer in JSON; `etag`: what its ETag is of."""
    headers = {"ETag": {"description": etag, "schema": {"type": "string"}}} if etag else {}
    return {
        "description": description,
        "headers": headers,
        "content": {"application/json": {"schema": model}},
    }


def errors(*statuses: int, absent: str = _ERRORS[404]) -> dict[int, Mapping[str, Any]]:
    """Return the answers to what goes wrong; `absent` says of 404 what there is not."""
    words = _ERRORS | {404: absent}
    return {status: answer(words[status], ErrorView) for status in statuses}


def json_body(schema: str | type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """Return a body in JSON: of a model, or of a schema that is made otherwise."""
    said = _reference(schema) if isinstance(schema, str) else schema
    return {"required": required, "content": {"application/json": {"schema": said}}}


def path(name: str, description: str, schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a parameter in the path."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string", **(schema or {})},
    }


def query(name: str, description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a parameter in the query."""
    return {"name": name, "in": "query", "description": description, "schema": dict(schema)}
