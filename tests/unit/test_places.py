"""Slots that are given up and taken again."""

from __future__ import annotations

import asyncio

from streams.places import Places


class Counted:
    def __init__(self) -> None:
        self.changes = 0

    def __call__(self) -> None:
        self.changes += 1


async def test_who_comes_back_is_before_what_is_new_and_in_its_order() -> None:
    places = Places(1, Counted())
    assert places.take()
    order: list[str] = []

    async def back(name: str) -> None:
        await places.come_back()
        order.append(name)

    waiting = [asyncio.create_task(back(name)) for name in ("first", "second")]
    await asyncio.sleep(0)
    for name in ("first", "second"):
        places.leave()
        assert not places.take()
        await asyncio.sleep(0)
        assert order[-1] == name
    await asyncio.gather(*waiting)
    places.leave()
    assert places.take()


async def test_a_place_given_to_one_who_was_cancelled_goes_to_the_next() -> None:
    places = Places(1, Counted())
    assert places.take()
    gone = asyncio.create_task(places.come_back())
    waits = asyncio.create_task(places.come_back())
    await asyncio.sleep(0)
    places.leave()  # to the first, which is cancelled before it knows
    gone.cancel()
    await asyncio.wait({gone, waits})
    assert gone.cancelled()
    assert waits.exception() is None
    assert places.taken == 1


async def test_who_was_cancelled_while_waiting_takes_nothing() -> None:
    changed = Counted()
    places = Places(1, changed)
    assert places.take()
    gone = asyncio.create_task(places.come_back())
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait({gone})
    places.leave()
    assert (places.taken, changed.changes) == (0, 1)


async def test_nothing_new_begins_while_closed_but_who_was_there_comes_back() -> None:
    places = Places(1, Counted())
    assert places.take()
    places.close()
    places.leave()
    assert not places.take()
    await places.come_back()
    places.reopen()
    places.leave()
    assert places.take()


async def test_a_vain_look_wakes_nobody() -> None:
    changed = Counted()
    places = Places(1, changed)
    assert places.take()
    places.leave(unused=True)
    assert changed.changes == 0
