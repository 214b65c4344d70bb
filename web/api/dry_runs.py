"""`/deliveries/validate`: what would become of a request, before it is made."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aiohttp import web
from pydantic import Field

from app.delivery.targets import Target, TargetCheck
from app.usecases.dry_run import DryRuns
from app.views.dry_runs import DryRunView
from app.views.view import Link, View
from web import schemas
from web.answers import shown
from web.api.deliveries import SubmitQuery, own_only, request_of
from web.endpoint import ACTOR, ADMINS, USERS, Endpoint
from web.guard.checks import Checks
from web.parameters import read


class DryRunQuery(SubmitQuery):
    """How urgent the delivery would be, and how much is looked at."""

    probe: bool = Field(
        default=True,
        description="Whether its target is tried, and its place looked at: a tenant has a few of "
        "that a minute.",
    )


class DryRunAnswer(View):
    """What would become of a request."""

    content: DryRunView
    links: list[Link]


class DryRunsApi:
    """The handler. Targets are tried by `checks`, of which each tenant has a few a minute."""

    def __init__(self, dry_runs: DryRuns, checks: Checks) -> None:
        self._dry_runs = dry_runs
        self._checks = checks

    async def validate(self, request: web.Request) -> web.Response:
        """Tell what would become of a request."""
        actor, body = request[ACTOR], await request_of(request)
        wanted = read(request, DryRunQuery)
        told = await self._dry_runs.judge(
            actor.tenant,
            body,
            trial=self._try if wanted.probe else _untried,
            user=own_only(actor),
            priority=wanted.priority,
            details=actor.role in ADMINS,
            over_http=True,
        )
        return shown(DryRunAnswer(content=told, links=[]))

    async def _try(self, tenant: str, target: Target) -> Sequence[TargetCheck] | str:
        with self._checks.turn(tenant) as wait:
            if wait:
                return (
                    f"not tried: targets of tenant {tenant} are tried as often as they may be; "
                    f"again in {math.ceil(wait)} seconds"
                )
            found = await self._checks.of({"target": target}, {})
        return found["target"]

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        return [
            Endpoint(
                method="POST",
                path="/deliveries/validate",
                operation="validateDelivery",
                handler=self.validate,
                summary="What would become of a request: every rule that it breaks, its user, its "
                "target, tried, where its archive would go, its time; nothing is kept or ordered",
                tag="deliveries",
                roles=USERS,
                query=DryRunQuery,
                body=schemas.json_body("DeliveryRequest"),
                responses={200: schemas.answer("What would become of it.", DryRunAnswer)}
                | schemas.errors(400, 401, 403, 408, 413, 415, 422, 429, 503),
            )
        ]


async def _untried(_tenant: str, _target: Target) -> Sequence[TargetCheck] | str:
    """Tell why a target is not tried."""
    return "not tried: that was not asked for"
