"""The Faust agents: decode an event, call one use-case, done.

An event is acknowledged, and so its offset committed, after its handler has returned, that is
after the use-case's transaction is committed, or after the event is confirmed on the dead-letter
topic; and after the same is true of all events before it in its partition (`streams.dispatch`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from app.errors import DeliveryError, InvalidRequestError, RetryableError, UnreadableMessageError
from app.logs import get_logger
from app.model import State
from app.ports import Store, Tenants, Users
from app.requests import parse_request
from app.signals import Signal
from app.usecases.order_progress import order_progressed
from app.usecases.submit import deny, receive
from streams.dispatch import Dispatcher, Pending
from streams.events import decode_order_event, decode_request
from streams.kafka import EventLog

log = get_logger(__name__)

Handler = Callable[[bytes], Awaitable[None]]

_TRIES = 5  # of an event whose handling fails in a way that nobody foresaw
_LONGEST_WAIT = 10.0  # seconds
_CONCURRENCY = 4  # events that an agent handles at once; each holds a connection to PostgreSQL


def submit_handler(*, store: Store, tenants: Tenants, users: Users, checks: Signal) -> Handler:
    """Handle `delivery.requests`. `checks` is notified when there is a user to ask about."""

    async def handle(value: bytes) -> None:
        event = decode_request(value)
        try:
            request = parse_request(event.body)
        except InvalidRequestError as error:
            await deny(event.receipt, str(error), store=store)
            return
        state = await receive(event.receipt, request, store=store, tenants=tenants, users=users)
        if state is State.RECEIVED:
            checks.notify()

    return handle


def order_event_handler(*, store: Store) -> Handler:
    """Handle `delivery.order-events`."""

    async def handle(value: bytes) -> None:
        await order_progressed(decode_order_event(value), store=store)

    return handle


def wake_handler(signal: Signal) -> Handler:
    """Handle `delivery.orders-ready` and `delivery.transfers`: there is work to claim."""

    async def handle(_value: bytes) -> None:
        signal.notify()

    return handle


def agent(handler: Handler, *, events: EventLog) -> Callable[[Any], Awaitable[None]]:
    """Make a Faust agent of a handler."""

    async def run(stream: Any) -> None:
        topic = stream.channel.get_topic_name()

        async def handle(key: bytes, value: bytes) -> None:
            await process(key, value, topic=topic, handler=handler, events=events)

        dispatcher = Dispatcher(handle, concurrency=_CONCURRENCY)
        async with dispatcher.running():
            async for event in stream.noack().events():
                await dispatcher.put(
                    Pending(
                        key=event.key or b"",
                        value=event.value or b"",
                        partition=event.message.tp,
                        acknowledge=event.ack,
                    )
                )

    return run


async def process(
    key: bytes, value: bytes, *, topic: str, handler: Handler, events: EventLog
) -> None:
    """Handle one event until it is handled: an exception that left here would skip it."""
    unforeseen = 0
    wait = 0.2
    while True:
        try:
            await handler(value)
        except UnreadableMessageError as error:
            await _dead_letter(key, value, topic=topic, reason=str(error), events=events)
            return
        except RetryableError as error:
            log.warning("event_waits", topic=topic, key=key.decode(), cause=str(error))
        except Exception as error:
            unforeseen += 1
            log.exception("event_failed", topic=topic, key=key.decode(), tries=unforeseen)
            if unforeseen >= _TRIES:
                await _dead_letter(key, value, topic=topic, reason=repr(error), events=events)
                return
        else:
            return
        await asyncio.sleep(wait)
        wait = min(wait * 2, _LONGEST_WAIT)


async def _dead_letter(
    key: bytes, value: bytes, *, topic: str, reason: str, events: EventLog
) -> None:
    log.error("event_dead_lettered", topic=topic, key=key.decode(errors="replace"), reason=reason)
    headers = [("origin-topic", topic.encode()), ("reason", reason.encode())]
    while True:
        try:
            await events.append(events.topics.dead_letters, key=key, value=value, headers=headers)
        except DeliveryError as error:
            log.warning("dead_letter_waits", cause=str(error))
            await asyncio.sleep(1)
        else:
            return
