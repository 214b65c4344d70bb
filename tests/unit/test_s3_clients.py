"""Clients of object stores are made without holding the loop."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader

from app.model import S3Target
from sinks.s3_clients import S3Clients

TARGET = S3Target(
    endpoint="http://127.0.0.1:9",
    region="r",
    bucket="b",
    key="k",
    secret="s",
)


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
