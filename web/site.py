"""The HTTP server: whether this process lives, and whether it can work."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from mode import Service

from app import __version__
from app.errors import ConfigurationError, DeliveryError
from app.logs import get_logger

log = get_logger(__name__)

# A check returns when its dependency works, and raises DeliveryError with the reason otherwise.
Check = Callable[[], Awaitable[None]]
CHECKS: web.AppKey[Mapping[str, Check]] = web.AppKey("checks", Mapping)
STARTED: web.AppKey[float] = web.AppKey("started", float)


async def live(request: web.Request) -> web.Response:
    """Answer while the event loop turns."""
    uptime = time.monotonic() - request.app[STARTED]
    return web.json_response({"status": "UP", "version": __version__, "uptime": round(uptime, 1)})


async def ready(request: web.Request) -> web.Response:
    """Name every dependency, and what is wrong with it; 503 when one is away."""
    components: dict[str, dict[str, str]] = {}
    for name, check in request.app[CHECKS].items():
        try:
            await check()
            components[name] = {"status": "UP"}
        except DeliveryError as error:
            components[name] = {"status": "DOWN", "error": str(error)}
    up = all(component["status"] == "UP" for component in components.values())
    body = {"status": "UP" if up else "DOWN", "components": components}
    return web.json_response(body, status=200 if up else 503)


def create_site(checks: Mapping[str, Check]) -> web.Application:
    """Make the aiohttp application."""
    site = web.Application()
    site[CHECKS] = checks
    site[STARTED] = time.monotonic()
    site.router.add_get("/health/live", live)
    site.router.add_get("/health/ready", ready)
    return site


class Site(Service):
    """Serves the application as a part of the process."""

    def __init__(self, application: web.Application, *, host: str, port: int) -> None:
        super().__init__()
        self._runner = web.AppRunner(application, access_log=None)
        self._host = host
        self._port = port

    async def on_start(self) -> None:
        """Listen. Raises ConfigurationError when the port is taken."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            reason = os.strerror(error.errno or 0)
            raise ConfigurationError(
                f"can't listen on {self._host} port {self._port} ({reason}); stop what uses the "
                "port, or set DELIVERY_WEB_PORT"
            ) from None
        log.info("web_listening", host=self._host, port=self.port)

    @property
    def port(self) -> int:
        """The port that is listened on, also when any free one was asked for."""
        return int(self._runner.addresses[0][1])

    async def on_stop(self) -> None:
        """Close the server and its connections."""
        await self._runner.cleanup()
