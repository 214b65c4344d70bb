"""Clients of containers: one for each target, shared by all its calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from functools import partial
from typing import Any

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob.aio import BlobServiceClient, ContainerClient

from app.delivery.marks import tenant_of
from app.errors import TargetForbiddenError
from app.network.hosts import AllowedHosts
from app.settings.azure import DEFAULT_IDENTITY
from sinks.stores.azure.requests import COMMIT_TIMEOUT, forbidden, impossible
from sinks.stores.azure.session import GuardedSession
from sinks.stores.azure.target import IDENTITY_ADVICE, AzureTarget, identity_flaw
from sinks.stores.kept import KeptClients

_CONNECT_TIMEOUT = 5.0  # seconds
PIECE = 4 * 1024 * 1024  # bytes of an object that are read by one request


class AzureClients:
    """Opens clients when they are asked for, and keeps them as `KeptClients` does.

    `ca` is a file of CAs that are trusted beside the public ones; `hosts` are where tenants may
    deliver to, without: anywhere; `identity_places` where this service signs in as itself. A
    connection is open within `connect` seconds.
    """

    def __init__(
        self,
        *,
        ca: str = "",
        hosts: AllowedHosts | None = None,
        identity_places: Collection[str] = (),
        connect: float = _CONNECT_TIMEOUT,
    ) -> None:
        self._connect = connect
        self._ca = ca
        self._hosts = hosts
        self._identity_places = identity_places
        self._kept: KeptClients[AzureTarget, ContainerClient] = KeptClients()
        self._identities: dict[str, Any] = {}  # by what tenants call them

    @contextlib.asynccontextmanager
    async def of(self, target: AzureTarget) -> AsyncIterator[ContainerClient]:
        """Give the client of a target for one call.

        Raises TargetForbiddenError, and TargetRefusedError where no client can be made for it.
        """
        flaw = self._hosts.flaw_of(target.endpoint) if self._hosts else None
        if flaw is not None:
            raise forbidden(target, flaw)
        async with self._kept.of(target, partial(self._open, target)) as client:
            yield client

    @contextlib.asynccontextmanager
    async def account(self, target: AzureTarget) -> AsyncIterator[BlobServiceClient]:
        """Give a client of a target's whole account, for one call. Raises like `of`."""
        flaw = self._hosts.flaw_of(target.endpoint) if self._hosts else None
        if flaw is not None:
            raise forbidden(target, flaw)
        async with contextlib.AsyncExitStack() as closing:
            given = await self._given(target, closing)
            try:
                client = BlobServiceClient(target.endpoint, **given)
            except ValueError as error:
                raise impossible(target, error) from error
            yield client

    async def _open(
        self, target: AzureTarget, closing: contextlib.AsyncExitStack
    ) -> ContainerClient:
        given = await self._given(target, closing)
        try:
            return ContainerClient(
                target.endpoint,
                target.container,
                max_single_get_size=PIECE,
                max_chunk_get_size=PIECE,
                **given,
            )
        except ValueError as error:
            raise impossible(target, error) from error

    async def _given(
        self, target: AzureTarget, closing: contextlib.AsyncExitStack
    ) -> dict[str, Any]:
        """Return what every client is made with."""

        def judge(address: str) -> str | None:
            hosts = self._hosts
            return hosts.flaw_of_address(target.endpoint, address) if hosts else None

        credential = await self._credential(target)
        try:
            session = GuardedSession(target.endpoint, judge=judge, ca=self._ca)
        except ValueError as error:
            raise impossible(target, error) from error
        closing.push_async_callback(session.close)
        return {
            "credential": credential,
            "transport": AioHttpTransport(
                session=session,
                session_owner=False,
                connection_timeout=self._connect,
                read_timeout=COMMIT_TIMEOUT,
            ),
            # Deadlines are those of `translate_errors`, and the caller decides whether it asks
            # again: an id of a block is sent once.
            "retry_total": 0,
            "permit_redirects": False,
        }

    async def _credential(self, target: AzureTarget) -> Any:
        if target.key is not None:
            return AzureNamedKeyCredential(target.account, target.key)
        if target.sas is not None:
            return AzureSasCredential(target.sas)
        self._check_identity(target)
        name = (target.identity or DEFAULT_IDENTITY).lower()
        if name not in self._identities:
            self._identities[name] = await asyncio.to_thread(_identity, name)
        return self._identities[name]

    def check_tenant(self, target: AzureTarget, marks: Mapping[str, str]) -> None:
        """Raise TargetForbiddenError where the tenant of the marks may not use the identity."""
        if target.key is None and target.sas is None:
            self._check_identity(target, tenant_of(marks) or "")

    def _check_identity(self, target: AzureTarget, tenant: str | None = None) -> None:
        flaw = identity_flaw(target, self._identity_places, tenant=tenant)
        if flaw is not None:
            raise TargetForbiddenError(f"nothing is sent to {target}: {flaw}: {IDENTITY_ADVICE}")

    async def aclose(self) -> None:
        """Close all."""
        await self._kept.aclose()
        while self._identities:
            _, identity = self._identities.popitem()
            await identity.close()


def _identity(name: str) -> Any:
    """Return what this service signs in as; no developer's own sign-in on this machine is taken."""
    from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential

    if name != DEFAULT_IDENTITY:
        return ManagedIdentityCredential(client_id=name)
    return DefaultAzureCredential(
        exclude_cli_credential=True,
        exclude_developer_cli_credential=True,
        exclude_powershell_credential=True,
        exclude_shared_token_cache_credential=True,
        exclude_visual_studio_code_credential=True,
    )
