"""SFTP servers as one kind of store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from prometheus_client import Gauge

from app.settings import Settings
from sinks.stores.kinds import ManagedStore, StoreKind
from sinks.stores.sftp.target import SftpTarget


def _managed() -> Any:
    from sinks.stores.sftp import managed

    return managed


@contextlib.asynccontextmanager
async def _open(settings: Settings, up: Gauge | None) -> AsyncIterator[ManagedStore[Any]]:
    # Imported when it is opened, in a thread: asyncssh takes a fifth of a second.
    managed = await asyncio.to_thread(_managed)
    async with managed.open_store(up=up, hosts=settings.allowed_hosts) as store:
        yield store


SFTP = StoreKind(targets=SftpTarget, check=lambda _: (), open=_open)
