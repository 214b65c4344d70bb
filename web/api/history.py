"""`/stats/history`: what became of deliveries, hour by hour or day by day."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby

from aiohttp import web
from pydantic import Field

from app.views.history import Bucket, Histories, HistoryView, Step
from app.views.view import Query, Text, View
from web import schemas
from web.answers import shown
from web.endpoint import ACTOR, OPERATORS, READERS, Endpoint
from web.parameters import read


class HistoryAnswer(View):
    """What became of deliveries, by tenant."""

    content: list[HistoryView]


class HistoryQuery(Query):
    """Of which deliveries, and in which buckets."""

    step: Step = Field(Step.HOUR, description="hour: the last 48; day: the last 90, in UTC.")
    target: Text = Field(None, description="Only of deliveries to the target of this name.")


class HistoryApi:
    """The handler. Deliveries that ended are kept for `kept`; `tenants` are those worked for."""

    def __init__(
        self, histories: Histories, *, kept: timedelta, tenants: Callable[[], Sequence[str]]
    ) -> None:
        self._histories = histories
        self._kept = kept
        self._tenants = tenants

    async def history(self, request: web.Request) -> web.Response:
        """Return what became of the tenant's deliveries; to an INSTANCE_ADMIN of all tenants'."""
        actor, wanted = request[ACTOR], read(request, HistoryQuery)
        tenants = self._tenants() if actor.role == "INSTANCE_ADMIN" else (actor.tenant,)
        found = await self._histories.history(tenants, step=wanted.step, target=wanted.target)
        kept_since = datetime.now(UTC) - self._kept
        content = [
            HistoryView.of(
                list(buckets), step=wanted.step, target=wanted.target, kept_since=kept_since
            )
            for _, buckets in groupby(found, key=_tenant)
        ]
        return shown(HistoryAnswer(content=content))

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        return [
            Endpoint(
                method="GET",
                path="/stats/history",
                operation="getHistory",
                handler=self.history,
                summary="What became of the tenant's deliveries, hour by hour or day by day; an "
                "INSTANCE_ADMIN sees all",
                tag="workers",
                roles=OPERATORS | READERS,
                in_maintenance=True,
                whole_instance=True,
                query=HistoryQuery,
                responses={200: schemas.answer("A number a bucket, by tenant.", HistoryAnswer)}
                | schemas.errors(401, 403, 422, 429, 503),
            ),
        ]


def _tenant(bucket: Bucket) -> str:
    return bucket.tenant
