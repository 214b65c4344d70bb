"""What excuses a second answer to one request, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid5

import pytest
from aio_pika import Message

from app.delivery.ingress import ArrivalKind
from app.store.memory.database import utc_now
from app.store.memory.rows import InboxRow
from streams.amqp import names
from streams.amqp.messages import _digest
from streams.channels import REQUESTS
from tests.simulation.copies import Copies
from tests.simulation.draws import Draws
from tests.simulation.postgres import PARTY, Change, SimulatedDatabase
from tests.simulation.processes import Process
from tests.simulation.rabbitmq import Stored
from tests.simulation.weather import Weather

COPY = UUID(int=2)


def cut_off(process: Process) -> None:
    process.cut_off.add(PARTY)


async def excused(
    holder: Callable[[Process], object] = Process.freeze,
    *,
    forgotten: bool = True,
    known: dict[str, object] | None = None,
    copy: dict[str, object] | None = None,
) -> set[str]:
    """Return what is excused of a copy that counts, as of one that counted before."""
    weather = Weather(draws=Draws(0), faults={}, note=lambda *_: None)
    database = SimulatedDatabase(weather, now=utc_now)
    copies = Copies(database)
    message = Message(b"{}", headers={names.HEADER_TENANT: "north"})
    stored = Stored.of(REQUESTS.exchange.name, "", message)
    process = Process("w0")
    if forgotten:
        copies.forgotten(stored, process)
    holder(process)
    first = InboxRow(
        ingress_id=UUID(int=1),
        kind=ArrivalKind.REQUEST,
        digest=_digest("north", stored.message),
        flagged=False,
        arrived_at=utc_now(),
        counted=True,
        returned_at=None,
    )
    second = replace(first, ingress_id=COPY, arrived_at=first.arrived_at + timedelta(seconds=9))
    database.inbox.put(first.ingress_id, replace(first, **(known or {})))  # type: ignore[arg-type]
    copies.committing([Change("inbox", None, replace(second, **(copy or {})))])  # type: ignore[arg-type]
    return copies.answers


@pytest.mark.parametrize("holder", [Process.freeze, Process.kill, cut_off])
async def test_who_can_not_note_a_return_excuses_its_copy(
    holder: Callable[[Process], object],
) -> None:
    assert await excused(holder) == {str(uuid5(COPY, "terminal"))}


async def test_nothing_else_excuses_a_copy() -> None:
    assert not await excused(repr)  # it could note it
    assert not await excused(forgotten=False)  # RabbitMQ told
    assert not await excused(known={"returned_at": utc_now()})  # it is noted
    assert not await excused(known={"counted": False})  # it is no second one
    assert not await excused(copy={"counted": False})
    assert not await excused(copy={"flagged": True})
    assert not await excused(copy={"kind": ArrivalKind.CANCEL})
