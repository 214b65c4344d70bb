"""The object stores of the tenants, a line for each kind."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from prometheus_client import Gauge

from app.delivery.targets import Target
from app.settings import Settings
from app.telemetry.metrics import TARGET_UP
from sinks.stores.kinds import Stores
from sinks.stores.s3.https import check_ca
from sinks.stores.s3.kind import open_store as open_s3
from sinks.stores.s3.target import S3Target

# Tries a target; returns what was found: [{"check", "ok", "message"}].
Try = Callable[[Target], Awaitable[list[dict[str, Any]]]]


@contextlib.asynccontextmanager
async def _open_stores(settings: Settings, *, up: Gauge | None = None) -> AsyncIterator[Stores]:
    async with open_s3(up=up, ca=settings.s3_ca, hosts=settings.allowed_hosts) as s3:
        yield Stores({S3Target.kind: s3})


@contextlib.asynccontextmanager
async def open_targets(
    settings: Settings, *, in_use: Callable[[], Iterable[Target]]
) -> AsyncIterator[Stores]:
    """Open what delivers; `in_use` gives the targets that tenants have now.

    Raises ConfigurationError when the file of a CA can't be used.
    """
    async with _open_stores(settings, up=TARGET_UP) as stores:
        stores.serve(in_use)
        yield stores


def check_authorities(settings: Settings) -> None:
    """Raise ConfigurationError unless the CAs are there that object stores are checked with."""
    check_ca(settings.s3_ca)


@contextlib.asynccontextmanager
async def open_trial(settings: Settings) -> AsyncIterator[Try]:
    """Open what tries each right that deliveries need at a target, for an operator."""
    async with _open_stores(settings) as stores:
        yield stores.examine
