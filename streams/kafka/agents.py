"""The Faust agents: decode an event, call one use-case, done.

An event is acknowledged, and so its offset committed, after its handler has returned, that is
after the use-case's transaction is committed, or after the event is confirmed on the dead-letter
topic; and after the same is true of all events before it in its partition (`dispatch`).

A client that can write to a topic can name any tenant: one that is not served here is refused, as
the bridge refuses it. (The events that wake only say that there may be work; what it is, and whose,
is in PostgreSQL.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

from app.delivery.orders import OrderStatus
from app.delivery.ports import Arrivals, DeliveryStore, Users
from app.delivery.states import Work
from app.encoding import is_crowded
from app.errors import DeliveryError, RetryableError, UnreadableMessageError
from app.telemetry.logs import get_logger
from app.telemetry.metrics import EVENTS_DEAD_LETTERED
from app.tenants.registry import ConfiguredTenants
from app.usecases.bury import Keep, keep_nowhere
from app.usecases.intervene import apply_cancel
from app.usecases.order_progress import END_FOLLOWS, order_progressed
from app.usecases.submit import receive
from app.waiting.backoff import Backoff
from app.waiting.wakeup import Wakeup
from streams import channels
from streams.channels import Channel
from streams.events import (
    Arrived,
    CancelRequested,
    OrderProgressed,
    RequestReceived,
    WorkDue,
    check_tenant,
    ingress_id_of,
)
from streams.kafka.dispatch import Dispatcher, PendingEvent
from streams.kafka.kept_letters import kept_of
from streams.kafka.log import EventLog

log = get_logger(__name__)

_Event = TypeVar("_Event", bound=Arrived)

_MAX_TRIES = 5  # of an event whose handling fails in an unforeseen way
_BACKOFF = Backoff(first=0.2, longest=10.0)
_PLANS_AFTER = END_FOLLOWS.total_seconds() + 0.1  # seconds
_MAX_REASON = 500  # characters; with it, an event must still fit where it fitted without


@dataclass(frozen=True, kw_only=True)
class Dependencies:
    """What use-cases are called with."""

    store: DeliveryStore
    tenants: ConfiguredTenants
    users: Users
    wake: Mapping[Work, Wakeup]  # notified of work that may be due


async def submit(values: Sequence[bytes], to: Dependencies) -> None:
    """Grant or deny requests."""
    messages = []
    for value in values:
        await asyncio.sleep(0)  # a batch of large ones takes long: leases are renewed meanwhile
        messages.append((await _read(RequestReceived, value, to.tenants)).message)
    await receive(
        messages,
        store=to.store,
        tenants=to.tenants,
        users=to.users,
        checks=to.wake[Work.CHECK],
    )


async def follow_orders(values: Sequence[bytes], to: Dependencies) -> None:
    """Move deliveries on by what rs-order says."""
    for value in values:
        event = await _read(OrderProgressed, value, to.tenants)
        settings = to.tenants.settings(event.tenant)
        await order_progressed(
            event.order_event,
            store=to.store,
            max_suborders=settings.max_suborders,
            reports=settings.report,
        )
        if event.status is OrderStatus.SUBORDER_DONE and event.total_suborders != 1:
            # It is laid out then, unless its end follows at once, which is an event, too.
            asyncio.get_running_loop().call_later(_PLANS_AFTER, to.wake[Work.PLAN].notify)


async def cancel(values: Sequence[bytes], to: Dependencies) -> None:
    """End deliveries that clients have no more use for."""
    for value in values:
        event = await _read(CancelRequested, value, to.tenants)
        await apply_cancel(event.cancel, store=to.store)


async def wake_planners(values: Sequence[bytes], to: Dependencies) -> None:
    """Let this worker look for archives to lay out; it would look by itself, too."""
    _wake(to.wake[Work.PLAN], values)


async def wake_transfers(values: Sequence[bytes], to: Dependencies) -> None:
    """Let this worker look for archives to transfer; it would look by itself, too."""
    _wake(to.wake[Work.TRANSFER], values)


def _wake(work: Wakeup, values: Sequence[bytes]) -> None:
    """Wake, unless PostgreSQL did so: a claim that follows both finds nothing the second time."""
    if not all(_was_notified(value) for value in values):
        work.notify()


def _was_notified(value: bytes) -> bool:
    try:
        return WorkDue.decode(value).notified
    except UnreadableMessageError:  # a look too many does no harm
        return False


# Each handles a batch of events, each of another key; all of them, or it raises.
HANDLERS: Mapping[Channel, Callable[[Sequence[bytes], Dependencies], Awaitable[None]]] = {
    channels.REQUESTS: submit,
    channels.ORDER_RESPONSES: follow_orders,
    channels.CANCELS: cancel,
    channels.ORDERS_READY: wake_planners,
    channels.TRANSFERS: wake_transfers,
}

Handler: TypeAlias = Callable[[Sequence[bytes]], Awaitable[None]]


def handler_of(channel: Channel, dependencies: Dependencies) -> Handler:
    """Return what handles the events of a channel."""
    handle = HANDLERS[channel]
    return lambda values: handle(values, dependencies)


async def _read(model: type[_Event], value: bytes, tenants: ConfiguredTenants) -> _Event:
    """Read an event of a tenant that is served here. Raises UnreadableMessageError."""
    if is_crowded(value):
        event = await asyncio.to_thread(model.decode, value)
    else:
        event = model.decode(value)
    check_tenant(event, tenants, requeue="delivery dlt requeue")
    return event


def agent(
    handler: Handler,
    *,
    events: EventLog,
    arrivals: Arrivals,
    register: Callable[[Dispatcher], object],
    crash: Callable[[BaseException], Awaitable[None]],
    concurrency: int,
    batch: int,
    keep: Keep = keep_nowhere,
) -> Callable[[Any], Awaitable[None]]:
    """Make a Faust agent of a handler, which runs `concurrency` batches at once.

    Few at once make large batches: what arrives meanwhile is in the next. What is held in memory is
    made known by `register`. An unforeseen error crashes the whole app, which is replaced and reads
    the event again: Faust would restart the agent behind it.
    """

    async def run(stream: Any) -> None:
        topic = stream.channel.get_topic_name()

        async def handle(batch: Sequence[PendingEvent]) -> None:
            await process(
                batch,
                topic=topic,
                handler=handler,
                events=events,
                arrivals=arrivals,
                keep=keep,
            )

        dispatcher = Dispatcher(handle, concurrency=concurrency, batch=batch)
        register(dispatcher)
        try:
            async with dispatcher.running():
                async for event in stream.noack().events():
                    await dispatcher.put(
                        PendingEvent(
                            key=event.key or b"",
                            value=event.value or b"",
                            partition=event.message.tp,
                            acknowledge=event.ack,
                        )
                    )
        except Exception as error:
            log.exception("agent_failed", topic=topic)
            await crash(error)
            raise

    return run


async def process(
    batch: Sequence[PendingEvent],
    *,
    topic: str,
    handler: Handler,
    events: EventLog,
    arrivals: Arrivals,
    tries: int = _MAX_TRIES,
    keep: Keep = keep_nowhere,
) -> None:
    """Handle events until they are handled: an exception that left here would skip them.

    One whose handling fails `tries` times in an unforeseen way becomes a dead letter. When
    a batch fails in another way than by an outage, its halves are handled one after the other, so
    that a bad event takes no other with it, and costs a hundred good ones few transactions.
    """
    unforeseen = 0
    for pause in _BACKOFF.pauses():
        try:
            await handler([event.value for event in batch])
        except RetryableError as error:
            log.warning("events_wait", topic=topic, events=len(batch), cause=str(error))
        except Exception as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                for half in (batch[:middle], batch[middle:]):
                    await process(
                        half,
                        topic=topic,
                        handler=handler,
                        events=events,
                        arrivals=arrivals,
                        tries=tries,
                        keep=keep,
                    )
                return
            (event,) = batch
            if isinstance(error, UnreadableMessageError):
                reason = str(error)
                break
            unforeseen += 1
            log.exception("event_failed", topic=topic, key=_text(event.key), tries=unforeseen)
            if unforeseen >= tries:
                reason = repr(error)
                break
        else:
            return
        await asyncio.sleep(pause)
    await publish_dead_letter(event, topic=topic, reason=reason, events=events, keep=keep)
    await _forget(event, arrivals=arrivals)


async def _forget(event: PendingEvent, *, arrivals: Arrivals) -> None:
    """Have the event appended no more: it is where an operator finds it."""
    ingress_id = ingress_id_of(event.value)
    if ingress_id is None:
        return
    try:
        await arrivals.forget([ingress_id])
    # It comes again, and ends here again.
    except RetryableError as error:
        log.warning("arrival_kept", key=_text(event.key), cause=str(error))
    except Exception:
        log.exception("arrival_kept", key=_text(event.key))


def _text(key: bytes) -> str:
    return key.decode(errors="replace")


async def publish_dead_letter(
    event: PendingEvent,
    *,
    topic: str,
    reason: str,
    events: EventLog,
    keep: Keep = keep_nowhere,
) -> None:
    """Put an event of `topic` where operators find it; wait while Kafka is away.

    Once it is confirmed there, it is kept beside it, too, if PostgreSQL answers.
    """
    EVENTS_DEAD_LETTERED.labels(topic).inc()
    log.error("event_dead_lettered", topic=topic, key=_text(event.key), reason=reason)
    dead = events.topics.of(channels.DEAD_LETTERS)
    headers: list[tuple[str, bytes]] | None = [
        ("origin-topic", topic.encode()),
        ("reason", reason[:_MAX_REASON].encode()),
    ]
    for pause in _BACKOFF.pauses():
        try:
            copy = await events.append(dead, key=event.key, value=event.value, headers=headers)
        except UnreadableMessageError:
            headers = None  # it fits only as it came; the reason is in the log
        except DeliveryError as error:
            log.warning("dead_letter_waits", retry_in_seconds=pause, cause=str(error))
            await asyncio.sleep(pause)
        else:
            letter = kept_of(
                topic=topic,
                key=event.key,
                value=event.value,
                reason=reason[:_MAX_REASON],
                at=datetime.now(UTC),
                copies=[copy],
            )
            await keep(letter)
            return
