"""What requests tell of S3 servers, for their circuits."""

from __future__ import annotations

from urllib.parse import urlsplit

from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError

from app.errors import DeliveryError
from app.network.hosts import PORTS, port_of
from sinks.stores.breaker import Signs
from sinks.stores.s3.requests import answered
from sinks.stores.s3.target import S3Target

_SILENCE = (TimeoutError, ConnectTimeoutError, ReadTimeoutError)


def _reached_at(target: S3Target) -> str:
    """Return what a target's requests are sent to: host and port.

    With the bucket where it is a part of the host's name, and the scheme where the port does not
    tell it: what one tenant has mistaken there must not count for those who share the server.
    """
    address = urlsplit(target.endpoint)
    host = address.hostname
    if target.addressing_style == "virtual":
        host = f"{target.bucket}.{host}"
    port = port_of(address)
    told = (address.scheme == "https") == (port == PORTS["https"])
    return f"{host}:{port}" if told else f"{address.scheme}://{host}:{port}"


def _places(target: S3Target) -> tuple[str, str]:
    server = _reached_at(target)
    return server, f"{server}/{target.bucket}"


def _said(error: DeliveryError) -> bool:
    return isinstance(error.__cause__, ClientError)


def _silent(error: DeliveryError) -> bool:
    return isinstance(error.__cause__, _SILENCE)


SIGNS = Signs(kind="S3", places=_places, said=_said, answered=answered, silent=_silent)
