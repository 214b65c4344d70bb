"""`delivery health`: whether the process beside this one lives, for a container's health check.

Not whether it can work: RabbitMQ or a target that is away is no reason to end it and its transfers.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl

import click

from app.codes import Code
from app.errors import DeliveryError, NotReachableError, StoreUnavailableError
from app.run.wiring.database import open_database
from app.settings import Settings, load_settings

_TIMEOUT = 3.0  # seconds
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class NotAliveError(DeliveryError):
    """A process does not do what shows that it lives."""

    code = Code.NOT_WELL


@click.command()
def health() -> None:
    """Tell whether the service in this container lives; exit code 1 if it does not.

    Asks /health/live where something listens; a worker without HTTP has a row in the database that
    it renews. Where PostgreSQL is away that can't be told, which is no fault of the worker.
    """
    settings = load_settings(start_timeout=_TIMEOUT)
    web = "https" if settings.web_tls_certificate else "http"
    for scheme, port in ((web, settings.web_port), ("http", settings.worker_port)):
        if port and (status := _ask(scheme, _ANY.get(settings.web_host, settings.web_host), port)):
            click.echo(status)
            return
    click.echo(asyncio.run(_look(settings)))


def _ask(scheme: str, host: str, port: int) -> str | None:
    """Return what was found; None if nothing listens there. Raises NotAliveError."""
    connection: http.client.HTTPConnection
    if scheme == "https":
        # It asks itself: the certificate is for the name that others know it by.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    url = f"{scheme}://{host}:{port}/health/live"
    try:
        connection.request("GET", "/health/live")
        status = connection.getresponse().status
    except ConnectionRefusedError:
        return None
    except (OSError, http.client.HTTPException) as error:
        raise NotAliveError(f"{url} does not answer ({error or type(error).__name__})") from None
    finally:
        connection.close()
    if status == http.client.SERVICE_UNAVAILABLE:
        # That its connections are all taken is no reason to end it, or strangers could.
        return f"{url} answers that too many connections are open"
    if status != http.client.OK:
        raise NotAliveError(f"{url} answers {status}")
    return f"{url} answers"


async def _look(settings: Settings) -> str:
    """Find the worker by its row. Raises NotAliveError."""
    known = "worker_id" in settings.model_fields_set
    name = settings.worker_id if known else f"{socket.gethostname()}-"
    try:
        async with open_database(settings) as database:
            workers = await database.tracking.workers()
    except (NotReachableError, StoreUnavailableError) as error:
        return f"nothing listens, and what a worker tells PostgreSQL can't be read now: {error}"
    mine = [
        worker for worker in workers if (worker.id == name if known else worker.id.startswith(name))
    ]
    if not mine:
        raise NotAliveError(
            f"nothing listens on port {settings.web_port}, and there is no worker {name}"
            + ("" if known else "…")
        )
    latest = min(mine, key=lambda worker: worker.silent_for)
    if not latest.alive:
        raise NotAliveError(f"worker {latest.id} has been silent for {latest.silent_for:.0f} s")
    return f"worker {latest.id} was seen {latest.silent_for:.0f} s ago"
