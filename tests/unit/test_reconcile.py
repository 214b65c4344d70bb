"""Events that were lost are appended again: with their topic, or one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

import pytest

from app.delivery.ingress import Arrival
from app.delivery.ports import Arrivals
from app.errors import BrokerUnavailableError
from app.usecases.reconcile import append_again, topics_lost
from tests.builders import make_arrival


class Lost:
    """Notes whether all events were lost."""

    def __init__(self) -> None:
        self.all = False

    async def all_lost(self) -> None:
        self.all = True


@pytest.mark.parametrize(
    ("missing", "lost"),
    [
        (["delivery.requests"], True),
        (["delivery.progress", "delivery.requests"], True),
        (["delivery.progress"], False),
        ([], False),
    ],
)
async def test_events_are_due_again_when_a_topic_is_missing_that_agents_read(
    missing: list[str], lost: bool
) -> None:
    arrivals: Any = Lost()
    consumed = ("delivery.requests", "delivery.cancels")
    await topics_lost(missing, consumed=consumed, arrivals=cast("Arrivals", arrivals))
    assert arrivals.all is lost


class Overdue:
    """Has these overdue, and notes which are given back."""

    def __init__(self, made: Sequence[Arrival]) -> None:
        self._made = made
        self.given_back: Sequence[UUID] = ()

    async def overdue(self, _limit: int) -> Sequence[Arrival]:
        return self._made

    async def not_appended(self, ids: Sequence[UUID]) -> None:
        self.given_back = ids


async def test_overdue_events_of_one_key_are_appended_in_their_order() -> None:
    made = [make_arrival(key=key) for key in (b"t/a", b"t/b", b"t/a", b"t/a")]
    appended: list[Arrival] = []
    begun: list[Arrival] = []

    async def append(arrival: Arrival) -> None:
        begun.append(arrival)
        if len(begun) == 1:  # the first takes longest
            for _ in range(10):
                await asyncio.sleep(0)
        appended.append(arrival)

    arrivals: Any = Overdue(made)
    assert await append_again(arrivals=arrivals, append=append, limit=9) == 4
    assert [arrival for arrival in appended if arrival.key == b"t/a"] == [made[0], *made[2:]]
    assert appended[0] is made[1]  # of another key: it waits for none


async def test_an_overdue_event_that_kafka_does_not_take_keeps_those_behind_it_back() -> None:
    made = [make_arrival(key=key) for key in (b"t/a", b"t/a", b"t/b")]
    appended: list[Arrival] = []

    async def append(arrival: Arrival) -> None:
        if arrival is made[0]:
            raise BrokerUnavailableError("Kafka is away")
        appended.append(arrival)

    arrivals: Any = Overdue(made)
    assert await append_again(arrivals=arrivals, append=append, limit=9) == 1
    assert appended == made[2:]
    assert arrivals.given_back == [made[0].ingress_id, made[1].ingress_id]
