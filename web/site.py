"""The HTTP server: the application, what every answer carries, and the limits of a connection."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp_cors
from aiohttp import hdrs, web, web_response
from mode import Service

from app.errors import ConfigurationError
from app.telemetry.logs import get_logger
from web import openapi
from web.answers import BODY_TIMEOUT, MAX_BODY
from web.api import me
from web.api.attention import AttentionApi
from web.api.configuration import ConfigurationApi
from web.api.console import Console
from web.api.content import ContentApi
from web.api.dead_letters import DeadLettersApi
from web.api.deliveries import DeliveriesApi
from web.api.dry_runs import DryRunsApi
from web.api.errors import ErrorsApi
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
from web.endpoint import ENDPOINTS, PREFIX, Endpoint, Handler
from web.errors import in_json
from web.guard import access
from web.guard.access import REQUEST_ID, Access
from web.guard.capacity import Door, UnderWay
from web.guard.gate import Gate

log = get_logger(__name__)

_SHUTDOWN_TIMEOUT = 5.0  # seconds that requests under way have when the server stops
CONNECTION_LIMITS: dict[str, Any] = {
    "max_line_size": 8 * 1024,  # bytes of a request line
    "max_field_size": 32 * 1024,  # bytes of a header; a token may be long
    "keepalive_timeout": 75.0,  # seconds without the whole head of a request
}

_SERVER = "rs-delivery"
# What is no HTTP is answered by aiohttp alone, which would name itself and Python.
web_response.SERVER_SOFTWARE = _SERVER  # type: ignore[attr-defined]

_HEADERS = {
    hdrs.SERVER: _SERVER,
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the application is made of: what stands before everything, and an API a subject."""

    gate: Gate
    settings: SettingsApi
    configuration: ConfigurationApi
    operation: OperationApi
    deliveries: DeliveriesApi
    many: ManyApi
    dry_runs: DryRunsApi
    limits: LimitsApi
    quota: QuotaApi
    content: ContentApi
    events: EventsApi
    dead_letters: DeadLettersApi
    attention: AttentionApi
    workers: WorkersApi
    schema: SchemaApi
    metrics: MetricsApi
    console: Console
    health: Health
    targets: TargetsApi
    target_states: TargetStatesApi
    history: HistoryApi
    webhooks: WebhooksApi
    pauses: PausesApi
    access_log: access.Level = "requests"
    requests_under_way: int = 300
    body_timeout: float = 30.0  # seconds for a client to send its body
    proxies: int = 0  # in front of this server
    cors_origins: Sequence[str] = ()
    tls: bool = False

    def endpoints(self) -> list[Endpoint]:
        """Return all of them, in the order in which they are described."""
        return [
            *self.settings.endpoints(),
            *self.configuration.endpoints(),
            *self.operation.endpoints(),
            *self.deliveries.endpoints(),
            *self.many.endpoints(),
            *self.dry_runs.endpoints(),
            *self.limits.endpoints(),
            *self.quota.endpoints(),
            *self.content.endpoints(),
            *self.events.endpoints(),
            *me.endpoints(),
            *ErrorsApi().endpoints(),
            *self.dead_letters.endpoints(),
            *self.attention.endpoints(),
            *self.target_states.endpoints(),
            *self.workers.endpoints(),
            *self.schema.endpoints(),
            *self.history.endpoints(),
            *self.metrics.endpoints(),
            *self.console.endpoints(),
            *self.health.endpoints(),
            *self.targets.endpoints(),
            *self.webhooks.endpoints(),
            *self.pauses.endpoints(),
        ]


def create_site(parts: Parts) -> web.Application:
    """Make the aiohttp application. Every path is also there under the prefix."""
    listed = parts.endpoints()
    under_way = UnderWay(parts.requests_under_way, beside=_beside(listed))
    watching = Access(parts.access_log, proxies=parts.proxies)
    site = web.Application(
        middlewares=[
            watching.watch,
            in_json,
            under_way.bound,
        ],
        client_max_size=MAX_BODY,
    )
    site[ENDPOINTS] = listed
    site[BODY_TIMEOUT] = parts.body_timeout
    for endpoint in [*listed, *openapi.endpoints(listed, parts.settings.definitions)]:
        handler = parts.gate.before(endpoint)
        for path in (endpoint.path, PREFIX + endpoint.path):
            _route(site, endpoint, path, handler)
    for name, handler in parts.console.files():
        for path in (name, PREFIX + name):
            site.router.add_get(path, handler)
    if parts.cors_origins:
        _allow(site, parts.cors_origins)
    site.on_response_prepare.append(_dress(watching, tls=parts.tls))
    site.on_shutdown.append(parts.events.release)
    site.on_shutdown.append(parts.content.release)
    return site


def create_probe_site(
    health: Health, metrics: MetricsApi, *, access_log: access.Level = "requests"
) -> web.Application:
    """Make the application of a port that shows health and figures without a token, and no more."""
    watching = Access(access_log, proxies=0)
    site = web.Application(middlewares=[watching.watch, in_json])
    for endpoint in health.endpoints():
        _route(site, endpoint, endpoint.path, endpoint.handler)
    for endpoint in metrics.endpoints():
        _route(site, endpoint, endpoint.path, metrics.everything)
    site.on_response_prepare.append(_dress(watching, tls=False))
    return site


def _route(site: web.Application, endpoint: Endpoint, path: str, handler: Handler) -> None:
    site.router.add_route(endpoint.method, path, handler)
    if endpoint.method == hdrs.METH_GET and (endpoint.has_head or not endpoint.stream):
        site.router.add_route(hdrs.METH_HEAD, path, handler)  # aiohttp leaves the body out


def _beside(listed: Sequence[Endpoint]) -> list[str]:
    """Return the paths whose requests don't count as under way: probes, and what lasts."""
    return [
        endpoint.path
        for endpoint in listed
        if endpoint.stream or endpoint.path.startswith("/health/")
    ]


def _dress(
    watching: Access, *, tls: bool
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    headers = dict(_HEADERS)
    if tls:
        headers["Strict-Transport-Security"] = "max-age=31536000"

    async def dress(request: web.Request, response: web.StreamResponse) -> None:
        for name, value in headers.items():
            response.headers[name] = value
        response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
        if REQUEST_ID not in request:
            watching.overheard(request, response)
        response.headers[access.HEADER] = request[REQUEST_ID]

    return dress


def _allow(site: web.Application, origins: Sequence[str]) -> None:
    options = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
        allow_headers=(
            hdrs.AUTHORIZATION,
            hdrs.CONTENT_TYPE,
            hdrs.IF_MATCH,
            "Last-Event-ID",
            "Idempotency-Key",
            hdrs.RANGE,
            hdrs.IF_RANGE,
            access.HEADER,
        ),
        expose_headers=(
            hdrs.ETAG,
            hdrs.LOCATION,
            hdrs.RETRY_AFTER,
            hdrs.CONTENT_DISPOSITION,
            hdrs.CONTENT_RANGE,
            access.HEADER,
        ),
        allow_methods=("GET", "HEAD", "PUT", "POST", "DELETE"),
    )
    cors = aiohttp_cors.setup(site, defaults=dict.fromkeys(origins, options))
    for resource in list(site.router.resources()):
        cors.add(resource)


class Site(Service):
    """Serves the application as a part of the process."""

    def __init__(
        self,
        application: web.Application,
        *,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        connections: int = 5000,
        # Seconds for a TLS handshake. Until it is over a connection is not counted among those that
        # are open, and takes 300 KiB.
        handshake_timeout: float = 5.0,
        setting: str = "DELIVERY_WEB_PORT",
    ) -> None:
        super().__init__()
        self._runner = web.AppRunner(
            application,
            access_log=None,
            shutdown_timeout=_SHUTDOWN_TIMEOUT,
            **CONNECTION_LIMITS,
        )
        self._host = host
        self._port = port
        self._tls = tls
        self._connections = connections  # at most
        self._handshake_timeout = None if tls is None else handshake_timeout
        self._setting = setting  # which says the port
        self._listening: asyncio.Server | None = None

    async def on_start(self) -> None:
        """Listen. Raises ConfigurationError when the port is taken."""
        await self._runner.setup()
        server = self._runner.server
        assert server is not None  # noqa: S101 - it was just set up
        try:
            self._listening = await asyncio.get_running_loop().create_server(
                Door(server, most=self._connections),
                self._host,
                self._port,
                ssl=self._tls,
                ssl_handshake_timeout=self._handshake_timeout,
                backlog=128,
            )
        except OSError as error:
            await self._runner.cleanup()
            reason = os.strerror(error.errno or 0)
            raise ConfigurationError(
                f"can't listen on {self._host} port {self._port} ({reason}); stop what uses the "
                f"port, or set {self._setting}"
            ) from None
        log.info("web_listening", host=self._host, port=self.port, tls=self._tls is not None)

    @property
    def port(self) -> int:
        """The port that is listened on, also when any free one was asked for."""
        assert self._listening is not None  # noqa: S101 - asked once it is started
        return int(self._listening.sockets[0].getsockname()[1])

    async def on_stop(self) -> None:
        """Close the server and its connections."""
        if self._listening is not None:
            self._listening.close()
        await self._runner.cleanup()
