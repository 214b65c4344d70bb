"""Pieces of the OpenAPI document that endpoints are described with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from app.tenants import definitions
from app.views.view import Query

_REFERENCE = "#/components/schemas/{model}"
_ERRORS = {
    400: "The body is not JSON, or not such a form.",
    401: "No token, or none that is accepted.",
    403: "The token's role does not suffice, or its tenant is not served here.",
    404: "There is no such setting, or delivery.",
    408: "The body did not come in time.",
    409: "It is not in a state for that.",
    412: "The setting has another version than If-Match says.",
    413: "The body is too large.",
    415: "The body has another type.",
    422: "The value breaks rules; every reason is named.",
    429: "Too many requests; Retry-After says when to come back.",
    503: "The tenant is in maintenance, the database is away, or too many streams are open.",
}

TEXTS = {"type": "array", "items": {"type": "string"}}
IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "ETag that the setting must still have.",
    "schema": {"type": "string"},
}


def _object(required: Mapping[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **optional},
    }


def _reference(name: str) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=name)}


_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_ANY: dict[str, Any] = {"description": "As the setting's type says."}
_STATUS = {"enum": ["UP", "DOWN"]}
_LINKS = {"type": "array", "items": _object({"rel": _TEXT, "href": _TEXT})}


def _values() -> dict[str, Any]:
    """Return the schema of the value of each setting."""
    return {
        name: definition.type.json_schema(ref_template=_REFERENCE)
        for name, definition in definitions.DEFINITIONS.items()
    }


def components(more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schemas that answers and bodies refer to; `more` are those of other modules."""
    found: dict[str, Any] = {
        "Error": _object({"message": _TEXT}, messages=TEXTS),
        "Setting": _object(
            {
                "content": _object(
                    {"name": _TEXT, "description": _TEXT, "value": _ANY, "defaultValue": _ANY}
                ),
                "links": _LINKS,
            },
            check={
                "type": "object",
                "description": "By target: what trying it found.",
                "additionalProperties": {
                    "type": "array",
                    "items": _object({"check": _TEXT, "ok": {"type": "boolean"}, "message": _TEXT}),
                },
            },
        ),
        "Settings": {"type": "array", "items": _reference("Setting")},
        "ConfigurationFile": _object(
            {"microservice": {"const": "rs-delivery"}, "modules": {"type": "array", "items": {}}}
        ),
        "ImportReports": {
            "type": "array",
            "items": _object(
                {
                    "moduleInformation": {"type": "object"},
                    "importErrors": TEXTS,
                    "onlyErrors": {"type": "boolean"},
                }
            ),
        },
        "Ready": _object(
            {"ready": {"type": "boolean"}, "reasons": TEXTS, "specifications": {"type": "object"}}
        ),
        "Enabled": {"type": "boolean"},
        "Maintenance": _object(
            {
                "content": {
                    "type": "object",
                    "additionalProperties": _object(
                        {"active": {"type": "boolean"}, "lastUpdate": _TIME}
                    ),
                },
                "links": _LINKS,
            }
        ),
        "Resources": {
            "type": "array",
            "items": _object(
                {
                    "resourceAccess": _object({"description": _TEXT, "role": _TEXT}),
                    "method": _TEXT,
                    "fullPath": _TEXT,
                    "controllerSimpleName": _TEXT,
                }
            ),
        },
        "Audit": _object(
            {
                "content": {
                    "type": "array",
                    "items": _object(
                        {
                            "id": {"type": "integer"},
                            "at": _TIME,
                            "tenant": _TEXT,
                            "actor": _TEXT,
                            "role": _TEXT,
                            "action": _TEXT,
                            "subject": _TEXT,
                            "before": _ANY,
                            "after": _ANY,
                        }
                    ),
                },
                "links": _LINKS,
            }
        ),
        "Live": _object({"status": _STATUS, "version": _TEXT, "uptime": {"type": "number"}}),
        "Targets": _object(
            {
                "content": {
                    "type": "array",
                    "items": _object(
                        {
                            "name": _TEXT,
                            "endpoint": _TEXT,
                            "bucket": _TEXT,
                            "status": _STATUS,
                            "checkedAt": _TIME,
                        },
                        error=_TEXT,
                        heldBack=_object({"since": _TIME, "askedAgain": _TIME, "cause": _TEXT}),
                    ),
                }
            }
        ),
        "Health": _object(
            {
                "status": _STATUS,
                "components": {
                    "type": "object",
                    "additionalProperties": _object(
                        {"status": _STATUS},
                        error=_TEXT,
                        lastError=_object({"at": _TIME, "error": _TEXT}),
                    ),
                },
            }
        ),
    }
    found |= more
    changes = []
    for name, schema in _values().items():
        found |= schema.pop("$defs", {})
        changes.append(_object({"value": schema}, name={"const": name}))
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
            some = [one for one in described.pop("anyOf") if one != {"type": "null"}]
            described |= some[0] if len(some) == 1 else {"anyOf": some}
        described.pop("default", None)
        return described


def of_models(
    answered: Collection[type[BaseModel]], asked: Collection[type[Query]]
) -> dict[str, Any]:
    """Return the schemas of what is answered, and of the parameters of queries, by name."""
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


def answer(
    description: str, schema: str | type[BaseModel], *, etag: bool = False
) -> dict[str, Any]:
    """Return an answer in JSON."""
    headers = {"ETag": {"description": "Version of the setting.", "schema": _TEXT}} if etag else {}
    return {
        "description": description,
        "headers": headers,
        "content": {
            "application/json": {
                "schema": _reference(schema) if isinstance(schema, str) else schema,
            }
        },
    }


def errors(*statuses: int) -> dict[int, Mapping[str, Any]]:
    """Return the answers to what goes wrong."""
    return {status: answer(_ERRORS[status], "Error") for status in statuses}


def json_body(schema: str) -> dict[str, Any]:
    """Return a body in JSON."""
    return {"required": True, "content": {"application/json": {"schema": _reference(schema)}}}


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
