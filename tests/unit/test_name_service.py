"""Names are looked up in threads of their own, for so long, and with a share for each owner."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from app.network.resolver import NameService, NameServiceError

_FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))]


class Names:
    """A name service that is silent about some names until it is told to answer."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.asked: list[str] = []
        self.begun = threading.Semaphore(0)

    def lookup(self, host: str, _port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        self.begun.release()
        if host.startswith("silent"):
            self.answer.wait()
        if host == "unknown":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return _FOUND

    async def is_asked(self) -> None:
        await asyncio.to_thread(self.begun.acquire)


@pytest.fixture
def names() -> Iterator[Names]:
    found = Names()
    yield found
    found.answer.set()  # so that its threads end


async def test_a_name_has_its_addresses_in_the_form_of_aiohttp(names: Names) -> None:
    resolver = NameService(lookup=names.lookup).for_owner("t")
    (found,) = await resolver.resolve("a.example", 443, socket.AF_UNSPEC)
    assert (found["hostname"], found["host"], found["port"]) == ("a.example", "192.0.2.1", 443)
    assert (found["family"], found["proto"]) == (socket.AF_INET, 6)
    with pytest.raises(socket.gaierror):
        await resolver.resolve("unknown", 443)


async def test_a_silent_name_service_is_waited_for_no_longer_than_its_time(names: Names) -> None:
    resolver = NameService(timeout=0.01, lookup=names.lookup).for_owner("t")
    with pytest.raises(NameServiceError, match=r"did not answer within 0\.01 seconds"):
        await resolver.resolve("silent", 443)


async def test_lookups_take_no_thread_of_the_event_loop(names: Names) -> None:
    resolver = NameService(threads=64, share=64, lookup=names.lookup).for_owner("t")
    lookups = [asyncio.create_task(resolver.resolve(f"silent{n}", 443)) for n in range(64)]
    for _ in lookups:  # more than the loop has threads: asked in one of those
        await names.is_asked()
    names.answer.set()
    await asyncio.gather(*lookups)


async def test_an_owner_of_silent_names_has_its_share_of_the_threads_and_no_more(
    names: Names,
) -> None:
    service = NameService(threads=3, share=2, timeout=60, lookup=names.lookup)
    ours, theirs = service.for_owner("ours"), service.for_owner("theirs")
    given_up = [asyncio.create_task(ours.resolve(f"silent{n}", 443)) for n in range(2)]
    for lookup in given_up:
        await names.is_asked()
        lookup.cancel()
    # Their threads are held until the name service has answered.
    waiting = asyncio.create_task(ours.resolve("b.example", 443))
    assert len(await theirs.resolve("a.example", 443)) == 1
    assert sorted(names.asked) == ["a.example", "silent0", "silent1"]
    names.answer.set()
    assert await waiting


async def test_what_no_thread_has_begun_when_its_time_is_over_is_never_asked(names: Names) -> None:
    service = NameService(threads=1, share=2, timeout=0.05, lookup=names.lookup)
    resolver = service.for_owner("t")
    found = await asyncio.gather(
        *(resolver.resolve(f"silent{number}", 443) for number in range(2)), return_exceptions=True
    )
    assert [type(answer) for answer in found] == [NameServiceError] * 2
    names.answer.set()
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(NameServiceError):
                assert await resolver.resolve("b.example", 443)
                break
    assert "silent1" not in names.asked
