"""Clients of containers: one for each target, shared by all its calls."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob.aio import ContainerClient

from app.delivery.marks import tenant_of
from app.errors import TargetForbiddenError
from app.network.hosts import AllowedHosts
from app.settings.azure import DEFAULT_IDENTITY
from sinks.stores.azure.requests import COMMIT_TIMEOUT, forbidden, impossible
from sinks.stores.azure.session import GuardedSession
from sinks.stores.azure.target import IDENTITY_ADVICE, AzureTarget, identity_flaw

_IDLE_TIMEOUT = 600.0  # seconds
_MAX_CLIENTS = 50  # open at once
_CONNECT_TIMEOUT = 5.0  # seconds
PIECE = 4 * 1024 * 1024  # bytes of an object that are read by one request


@dataclass
class _Kept:
    """An open client."""

    client: ContainerClient
    closing: contextlib.AsyncExitStack
    calls: int = 0  # that are under way
    used: float = 0.0  # when the last one ended


class AzureClients:
    """Opens clients when they are asked for.

    One that was not used for `idle` seconds is closed when the next is opened: secrets change, and
    targets go. So is the one that was used longest ago where there are more than `most`; none that
    is in use is closed. `ca` is a file of CAs that are trusted beside the public ones; `hosts` are
    where tenants may deliver to, without: anywhere; `identity_places` where this service signs in
    as itself. A connection is open within `connect` seconds.
    """

    def __init__(
        self,
        *,
        idle: float = _IDLE_TIMEOUT,
        most: int = _MAX_CLIENTS,
        ca: str = "",
        hosts: AllowedHosts | None = None,
        identity_places: Collection[str] = (),
        connect: float = _CONNECT_TIMEOUT,
    ) -> None:
        self._connect = connect
        self._idle = idle
        self._most = most
        self._ca = ca
        self._hosts = hosts
        self._identity_places = identity_places
        self._kept: dict[AzureTarget, _Kept] = {}
        self._identities: dict[str, Any] = {}  # by what tenants call them
        self._opening = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @contextlib.asynccontextmanager
    async def of(self, target: AzureTarget) -> AsyncIterator[ContainerClient]:
        """Give the client of a target for one call.

        Raises TargetForbiddenError, and TargetRefusedError where no client can be made for it.
        """
        flaw = self._hosts.flaw_of(target.endpoint) if self._hosts else None
        if flaw is not None:
            raise forbidden(target, flaw)
        async with self._opening:
            kept = self._kept.get(target)
            if kept is None:
                await self._close(before=time.monotonic() - self._idle)
                kept = self._kept[target] = await self._open(target)
            kept.calls += 1
        try:
            yield kept.client
        finally:
            kept.calls -= 1
            kept.used = time.monotonic()

    async def _open(self, target: AzureTarget) -> _Kept:
        def judge(address: str) -> str | None:
            hosts = self._hosts
            return hosts.flaw_of_address(target.endpoint, address) if hosts else None

        credential = await self._credential(target)
        closing = contextlib.AsyncExitStack()
        try:
            session = GuardedSession(target.endpoint, judge=judge, ca=self._ca)
            closing.push_async_callback(session.close)
            client = ContainerClient(
                target.endpoint,
                target.container,
                credential=credential,
                transport=AioHttpTransport(
                    session=session,
                    session_owner=False,
                    connection_timeout=self._connect,
                    read_timeout=COMMIT_TIMEOUT,
                ),
                # Deadlines are those of `translate_errors`, and the caller decides whether it asks
                # again: an id of a block is sent once.
                retry_total=0,
                permit_redirects=False,
                max_single_get_size=PIECE,
                max_chunk_get_size=PIECE,
            )
        except ValueError as error:
            await closing.aclose()
            raise impossible(target, error) from error
        return _Kept(client=client, closing=closing)

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

    async def _close(self, *, before: float) -> None:
        """Close what was last used before a time, and what are too many beside one more."""
        idle = sorted(
            ((kept.used, target) for target, kept in self._kept.items() if not kept.calls),
            key=lambda entry: entry[0],
        )
        for used, target in idle:
            if used <= before or len(self._kept) >= self._most:
                await self._kept.pop(target).closing.aclose()

    async def aclose(self) -> None:
        """Close all."""
        while self._kept:
            _, kept = self._kept.popitem()
            await kept.closing.aclose()
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
