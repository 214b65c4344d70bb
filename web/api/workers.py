"""`/workers` and `/stats`: who works, what waits, what became of the last day's deliveries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from app.views.deliveries import Overview
from web import parameters, schemas
from web.endpoint import ACTOR, OPERATORS, Endpoint

_DAY = 24
_LONGEST = 24 * 90  # hours


class WorkersApi:
    """The handlers."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview

    async def workers(self, _request: web.Request) -> web.Response:
        """Return every worker that told it is there; they serve all tenants."""
        content = [
            {
                "id": worker.id,
                "version": worker.version,
                "startedAt": worker.started_at.isoformat(timespec="seconds"),
                "seenAt": worker.seen_at.isoformat(timespec="seconds"),
                "alive": worker.alive,
                "silentFor": round(worker.silent_for, 1),
                "slots": worker.slots,
                "running": worker.running,
            }
            for worker in await self._overview.workers()
        ]
        return web.json_response({"content": content})

    async def stats(self, request: web.Request) -> web.Response:
        """Return what of the tenant waits, and what ended in the last hours."""
        tenant = request[ACTOR].tenant
        hours = parameters.number(request, "hours", _DAY, largest=_LONGEST)
        since = datetime.now(UTC) - timedelta(hours=hours)
        active = [
            {
                "state": depth.state.value,
                "deliveries": depth.deliveries,
                "oldestSeconds": round(depth.oldest, 1),
            }
            for depth in await self._overview.depths()
            if depth.tenant == tenant
        ]
        ended = [
            {
                "state": outcome.state.value,
                "errorType": outcome.error_type.value if outcome.error_type else None,
                "deliveries": outcome.deliveries,
                "bytes": outcome.bytes,
                "medianSeconds": round(outcome.median_seconds, 1),
            }
            for outcome in await self._overview.outcomes([tenant], since=since)
        ]
        return web.json_response(
            {"content": {"tenant": tenant, "hours": hours, "active": active, "ended": ended}}
        )

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        errors = schemas.errors(401, 403, 429, 503)
        return [
            Endpoint(
                method="GET",
                path="/workers",
                handler=self.workers,
                summary="The workers that there are",
                tag="workers",
                roles=OPERATORS,
                in_maintenance=True,
                whole_instance=True,
                responses={200: schemas.answer("The workers.", "Workers")} | errors,
            ),
            Endpoint(
                method="GET",
                path="/stats",
                handler=self.stats,
                summary="What of the tenant waits, and what became of what ended lately",
                tag="workers",
                roles=OPERATORS,
                parameters=(
                    schemas.query(
                        "hours",
                        "How far to look back.",
                        {"type": "integer", "minimum": 1, "maximum": _LONGEST},
                    ),
                ),
                responses={200: schemas.answer("The figures.", "Stats")}
                | schemas.errors(422)
                | errors,
            ),
        ]


def components() -> dict[str, Any]:
    """Return the schemas of what these endpoints answer."""
    worker = {
        "type": "object",
        "required": [
            "id",
            "version",
            "startedAt",
            "seenAt",
            "alive",
            "silentFor",
            "slots",
            "running",
        ],
        "properties": {
            "id": {"type": "string"},
            "version": {"type": "string"},
            "startedAt": {"type": "string", "format": "date-time"},
            "seenAt": {"type": "string", "format": "date-time"},
            "alive": {"type": "boolean"},
            "silentFor": {"type": "number", "description": "Seconds."},
            "slots": {"type": "integer"},
            "running": {"type": "integer", "description": "Transfers."},
        },
    }
    figures = {"type": "array", "items": {"type": "object"}}
    return {
        "Workers": {
            "type": "object",
            "required": ["content"],
            "properties": {"content": {"type": "array", "items": worker}},
        },
        "Stats": {
            "type": "object",
            "required": ["content"],
            "properties": {
                "content": {
                    "type": "object",
                    "required": ["tenant", "hours", "active", "ended"],
                    "properties": {
                        "tenant": {"type": "string"},
                        "hours": {"type": "integer"},
                        "active": figures,
                        "ended": figures,
                    },
                }
            },
        },
    }
