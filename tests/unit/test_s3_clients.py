"""Clients of object stores are made without holding the loop."""

from __future__ import annotations

import ssl
import threading
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from botocore.awsrequest import AWSRequest
from botocore.loaders import JSONFileLoader

from app.errors import TargetRefusedError, TargetUnavailableError
from sinks.stores.s3.clients import S3Clients
from sinks.stores.s3.managed import open_store
from sinks.stores.s3.session import GuardedSession
from tests.builders import make_target
from tests.servers import serving

TARGET = make_target(endpoint="http://127.0.0.1:9")


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """Threads that read files of botocore's description of S3."""
    found: list[threading.Thread] = []
    load = JSONFileLoader.load_file

    def load_file(self: JSONFileLoader, *args: Any, **kwargs: Any) -> Any:
        found.append(threading.current_thread())
        return load(self, *args, **kwargs)

    monkeypatch.setattr(JSONFileLoader, "load_file", load_file)
    return found


@pytest.mark.parametrize("prepared", [True, False])
async def test_the_description_of_s3_is_read_in_a_thread_and_once(
    readers: list[threading.Thread], prepared: bool
) -> None:
    clients = S3Clients()
    if prepared:
        await clients.prepare()
    async with clients.of(TARGET):
        read = len(readers)
    async with clients.of(TARGET):
        pass
    await clients.prepare()
    await clients.aclose()
    assert read == len(readers) > 0
    assert threading.main_thread() not in readers


@pytest.mark.parametrize(
    "signed_in", [{"secret": "another"}, {"key": "another"}, {"endpoint": "http://127.0.0.1:10"}]
)
async def test_targets_share_a_client_unless_they_sign_in_otherwise(
    signed_in: dict[str, str],
) -> None:
    clients = S3Clients()
    async with clients.of(TARGET) as first, clients.of(replace(TARGET, bucket="b")) as shared:
        assert shared is first
        async with clients.of(replace(TARGET, **signed_in)) as other:
            assert other is not first
    await clients.aclose()


@pytest.mark.parametrize(
    "flaw", [{"region": "a b"}, {"region": "é"}, {"endpoint": "http://a_b:9"}, {"region": "12"}]
)
async def test_a_target_that_s3s_rules_allow_not_is_refused_in_words(flaw: dict[str, Any]) -> None:
    clients = S3Clients()
    with pytest.raises(TargetRefusedError, match="correct host, region and key"):
        async with clients.of(replace(TARGET, **flaw)):
            pass
    await clients.aclose()


async def test_a_session_that_was_closed_makes_connections_again() -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="here")

    session: Any = GuardedSession(judge=lambda _: None, scheme="http")
    async with serving(answer) as port:
        asked = AWSRequest(method="GET", url=f"http://127.0.0.1:{port}/").prepare()
        for _ in range(2):
            async with session:
                assert await (await session.send(asked)).content == b"here"


async def test_the_cas_of_the_system_are_read_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[threading.Thread] = []
    load = ssl.SSLContext.load_verify_locations

    def loaded(self: ssl.SSLContext, *args: Any, **kwargs: Any) -> None:
        readers.append(threading.current_thread())
        load(self, *args, **kwargs)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", loaded)
    async with open_store() as store:
        for _ in range(2):
            with pytest.raises(TargetUnavailableError, match="no S3 server answers"):
                await store.find_bucket(TARGET)
    assert len(readers) == 1
    assert threading.main_thread() not in readers
