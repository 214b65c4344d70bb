"""Clients of object stores are made without holding the loop."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader

from app.errors import TargetRefusedError
from sinks.stores.s3.clients import S3Clients
from sinks.stores.s3.target import S3Target
from tests.builders import make_target

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


def _target(number: int) -> S3Target:
    return replace(TARGET, endpoint=f"http://127.0.0.1:{number}")


async def test_clients_are_few_and_none_is_closed_that_is_in_use() -> None:
    clients = S3Clients(most=2)
    async with clients.of(_target(1)) as first:
        async with clients.of(_target(2)) as second, clients.of(_target(3)):
            assert len(clients) == 3  # all of them in use
        async with clients.of(_target(4)):
            assert len(clients) == 2
        async with clients.of(_target(1)) as again:
            assert again is first
    async with clients.of(_target(2)) as reopened:
        assert reopened is not second
    await clients.aclose()


@pytest.mark.parametrize(
    "flaw", [{"region": "a b"}, {"region": "é"}, {"endpoint": "http://a_b:9"}, {"region": "12"}]
)
async def test_a_target_that_s3s_rules_allow_not_is_refused_in_words(flaw: dict[str, Any]) -> None:
    clients = S3Clients()
    with pytest.raises(TargetRefusedError, match="correct host, region and key"):
        async with clients.of(replace(TARGET, **flaw)):
            pass
    assert len(clients) == 0
    await clients.aclose()
