"""What is open in a worker, and what its work is plugged with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from aio_pika.abc import AbstractRobustConnection

from app.delivery.attempts import Archived
from app.delivery.notices import Tell, of_dead_letters, silent
from app.delivery.outgoing import Lane, OutgoingMessage
from app.delivery.ports import Archiver, OrderSource
from app.delivery.progress import to_all
from app.delivery.states import Work
from app.errors import ConfigurationError
from app.run.wiring.amqp import open_amqp
from app.run.wiring.database import open_migrated
from app.run.wiring.dead_letters import dead_letter_sweep
from app.run.wiring.formats import formats_of, memory_lack_of
from app.run.wiring.kafka import make_topics, open_events
from app.run.wiring.regards import open_regards, signer_of
from app.run.wiring.services import Services
from app.run.wiring.targets import open_targets
from app.run.wiring.tenants import open_configuration
from app.settings import Settings
from app.tenants.secret_rules import require_token_secret
from app.usecases.bury import keeper
from app.usecases.notices import Notices
from app.usecases.tell_progress import ProgressTeller
from app.waiting.patience import Patience
from app.waiting.wakeup import Wakeup
from sinks.pipeline.budget import Budget
from sinks.transfer import StreamingArchiver
from streams.amqp.dead_letters import count_dead_letters
from streams.amqp.names import DEAD_LETTER_QUEUE
from streams.amqp.notices import publish as publish_notice
from streams.amqp.parameters import parameters_of
from streams.amqp.progress import ProgressPublisher
from streams.amqp.publisher import AmqpPublisher
from streams.amqp.topology import topology_of
from streams.bridge import Bridge
from streams.kafka.faust_app import create_app
from streams.kafka.hints import publishing_hints
from streams.kafka.lag import ConsumerLag
from streams.kafka.log import EventLog
from streams.kafka.progress import ProgressReporter
from streams.kafka.supervisor import Consumer
from streams.kafka.topic_check import warn_of_differences
from streams.operators.dead_letter_sweep import DeadLetterSweep

_LINES = 1  # connections that are held always: work is heard of by it

Publish = Callable[[OutgoingMessage], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class WorkerServices(Services):
    """Everything that is open while a worker runs."""

    connection: AbstractRobustConnection
    publisher: AmqpPublisher
    events: EventLog
    source: OrderSource
    tell: Tell  # operators, what they must act on
    progress: ProgressTeller
    archived: Archived  # by each transfer under way

    @property
    def routes(self) -> Sequence[tuple[Lane, Publish]]:
        """What sends the messages of each lane of the outbox."""
        return (
            (Lane.RESPONSES, self.links.told_by(self.publisher.publish)),
            (Lane.ORDERS, self.publisher.publish),
            (Lane.EVENTS, self.events.publish),
        )

    def bridge(self) -> Bridge:
        """Return what carries messages from RabbitMQ to Kafka."""
        settings = self.settings
        return Bridge(
            connection=self.connection,
            publisher=self.publisher,
            events=self.events,
            arrivals=self.database.arrivals,
            tenants=self.configuration.tenants,
            topology=topology_of(settings),
            prefetch=settings.request_bulk_size,
            max_bytes=settings.max_message_bytes,
            parameters=parameters_of(settings),
            keep=keeper(self.database.dead_letters),
        )

    def consumer(self, *, wake: Mapping[Work, Wakeup]) -> Consumer:
        """Return what runs the agents; `wake` is notified of work that may be due."""
        # Made again whenever the one before has crashed.
        make = partial(
            create_app,
            self.settings,
            store=self.database.store,
            arrivals=self.database.arrivals,
            tenants=self.configuration.tenants,
            users=self.users,
            events=self.events,
            wake=wake,
            keep=keeper(self.database.dead_letters),
        )
        return Consumer(
            make=make,
            lag=ConsumerLag(self.settings),
            make_topics=partial(make_topics, self.database),
            stuck_after=self.settings.kafka_stuck_after,
            rebalance_timeout=self.settings.kafka_rebalance_timeout,
        )

    def archiver(self, *, memory: Budget, patience: Patience) -> Archiver:
        """Return what streams files into archives, within the memory that the work shares."""
        settings = self.settings
        return StreamingArchiver(
            self.source,
            self.objects,
            to_all(
                ProgressReporter(self.events).report, self.progress.report, self.archived.report
            ),
            compression=settings.compression,
            part_size=settings.part_size,
            memory=settings.transfer_memory,
            worker_memory=memory,
            max_object_size=settings.max_object_size,
            connections=settings.source_connections,
            patience=patience,
            formats=formats_of(settings),
        )

    @cached_property
    def _dead_letters(self) -> DeadLetterSweep:
        return dead_letter_sweep(self.database)

    async def sweep_dead_letters(self) -> None:
        """Keep what was buried without being kept."""
        await self._dead_letters.sweep(self.connection, self.events)

    async def count_dead_letters(self) -> None:
        """Measure how many dead letters there are, and tell operators of ours."""
        found = await count_dead_letters(self.connection)
        found.pop(DEAD_LETTER_QUEUE, None)  # other services', too
        for tenant in self.configuration.tenants.names:
            notice = of_dead_letters(tenant, found)
            if notice is not None:
                self.tell(notice)


@contextlib.asynccontextmanager
async def open_worker_services(settings: Settings) -> AsyncIterator[WorkerServices]:
    """Open every connection, migrate the database, declare queues and topics; close all at the end.

    Raises ConfigurationError naming what can't be reached.
    """
    require_token_secret(settings)
    require_memory(settings)
    async with contextlib.AsyncExitStack() as stack:
        # First: a migration that takes minutes must not begin again for the silence of others.
        database = await stack.enter_async_context(open_migrated(settings, lines=_LINES))
        amqp = await stack.enter_async_context(contextlib.AsyncExitStack())
        kafka = await stack.enter_async_context(contextlib.AsyncExitStack())

        async def reach_kafka() -> EventLog:
            await make_topics(database)
            group.create_task(warn_of_differences(settings))
            return await kafka.enter_async_context(open_events(settings))

        async with _side_by_side() as group:
            rabbitmq = group.create_task(amqp.enter_async_context(open_amqp(settings)))
            events = group.create_task(reach_kafka())
            configured = group.create_task(open_configuration(settings, database.pool))
        connection, publisher = rabbitmq.result()
        configuration = configured.result()
        await configuration.configure.refer_to_the_deployments_key()
        signer = signer_of(settings)
        source, users = await stack.enter_async_context(open_regards(settings, signer))
        objects = await stack.enter_async_context(
            open_targets(settings, in_use=configuration.tenants.targets)
        )
        told_over_amqp = ProgressTeller(
            wanted=configuration.tenants.progress_events,
            deliveries=database.tracking,
            listeners=ProgressPublisher(connection, topology=topology_of(settings)),
        )
        hints = await stack.enter_async_context(publishing_hints(events.result()))
        yield WorkerServices(
            database=replace(database, hinted=hints.send),
            configuration=configuration,
            objects=objects,
            users=users,
            signer=signer,
            connection=connection,
            publisher=publisher,
            events=events.result(),
            source=source,
            tell=await stack.enter_async_context(_notices(settings, publisher)),
            progress=told_over_amqp,
            archived=Archived(),
        )


@contextlib.asynccontextmanager
async def _notices(settings: Settings, publisher: AmqpPublisher) -> AsyncIterator[Tell]:
    """Give what tells operators what they must act on: nothing, where no role is set."""
    if not settings.notice_roles:
        yield silent
        return
    send = partial(publish_notice, publisher=publisher, roles=settings.notice_roles)
    notices = Notices(send, interval=settings.notice_interval)
    try:
        yield notices.tell
    finally:
        await notices.close()


def require_memory(settings: Settings) -> None:
    """Raise ConfigurationError unless a worker can make archives of every format."""
    lack = memory_lack_of(settings)
    if lack is not None:
        raise ConfigurationError(lack)


@contextlib.asynccontextmanager
async def _side_by_side() -> AsyncIterator[asyncio.TaskGroup]:
    """Give a group of tasks. Raises what the first one of them raised that failed."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except ExceptionGroup as failures:
        first = failures.exceptions[0]
    else:
        return
    raise first
