"""The OpenAPI document, made of the endpoints themselves, and a page that shows it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from app import __version__
from app.tenants.definitions import Definitions
from app.tenants.masks import MASK
from web import schemas
from web.api import deliveries, webhooks
from web.endpoint import PREFIX, Endpoint

_ABOUT = (
    "Deliveries, configuration and health of the delivery service. Everything but health, signing "
    "in to the console and this description needs `Authorization: Bearer <token>`; the token's "
    "tenant is the tenant. Every answer has an `X-Request-ID`, the caller's own if it sent one. "
    f"Secrets read `{MASK}`; sent back like that, the stored ones are kept."
)


def document(endpoints: Sequence[Endpoint], settings: Definitions) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    answered = dict.fromkeys(
        model for endpoint in endpoints for model in _models(endpoint.responses)
    )
    asked = dict.fromkeys(endpoint.query for endpoint in endpoints if endpoint.query is not None)
    bodies = dict.fromkeys(model for endpoint in endpoints for model in _models(endpoint.body))
    models = schemas.of_models(answered.keys(), [*asked, *bodies])
    queries = {query: models.pop(query.__name__) for query in asked}
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for endpoint in endpoints:
        operation: dict[str, Any] = {
            "operationId": endpoint.operation,
            "summary": endpoint.summary,
            "tags": [endpoint.tag],
            "parameters": [
                *endpoint.parameters,
                *(_parameters(queries[endpoint.query]) if endpoint.query is not None else ()),
            ],
            "responses": {
                str(status): _with_references(said) for status, said in endpoint.responses.items()
            },
        }
        if endpoint.body is not None:
            operation["requestBody"] = _with_references(endpoint.body)
        if endpoint.details is not None:
            operation["security"] = [{}, {"bearer": []}]
            operation["description"] = (
                f"Anybody may ask. Details for the roles {', '.join(sorted(endpoint.details))}."
            )
        if endpoint.roles is not None:
            operation["security"] = [{"bearer": []}]
            operation["description"] = f"Roles: {', '.join(sorted(endpoint.roles))}."
        paths[endpoint.path][endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "rs-delivery", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}, {"url": PREFIX}],
        "paths": dict(paths),
        "webhooks": dict(webhooks.described()),
        "components": {
            "schemas": models | deliveries.components() | schemas.setting_change(settings),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def _models(described: Any) -> Iterator[type[BaseModel]]:
    """Return the models that stand where a schema is to be."""
    if isinstance(described, type):
        yield described
    elif isinstance(described, Mapping):
        for value in described.values():
            yield from _models(value)


def _with_references(described: Any) -> Any:
    if isinstance(described, type):
        return schemas.reference(described)
    if isinstance(described, Mapping):
        return {name: _with_references(value) for name, value in described.items()}
    return described


def _parameters(schema: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the fields of a query as parameters."""
    for name, field in schema["properties"].items():
        plain = {k: v for k, v in field.items() if k != "description"}
        yield schemas.query(name, field["description"], plain)


def page(described: dict[str, Any]) -> str:
    """Return the document as a page: plain HTML, without a script."""
    groups: dict[str, list[str]] = defaultdict(list)
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            groups[operation["tags"][0]].append(_operation(method.upper(), path, operation))
    body = "\n".join(
        f"<section><h2>{escape(tag)}</h2>\n{''.join(operations)}</section>"
        for tag, operations in groups.items()
    )
    body += "<section><h2>schemas</h2>" + "".join(
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"<pre>{escape(json.dumps(schema, indent=2, ensure_ascii=False))}</pre></details>"
        for name, schema in described["components"]["schemas"].items()
    )
    about = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(described["info"]["description"]))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>rs-delivery {__version__}: API</title>"
        '<link rel="stylesheet" href="docs.css"></head><body><main>'
        f"<h1>rs-delivery <small>{__version__}</small></h1><p>{about}</p>"
        f"<p>Every path is served under <code>{PREFIX}</code>, too. "
        'For tools: <a href="openapi.json">openapi.json</a>.</p>'
        f"{body}</section></main></body></html>\n"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code></td><td>{escape(p['in'])}</td>"
        f"<td>{escape(p.get('description', ''))}</td></tr>"
        for p in operation["parameters"]
    )
    parameters = (
        "<table><caption>Parameters</caption><tr><th>name</th><th>in</th><th>what</th></tr>"
        f"{rows}</table>"
        if rows
        else ""
    )
    answers = "".join(
        f"<tr><td>{status}</td><td>{escape(said['description'])}</td><td>{_linked(said)}</td></tr>"
        for status, said in sorted(operation["responses"].items())
    )
    body = _linked(operation.get("requestBody", {}))
    return (
        f"<details><summary><b>{method}</b> <code>{escape(path)}</code> "
        f"{escape(operation['summary'])}</summary>"
        f"<p>{escape(operation.get('description', 'No token needed.'))}</p>"
        f"{f'<p>Body: {body}</p>' if body else ''}{parameters}"
        "<table><caption>Answers</caption><tr><th>status</th><th>what</th><th>body</th></tr>"
        f"{answers}</table></details>\n"
    )


def _linked(said: dict[str, Any]) -> str:
    """Return a link to the schema of a body."""
    for kind, content in said.get("content", {}).items():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        if name:
            return f'<a href="#{escape(name)}">{escape(name)}</a>'
        return f"<code>{escape(kind)}</code>, field <code>file</code>"
    return ""


def endpoints(listed: Sequence[Endpoint], settings: Definitions) -> list[Endpoint]:
    """Return what serves the description of the others, and of the tenants' settings."""
    described = document(listed, settings)
    shown = page(described)
    style = files("web").joinpath("assets", "docs.css").read_text(encoding="utf-8")

    async def openapi(_request: web.Request) -> web.Response:
        return web.json_response(described)

    async def docs(_request: web.Request) -> web.Response:
        return web.Response(text=shown, content_type="text/html")

    async def css(_request: web.Request) -> web.Response:
        return web.Response(text=style, content_type="text/css")

    return [
        Endpoint(
            method="GET",
            path=path,
            operation=operation,
            handler=handler,
            summary=summary,
            tag="docs",
        )
        for path, operation, handler, summary in (
            ("/openapi.json", "getDescription", openapi, "This description, for tools"),
            ("/docs", "getDescriptionPage", docs, "This description, to read"),
            ("/docs.css", "getDescriptionStyle", css, "Its style"),
        )
    ]
