"""Google Cloud Storage as one kind of store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from prometheus_client import Gauge

from app.errors import ConfigurationError
from app.settings import Settings
from app.views.findings import Finding, bad
from sinks.stores.gcs.target import GcsTarget
from sinks.stores.https import check_ca
from sinks.stores.kinds import ManagedStore, StoreKind


def _check(settings: Settings) -> Iterator[Finding]:
    try:
        check_ca(settings.s3_ca)
    except ConfigurationError as error:
        yield bad(GcsTarget.kind, "certificates", str(error), "see DELIVERY_S3_CA")


def _managed() -> Any:
    from sinks.stores.gcs import managed

    return managed


@contextlib.asynccontextmanager
async def _open(settings: Settings, up: Gauge | None) -> AsyncIterator[ManagedStore[Any]]:
    # Imported when it is opened, in a thread: aiohttp's client takes a moment.
    managed = await asyncio.to_thread(_managed)
    async with managed.open_store(
        up=up,
        ca=settings.s3_ca,
        hosts=settings.allowed_hosts,
        identity_places=settings.gcs_identity_places,
    ) as store:
        yield store


GCS = StoreKind(targets=GcsTarget, check=_check, open=_open)
