"""A message of very many values is read beside the loop, and none overtakes it meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

import streams.bridge
from app.delivery.ingress import Arrival, ArrivalKind
from app.delivery.states import Work
from app.encoding import flaw_of, is_crowded
from app.usecases.bury import Keep, keep_nowhere
from app.views.dead_letters import BuriedLetter
from app.waiting.wakeup import Wakeup
from streams.amqp.messages import read
from streams.amqp.names import HEADER_TENANT
from streams.amqp.topology import Topology
from streams.bridge import Bridge
from streams.channels import REQUESTS
from streams.events import RequestReceived
from streams.kafka.agents import Dependencies, handler_of

CROWD = [1] * 20_000


def message(name: str, *, tenant: str = "t", **more: Any) -> Any:
    """Return a request as aio-pika hands it over."""
    body = json.dumps({"correlationId": name} | more).encode()
    unset = ("content_type", "content_encoding", "correlation_id", "reply_to", "type", "exchange")
    properties = dict.fromkeys(("properties", "message_id", "timestamp", *unset))
    return Mock(
        body=body,
        headers={HEADER_TENANT: tenant},
        app_id="a",
        priority=1,
        redelivered=False,
        ack=AsyncMock(),
        **properties,
    )


class Saved:
    """Takes what the bridge saves and appends."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []

    async def save(self, arrival: Arrival, *, since: float) -> None:
        assert since
        self.arrivals.append(arrival)

    async def carry(self, arrival: Arrival) -> None:
        assert self.arrivals[-1] is arrival

    @property
    def ids(self) -> list[str]:
        return [arrival.key.decode() for arrival in self.arrivals]


async def handling(
    saved: Saved, *, keep: Keep = keep_nowhere
) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """Start a bridge; return what it handles requests with."""
    queue = AsyncMock()
    topology: Any = Mock(spec=Topology, queue=AsyncMock(return_value=queue))
    taker: Any = saved
    bridge = Bridge(
        connection=Mock(channel=AsyncMock(return_value=AsyncMock(close_callbacks=Mock()))),
        publisher=AsyncMock(),
        events=taker,
        arrivals=taker,
        tenants=Mock(known="t".__eq__),
        topology=topology,
        prefetch=10,
        max_bytes=512 * 1024,
        keep=keep,
    )
    await bridge.on_start()
    handle: Callable[[Any], Coroutine[Any, Any, None]] = queue.consume.await_args_list[0].args[0]
    return handle


class Reading:
    """Notes in which thread each message is read; a thread of its own waits until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: list[threading.Thread] = []
        self.began, self.go_on = asyncio.Event(), threading.Event()
        self._loop = asyncio.get_running_loop()
        self._read = read
        monkeypatch.setattr(streams.bridge, "read", self)

    def __call__(self, given: Any, kind: ArrivalKind) -> Any:
        thread = threading.current_thread()
        self.threads.append(thread)
        if thread is not threading.main_thread():
            self._loop.call_soon_threadsafe(self.began.set)
            self.go_on.wait()
        return self._read(given, kind)


async def test_a_message_of_many_values_is_read_in_a_thread_and_is_not_overtaken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, saved = Reading(monkeypatch), Saved()
    handle = await handling(saved)
    async with asyncio.TaskGroup() as group:
        group.create_task(handle(message("first", x=CROWD)))
        await reading.began.wait()
        second = group.create_task(handle(message("second")))
        third = group.create_task(handle(message("third")))
        for _ in range(10):
            await asyncio.sleep(0)
        held = list(saved.ids), second.done(), third.done()
        reading.go_on.set()
    assert held == ([], False, False)
    assert saved.ids == ["t/first", "t/second", "t/third"]
    beside, *others = reading.threads
    assert beside is not threading.main_thread()
    assert others == [threading.main_thread()] * 2


async def test_an_agent_reads_an_event_of_many_values_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[threading.Thread] = []
    decode = RequestReceived.decode

    def decoded(value: bytes) -> RequestReceived:
        threads.append(threading.current_thread())
        return decode(value)

    class StoredError(Exception):
        pass

    saved = Saved()
    handle = await handling(saved)
    await handle(message("crowded", x=CROWD))
    await handle(message("plain"))
    monkeypatch.setattr(RequestReceived, "decode", decoded)
    to = Dependencies(
        store=Mock(transaction=Mock(side_effect=StoredError)),
        tenants=SimpleNamespace(known="t".__eq__),  # type: ignore[arg-type]
        users=Mock(),
        wake={work: Wakeup() for work in Work},
    )
    with pytest.raises(StoredError):
        await handler_of(REQUESTS, to)([arrival.value for arrival in saved.arrivals])
    crowded, plain = threads
    assert crowded is not threading.main_thread()
    assert plain is threading.main_thread()


async def test_a_dead_message_of_many_values_is_read_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[threading.Thread] = []
    kept: list[BuriedLetter] = []

    def loads(*given: Any, **how: Any) -> Any:
        threads.append(threading.current_thread())
        return decode(*given, **how)

    async def keep(letter: BuriedLetter) -> None:
        kept.append(letter)

    decode = json.loads
    handle = await handling(Saved(), keep=keep)
    monkeypatch.setattr(json, "loads", loads)
    await handle(message("crowded", tenant="unknown", x=CROWD))
    await handle(message("plain", tenant="unknown"))
    assert [letter.correlation_id for letter in kept] == ["crowded", "plain"]
    # Each is read as it comes, and as it is buried.
    beside = [thread is not threading.main_thread() for thread in threads]
    assert beside == [True, True, False, False]


@pytest.mark.parametrize("size", [512 * 1024, 4 * 1024 * 1024])
async def test_a_dead_message_that_is_too_large_is_not_read_for_its_name(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[BuriedLetter] = []

    async def keep(letter: BuriedLetter) -> None:
        kept.append(letter)

    handle = await handling(Saved(), keep=keep)
    given = message("large", x="a" * size)
    monkeypatch.setattr(json, "loads", Mock(side_effect=AssertionError("it was read")))
    await handle(given)
    (letter,) = kept
    assert (letter.correlation_id, letter.size) == (None, len(given.body))
    assert "DELIVERY_MAX_MESSAGE_BYTES" in letter.reason


def test_a_large_message_of_few_values_is_not_crowded() -> None:
    assert not is_crowded(json.dumps({"queries": ["a" * 10_000] * 40}).encode())
    assert is_crowded(json.dumps(CROWD).encode())
    assert is_crowded(json.dumps([{}] * 6_000).encode())


def nested(levels: int, inner: Any) -> Any:
    for level in range(levels):
        inner = [inner] if level % 2 else {"k": inner}
    return inner


@pytest.mark.parametrize(
    ("body", "flaw"),
    [
        (nested(63, 1), None),
        (nested(64, 1), "is nested deeper than 64 levels"),
        (nested(63, {}), None),
        (nested(61, [1, {"é": "ü"}, None, True, 1.5]), None),
        (nested(20, "a\0b"), "holds a NUL character"),
        (nested(20, {"\0": 1}), "holds a NUL character"),
        (nested(20, ["ü", "\ud800"]), "holds half of a surrogate pair"),
        (nested(20, {"\udfff": []}), "holds half of a surrogate pair"),
        ("text", None),
        (None, None),
    ],
)
def test_what_can_not_be_kept_is_found_at_every_level(body: Any, flaw: str | None) -> None:
    assert flaw_of(body) == flaw
