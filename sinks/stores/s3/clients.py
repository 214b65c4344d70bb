"""Clients of object stores: one for each target, shared by all its calls."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError

from app.network.hosts import AllowedHosts
from sinks.stores.s3.requests import config_for, forbidden, impossible, send_at_once
from sinks.stores.s3.target import S3Target

if TYPE_CHECKING:
    from aioboto3 import Session
    from types_aiobotocore_s3.client import S3Client

_IDLE_TIMEOUT = 600.0  # seconds
_MAX_CLIENTS = 50  # open at once; each has 0.4 MiB, and up to 64 connections


@dataclass
class _Kept:
    """An open client."""

    client: S3Client
    closing: contextlib.AsyncExitStack
    calls: int = 0  # that are under way
    used: float = 0.0  # when the last one ended


class S3Clients:
    """Opens clients when they are asked for.

    One that was not used for `idle` seconds is closed when the next is opened: secrets change, and
    targets go. So is the one that was used longest ago where there are more than `most`; none that
    is in use is closed. `ca` is a file of CAs that are trusted beside the public ones; `hosts` are
    where tenants may deliver to, without: anywhere.
    """

    def __init__(
        self,
        *,
        idle: float = _IDLE_TIMEOUT,
        most: int = _MAX_CLIENTS,
        ca: str = "",
        hosts: AllowedHosts | None = None,
    ) -> None:
        self._idle = idle
        self._most = most
        self._ca = ca
        self._hosts = hosts
        self._session: Session | None = None
        self._kept: dict[tuple[str, ...], _Kept] = {}
        self._opening = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    async def prepare(self) -> None:
        """Import what clients are made with, and read its description of S3.

        Once, in a thread: it takes half a second, which neither a start nor the loop has to spare.
        """
        async with self._opening:
            await self._prepared()

    @contextlib.asynccontextmanager
    async def of(self, target: S3Target) -> AsyncIterator[S3Client]:
        """Give the client of a target for one call.

        Raises TargetForbiddenError, and TargetRefusedError where S3's rules allow no such target.
        """
        flaw = self._hosts.flaw_of(target.endpoint) if self._hosts else None
        if flaw is not None:
            raise forbidden(target, flaw)
        signed_in = (
            target.endpoint,
            target.region,
            target.key,
            target.secret,
            target.addressing_style,
        )
        async with self._opening:
            kept = self._kept.get(signed_in)
            if kept is None:
                await self._close(before=time.monotonic() - self._idle)
                try:
                    kept = self._kept[signed_in] = await self._open(target)
                except (BotoCoreError, ValueError) as error:
                    raise impossible(target, error) from error
            kept.calls += 1
        try:
            yield kept.client
        finally:
            kept.calls -= 1
            kept.used = time.monotonic()

    async def _prepared(self) -> Session:
        if self._session is None:
            self._session = await asyncio.to_thread(lambda: asyncio.run(_described_session()))
        return self._session

    async def _open(self, target: S3Target) -> _Kept:
        session = await self._prepared()
        closing = contextlib.AsyncExitStack()
        client = await closing.enter_async_context(
            session.client(
                "s3",
                endpoint_url=target.endpoint,
                aws_access_key_id=target.key,
                aws_secret_access_key=target.secret,
                config=config_for(target, self._ca, self._hosts),
            )
        )
        for operation in ("UploadPart", "PutObject"):
            client.meta.events.register(f"before-sign.s3.{operation}", send_at_once)
        return _Kept(client=client, closing=closing)

    async def _close(self, *, before: float) -> None:
        """Close what was last used before a time, and what are too many beside one more."""
        idle = sorted(
            (kept.used, signed_in) for signed_in, kept in self._kept.items() if not kept.calls
        )
        for used, signed_in in idle:
            if used <= before or len(self._kept) >= self._most:
                await self._kept.pop(signed_in).closing.aclose()

    async def aclose(self) -> None:
        """Close all."""
        while self._kept:
            _, kept = self._kept.popitem()
            await kept.closing.aclose()


async def _described_session() -> Session:
    from aioboto3 import Session

    session = Session()
    # Of all that leads to reading the description, only this is public; the session keeps it.
    async with session.client(
        "s3",
        region_name="none",
        aws_access_key_id="none",
        aws_secret_access_key="none",  # noqa: S106 - opens nothing
    ):
        return session
