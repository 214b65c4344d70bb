"""Folders of shared file systems as one kind of store."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from prometheus_client import Gauge

from app.errors import ConfigurationError
from app.settings import Settings
from app.settings.tenants import TENANT
from app.settings.texts import folder
from app.views.findings import Finding, bad
from sinks.stores.file.managed import FileStore
from sinks.stores.file.target import FileTarget
from sinks.stores.kinds import ManagedStore, StoreKind


def _check(settings: Settings) -> Iterator[Finding]:
    for root in settings.file_roots:
        for tenant in settings.tenants if TENANT in root else ():
            try:
                _check_folder(root, tenant)
            except ConfigurationError as error:
                yield bad(FileTarget.kind, "roots", str(error), "correct DELIVERY_FILE_ROOTS")


def _check_folder(root: str, tenant: str) -> None:
    """Raise ConfigurationError where a tenant's name leads out of a folder."""
    path = root.replace(TENANT, tenant)
    try:
        folder(path)
    except ValueError as error:
        raise ConfigurationError(
            f"DELIVERY_FILE_ROOTS: {root} is no folder for tenant {tenant}: {error}"
        ) from error
    if path.count("/") != root.count("/"):
        raise ConfigurationError(
            f"DELIVERY_FILE_ROOTS: {root} is no folder for tenant {tenant}, whose name has a /: "
            "name its folder itself"
        )


@contextlib.asynccontextmanager
async def _open(settings: Settings, up: Gauge | None) -> AsyncIterator[ManagedStore[Any]]:
    for finding in _check(settings):
        raise ConfigurationError(finding.message)
    async with contextlib.aclosing(FileStore(settings, up=up)) as store:
        yield store


FILE = StoreKind(targets=FileTarget, check=_check, open=_open)
