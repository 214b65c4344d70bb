"""What is asked of Google Cloud Storage, and what is made of any answer, without a server of it."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from app.errors import DeliveryError, TargetRefusedError, TargetUnavailableError
from sinks.stores.gcs.calls import GcsCalls
from sinks.stores.gcs.clients import GcsClient, GcsClients
from sinks.stores.gcs.requests import said_anything
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


# Answers that are none of Google's.


class Good:
    """A token that every server takes."""

    async def token(self) -> str:
        return "good"

    def forget(self) -> None:
        """Forget nothing."""


STORED = {
    "kind": "storage#object",
    "name": "a.zip",
    "generation": "1",
    "size": "7",
    "crc32c": "AAAAAA==",
}


def answering(told: Callable[[web.Request], Any], *, status: int = 200) -> Handler:
    """Return what answers so: with an object, or with its text."""

    async def handle(request: web.Request) -> web.StreamResponse:
        found = told(request)
        body = found if isinstance(found, str) else json.dumps(found)
        return web.Response(text=body, status=status, content_type="application/json")

    return handle


@pytest.mark.parametrize(
    "told",
    [
        "[" * 200_000,
        json.dumps(STORED).replace('"7"', "1e999"),
        STORED | {"size": -1},
        STORED | {"size": True},
        STORED | {"size": "9" * 5000},
        STORED | {"generation": "abc"},
        STORED | {"generation": "²"},
        STORED | {"name": 5},
        STORED | {"crc32c": 5},
        STORED | {"crc32c": "é"},
        STORED | {"md5Hash": "x"},
        STORED | {"metadata": [1]},
        STORED | {"metadata": {"a": 1}},
        STORED | {"contentType": {"a": 1}},
    ],
    ids=lambda told: str(told)[:200],
)
async def test_an_odd_description_is_none_of_googles(told: Any) -> None:
    async with asked(answering(lambda _: told), Good()) as calls:
        with pytest.raises(TargetUnavailableError, match="endpoint") as raised:
            await calls.describe(WITH_KEY, "a.zip")
        assert said_anything(raised.value)


@pytest.mark.parametrize(
    "told",
    [
        {"items": [5]},
        {"items": 5},
        {"items": {"a": 1}},
        {"items": [STORED | {"name": 5}]},
        {"prefixes": 5, "items": 5},
        {"nextPageToken": [1]},
    ],
    ids=str,
)
async def test_an_odd_list_is_none_of_googles(told: Any) -> None:
    page = {"kind": "storage#objects"} | told
    async with asked(answering(lambda _: page), Good()) as calls:
        for listed in (calls.listed, calls.names):
            with pytest.raises(TargetUnavailableError, match="endpoint") as raised:
                await listed(WITH_KEY, "c/")
            assert said_anything(raised.value)


@pytest.mark.parametrize(
    "body", ["[" * 200_000, '{"error": {"code": 400, "errors": 5}}', '{"error": 5}']
)
async def test_an_odd_refusal_is_an_error_of_the_place(body: str) -> None:
    async with asked(answering(lambda _: body, status=400), Good()) as calls:
        with pytest.raises((TargetUnavailableError, TargetRefusedError)):
            await calls.describe(WITH_KEY, "a.zip")


@pytest.mark.parametrize("token", ["", "more"])
async def test_a_list_that_has_no_end_is_not_read_on(token: str) -> None:
    """A tenant chooses what answers: a worker would have no memory left for all others."""
    pages = itertools.count(1)

    def page(_: web.Request) -> dict[str, Any]:
        return {"kind": "storage#objects", "nextPageToken": token or str(next(pages))}

    async with asked(answering(page), Good()) as calls:
        with pytest.raises(TargetUnavailableError, match="has no end"):
            await calls.listed(WITH_KEY, "c/")
    assert next(pages) == (1 if token else 201)


async def test_a_list_of_pages_is_read_to_its_end() -> None:
    def page(request: web.Request) -> dict[str, Any]:
        number = int(request.query.get("pageToken", "0"))
        items = [STORED | {"name": f"c/{number}", "size": number}]
        return {"kind": "storage#objects", "items": items} | (
            {"nextPageToken": str(number + 1)} if number < 3 else {}
        )

    async with asked(answering(page), Good()) as calls:
        assert [stored.size for stored in await calls.listed(WITH_KEY, "c/")] == [0, 1, 2, 3]
