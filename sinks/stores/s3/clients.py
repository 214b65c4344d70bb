"""Clients of object stores: one for each target, shared by all its calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError

from app.network.hosts import AllowedHosts
from sinks.stores.kept import KeptClients
from sinks.stores.s3.parts import send_listed_parts
from sinks.stores.s3.requests import config_for, forbidden, impossible, send_at_once
from sinks.stores.s3.target import S3Target

if TYPE_CHECKING:
    from aioboto3 import Session
    from types_aiobotocore_s3.client import S3Client


class S3Clients:
    """Opens clients when they are asked for, and keeps them as `KeptClients` does.

    Each has 0.4 MiB, and up to 64 connections. `ca` is a file of CAs that are trusted beside the
    public ones; `hosts` are where tenants may deliver to, without: anywhere.
    """

    def __init__(
        self,
        *,
        ca: str = "",
        hosts: AllowedHosts | None = None,
    ) -> None:
        self._ca = ca
        self._hosts = hosts
        self._session: Session | None = None
        self._preparing = asyncio.Lock()
        self._kept: KeptClients[tuple[str, ...], S3Client] = KeptClients()

    async def prepare(self) -> None:
        """Import what clients are made with, and read its description of S3.

        Once, in a thread: it takes half a second, which neither a start nor the loop has to spare.
        """
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
        async with self._kept.of(signed_in, partial(self._open, target)) as client:
            yield client

    async def _prepared(self) -> Session:
        async with self._preparing:
            if self._session is None:
                self._session = await asyncio.to_thread(lambda: asyncio.run(_described_session()))
            return self._session

    async def _open(self, target: S3Target, closing: contextlib.AsyncExitStack) -> S3Client:
        session = await self._prepared()
        try:
            client = await closing.enter_async_context(
                session.client(
                    "s3",
                    endpoint_url=target.endpoint,
                    aws_access_key_id=target.key,
                    aws_secret_access_key=target.secret,
                    config=config_for(target, self._ca, self._hosts),
                )
            )
        except (BotoCoreError, ValueError) as error:
            raise impossible(target, error) from error
        for operation in ("UploadPart", "PutObject"):
            client.meta.events.register(f"before-sign.s3.{operation}", send_at_once)
        send_listed_parts(client)
        return client

    async def aclose(self) -> None:
        """Close all."""
        await self._kept.aclose()


async def _described_session() -> Session:
    from aioboto3 import Session
    from aiobotocore.session import AioSession

    import sinks.stores.s3.session  # noqa: F401 - what clients are configured with imports it

    described = AioSession()
    # No time that a store tells is looked at, and reading one takes longer than all else of a part.
    answers = described.get_component("response_parser_factory")
    answers.set_parser_defaults(timestamp_parser=str)
    session = Session(botocore_session=described)
    # Of all that leads to reading the description, only this is public; the session keeps it.
    async with session.client(
        "s3",
        region_name="none",
        aws_access_key_id="none",
        aws_secret_access_key="none",  # noqa: S106 - opens nothing
    ):
        return session
