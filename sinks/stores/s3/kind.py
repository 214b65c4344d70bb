"""S3 as one kind of store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from prometheus_client import Gauge

from app.errors import ConfigurationError
from app.settings import Settings
from app.views.findings import Finding, bad
from sinks.stores.https import check_ca
from sinks.stores.kinds import ManagedStore, StoreKind
from sinks.stores.s3.target import S3Target


def _check(settings: Settings) -> Iterator[Finding]:
    try:
        check_ca(settings.s3_ca)
    except ConfigurationError as error:
        yield bad(S3Target.kind, "certificates", str(error), "see DELIVERY_S3_CA")


def _managed() -> Any:
    from sinks.stores.s3 import managed

    return managed


@contextlib.asynccontextmanager
async def _open(settings: Settings, up: Gauge | None) -> AsyncIterator[ManagedStore[Any]]:
    # Imported when it is opened: botocore takes a quarter of a second, and most commands open none.
    # In a thread, as the loop has not so much to spare.
    managed = await asyncio.to_thread(_managed)
    async with managed.open_store(
        up=up,
        ca=settings.s3_ca,
        hosts=settings.allowed_hosts,
        endpoint=settings.s3_endpoint,
        public=settings.s3_public_endpoint,
    ) as store:
        yield store


S3 = StoreKind(targets=S3Target, check=_check, open=_open)
