"""RabbitMQ, Kafka, rs-order and rs-admin, as `delivery doctor` looks at them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aio_pika
import aiohttp
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity
from aiokafka.errors import KafkaError
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed

from app.errors import ConfigurationError, DeliveryError
from app.network.https import connector_of, said, trust
from app.settings import Settings
from app.views.findings import Finding, bad, good
from streams.amqp import names
from streams.amqp.parameters import AmqpParameters, parameters_of
from streams.amqp.publisher import ADVICE
from streams.amqp.rights_probe import missing_optional_rights, missing_rights
from streams.amqp.topology import Topology, topology_of
from streams.channels import INCOMING
from streams.kafka.brokers import cause_of
from streams.kafka.lag import ConsumerLag
from streams.kafka.refusals import REFUSALS
from streams.kafka.topic_check import differences
from streams.kafka.topics import Topics, partitions_of
from streams.regards.tokens import TokenSigner

_MAX_CLOCK_SKEW = 5.0  # seconds that clocks may differ: an HTTP date has whole ones
_MAX_LAG = 1000  # events that a group may be behind
_TIMEOUT = aiohttp.ClientTimeout(total=5)


async def check_rabbitmq(settings: Settings) -> AsyncIterator[Finding]:
    """Look at reachability, exchanges, queues, their arguments and readers, and dead letters."""
    part = "rabbitmq"
    try:
        parameters = parameters_of(settings)
        connection = await _connection(parameters)
    except ConfigurationError as error:
        yield bad(part, "certificates", str(error), "see DELIVERY_AMQP_CA and its neighbours")
        return
    except CONNECTION_EXCEPTIONS as error:
        told = f"no connection to {parameters.place} ({parameters.explain(error)})"
        yield bad(part, "reachable", told, ADVICE)
        return
    async with connection:
        assert connection.transport is not None  # noqa: S101 - it is open
        version = connection.transport.connection.server_properties.get("version", "unknown")
        yield good(part, "version", str(version))
        missing = [name for name in names.EXCHANGES if not await _has_exchange(connection, name)]
        if missing:
            yield bad(
                part,
                "exchanges",
                f"missing: {', '.join(missing)}",
                "start a worker once: it declares them; or, where DELIVERY_AMQP_DECLARE is off, "
                "run `delivery topology apply` as a user that may",
            )
        else:
            yield good(part, "exchanges", f"all {len(names.EXCHANGES)} are there")
        yield await _rights(connection, topology_of(settings))
        for channel in INCOMING:
            yield await _queue(connection, channel.queue.name, settings)
            yield await _dead(connection, names.dead_letters_of(channel.queue.name))


async def _connection(parameters: AmqpParameters) -> AbstractConnection:
    connection = aio_pika.Connection(**parameters.arguments)
    try:
        await connection.connect(timeout=5)
    except BaseException:
        # One that failed is closed, too: aio-pika would make the closing when it is collected, in
        # whatever thread that is.
        await connection.close()
        raise
    return connection


async def _rights(connection: AbstractConnection, topology: Topology) -> Finding:
    missing = await missing_rights(connection, topology)
    if missing:
        return bad(
            "rabbitmq",
            "rights",
            f"the user of DELIVERY_AMQP_URL lacks {', '.join(missing)}",
            "`delivery topology permissions USER` prints the command that grants all",
        )
    return good("rabbitmq", "rights", "the user has all that the service needs")


async def check_progress(settings: Settings, tenants: Sequence[str]) -> AsyncIterator[Finding]:
    """Look whether clients of tenants that have `progress_events` can be told."""
    if not tenants:
        return
    part, check = "rabbitmq", "progress"
    try:
        parameters = parameters_of(settings)
        connection = await _connection(parameters)
    except (ConfigurationError, *CONNECTION_EXCEPTIONS):
        return  # that is told
    async with connection:
        topology = topology_of(settings)
        for name in names.OPTIONAL_EXCHANGES:
            if await _has_exchange(connection, name):
                continue
            if topology.declares:
                told = "a worker makes its exchange when there is something to tell"
                yield good(part, check, f"{_of(tenants)} progress_events on; {told}")
            else:
                yield bad(
                    part,
                    check,
                    f"exchange {name} is missing, and {_of(tenants)} progress_events on",
                    "run `delivery topology apply` as a user that may declare it",
                )
            return
        missing = await missing_optional_rights(connection, topology)
        if missing:
            yield bad(
                part,
                check,
                f"{_of(tenants)} progress_events on, and the user of DELIVERY_AMQP_URL lacks "
                f"{', '.join(missing)}",
                "`delivery topology permissions USER` prints the command that grants all",
            )
        else:
            yield good(part, check, f"{_of(tenants)} progress_events on, and can be told")


def _of(tenants: Sequence[str]) -> str:
    return f"{', '.join(tenants)} {'has' if len(tenants) == 1 else 'have'}"


async def _has_exchange(connection: AbstractConnection, name: str) -> bool:
    channel = await connection.channel()
    try:
        await channel.get_exchange(name, ensure=True)
    except ChannelNotFoundEntity:
        return False
    await channel.close()
    return True


def _missing(short: str, name: str) -> Finding:
    advice = "start a worker once: it declares it"
    return bad("rabbitmq", f"queue {short}", f"{name} is missing", advice)


async def _queue(connection: AbstractConnection, name: str, settings: Settings) -> Finding:
    part, short = "rabbitmq", name.rpartition(".")[2]
    channel = await connection.channel()
    try:
        queue = await channel.declare_queue(name, passive=True)
    except ChannelNotFoundEntity:
        return _missing(short, name)
    told = queue.declaration_result
    topology = topology_of(settings)
    try:
        if topology.declares:
            # It is there, so this creates nothing: other arguments are refused, and named.
            await channel.declare_queue(name, durable=True, arguments=topology.arguments(name))
    except ChannelAccessRefused:
        return bad(part, f"queue {short}", "it can't be compared", "see what is said of rights")
    except ChannelPreconditionFailed as error:
        return bad(
            part,
            f"queue {short}",
            f"{name} has other arguments: {error}",
            "delete it once it is empty (a worker declares it again), or correct "
            "DELIVERY_AMQP_QUEUE_TYPE",
        )
    waiting = f"{told.message_count} messages wait, {told.consumer_count} readers"
    if not told.consumer_count:
        return bad(part, f"queue {short}", f"it has no reader; {waiting}", "start a worker")
    await channel.close()
    return good(part, f"queue {short}", waiting)


async def _dead(connection: AbstractConnection, name: str) -> Finding:
    part, short = "rabbitmq", ".".join(name.split(".")[-2:])
    channel = await connection.channel()
    try:
        queue = await channel.declare_queue(name, passive=True)
    except ChannelNotFoundEntity:
        return _missing(short, name)
    await channel.close()
    count = queue.declaration_result.message_count
    # What needs an operator of them is told once, by their rows.
    found = "no dead letters"
    if count:
        found = f"{count} dead letters; `delivery dead-letters list` has those of this service"
    return good(part, f"queue {short}", found)


async def check_kafka(settings: Settings) -> AsyncIterator[Finding]:
    """Look at reachability, topics, their configuration, the group's lag and dead events."""
    part = "kafka"
    topics = Topics(prefix=settings.kafka_topic_prefix)
    try:
        there = await partitions_of(settings)
    except ConfigurationError as error:
        yield bad(part, "access", str(error), "correct it, here and where the service runs")
        return
    except (KafkaError, OSError) as error:
        yield _no_broker(settings, error)
        return
    missing = [name for name in topics.all if name not in there]
    if missing:
        yield bad(
            part,
            "topics",
            f"missing: {', '.join(missing)}",
            "`delivery topics apply` creates them (a worker that starts does, too)",
        )
        return
    try:
        differing = await differences(settings)
        if not differing:
            yield good(part, "topics", f"all {len(topics.all)} are as they should be")
        for difference in differing:
            yield bad(
                part,
                f"topic {difference.topic}",
                f"{difference.what}: {difference.found}, wanted {difference.wanted}",
                difference.advice,
            )
        yield await _lag(settings)
    except DeliveryError as error:
        yield bad(part, "topics", str(error), "see the brokers' log")


def _no_broker(settings: Settings, error: BaseException) -> Finding:
    if REFUSALS.now():
        return bad(
            "kafka",
            "access",
            cause_of(error),
            'docs/configuration.md, "A secured Kafka cluster", has the settings and the rights',
        )
    return bad(
        "kafka",
        "reachable",
        f"no broker answers at {settings.kafka_bootstrap_servers} ({error})",
        "start it, or correct DELIVERY_KAFKA_BOOTSTRAP_SERVERS or DELIVERY_KAFKA_SECURITY_PROTOCOL",
    )


async def _lag(settings: Settings) -> Finding:
    lag = await ConsumerLag(settings).measure()
    behind = sum(max(0, end - committed) for committed, end in lag.behind.values())
    if behind > _MAX_LAG:
        return bad(
            "kafka",
            "lag",
            f"group {settings.kafka_group} is {behind} events behind",
            "start more workers; if it does not shrink, see a worker's log",
        )
    return good("kafka", "lag", f"group {settings.kafka_group} is {behind} events behind")


async def check_rs_order(settings: Settings) -> AsyncIterator[Finding]:
    """Look at reachability, whether our tokens are taken, and the clock."""
    part = "rs-order"
    secret = settings.rs_order_token_secret.get_secret_value()
    if not secret:
        yield bad(
            part,
            "token",
            "DELIVERY_RS_ORDER_TOKEN_SECRET is not set",
            "give the secret that rs-order checks tokens with",
        )
        return
    token = TokenSigner(secret, ttl=60).token(settings.tenants[0], "delivery-doctor@localhost")
    url = f"{settings.rs_order_url.rstrip('/')}/orders/0/files/available"
    try:
        connector = connector_of(trust(settings.http_ca))
    except ConfigurationError as error:
        yield bad(part, "certificates", str(error), "see DELIVERY_HTTP_CA")
        return
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
            session.get(
                url, headers={"Authorization": f"Bearer {token}"}, allow_redirects=False
            ) as answer,
        ):
            status, date = answer.status, answer.headers.get("Date", "")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        yield bad(
            part,
            "reachable",
            f"no answer at {settings.rs_order_url} ({said(error)})",
            "start it, or correct DELIVERY_RS_ORDER_URL",
        )
        return
    yield good(part, "reachable", f"answers at {settings.rs_order_url}")
    if status == 401:
        yield bad(
            part,
            "token",
            "it does not take our tokens (401)",
            "correct DELIVERY_RS_ORDER_TOKEN_SECRET: it must be the secret of rs-order",
        )
    else:
        yield good(part, "token", f"taken (it answers {status} for an order that does not exist)")
    yield _clock(part, date)


def _clock(part: str, date: str) -> Finding:
    try:
        apart = (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return good(part, "clock", "it does not tell the time")
    if abs(apart) > _MAX_CLOCK_SKEW:
        return bad(
            part,
            "clock",
            f"{apart:+.0f} s from the clock here",
            "set both by NTP; tokens seem expired, or not valid yet, otherwise",
        )
    return good(part, "clock", "like the clock here")
