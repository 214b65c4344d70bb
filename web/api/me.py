"""`/me`: who the caller is here, and what their correlation ids begin with."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from app.delivery.own_ids import prefix_of
from web import schemas
from web.endpoint import ACTOR, ONLY_OWN, USERS, Endpoint

_TEXT = {"type": "string"}


def components() -> dict[str, Any]:
    """Return the schema of the answer."""
    return {
        "Me": {
            "type": "object",
            "required": ["content", "links"],
            "properties": {
                "content": {
                    "type": "object",
                    "required": ["name", "role", "tenant"],
                    "properties": {
                        **dict.fromkeys(("name", "role", "tenant"), _TEXT),
                        "correlationIdPrefix": {
                            "type": "string",
                            "description": "What ids of the caller's own begin with; missing where "
                            "any may be chosen.",
                        },
                    },
                },
                "links": {"type": "array", "items": {"type": "object"}},
            },
        }
    }


async def _me(request: web.Request) -> web.Response:
    """Tell."""
    actor = request[ACTOR]
    content = {"name": actor.name, "role": actor.role, "tenant": actor.tenant}
    if actor.role in ONLY_OWN:
        content["correlationIdPrefix"] = prefix_of(actor.name)
    return web.json_response({"content": content, "links": []})


def endpoints() -> list[Endpoint]:
    """Return what this part serves."""
    return [
        Endpoint(
            method="GET",
            path="/me",
            operation="getMe",
            handler=_me,
            summary="Who the token is of, and what correlation ids of their own begin with",
            tag="deliveries",
            roles=USERS,
            in_maintenance=True,
            whole_instance=True,
            responses={200: schemas.answer("The caller.", "Me")} | schemas.errors(401, 403, 429),
        )
    ]
