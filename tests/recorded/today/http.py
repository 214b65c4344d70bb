"""HTTP: paths, who may use them, and how they are described."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

from aiohttp import web

from app import __version__
from app.run.wiring.kinds import KINDS
from app.tenants.definitions import Definitions
from web.api.attention import AttentionApi
from web.api.configuration import ConfigurationApi
from web.api.console import Console
from web.api.content import ContentApi
from web.api.dead_letters import DeadLettersApi
from web.api.deliveries import DeliveriesApi
from web.api.dry_runs import DryRunsApi
from web.api.events import EventsApi
from web.api.health import Health
from web.api.history import HistoryApi
from web.api.limits import LimitsApi
from web.api.maintenance import OperationApi
from web.api.many import ManyApi
from web.api.metrics import MetricsApi
from web.api.pauses import PausesApi
from web.api.quota import QuotaApi
from web.api.schema import SchemaApi
from web.api.settings import SettingsApi
from web.api.target_states import TargetStatesApi
from web.api.targets import TargetsApi
from web.api.webhooks import WebhooksApi
from web.api.workers import WorkersApi
from web.endpoint import Endpoint, Handler
from web.guard.downloads import Downloads
from web.openapi import document
from web.site import Parts, create_probe_site, create_site

_DEFINITIONS = Definitions(KINDS)


class _Gate:
    """Lets everybody through, and remembers to what."""

    def __init__(self) -> None:
        self.before_what: list[Endpoint] = []

    def before(self, endpoint: Endpoint) -> Handler:
        self.before_what.append(endpoint)
        return endpoint.handler


def _site() -> tuple[web.Application, list[Endpoint]]:
    gate = _Gate()
    some = MagicMock()
    parts = Parts(
        gate=gate,  # type: ignore[arg-type]
        settings=SettingsApi(MagicMock(definitions=_DEFINITIONS), some),
        configuration=ConfigurationApi(some, some, some, some),
        operation=OperationApi(some, some),
        deliveries=DeliveriesApi(some, some, some),
        many=ManyApi(some),
        dry_runs=DryRunsApi(some, some),
        limits=LimitsApi(some),
        quota=QuotaApi(some),
        content=ContentApi(some, some, some, some, Downloads(1)),
        events=EventsApi(some, some, some, some),
        dead_letters=DeadLettersApi(some),
        attention=AttentionApi(some, served=some),
        workers=WorkersApi(some, some),
        schema=SchemaApi(some, some),
        metrics=MetricsApi(some),
        console=Console(None),
        health=Health({}),
        targets=TargetsApi(some, look=some, trouble=some),
        target_states=TargetStatesApi(some, some),
        history=HistoryApi(some, kept=some, tenants=some),
        webhooks=WebhooksApi(some, some, some, some),
        pauses=PausesApi(some),
        requests_under_way=1,
    )
    return create_site(parts), gate.before_what


def guarded() -> list[Endpoint]:
    """Every endpoint that the API has, in its order."""
    return _site()[1]


def endpoints() -> Any:
    """Each method and path, with the roles that may use it and what stands before it."""
    return {
        f"{endpoint.path} {endpoint.method}": {
            "roles": "anybody" if endpoint.roles is None else sorted(endpoint.roles),
            "details": None if endpoint.details is None else sorted(endpoint.details),
            "scraped": endpoint.scraped,
            "in_maintenance": endpoint.in_maintenance,
            "whole_instance": endpoint.whole_instance,
            "stream": endpoint.stream,
            "answers": sorted(endpoint.responses),
        }
        for endpoint in _site()[1]
    }


def routes() -> Any:
    """All routes: under the prefix, too, and the console's files."""
    return {
        "api": _routes(_site()[0]),
        "probes": _routes(create_probe_site(Health({}), MetricsApi(None))),
    }


def _routes(site: web.Application) -> list[str]:
    return sorted(
        f"{route.resource.canonical} {route.method}"
        for route in site.router.routes()
        if route.resource is not None
    )


def openapi() -> Any:
    """The OpenAPI document, but for the version."""
    described = document(
        [endpoint for endpoint in _site()[1] if endpoint.tag != "docs"], _DEFINITIONS
    )
    assert described["info"].pop("version") == __version__
    return described
