"""What excuses a second answer to one request, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

import pytest
from aio_pika import Message

from app.delivery.ingress import ArrivalKind
from app.delivery.states import State
from app.store.memory.database import utc_now
from app.store.memory.rows import ArrivalRow, DeliveryRow, InboxRow
from streams.amqp import names
from streams.amqp.messages import _digest
from streams.channels import REQUESTS
from streams.events import RequestReceived
from tests.builders import make_arrival, make_delivery, make_message
from tests.simulation.copies import Copies
from tests.simulation.draws import Draws
from tests.simulation.postgres import PARTY, Change, SimulatedDatabase
from tests.simulation.processes import PROCESS, Process
from tests.simulation.rabbitmq import Stored
from tests.simulation.weather import Weather


def cut_off(worker: Process) -> None:
    worker.cut_off.add(PARTY)


UNABLE = (Process.freeze, Process.kill, cut_off)


class Course:
    """RabbitMQ gives a request, and gives it again; workers save it, and handle what is saved."""

    def __init__(self) -> None:
        weather = Weather(draws=Draws(0), faults={}, note=lambda *_: None)
        self.database = SimulatedDatabase(weather, now=utc_now)
        self.copies = Copies(self.database)
        self.stored = self._stored(b"{}")
        self.workers = [Process(f"w{number}") for number in range(3)]

    @staticmethod
    def _stored(body: bytes) -> Stored:
        message = Message(body, headers={names.HEADER_TENANT: "north"})
        return Stored.of(REQUESTS.exchange.name, "", message)

    def saved(self, by: Process, *, body: bytes | None = None) -> InboxRow:
        """Let a worker save what RabbitMQ gives it; return the receipt of who handles it."""
        stored = self.stored if body is None else self._stored(body)
        message = make_message(tenant="north", digest=_digest("north", stored.message))
        event = RequestReceived.read(message)
        arrival = make_arrival(message.ingress, key=event.key, value=event.encode())
        row = ArrivalRow(arrival=arrival, received_at=utc_now(), due_at=utc_now())
        self._commit(by, Change("arrival", None, row))
        return InboxRow(
            ingress_id=message.ingress.id,
            kind=ArrivalKind.REQUEST,
            digest=message.ingress.digest,
            flagged=False,
            arrived_at=row.received_at,
            counted=True,
            returned_at=None,
        )

    def forgotten(self, *workers: Process) -> None:
        """Let RabbitMQ restart, and forget that these had the message."""
        for worker in workers:
            self.copies.forgotten(self.stored, worker)

    def handled(self, receipt: InboxRow, *, by: Process | None = None, **changes: Any) -> bool:
        """Let a worker note a receipt; return whether what answers it is excused."""
        row = replace(receipt, **changes)
        self._commit(by or self.workers[2], Change("inbox", None, row))
        self.database.inbox.put(row.ingress_id, row)
        return self.is_excused(row.ingress_id)

    def is_excused(self, ingress_id: UUID) -> bool:
        return str(uuid5(ingress_id, "terminal")) in self.copies.answers

    def commit(self) -> None:
        """Let another worker commit anything."""
        self._commit(self.workers[2])

    def _commit(self, by: Process, *changes: Change) -> None:
        context = copy_context()
        context.run(PROCESS.set, by)
        context.run(self.copies.committing, changes)


async def excused(
    holder: Callable[[Process], object] = Process.freeze,
    *,
    forgotten: bool = True,
    known: dict[str, Any] | None = None,
    copy: dict[str, Any] | None = None,
) -> bool:
    """Return whether a copy that counts is excused, as of one that counted before."""
    course = Course()
    first, second, _ = course.workers
    course.handled(course.saved(first), **(known or {}))
    holder(first)
    if forgotten:
        course.forgotten(first)
    return course.handled(course.saved(second), **(copy or {}))


@pytest.mark.parametrize("holder", UNABLE)
async def test_who_can_not_note_a_return_excuses_its_copy(
    holder: Callable[[Process], object],
) -> None:
    assert await excused(holder)


async def test_nothing_else_excuses_a_copy() -> None:
    assert not await excused(repr)  # it could note it
    assert not await excused(forgotten=False)  # RabbitMQ told
    assert not await excused(known={"returned_at": utc_now()})  # it is noted
    assert not await excused(known={"counted": False})  # it is no second one
    assert not await excused(copy={"counted": False})
    assert not await excused(copy={"flagged": True})
    assert not await excused(copy={"kind": ArrivalKind.CANCEL})


async def test_what_rabbitmq_knew_to_be_given_before_excuses_nothing() -> None:
    course = Course()
    first, second, _ = course.workers
    course.stored.redelivered = True
    course.handled(course.saved(first))
    first.freeze()
    course.forgotten(first)
    assert not course.handled(course.saved(second))


@pytest.mark.parametrize("holder", UNABLE)
async def test_who_could_have_noted_a_return_before_it_went_excuses_nothing(
    holder: Callable[[Process], object],
) -> None:
    course = Course()
    first, second, _ = course.workers
    course.handled(course.saved(first))
    course.forgotten(first)
    course.commit()  # so it could have noted it then
    holder(first)
    assert not course.handled(course.saved(second))


async def test_who_went_before_postgresql_took_anything_excuses_a_copy() -> None:
    """Its note was on its way, or PostgreSQL was away until it was gone."""
    course = Course()
    first, second, _ = course.workers
    course.handled(course.saved(first))
    course.forgotten(first)
    first.kill()
    assert course.handled(course.saved(second))


@pytest.mark.parametrize("again", UNABLE)
async def test_who_could_note_a_return_in_between_excuses_nothing(
    again: Callable[[Process], object],
) -> None:
    course = Course()
    first, second, _ = course.workers
    course.handled(course.saved(first))
    first.freeze()
    course.forgotten(first)
    copy = course.saved(second)
    first.thaw()
    course.commit()
    again(first)
    assert not course.handled(copy)


@pytest.mark.parametrize("holder", UNABLE)
async def test_who_had_the_message_later_and_did_not_save_it_excuses_nothing(
    holder: Callable[[Process], object],
) -> None:
    """Its note would have been about nothing: the one about what counted was to be there."""
    course = Course()
    first, second, third = course.workers
    course.handled(course.saved(first))
    course.forgotten(first)
    holder(second)
    course.forgotten(second)
    assert not course.handled(course.saved(third))


@pytest.mark.parametrize("handled", [True, False])
async def test_it_is_the_last_one_of_which_something_was_handled_that_notes_a_return(
    *, handled: bool
) -> None:
    """A copy that was refused is given again: what was noted of the first one told of that copy."""
    course = Course()
    first, second, third = course.workers
    course.handled(course.saved(first))
    course.forgotten(first)
    copy = course.saved(second)
    second.freeze()
    if handled:
        course.handled(copy, counted=False)
    course.forgotten(second)
    assert course.handled(course.saved(third)) is handled


async def test_a_first_one_that_could_not_note_a_return_does_not_excuse_the_copy_of_its_copy() -> (
    None
):
    course = Course()
    first, second, third = course.workers
    course.handled(course.saved(first))
    first.freeze()
    course.forgotten(first)
    course.handled(course.saved(second), counted=False)
    course.forgotten(second)
    assert not course.handled(course.saved(third))


@pytest.mark.parametrize("saver_is_unable", [True, False])
async def test_whose_agent_handled_a_request_is_no_matter(*, saver_is_unable: bool) -> None:
    """It is not told what RabbitMQ gives again: that is who was given it, and saved it."""
    course = Course()
    saver, handler, third = course.workers
    course.handled(course.saved(saver), by=handler)
    (saver if saver_is_unable else handler).freeze()
    course.forgotten(saver)
    assert course.handled(course.saved(third)) is saver_is_unable


@pytest.mark.parametrize("unable", [0, 1])
async def test_of_one_that_its_copy_has_overtaken_its_own_return_was_to_be_noted(
    unable: int,
) -> None:
    course = Course()
    first, second, _ = course.workers
    original = course.saved(first)
    course.workers[unable].freeze()
    course.forgotten(first)
    course.handled(course.saved(second))
    assert course.handled(original) is (unable == 0)


async def test_one_that_is_given_again_to_the_same_worker_is_told_from_what_it_had_before() -> None:
    """What it could note of the first is met; of the second it could not."""
    course = Course()
    first, second, _ = course.workers
    course.handled(course.saved(first))
    course.forgotten(first)
    course.handled(course.saved(first), counted=False)
    first.freeze()
    course.forgotten(first)
    assert course.handled(course.saved(second))


@pytest.mark.parametrize("active", [True, False])
async def test_a_request_that_comes_while_the_delivery_of_a_copy_is_active_has_its_answer(
    *, active: bool
) -> None:
    """So there is one it is counted for."""
    course = Course()
    first, second, _ = course.workers
    course.handled(course.saved(first))
    first.freeze()
    course.forgotten(first)
    copy = course.saved(second)
    assert course.handled(copy)
    opened = make_delivery(
        id=copy.ingress_id, tenant="north", state=State.GRANTED if active else State.ERROR
    )
    now = utc_now()
    row = DeliveryRow(delivery=opened, rank=now, not_before=now, updated_at=now, state_since=now)
    course.database.deliveries.put(opened.id, row)
    assert not course.handled(course.saved(second, body=b'{"another": 1}'))
    assert course.is_excused(copy.ingress_id) is not active
