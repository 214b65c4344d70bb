"""Acknowledgements that RabbitMQ may not have read."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from aio_pika.exceptions import ChannelInvalidStateError

from streams.amqp.acknowledgements import Unheard, is_answered


def test_what_was_acknowledged_counts_as_read_after_two_answers() -> None:
    unheard = Unheard()
    first, second = uuid4(), uuid4()
    unheard.sent(first)
    unheard.answered()
    unheard.sent(second)
    assert unheard
    unheard.answered()
    assert unheard.lost() == [second]
    assert not unheard


def test_what_is_lost_is_told_once() -> None:
    unheard = Unheard()
    sent = [uuid4(), uuid4()]
    unheard.sent(sent[0])
    unheard.answered()
    unheard.sent(sent[1])
    assert unheard.lost() == sent
    assert unheard.lost() == []


async def _ended(error: BaseException | None) -> None:
    if error is not None:
        raise error


@pytest.mark.parametrize(
    ("error", "answered"),
    [
        (None, True),
        (ChannelInvalidStateError("closed"), False),
        (asyncio.CancelledError("the connection is stuck"), False),
    ],
    ids=["answered", "closed", "stuck"],
)
async def test_a_question_that_ends_with_its_connection_is_not_answered(
    error: BaseException | None, *, answered: bool
) -> None:
    assert await is_answered(_ended(error)) is answered


async def test_who_is_cancelled_while_a_question_is_open_is_cancelled() -> None:
    asked = asyncio.Event()

    async def question() -> None:
        asked.set()
        await asyncio.Event().wait()

    asking = asyncio.create_task(is_answered(question()))
    await asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
