"""Pieces of the OpenAPI document that endpoints are described with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.tenants import definitions

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
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_ANY: dict[str, Any] = {"description": "As the setting's type says."}
_STATUS = {"enum": ["UP", "DOWN"]}
_LINKS = {"type": "array", "items": _object({"rel": _TEXT, "href": _TEXT})}


def _values() -> dict[str, Any]:
    """Return the schema of the value of each setting."""
    return {
        name: definition.type.json_schema(ref_template="#/components/schemas/{model}")
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


def answer(description: str, schema: str, *, etag: bool = False) -> dict[str, Any]:
    """Return an answer in JSON."""
    headers = {"ETag": {"description": "Version of the setting.", "schema": _TEXT}} if etag else {}
    return {
        "description": description,
        "headers": headers,
        "content": {"application/json": {"schema": _reference(schema)}},
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
