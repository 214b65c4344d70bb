"""`/workers` and `/stats`: who works, what waits, what became of the last day's deliveries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from app.delivery.states import State
from app.views.deliveries import Overview
from app.views.stalls import StalledNow, Stalls
from app.views.view import Query, Seconds, View
from web import schemas
from web.answers import shown
from web.endpoint import ACTOR, OPERATORS, READERS, Endpoint
from web.parameters import Whole, read

_DEFAULT_HOURS = 24
_MAX_HOURS = 24 * 90  # hours


class WorkerView(View):
    """A worker, by its own word."""

    id: str
    version: str
    started_at: Seconds
    seen_at: Seconds
    alive: bool
    silent_for: float = Field(description="Seconds.")
    slots: int
    running: int = Field(description="Transfers.")


class Workers(View):
    """The workers that there are."""

    content: list[WorkerView]


class ActiveDeliveriesView(View):
    """Deliveries in a state before the end."""

    state: State
    deliveries: int
    oldest_seconds: float = Field(description="How long the oldest has been in this state.")
    parked: int | None = Field(
        None, description="Of them, those whose archive waits for the next suborder."
    )
    oldest_parked_seconds: float | None = Field(
        None, description="How long the longest of those has waited for it."
    )
    moving: int = Field(description="Of them, those that a worker is at.")
    retrying: int = Field(description="Those of which an attempt was given up.")
    paused: int = Field(description="Those that an operator or administrator has paused.")
    waiting: int = Field(description="The others: for their turn, for rs-order, or for a quota.")
    stalled: int | None = Field(
        None, description="Of those that move, the ones for which no byte has come for 45 seconds."
    )
    longest_stalled_seconds: float | None = Field(
        None, description="How long none has come for the one of those that waits longest."
    )


class EndedDeliveriesView(View):
    """Deliveries that ended alike."""

    state: State
    error_type: str | None
    deliveries: int
    bytes: int = Field(description="Of their files.")
    median_seconds: float = Field(description="From request to end.")


class FiguresView(View):
    """What of a tenant waits, and what ended in the last hours."""

    tenant: str
    hours: int
    active: list[ActiveDeliveriesView]
    ended: list[EndedDeliveriesView]


class Stats(View):
    """The figures of a tenant."""

    content: FiguresView


class StatsQuery(Query):
    """Of how long."""

    hours: Annotated[int, Whole(1, _MAX_HOURS)] = Field(
        _DEFAULT_HOURS, description="How far to look back."
    )


def _stalled(found: StalledNow | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {
        "stalled": found.transfers,
        "longest_stalled_seconds": round(found.longest, 1),
    }


class WorkersApi:
    """The handlers."""

    def __init__(self, overview: Overview, stalls: Stalls) -> None:
        self._overview = overview
        self._stalls = stalls

    async def workers(self, _request: web.Request) -> web.Response:
        """Return every worker that told it is there; they serve all tenants."""
        content = [
            WorkerView(
                id=worker.id,
                version=worker.version,
                started_at=worker.started_at,
                seen_at=worker.seen_at,
                alive=worker.alive,
                silent_for=round(worker.silent_for, 1),
                slots=worker.slots,
                running=worker.running,
            )
            for worker in await self._overview.workers()
        ]
        return shown(Workers(content=content))

    async def stats(self, request: web.Request) -> web.Response:
        """Return what of the tenant waits, and what ended in the last hours."""
        tenant = request[ACTOR].tenant
        hours = read(request, StatsQuery).hours
        since = datetime.now(UTC) - timedelta(hours=hours)
        stalled = await self._stalls.now(tenant)
        active = [
            ActiveDeliveriesView(
                state=depth.state,
                deliveries=depth.deliveries,
                oldest_seconds=round(depth.oldest, 1),
                parked=depth.parked or None,
                oldest_parked_seconds=round(depth.oldest_parked, 1) if depth.parked else None,
                moving=depth.moving,
                retrying=depth.retrying,
                paused=depth.paused,
                waiting=depth.deliveries - depth.moving - depth.retrying - depth.paused,
                **_stalled(stalled if depth.state is State.TRANSFERRING else None),
            )
            for depth in await self._overview.depths()
            if depth.tenant == tenant
        ]
        ended = [
            EndedDeliveriesView(
                state=outcome.state,
                error_type=outcome.error_type,
                deliveries=outcome.deliveries,
                bytes=outcome.bytes,
                median_seconds=round(outcome.median_seconds, 1),
            )
            for outcome in await self._overview.outcomes([tenant], since=since)
        ]
        figures = FiguresView(tenant=tenant, hours=hours, active=active, ended=ended)
        return shown(Stats(content=figures))

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        errors = schemas.errors(401, 403, 429, 503)
        return [
            Endpoint(
                method="GET",
                path="/workers",
                operation="listWorkers",
                handler=self.workers,
                summary="The workers that there are",
                tag="workers",
                roles=OPERATORS | READERS,
                in_maintenance=True,
                whole_instance=True,
                responses={200: schemas.answer("The workers.", Workers)} | errors,
            ),
            Endpoint(
                method="GET",
                path="/stats",
                operation="getStats",
                handler=self.stats,
                summary="What of the tenant waits, and what became of what ended lately",
                tag="workers",
                roles=OPERATORS | READERS,
                query=StatsQuery,
                responses={200: schemas.answer("The figures.", Stats)}
                | schemas.errors(422)
                | errors,
            ),
        ]
