"""Clients of stores are opened once, kept while they are used, and closed."""

from __future__ import annotations

import contextlib
from contextlib import AsyncExitStack

import pytest

from sinks.stores.kept import KeptClients


class Opening:
    """Opens clients, which are their own numbers, and notes which it closed."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed: list[int] = []

    async def __call__(self, closing: AsyncExitStack) -> int:
        self.opened += 1
        closing.callback(self.closed.append, self.opened)
        return self.opened


async def test_one_client_serves_all_calls_of_a_key() -> None:
    opening, clients = Opening(), KeptClients[str, int]()
    async with clients.of("a", opening) as first, clients.of("a", opening) as second:
        assert first == second
    async with clients.of("a", opening) as again:
        assert again == first
    assert (opening.opened, opening.closed) == (1, [])
    await clients.aclose()
    assert opening.closed == [1]


async def test_clients_are_few_and_none_is_closed_that_is_in_use() -> None:
    opening, clients = Opening(), KeptClients[str, int](most=2)
    async with clients.of("a", opening) as first:
        async with clients.of("b", opening) as second, clients.of("c", opening):
            assert len(clients) == 3  # all of them in use
        async with clients.of("d", opening):
            assert len(clients) == 2
        async with clients.of("a", opening) as again:
            assert again == first
    async with clients.of("b", opening) as reopened:
        assert reopened != second
    await clients.aclose()
    assert sorted(opening.closed) == [1, 2, 3, 4, 5]


async def test_one_that_is_not_used_any_more_is_closed_when_the_next_is_opened() -> None:
    opening, clients = Opening(), KeptClients[str, int](idle=0)
    async with clients.of("a", opening):
        for name in "bcdef":
            async with clients.of(name, opening):
                pass
        assert len(clients) == 2  # the one in use, and the last
    await clients.aclose()
    assert len(clients) == 0


async def test_one_that_can_not_be_opened_is_closed_and_not_kept() -> None:
    opening, clients = Opening(), KeptClients[str, int]()

    async def fail(closing: AsyncExitStack) -> int:
        await opening(closing)
        raise ValueError("no client")

    with pytest.raises(ValueError, match="no client"):
        async with clients.of("a", fail):
            raise AssertionError("that never is")
    assert (len(clients), opening.closed) == (0, [1])
    async with contextlib.aclosing(clients), clients.of("a", opening) as opened:
        assert opened == 2
