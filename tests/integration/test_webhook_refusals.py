"""What a tenant is told of a webhook that does not answer: nothing of the operator's network."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from app.delivery.webhooks import Answer, Webhook, ping
from app.network.callbacks import Callbacks
from app.network.hosts import AllowedHosts
from app.network.resolver import NameService
from compose.embedded.stack import TENANT
from streams.webhooks.sender import HttpWebhooks

_SECRET = "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw"
_TIMEOUT = 0.5  # seconds
KINDS = ["closed", "silent", "hangs up", "no TLS"]


class _Inside(Callbacks):
    """Loopback, in the place of a network of the operator's that the list does not name."""

    __slots__ = ()

    def tells_of(self, url: str, address: str) -> bool:
        """Tell nothing."""
        assert url
        assert address == "127.0.0.1"
        return False


_ALLOWED = AllowedHosts.of(["127.0.0.0/8"])
_INSIDE, _NAMED = _Inside(hosts=_ALLOWED), Callbacks(hosts=_ALLOWED)


class Port:
    """A port of loopback that is no webhook."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.connections = 0

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.closing(writer):
            await reader.read(1)
            if self.kind == "no TLS":
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9)
            if self.kind == "silent":
                await reader.read()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        if self.kind == "closed":
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                yield free.getsockname()[1]
            return
        server = await asyncio.start_server(self.hear, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()


async def _answer(kind: str, callbacks: Callbacks, *, seconds: float = _TIMEOUT) -> Answer:
    port = Port(kind)
    async with port.open() as number:
        hook = Webhook(
            tenant=TENANT, name="ops", url=f"https://127.0.0.1:{number}/", secrets=(_SECRET,)
        )
        async with HttpWebhooks(callbacks, timeout=seconds).to(hook) as post:
            answer = await post(ping(TENANT), datetime.now(UTC))
    if callbacks.flaw_of(hook.url):
        assert port.connections == 0
    return answer


@pytest.mark.parametrize("kind", KINDS)
async def test_a_port_inside_the_operator_s_network_is_told_alike_and_as_late_as_all_others(
    kind: str,
) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    answer = await _answer(kind, _INSIDE)
    assert loop.time() >= begun + _TIMEOUT
    assert answer == Answer(
        taken=False,
        flaw="no answer from its address, which is not a public one; the operator's log tells why",
    )


async def test_a_port_of_a_host_that_the_operator_names_is_told_as_it_is() -> None:
    limits = dict.fromkeys(KINDS, 30.0) | {"silent": 2.0}
    told = {kind: (await _answer(kind, _NAMED, seconds=limits[kind])).flaw for kind in KINDS}
    assert told["closed"] == "no connection, or one that broke off before the answer"
    assert told["silent"] == "no answer within 2 seconds"
    assert "does not speak TLS" in told["no TLS"]


async def test_a_name_service_that_is_silent_is_named() -> None:
    answer = threading.Event()

    def lookup(*_: Any, **__: Any) -> list[Any]:
        answer.wait()
        return []

    sender = HttpWebhooks(
        Callbacks(hosts=AllowedHosts.of(["*"])), names=NameService(timeout=0.05, lookup=lookup)
    )
    hook = Webhook(tenant=TENANT, name="ops", url="https://hooks.example.org/", secrets=(_SECRET,))
    async with sender.to(hook) as post:
        told = await post(ping(TENANT), datetime.now(UTC))
    answer.set()
    assert told.flaw == (
        "its host was not looked up: the name service did not answer within 0.05 seconds"
    )


async def test_where_no_webhook_may_be_no_port_is_tried() -> None:
    callbacks = Callbacks(hosts=AllowedHosts.of(["*"], may="have webhooks on"))
    told = {(await _answer(kind, callbacks)).flaw for kind in KINDS}
    assert told == {
        "nothing is sent: 127.0.0.1 is a loopback address, where tenants may not have webhooks on"
    }
