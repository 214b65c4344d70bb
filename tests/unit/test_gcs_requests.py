"""What is asked of Google Cloud Storage, and what is made of any answer, without a server of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web

from app.errors import DeliveryError, TargetUnavailableError
from sinks.stores.gcs.calls import GcsCalls
from sinks.stores.gcs.clients import GcsClient, GcsClients
from sinks.stores.gcs.target import GcsTarget
from sinks.stores.gcs.tokens import NoIdentityError, Tokens
from sinks.stores.sessions import guarded_session
from tests.gcs_account import credentials
from tests.servers import Handler, serving

OWN = GcsTarget(container="mission-deliveries", prefix="esa/", credentials="identity")
WITH_KEY = replace(OWN, container="others", credentials=credentials())


class NoTokens:
    """Those of a machine that has none."""

    async def token(self) -> str:
        raise NoIdentityError("it answered 404")

    def forget(self) -> None:
        """Forget nothing."""


class OneServer(GcsClients):
    """Clients that ask one server, wherever a target is."""

    def __init__(self, client: GcsClient) -> None:
        super().__init__()
        self.client = client

    @contextlib.asynccontextmanager
    async def of(self, target: GcsTarget) -> AsyncIterator[GcsClient]:
        yield self.client


@contextlib.asynccontextmanager
async def asked(handle: Handler, tokens: Tokens) -> AsyncIterator[GcsCalls]:
    """Requests to what answers so."""
    async with serving(handle) as port:
        url = f"http://127.0.0.1:{port}"
        async with guarded_session(url, judge=lambda _: None, direct=True) as session:
            client = GcsClient(endpoint=url, session=session, tokens=tokens)
            calls = GcsCalls(OneServer(client))
            yield calls
            await calls.aclose()


async def never(_: web.Request) -> web.StreamResponse:
    raise AssertionError("nothing is asked without a token")


async def test_that_this_machine_has_no_identity_is_not_the_servers_fault() -> None:
    async with asked(never, NoTokens()) as calls:
        for _ in range(3):
            with pytest.raises(TargetUnavailableError, match="a service account is assigned"):
                await calls.describe(OWN, "a.zip")
        assert calls.breakers.trouble(WITH_KEY) is None
        assert len(calls.breakers) == 0


async def test_a_server_is_probed_without_a_token_where_this_machine_has_none() -> None:
    """Else its circuit would stay open for all, as long as one target there has no identity."""
    heard: list[str | None] = []
    error = {"code": 401, "errors": [{"reason": "required"}]}

    async def handle(request: web.Request) -> web.StreamResponse:
        heard.append(request.headers.get("Authorization"))
        return web.json_response({"error": error}, status=401)

    async with asked(handle, NoTokens()) as calls:
        with pytest.raises(DeliveryError):
            await calls.reach(OWN)
        assert heard == [None]
        assert calls.breakers.trouble(WITH_KEY) is None
        assert len(calls.breakers) > 0  # it was heard
