"""Clients of buckets: one for each target, shared by all its calls."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from app.delivery.marks import tenant_of
from app.errors import TargetForbiddenError
from app.network.hosts import AllowedHosts
from sinks.stores.gcs.answers import RefusedError
from sinks.stores.gcs.requests import BAD, UNAUTHORIZED, forbidden, impossible
from sinks.stores.gcs.target import IDENTITY_ADVICE, GcsTarget, identity_flaw
from sinks.stores.gcs.tokens import METADATA, AccountTokens, MachineTokens, Tokens
from sinks.stores.kept import KeptClients
from sinks.stores.sessions import guarded_session

_CONNECT_TIMEOUT = 5.0  # seconds
_Parameters = Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class GcsClient:
    """What requests to one bucket are made with."""

    endpoint: str
    session: aiohttp.ClientSession
    tokens: Tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Signed:
    """A client, and the token of one request: this is had before the server can be said to be slow.

    An empty one signs nothing.
    """

    client: GcsClient
    token: str

    @contextlib.asynccontextmanager
    async def ask(
        self,
        method: str,
        path: str,
        parameters: _Parameters,
        *,
        headers: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make a request, once. What is raised does not tell its URL."""
        signed = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = f"{self.client.endpoint}{path}?{urlencode(parameters)}"
        try:
            async with self.client.session.request(
                method,
                URL(url, encoded=True),
                headers=signed | dict(headers or {}),
                allow_redirects=False,
                **arguments,
            ) as answer:
                if answer.status < BAD:
                    self.client.tokens.taken(self.token)
                yield answer
        except RefusedError as error:
            if error.status == UNAUTHORIZED:
                error.passes = self.client.tokens.refused(self.token)
            raise
        except aiohttp.ConnectionTimeoutError:
            raise aiohttp.ConnectionTimeoutError("no connection within its time") from None


class GcsClients:
    """Opens clients when they are asked for, and keeps them as `KeptClients` does.

    `ca` is a file of CAs that are trusted beside the public ones; `hosts` are where tenants may
    deliver to, without: anywhere; `identity_places` where this service signs in as itself, with
    what `metadata` gives. A connection is open within `connect` seconds.
    """

    def __init__(
        self,
        *,
        ca: str = "",
        hosts: AllowedHosts | None = None,
        identity_places: Collection[str] = (),
        metadata: str = METADATA,
        connect: float = _CONNECT_TIMEOUT,
    ) -> None:
        self._ca = ca
        self._hosts = hosts
        self._identity_places = identity_places
        self._metadata = metadata
        # All else is bounded by `translate_errors`: a large part may take long to send.
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect)
        self._kept: KeptClients[GcsTarget, GcsClient] = KeptClients()

    @contextlib.asynccontextmanager
    async def of(self, target: GcsTarget) -> AsyncIterator[GcsClient]:
        """Give the client of a target for one call.

        Raises TargetForbiddenError, and TargetRefusedError where no client can be made for it.
        """
        flaw = self._hosts.flaw_of(target.endpoint) if self._hosts else None
        if flaw is not None:
            raise forbidden(target, flaw)
        async with self._kept.of(target, partial(self._open, target)) as client:
            yield client

    async def _open(self, target: GcsTarget, closing: contextlib.AsyncExitStack) -> GcsClient:
        def judge(address: str) -> str | None:
            hosts = self._hosts
            return hosts.flaw_of_address(target.endpoint, address) if hosts else None

        try:
            tokens = self._tokens(target, closing)
        except ValueError as error:
            raise impossible(target, error) from None
        session = guarded_session(target.endpoint, judge=judge, ca=self._ca, timeout=self._timeout)
        closing.push_async_callback(session.close)
        return GcsClient(endpoint=target.endpoint, session=session, tokens=tokens)

    def _tokens(self, target: GcsTarget, closing: contextlib.AsyncExitStack) -> Tokens:
        if not target.own_identity:
            return AccountTokens(target.credentials)
        self._check_identity(target)
        session = guarded_session(
            self._metadata, judge=lambda _: None, timeout=self._timeout, direct=True
        )
        closing.push_async_callback(session.close)
        return MachineTokens(session, url=self._metadata)

    def check_tenant(self, target: GcsTarget, marks: Mapping[str, str]) -> None:
        """Raise TargetForbiddenError where the tenant of the marks may not use the identity."""
        if target.own_identity:
            self._check_identity(target, tenant_of(marks) or "")

    def _check_identity(self, target: GcsTarget, tenant: str | None = None) -> None:
        flaw = identity_flaw(target, self._identity_places, tenant=tenant)
        if flaw is not None:
            raise TargetForbiddenError(f"nothing is sent to {target}: {flaw}: {IDENTITY_ADVICE}")

    async def aclose(self) -> None:
        """Close all."""
        await self._kept.aclose()
