"""The client asks, hears and fails as a caller can go by."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from yarl import URL

from rs_delivery_client import (
    ConflictError,
    DeliveryClient,
    DeliveryFailedError,
    InvalidRequestError,
    Key,
    NotReachableError,
    NotSignedInError,
    Pauses,
    ProgressEvent,
    ReloadEvent,
    ServiceError,
    StateEvent,
)
from rs_delivery_client.proxies import proxy_for
from rs_delivery_client.sse import Frame, frames
from tests.client_library.fake import AT_ONCE, TOKEN, Fake

NAME = "d 1/é"
ORDER = {"user": "me@example.org", "queries": ["a:b"]}


@pytest.fixture
def fake() -> Fake:
    """The service, with nothing yet."""
    return Fake()


@pytest.fixture
async def client(fake: Fake) -> AsyncIterator[DeliveryClient]:
    """A client of it."""
    async with fake.running() as opened:
        yield opened


def state(number: int, name: str, **more: Any) -> bytes:
    body = {"id": "0-1", "correlationId": NAME, "state": name, **more}
    return f"id: {number}\r\nevent: state\r\ndata: {json.dumps(body)}\r\n\r\n".encode()


def progress(done: int) -> bytes:
    body = {"phase": "TRANSFERRING", "bytesDone": done, "bytesTotal": 10}
    return f"event: progress\r\ndata: {json.dumps(body)}\r\n\r\n".encode()


def said(status: int, **body: Any) -> web.Response:
    return web.json_response(body, status=status)


async def test_the_attempts_of_a_delivery_are_read(fake: Fake, client: DeliveryClient) -> None:
    assert (await client.delivery(NAME)).attempts == ()
    lost = {"attempt": 1, "worker": "w", "target": "t", "began": "2026-01-02T03:04:05.000+00:00"}
    lost |= {"ended": "2026-01-02T03:05:05.000+00:00", "outcome": "lost", "later": "unknown"}
    fake.delivery["attempts"] = [lost]
    (read,) = (await client.delivery(NAME)).attempts
    assert (read.attempt, read.worker, read.outcome, read.bytes) == (1, "w", "lost", None)


async def test_a_request_is_sent_as_its_contract_has_it(fake: Fake, client: DeliveryClient) -> None:
    got = await client.submit(
        ORDER, correlation_id=NAME, format="tar", labels=["x"], options={"partial": True}
    )
    assert (got.id, got.correlation_id) == ("0-1", NAME)
    delivery = {"partial": True, "format": "tar", "labels": ["x"]}
    assert fake.bodies == [{"correlationId": NAME, "order": ORDER, "delivery": delivery}]
    assert fake.tokens == [f"Bearer {TOKEN}"]


@pytest.mark.parametrize("of", ["default", "machine 127.0.0.1"])
async def test_passwords_of_other_programs_are_not_sent(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, of: str
) -> None:
    """A `.netrc` is none of this client's: neither beside its token, nor with a link."""
    passwords = tmp_path / "netrc"
    passwords.write_text(f"{of} login me password secret\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("NETRC", str(passwords))
    fake.hold(b"content", "a.zip", None)
    async with fake.running() as client:
        assert (await client.delivery(NAME)).id == "0-1"
        link = await client.link(NAME)
        async with client.links_session.get(link.url, **proxy_for(URL(link.url))) as answer:
            assert answer.status == 200
            assert "Authorization" not in answer.request_info.headers
    assert fake.tokens == [f"Bearer {TOKEN}"] * len(fake.tokens)


async def test_a_password_is_sent_to_no_other_address() -> None:
    """An answer that leads to another one is refused: what was sent would be sent there, too."""
    had: list[Any] = []

    async def elsewhere(request: web.Request) -> web.Response:
        had.append(await request.json())
        return web.json_response({"token": "another's"})

    other, here = web.Application(), web.Application()
    other.router.add_post("/console/sign-in", elsewhere)
    async with TestServer(other) as there:
        moved = web.HTTPTemporaryRedirect(there.make_url("/console/sign-in"))

        async def leads(_: web.Request) -> web.Response:
            raise moved

        here.router.add_post("/console/sign-in", leads)
        async with TestServer(here) as server:
            client = DeliveryClient(str(server.make_url("")), pauses=AT_ONCE)
            async with client:
                with pytest.raises(ServiceError) as refused:
                    await client.sign_in(tenant="t", user="u", password="secret")
    assert refused.value.status == 307
    assert had == []


async def test_what_is_left_out_is_not_sent(fake: Fake, client: DeliveryClient) -> None:
    await client.submit(ORDER)
    assert fake.bodies == [{"order": ORDER}]


async def test_a_request_is_sent_again_under_the_same_key_alone(
    fake: Fake, client: DeliveryClient
) -> None:
    fake.refuses = [said(503, message="away"), said(429, message="slowly")]
    await client.submit(ORDER)
    assert len(fake.keys) == 3
    assert len(set(fake.keys)) == 1
    await client.submit(ORDER, idempotency_key="mine")
    assert fake.keys[-1] == "mine"


async def test_what_is_not_safe_to_repeat_is_asked_once(fake: Fake, client: DeliveryClient) -> None:
    asked = 0

    async def cancel(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return said(503, message="away")

    site = web.Application()
    site.router.add_post("/deliveries/{id}/cancel", cancel)
    async with TestServer(site) as server:
        url = str(server.make_url(""))
        async with DeliveryClient(url, token=TOKEN, pauses=AT_ONCE) as other:
            with pytest.raises(NotReachableError, match="away"):
                await other.cancel(NAME)
    assert asked == 1


async def test_every_broken_rule_is_told(fake: Fake, client: DeliveryClient) -> None:
    fake.refuses = [said(422, message="a; b", messages=["a", "b"])]
    with pytest.raises(InvalidRequestError, match="a; b") as caught:
        await client.submit(ORDER)
    assert caught.value.messages == ("a", "b")
    assert caught.value.status == 422


async def test_a_conflict_has_the_words_of_the_service(fake: Fake, client: DeliveryClient) -> None:
    fake.refuses = [said(409, message="it has ended")]
    with pytest.raises(ConflictError, match="it has ended"):
        await client.delivery(NAME)


async def test_a_token_that_is_refused_is_asked_for_again_once(fake: Fake) -> None:
    tokens = iter(["old", TOKEN])
    async with fake.running(), DeliveryClient(fake.url, token=lambda: next(tokens)) as client:
        assert (await client.delivery(NAME)).done
        assert (await client.delivery(NAME)).done
    async with fake.running(), DeliveryClient(fake.url, token="old") as client:
        with pytest.raises(NotSignedInError, match="not valid"):
            await client.delivery(NAME)


async def test_nothing_that_answers_is_said_after_some_tries() -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    async with DeliveryClient(url, pauses=Pauses(first=0.0, most=0.0, tries=3)) as client:
        with pytest.raises(NotReachableError, match="does not answer"):
            await client.delivery(NAME)


@pytest.mark.parametrize("text", ["<html>", "[" * 100_000, "1" * 5000])
async def test_what_is_another_service_is_said(text: str) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text=text)

    site = web.Application()
    site.router.add_get("/{any:.*}", page)
    async with TestServer(site) as server, DeliveryClient(str(server.make_url(""))) as client:
        with pytest.raises(ServiceError, match="is not this service"):
            await client.delivery(NAME)


async def test_a_stream_is_followed_over_breaks_without_a_step_twice(
    fake: Fake, client: DeliveryClient
) -> None:
    fake.frames = [
        [b"retry: 1\r\n\r\n", state(7, "GRANTED"), progress(3)[:10]],
        [state(8, "TRANSFERRING"), progress(5), b": ping\r\n\r\n", b"event: later\ndata: {}\n\n"],
        [state(9, "DONE", url="s3://b/k")],
    ]
    events = [event async for event in client.watch(NAME)]
    assert fake.heard == [None, "7", "8"]
    assert [getattr(event, "id", None) for event in events] == [7, 8, None, 9]
    assert isinstance(events[2], ProgressEvent)
    assert events[2].bytes_done == 5
    assert isinstance(events[3], StateEvent)
    assert events[3].delivery.url == "s3://b/k"


async def test_a_stream_of_what_has_ended_ends(fake: Fake, client: DeliveryClient) -> None:
    assert [event async for event in client.watch(NAME, last_event=9)] == []
    assert fake.heard == ["9"]


async def test_a_reload_looks_the_delivery_up(fake: Fake, client: DeliveryClient) -> None:
    fake.frames = [[b"id: 5\nevent: reload\ndata: {}\n\n"]]
    (event,) = [event async for event in client.watch(NAME)]
    assert isinstance(event, ReloadEvent)
    assert event.delivery.done


async def test_waiting_returns_what_came_of_it(fake: Fake, client: DeliveryClient) -> None:
    fake.frames = [[state(1, "GRANTED")], [state(2, "DONE")]]
    assert (await client.wait(NAME)).done
    fake.delivery |= {"state": "ERROR", "errorType": "EXPIRED", "errorMessage": "too late"}
    with pytest.raises(DeliveryFailedError, match=r"EXPIRED.*too late") as caught:
        await client.wait(NAME)
    assert caught.value.delivery.error_type == "EXPIRED"


async def test_waiting_ends_at_its_limit(fake: Fake, client: DeliveryClient) -> None:
    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    site = web.Application()
    site.router.add_get("/deliveries/{id}/events", never)
    async with TestServer(site) as server, DeliveryClient(str(server.make_url(""))) as other:
        with pytest.raises(TimeoutError):
            await other.wait(NAME, timeout=0.05)


async def test_a_key_signs_what_the_service_believes() -> None:
    for secret in ("s" * 32, "s" * 80):
        token = Key(secret=secret, tenant="t", user="me@example.org", role="ADMIN")()
        claims = jwt.decode(token, secret, algorithms=["HS256", "HS512"])
        assert (claims["tenant"], claims["email"], claims["role"]) == (
            "t",
            "me@example.org",
            "ADMIN",
        )
    assert "sss" not in repr(Key(secret="s" * 32, tenant="t", user="u"))


async def test_events_are_read_however_the_network_cuts_them() -> None:
    stream = (
        b": hello\r\n\r\nretry: 5\r\n\r\nid: 1\r\ndata: a\r\ndata: b\r\n\r\nevent: x\ndata:c\n\ncut"
    )
    for size in (1, 2, 3, 7, len(stream)):

        async def chunks(size: int = size) -> AsyncIterator[bytes]:
            for at in range(0, len(stream), size):
                yield stream[at : at + size]

        assert [frame async for frame in frames(chunks())] == [
            Frame(retry=5),
            Frame(id="1", data="a\nb"),
            Frame(event="x", data="c"),
        ]
