"""The HTTP server: the application, what every answer carries, and the limits of a connection."""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp_cors
from aiohttp import hdrs, web
from mode import Service

from app.errors import ConfigurationError
from app.letters import LetterBox
from app.logs import get_logger
from app.ports import ConfigurationStore
from app.tracking import Changes, Overview, Tracking
from app.usecases.configure import Configure
from app.usecases.intervene import Interventions
from web import me, openapi
from web.answers import in_json
from web.configuration import ConfigurationApi
from web.console import Console
from web.deliveries import DeliveriesApi, Find
from web.endpoint import PREFIX, Endpoint
from web.events import EventsApi
from web.feed import Feed
from web.gate import Gate
from web.health import Health
from web.letters import LettersApi
from web.maintenance import OperationApi
from web.metrics import MetricsApi
from web.settings import Probe, SettingsApi
from web.targets import TargetsApi
from web.workers import WorkersApi

log = get_logger(__name__)

_SHUTDOWN = 5.0  # seconds that requests under way have when the server stops
_LARGEST_BODY = 2 * 1024 * 1024  # bytes
CONNECTION_LIMITS: dict[str, Any] = {
    "max_line_size": 8 * 1024,  # bytes of a request line
    "max_field_size": 32 * 1024,  # bytes of a header; a token may be long
    "keepalive_timeout": 75.0,  # seconds without the whole head of a request
}

_HEADERS = {
    hdrs.SERVER: "rs-delivery",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the application is made of."""

    configure: Configure
    store: ConfigurationStore
    gate: Gate
    health: Health
    targets: TargetsApi
    probe: Probe
    tracking: Tracking
    changes: Changes
    overview: Overview
    interventions: Interventions
    feed: Feed
    progress: Find
    letters: LetterBox
    console: Console
    cors_origins: Sequence[str] = ()
    tls: bool = False


def create_site(parts: Parts) -> web.Application:
    """Make the aiohttp application. Every path is also there under the prefix."""
    listed: list[Endpoint] = []
    listed += [
        *SettingsApi(parts.configure, parts.probe).endpoints(),
        *ConfigurationApi(parts.configure, parts.store, parts.health).endpoints(),
        *OperationApi(parts.configure, lambda: listed).endpoints(),
        *DeliveriesApi(parts.tracking, parts.interventions, parts.progress).endpoints(),
        *EventsApi(parts.feed, parts.tracking, parts.changes, parts.progress).endpoints(),
        *me.endpoints(),
        *LettersApi(parts.letters).endpoints(),
        *WorkersApi(parts.overview).endpoints(),
        *MetricsApi(parts.overview).endpoints(),
        *parts.console.endpoints(),
        *parts.health.endpoints(),
        *parts.targets.endpoints(),
    ]
    site = web.Application(middlewares=[in_json], client_max_size=_LARGEST_BODY)
    for endpoint in [*listed, *openapi.endpoints(listed)]:
        handler = parts.gate.before(endpoint)
        for path in (endpoint.path, PREFIX + endpoint.path):
            site.router.add_route(endpoint.method, path, handler)
    for name, handler in parts.console.files():
        for path in (name, PREFIX + name):
            site.router.add_get(path, handler)
    if parts.cors_origins:
        _allow(site, parts.cors_origins)
    headers = dict(_HEADERS)
    if parts.tls:
        headers["Strict-Transport-Security"] = "max-age=31536000"

    async def dress(_request: web.Request, response: web.StreamResponse) -> None:
        for name, value in headers.items():
            response.headers[name] = value
        response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")

    site.on_response_prepare.append(dress)
    site.on_shutdown.append(_releasing(parts.feed))
    return site


def create_probe_site(health: Health, metrics: MetricsApi) -> web.Application:
    """Make the application of a process that shows its health and figures, and nothing else."""
    site = web.Application(middlewares=[in_json])
    for endpoint in [*health.endpoints(), *metrics.endpoints()]:
        site.router.add_route(endpoint.method, endpoint.path, endpoint.handler)
    return site


def _releasing(feed: Feed) -> Callable[[web.Application], Awaitable[None]]:
    async def release(_site: web.Application) -> None:
        feed.release()  # streams would hold the server up

    return release


def _allow(site: web.Application, origins: Sequence[str]) -> None:
    options = aiohttp_cors.ResourceOptions(
        allow_headers=(
            *(hdrs.AUTHORIZATION, hdrs.CONTENT_TYPE, hdrs.IF_MATCH),
            *("Last-Event-ID", "Idempotency-Key"),
        ),
        expose_headers=(hdrs.ETAG, hdrs.LOCATION, hdrs.RETRY_AFTER),
        allow_methods=("GET", "PUT", "POST", "DELETE"),
    )
    cors = aiohttp_cors.setup(site, defaults=dict.fromkeys(origins, options))
    for resource in list(site.router.resources()):
        cors.add(resource)


class Site(Service):
    """Serves the application as a part of the process."""

    def __init__(
        self, application: web.Application, *, host: str, port: int, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__()
        self._runner = web.AppRunner(
            application,
            access_log=None,
            shutdown_timeout=_SHUTDOWN,
            **CONNECTION_LIMITS,
        )
        self._host = host
        self._port = port
        self._tls = tls

    async def on_start(self) -> None:
        """Listen. Raises ConfigurationError when the port is taken."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port, ssl_context=self._tls).start()
        except OSError as error:
            await self._runner.cleanup()
            reason = os.strerror(error.errno or 0)
            raise ConfigurationError(
                f"can't listen on {self._host} port {self._port} ({reason}); stop what uses the "
                "port, or set DELIVERY_WEB_PORT"
            ) from None
        log.info("web_listening", host=self._host, port=self.port, tls=self._tls is not None)

    @property
    def port(self) -> int:
        """The port that is listened on, also when any free one was asked for."""
        return int(self._runner.addresses[0][1])

    async def on_stop(self) -> None:
        """Close the server and its connections."""
        await self._runner.cleanup()


def tls_context(*, certificate: str, key: str) -> ssl.SSLContext | None:
    """Return what TLS needs; None without a certificate. Raises ConfigurationError."""
    if not certificate and not key:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            "DELIVERY_WEB_TLS_CERTIFICATE and DELIVERY_WEB_TLS_KEY must be the files of a "
            f"certificate chain and its key in PEM ({error})"
        ) from None
    return context
