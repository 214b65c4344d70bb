"""The object stores of the tenants."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from app.delivery.targets import S3Target
from app.settings import Settings
from app.telemetry.metrics import TARGET_UP
from sinks.stores.s3.https import check_ca
from sinks.stores.s3.probe import Prober
from sinks.stores.s3.rights import try_target
from sinks.stores.s3.store import S3Sink, open_sink

# Tries a target; returns what was found: [{"check", "ok", "message"}].
Try = Callable[[S3Target], Awaitable[list[dict[str, Any]]]]


@contextlib.asynccontextmanager
async def open_targets(
    settings: Settings, *, in_use: Callable[[], Iterable[S3Target]]
) -> AsyncIterator[S3Sink]:
    """Open what delivers; `in_use` gives the targets that tenants have now.

    Raises ConfigurationError when the file of a CA can't be used.
    """
    async with open_sink(up=TARGET_UP, ca=settings.s3_ca, hosts=settings.allowed_hosts) as sink:
        sink.breakers.in_use = in_use
        yield sink


def prober(settings: Settings, sink: S3Sink) -> Prober:
    """Return what tries targets for their tenants."""
    return Prober(sink.clients, settings.allowed_hosts)


def check_authorities(settings: Settings) -> None:
    """Raise ConfigurationError unless the CAs are there that object stores are checked with."""
    check_ca(settings.s3_ca)


@contextlib.asynccontextmanager
async def open_trial(settings: Settings) -> AsyncIterator[Try]:
    """Open what tries each right that deliveries need at a target, for an operator."""
    async with open_sink(ca=settings.s3_ca, hosts=settings.allowed_hosts) as sink:
        yield partial(try_target, sink)
