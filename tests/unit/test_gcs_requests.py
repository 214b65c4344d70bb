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

from app.delivery.marks import marks_of
from app.delivery.object_store import Upload
from app.errors import (
    DeliveryError,
    TargetRefusedError,
    TargetUnavailableError,
    WrongObjectError,
)
from app.settings import Settings
from sinks.pipeline.parts import Part
from sinks.stores.gcs.calls import GcsCalls
from sinks.stores.gcs.clients import GcsClient, GcsClients
from sinks.stores.gcs.names import new_part, new_upload_id
from sinks.stores.gcs.requests import said_anything
from sinks.stores.gcs.store import GcsObjectStore
from sinks.stores.gcs.target import GcsTarget
from sinks.stores.gcs.tokens import AccountTokens, NoIdentityError, Tokens
from sinks.stores.sessions import guarded_session
from tests.builders import make_delivery
from tests.gcs_account import credentials
from tests.servers import Handler, serving

OWN = GcsTarget(container="mission-deliveries", prefix="esa/", credentials="identity")
WITH_KEY = replace(OWN, container="others", credentials=credentials())
MARKS = marks_of(make_delivery())


class NoTokens:
    """Those of a machine that has none."""

    async def token(self) -> str:
        raise NoIdentityError("it answered 404")

    def taken(self, token: str) -> None:
        """Note nothing."""

    def refused(self, token: str) -> bool:
        """Forget nothing."""
        return not token


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


async def test_a_refused_token_is_of_a_time_once_if_one_was_taken_before() -> None:
    error = {"code": 401, "errors": [{"reason": "authError"}]}
    statuses = [200, 401, 401, 200, 401]

    async def handle(_: web.Request) -> web.StreamResponse:
        status = statuses.pop(0)
        return web.json_response(STORED if status == 200 else {"error": error}, status=status)

    now = itertools.count(1_800_000_000)
    tokens = AccountTokens(WITH_KEY.credentials, clock=lambda: float(next(now)))
    async with asked(handle, tokens) as calls:
        for expected in (None, TargetUnavailableError, TargetRefusedError, None):
            with pytest.raises(expected) if expected else contextlib.nullcontext():
                await calls.describe(WITH_KEY, "a.zip")
        with pytest.raises(TargetUnavailableError, match="401 authError"):
            await calls.describe(WITH_KEY, "a.zip")
    assert statuses == []


# Answers that are none of Google's.


class Good:
    """A token that every server takes."""

    async def token(self) -> str:
        return "good"

    def taken(self, token: str) -> None:
        """Note nothing."""

    def refused(self, token: str) -> bool:
        """Forget nothing."""
        return not token


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


# Names, and what else Google takes no object for.


LONG = "é" * 512 + "x"  # 1025 bytes


@pytest.mark.parametrize("key", [LONG, ".well-known/acme-challenge/a.zip", "a\nb"])
async def test_what_google_takes_no_object_of_is_refused_before_anything_is_sent(key: str) -> None:
    async with asked(never, Good()) as calls:
        store = GcsObjectStore(calls)
        part = Part.of(b"content")
        with pytest.raises(TargetRefusedError, match="Google takes"):
            await store.create_upload(WITH_KEY, key, MARKS, media_type="application/zip")
        with pytest.raises(TargetRefusedError, match="Google takes"):
            await store.put_aside(WITH_KEY, key, part, MARKS)
        with pytest.raises(TargetRefusedError, match="Google takes"):
            await store.put_object(
                WITH_KEY, key, part, MARKS, media_type="application/zip", may=nothing
            )


async def nothing() -> None:
    """Let it be."""


async def test_an_upload_is_refused_where_its_parts_would_have_no_room() -> None:
    upload = Upload(container="others", key="k", upload_id=new_upload_id())
    longest = replace(WITH_KEY, prefix="p" * 885 + "/")
    assert len(new_part(longest, upload, 1, bytes(16))) == 1024
    entry = {"type": "gcs", "bucket": "others", "credentials": credentials()}
    assert GcsTarget.flaw_of(entry | {"prefix": "p" * 885}, Settings()) is None
    flaw = GcsTarget.flaw_of(entry | {"prefix": "p" * 886}, Settings())
    assert flaw is not None
    assert flaw[0] == "prefix"
    async with asked(never, Good()) as calls:
        with pytest.raises(TargetRefusedError, match="room for the names of parts"):
            await GcsObjectStore(calls).create_upload(
                replace(longest, prefix="p" * 886 + "/"), "a.zip", MARKS, media_type="a/b"
            )


@pytest.mark.parametrize("prefix", [".well-known/acme-challenge", "a/.rs-delivery-uploads/b"])
def test_a_prefix_that_can_not_be_is_told_when_it_is_set(prefix: str) -> None:
    entry = {"type": "gcs", "bucket": "others", "credentials": credentials(), "prefix": prefix}
    flaw = GcsTarget.flaw_of(entry, Settings())
    assert flaw is not None
    assert flaw[0] == "prefix"


def refusing(reason: str) -> Handler:
    error = {"code": 400, "message": "canary", "errors": [{"reason": reason}]}
    return answering(lambda _: {"error": error}, status=400)


async def test_a_part_is_told_to_be_another_for_the_one_reason_that_google_has_for_it() -> None:
    body = Part.of(b"content")
    for reason, expected in (
        ("invalid", WrongObjectError),
        ("required", TargetRefusedError),
        ("userProjectMissing", TargetRefusedError),
    ):
        async with asked(refusing(reason), Good()) as calls:
            with pytest.raises(expected):
                await GcsObjectStore(calls).put_aside(WITH_KEY, "a", body, MARKS)


async def test_an_upload_that_can_not_be_opened_has_no_other_bytes() -> None:
    async with asked(refusing("invalid"), Good()) as calls:
        with pytest.raises(TargetRefusedError, match="see what Google says"):
            await GcsObjectStore(calls).create_upload(
                WITH_KEY, "a.zip", MARKS, media_type="application/zip"
            )
