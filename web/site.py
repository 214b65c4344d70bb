"""The HTTP server: the application, what every answer carries, and the limits of a connection."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp_cors
from aiohttp import hdrs, web
from mode import Service

from app.errors import ConfigurationError
from app.logs import get_logger
from app.ports import ConfigurationStore
from app.usecases.configure import Configure
from web import openapi
from web.answers import in_json
from web.configuration import ConfigurationApi
from web.endpoint import PREFIX, Endpoint
from web.gate import Gate
from web.health import Health
from web.maintenance import OperationApi
from web.settings import Probe, SettingsApi

log = get_logger(__name__)

_LARGEST_BODY = 2 * 1024 * 1024  # bytes
CONNECTION_LIMITS: dict[str, Any] = {
    "max_line_size": 8 * 1024,  # bytes of a request line
    "max_field_size": 32 * 1024,  # bytes of a header; a token may be long
    "keepalive_timeout": 75.0,  # seconds without the whole head of a request
}

_HEADERS = {
    hdrs.SERVER: "rs-delivery",
    hdrs.CACHE_CONTROL: "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
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
    probe: Probe
    cors_origins: Sequence[str] = ()
    tls: bool = False


def create_site(parts: Parts) -> web.Application:
    """Make the aiohttp application. Every path is also there under the prefix."""
    listed: list[Endpoint] = []
    listed += [
        *SettingsApi(parts.configure, parts.probe).endpoints(),
        *ConfigurationApi(parts.configure, parts.store, parts.health).endpoints(),
        *OperationApi(parts.configure, lambda: listed).endpoints(),
        *parts.health.endpoints(),
    ]
    site = web.Application(middlewares=[in_json], client_max_size=_LARGEST_BODY)
    for endpoint in [*listed, *openapi.endpoints(listed)]:
        handler = parts.gate.before(endpoint)
        for path in (endpoint.path, PREFIX + endpoint.path):
            site.router.add_route(endpoint.method, path, handler)
    if parts.cors_origins:
        _allow(site, parts.cors_origins)
    headers = dict(_HEADERS)
    if parts.tls:
        headers["Strict-Transport-Security"] = "max-age=31536000"

    async def dress(_request: web.Request, response: web.StreamResponse) -> None:
        for name, value in headers.items():
            response.headers[name] = value

    site.on_response_prepare.append(dress)
    return site


def _allow(site: web.Application, origins: Sequence[str]) -> None:
    options = aiohttp_cors.ResourceOptions(
        allow_headers=(hdrs.AUTHORIZATION, hdrs.CONTENT_TYPE, hdrs.IF_MATCH),
        expose_headers=(hdrs.ETAG, hdrs.RETRY_AFTER),
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
