"""Relays: what is being published when the worker is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from app.delivery.outgoing import Lane, OutgoingMessage, Relayed
from app.delivery.ports import Outbox
from app.waiting.wakeup import Wakeup
from streams.work.relay import Relay


class Owed:
    """An outbox with a message that the broker confirms when it is let."""

    def __init__(self, *, more: bool = True) -> None:
        self.more = more
        self.began = asyncio.Event()
        self.confirmed = asyncio.Event()
        self.forgotten = 0

    async def relay(
        self, _lane: Lane, _publish: Callable[[OutgoingMessage], Awaitable[None]]
    ) -> Relayed:
        self.began.set()
        await self.confirmed.wait()
        self.forgotten += 1
        return Relayed(1, 0, more=self.more)


class Passes:
    """An outbox whose passes come to what a test says, and then to nothing."""

    def __init__(self, *passes: Relayed) -> None:
        self.left = list(passes)
        self.made = 0
        self.idle = asyncio.Event()

    async def relay(
        self, _lane: Lane, _publish: Callable[[OutgoingMessage], Awaitable[None]]
    ) -> Relayed:
        self.made += 1
        passed = self.left.pop(0)
        if not self.left:
            self.idle.set()
        return passed


def relay_of(
    owed: Owed | Passes, *, stop_timeout: float = 5.0, wakeup: Wakeup | None = None
) -> Relay:
    async def publish(_outgoing: OutgoingMessage) -> None:
        """Never called: the outbox stands for it."""

    return Relay(
        outbox=cast("Outbox", owed),
        lane=Lane.RESPONSES,
        publish=publish,
        owed=wakeup or Wakeup(),
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


async def _turns() -> None:
    for _ in range(50):  # enough for a pass that is not waited for
        await asyncio.sleep(0)


async def test_a_pass_follows_at_once_only_where_more_is_due() -> None:
    passes = Passes(Relayed(1, 0, more=True), Relayed(1, 0, more=False))
    relay = relay_of(passes)
    await relay.start()
    await passes.idle.wait()
    await _turns()
    assert passes.made == 2
    await relay.stop()


async def test_no_pass_follows_at_once_where_a_broker_takes_nothing() -> None:
    passes = Passes(Relayed(0, 3, more=True))
    relay = relay_of(passes)
    await relay.start()
    await passes.idle.wait()
    await _turns()
    assert passes.made == 1
    await relay.stop()


async def test_a_commit_during_a_pass_that_sees_nothing_more_is_followed_by_another_pass() -> None:
    passes, wakeup = Passes(Relayed(1, 0, more=False), Relayed(1, 0, more=False)), Wakeup()
    relay = relay_of(passes, wakeup=wakeup)
    wakeup.notify({Lane.RESPONSES})  # kept for the relay, which does not wait yet
    await relay.start()
    await passes.idle.wait()
    assert passes.made == 2
    await relay.stop()
