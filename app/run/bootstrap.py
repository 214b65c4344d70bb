"""The composition root: the one place where concrete adapters are named and wired."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass

import asyncpg
from aio_pika.abc import AbstractRobustConnection

from app.delivery.ports import Users
from app.errors import BrokerUnavailableError, ConfigurationError
from app.run.configured import ConfigurationParts, open_configuration
from app.run.database import open_migrated
from app.run.topics import make_topics
from app.settings import Settings
from app.store import PostgresArrivals, PostgresStore
from app.telemetry.logs import get_logger
from app.telemetry.metrics import TARGET_UP
from app.waiting.signals import Signal
from sinks.stores.s3.store import S3Sink, open_sink
from streams.amqp.line import line_of
from streams.amqp.publisher import AmqpPublisher, connect, open_publisher
from streams.amqp.topology import topology_of
from streams.kafka.log import EventLog, open_event_log
from streams.kafka.topic_check import differences
from streams.regards.orders import RsOrder, open_session
from streams.regards.resume import Resumption
from streams.regards.tokens import TokenSigner
from streams.regards.users import AnyUser, RsAdmin

log = get_logger(__name__)

CHECKS = 4  # users that a worker asks about at once
PLANS = 4  # listings that a worker reads at once


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything that is open while a worker runs."""

    settings: Settings
    pool: asyncpg.Pool
    store: PostgresStore
    arrivals: PostgresArrivals
    owed: Signal
    connection: AbstractRobustConnection
    publisher: AmqpPublisher
    events: EventLog
    source: RsOrder
    sink: S3Sink
    configuration: ConfigurationParts
    users: Users


@contextlib.asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Open every connection, migrate the database, declare queues and topics; close all at the end.

    Raises ConfigurationError naming what can't be reached.
    """
    if not settings.rs_order_token_secret.get_secret_value():
        raise ConfigurationError(
            "DELIVERY_RS_ORDER_TOKEN_SECRET is not set: give the secret that rs-order checks "
            "tokens with"
        )
    async with contextlib.AsyncExitStack() as stack:
        # First: a migration that takes minutes must not begin anew for the silence of others.
        pool = await stack.enter_async_context(open_migrated(settings))
        arrivals = PostgresArrivals(pool, allowance=settings.event_duration)
        amqp = await stack.enter_async_context(contextlib.AsyncExitStack())
        kafka = await stack.enter_async_context(contextlib.AsyncExitStack())

        async def reach_rabbitmq() -> tuple[AbstractRobustConnection, AmqpPublisher]:
            connection = await amqp.enter_async_context(
                connect(line_of(settings), start_timeout=settings.start_timeout)
            )
            publisher = await amqp.enter_async_context(
                open_publisher(connection, topology=topology_of(settings))
            )
            return connection, publisher

        async def reach_kafka() -> EventLog:
            await make_topics(settings, pool, arrivals)
            group.create_task(_look_at_topics(settings))
            return await kafka.enter_async_context(open_event_log(settings))

        async with _side_by_side() as group:
            rabbitmq = group.create_task(reach_rabbitmq())
            log_of_events = group.create_task(reach_kafka())
            configured = group.create_task(open_configuration(settings, pool))
        connection, publisher = rabbitmq.result()
        events = log_of_events.result()
        session = await stack.enter_async_context(
            open_session(stall_timeout=settings.source_stall_timeout, ca=settings.http_ca)
        )
        signer = TokenSigner(
            settings.rs_order_token_secret.get_secret_value(), ttl=settings.rs_order_token_ttl
        )
        sink = await stack.enter_async_context(
            open_sink(up=TARGET_UP, ca=settings.s3_ca, hosts=settings.allowed_hosts)
        )
        sink.breakers.in_use = configured.result().tenants.targets
        owed = Signal()
        yield Services(
            settings=settings,
            pool=pool,
            store=PostgresStore(pool, owed),
            arrivals=arrivals,
            owed=owed,
            connection=connection,
            publisher=publisher,
            events=events,
            source=RsOrder(
                session,
                signer,
                url=settings.rs_order_url,
                page_size=settings.available_files_bulk_size,
                stall_timeout=settings.source_stall_timeout,
                resumption=Resumption(
                    tries=settings.source_resume_tries,
                    pause=settings.retry_backoff,
                    longest=settings.retry_backoff_max,
                ),
            ),
            sink=sink,
            configuration=configured.result(),
            users=RsAdmin(session, signer, url=settings.rs_admin_url)
            if settings.rs_admin_url
            else AnyUser(),
        )


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


async def _look_at_topics(settings: Settings) -> None:
    """Tell the operator what is not as the settings ask for; work goes on meanwhile."""
    try:
        found = await differences(settings)
    except BrokerUnavailableError as error:
        log.warning("topics_not_checked", cause=str(error))
        return
    for one in found:
        log.warning("topic_differs", **asdict(one))
