"""S3 as one kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from prometheus_client import Gauge

from app.errors import ConfigurationError
from app.settings import Settings
from app.views.findings import Finding, bad
from sinks.stores.kinds import ManagedStore, StoreKind
from sinks.stores.s3.https import check_ca
from sinks.stores.s3.target import S3Target


def _check(settings: Settings) -> Iterator[Finding]:
    try:
        check_ca(settings.s3_ca)
    except ConfigurationError as error:
        yield bad(S3Target.kind, "certificates", str(error), "see DELIVERY_S3_CA")


def _open(settings: Settings, up: Gauge | None) -> AbstractAsyncContextManager[ManagedStore[Any]]:
    # Imported when it is opened: botocore takes a quarter of a second, and most commands open none.
    from sinks.stores.s3.managed import open_store

    return open_store(up=up, ca=settings.s3_ca, hosts=settings.allowed_hosts)


S3 = StoreKind(targets=S3Target, check=_check, open=_open)
