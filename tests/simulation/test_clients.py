"""How many answers requests have, and how many they should."""

from __future__ import annotations

import asyncio
import json
from random import Random

import pytest
from aio_pika import Message

from streams.amqp import names
from streams.channels import RESPONSES
from tests.simulation.clients import Clients, Wish
from tests.simulation.draws import Draws
from tests.simulation.loop import SimulatedLoop
from tests.simulation.rabbitmq import Broker
from tests.simulation.weather import Weather

ID = "c"


def told(*answers: str, excused: str = "") -> list[str]:
    """Return what is wrong where clients ask for an id, and hear of these, one after the other.

    Each `a` is a request; any other letter is the answer of that name, which may be excused.
    """

    async def play() -> list[str]:
        weather = Weather(draws=Draws(0), faults={}, note=lambda *_: None)
        broker = Broker(weather)
        clients = Clients(weather, broker, excused=set(excused))
        for answer in answers:
            if answer == "a":
                clients.plan(Wish(at=0, tenant="north", correlation_id=ID, user="known-a"))
            else:
                body = json.dumps({"correlationId": ID, "status": "DONE"}).encode()
                tenant = names.HEADER_TENANT
                message = Message(body, headers={tenant: "north"}, message_id=answer)
                broker.publish(RESPONSES.exchange.name, message)
            await asyncio.sleep(1)
        return list(clients.miscounted())

    loop = SimulatedLoop(Random(0), disorder=0.0)
    try:
        return loop.run_until_complete(play())
    finally:
        loop.close()


@pytest.mark.parametrize(
    "answers",
    [
        "a1",
        "a11",  # told twice
        "a1a2",
        "aa1",  # the second has come while the first was under way
        "aa12",
    ],
)
def test_each_request_that_came_by_itself_has_an_answer(answers: str) -> None:
    assert told(*answers) == []


@pytest.mark.parametrize("answers", ["a1x", "ax1", "a1xa2", "a1ax2"])
def test_an_answer_that_is_excused_stands_for_no_request(answers: str) -> None:
    assert told(*answers, excused="x") == []
    assert len(told(*answers)) == 1


def test_an_answer_that_is_lost_is_not_hidden_by_one_that_is_excused() -> None:
    (wrong,) = told(*"a1xa", excused="x")
    assert wrong == (
        "north/c was asked for 2 times, 2 of them by itself, and answered 1 times; "
        "1 answers more are excused"
    )
    assert len(told(*"ax", excused="x")) == 1


def test_there_are_no_more_answers_than_requests() -> None:
    assert len(told(*"a12")) == 1
