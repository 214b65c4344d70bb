"""Relays: what is being published when the worker is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from app.delivery.outgoing import Lane, OutgoingMessage
from app.delivery.ports import Outbox
from app.waiting.wakeup import Wakeup
from streams.work.relay import Relay


class Owed:
    """An outbox with a message that the broker confirms when it is let."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.confirmed = asyncio.Event()
        self.forgotten = 0

    async def relay(
        self, _lane: Lane, _publish: Callable[[OutgoingMessage], Awaitable[None]]
    ) -> tuple[int, int]:
        self.began.set()
        await self.confirmed.wait()
        self.forgotten += 1
        return 1, 0


def relay_of(owed: Owed, *, stop_timeout: float = 5.0) -> Relay:
    async def publish(_outgoing: OutgoingMessage) -> None:
        """Never called: the outbox stands for it."""

    return Relay(
        outbox=cast("Outbox", owed),
        lane=Lane.RESPONSES,
        publish=publish,
        owed=Wakeup(),
        interval=60,
        stop_timeout=stop_timeout,
    )


async def test_a_message_being_published_at_a_stop_is_forgotten_and_not_sent_again() -> None:
    owed = Owed()
    relay = relay_of(owed)
    await relay.start()
    await owed.began.wait()
    stopping = asyncio.create_task(relay.stop())
    for _ in range(50):  # turns enough for a stop that waits for nothing
        await asyncio.sleep(0)
    assert not stopping.done()
    owed.confirmed.set()
    await stopping
    assert owed.forgotten == 1


async def test_a_broker_that_is_silent_does_not_keep_a_relay_from_stopping() -> None:
    owed = Owed()
    relay = relay_of(owed, stop_timeout=0.01)
    await relay.start()
    await owed.began.wait()
    await relay.stop()
    assert owed.forgotten == 0
