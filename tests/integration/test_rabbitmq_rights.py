"""RabbitMQ's permissions: with these the service works, and each that is missing is named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest
from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractRobustConnection

from app.delivery.outgoing import Kind
from app.errors import BrokerUnavailableError, ConfigurationError
from compose.embedded import rabbitmq
from compose.embedded.stack import Stack
from streams.amqp import names, rights
from streams.amqp.dead_letters import QUEUES as DEAD_LETTERS
from streams.amqp.dead_letters import open_dead_letter_queues
from streams.amqp.progress import ProgressPublisher
from streams.amqp.publisher import AmqpPublisher, connect, open_publisher
from streams.amqp.rights import Permissions, needed
from streams.amqp.rights_probe import missing_optional_rights, missing_rights
from streams.amqp.topology import QUEUES, REFUSALS, Topology, refused
from streams.channels import ORDER_CANCELS, ORDERS
from tests.builders import make_outgoing, make_told_progress, make_transfer
from tests.command import delivery

KINDS = ("configure", "write", "read")
BY_ITSELF, BY_ANOTHER = Topology(), Topology(declares=False)


def without(permissions: Permissions, kind: str, name: str) -> Permissions:
    """Return the same but for one right."""
    left = [right for right in getattr(permissions, kind) if right != name]
    return replace(permissions, **{kind: left})


def cases() -> dict[str, tuple[Topology, Permissions, list[str]]]:
    """Return users: how the service is set up, what the user may, and what it may not."""
    found: dict[str, tuple[Topology, Permissions, list[str]]] = {}
    for topology in (BY_ITSELF, BY_ANOTHER):
        whole = needed(declares=topology.declares)
        start = "self" if topology.declares else "other"
        found[start] = topology, whole, []
        for kind in KINDS:
            for number, name in enumerate(getattr(whole, kind)):
                less = without(whole, kind, name)
                found[f"{start}-{kind}-{number}"] = topology, less, [f"{kind} on {name}"]
    return found


CASES = cases()


@dataclass(frozen=True, kw_only=True)
class Host:
    """A virtual host of these tests' own, and its users."""

    name: str
    at: str  # host and port

    def url(self, user: str) -> str:
        """Return the address for a user."""
        return f"amqp://{self.name}-{user}:x@{self.at}/{self.name}"


@pytest.fixture(scope="module")
async def host(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Host]:
    """A user for each case, and one who may do everything."""
    if "DELIVERY_AMQP_URL" not in stack.servers:
        pytest.skip("the users of a given RabbitMQ are not the tests' to make")
    name = f"rights-{uuid4().hex[:6]}"
    patterns = {case: permissions.patterns for case, (_, permissions, _) in CASES.items()}
    patterns["admin"] = (".*", ".*", ".*")
    definitions = {
        "vhosts": [{"name": name}],
        "users": [{"name": f"{name}-{user}", "password": "x", "tags": ""} for user in patterns],
        "permissions": [
            {"user": f"{name}-{user}", "vhost": name} | dict(zip(KINDS, three, strict=True))
            for user, three in patterns.items()
        ],
    }
    file: Path = tmp_path_factory.mktemp("rabbitmq") / "users.json"
    file.write_text(json.dumps(definitions))
    await rabbitmq.control(stack.folder, "import_definitions", file)
    address = stack.environment["DELIVERY_AMQP_URL"].rpartition("@")[2]
    yield Host(name=name, at=address.partition("/")[0])
    await rabbitmq.control(stack.folder, "delete_vhost", name)


@pytest.fixture
async def admin(host: Host) -> AsyncIterator[AbstractRobustConnection]:
    """The connection of one who has declared everything, rs-order's queue, too."""
    async with (
        connect(host.url("admin"), start_timeout=30) as connection,
        open_publisher(connection),
        connection.channel() as channel,
    ):
        orders = await channel.declare_queue("orders", durable=True)
        for exchange in (ORDERS.exchange.name, ORDER_CANCELS.exchange.name):
            await orders.bind(exchange)
        await Topology().optional(channel)
        yield connection


async def missing(connection: AbstractRobustConnection, topology: Topology) -> list[str]:
    """Return every right that is missing, those of what tenants may switch on last."""
    return [
        *await missing_rights(connection, topology),
        *await missing_optional_rights(connection, topology),
    ]


async def work(connection: AbstractRobustConnection, topology: Topology) -> None:
    """Do all that the service does on RabbitMQ. Raises what it raises."""
    async with open_publisher(connection, topology=topology) as publisher:
        for kind in (Kind.RESPONSE, Kind.ORDER, Kind.CANCEL):
            await publisher.publish(make_outgoing(kind=kind))
        for name, _ in QUEUES:
            await publisher.dead_letter(name, Message(b"of rights"))
    progress = ProgressPublisher(connection, topology=topology)
    await progress.ready()
    await progress.send(make_transfer(), make_told_progress())
    async with open_dead_letter_queues(connection, topology=topology) as dead_letters:
        for dead_letter in await dead_letters.look(list(DEAD_LETTERS), limit=9):
            await dead_letters.requeue(dead_letter)
    async with connection.channel() as channel:
        for name, exchange in QUEUES:
            taken: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
            try:
                queue = await topology.queue(channel, name, exchange)
                tag = await queue.consume(taken.put)
            except REFUSALS as error:
                raise refused(error) from None
            await (await taken.get()).ack()
            await queue.cancel(tag)


@pytest.mark.parametrize("case", ["self", "other"])
async def test_the_service_works_with_exactly_these_rights(
    host: Host, admin: AbstractRobustConnection, case: str
) -> None:
    topology, _, _ = CASES[case]
    async with connect(host.url(case), start_timeout=30) as connection:
        assert await missing(connection, topology) == []
        await work(connection, topology)


async def test_the_service_that_declares_starts_where_nothing_is(host: Host) -> None:
    async with (
        connect(host.url("admin"), start_timeout=30) as connection,
        connection.channel() as channel,
    ):
        for queue in rights.READS:
            await channel.queue_delete(queue)
        for exchange in (names.DEAD_LETTER_EXCHANGE, *names.EXCHANGES):
            await channel.exchange_delete(exchange)
    async with connect(host.url("other"), start_timeout=30) as connection:
        with pytest.raises(
            ConfigurationError, match=r"lacks .*regards\.DLX.*delivery topology apply"
        ):
            async with open_publisher(connection, topology=BY_ANOTHER):
                pass
    async with (
        connect(host.url("self"), start_timeout=30) as connection,
        open_publisher(connection),
    ):
        assert await missing_rights(connection, BY_ITSELF) == []


@pytest.mark.parametrize("start", ["self", "other"])
async def test_each_right_that_is_missing_is_named_and_missed(
    host: Host, admin: AbstractRobustConnection, start: str
) -> None:
    """None of them is for nothing."""
    for case, (topology, _, lacking) in CASES.items():
        if not lacking or not case.startswith(start):
            continue
        async with connect(host.url(case), start_timeout=30) as connection:
            assert await missing(connection, topology) == lacking
            with pytest.raises(
                (ConfigurationError, BrokerUnavailableError), match="ACCESS_REFUSED"
            ):
                await work(connection, topology)
        async with admin.channel() as channel:
            for queue in rights.READS:
                await (await channel.get_queue(queue, ensure=False)).purge()


async def test_trying_rights_moves_no_message(host: Host, admin: AbstractRobustConnection) -> None:
    async with admin.channel() as channel:
        hears = await channel.declare_queue(exclusive=True)
        for exchange in (*rights.WRITES[:-1], *names.OPTIONAL_EXCHANGES):
            await hears.bind(exchange, "#")
        for name, exchange in QUEUES:
            await (await channel.get_queue(name, ensure=False)).purge()
            await (await channel.get_exchange(exchange)).publish(Message(b"one"), "")
        async with connect(host.url("self"), start_timeout=30) as connection:
            assert await missing(connection, BY_ITSELF) == []
        assert await hears.get(fail=False) is None
        for name, _ in QUEUES:
            queue = await channel.get_queue(name, ensure=False)
            message = await queue.get(no_ack=True)
            assert message is not None
            assert (message.body, message.redelivered) == (b"one", False)
        await admin_is_still_bound(channel)


async def admin_is_still_bound(channel: AbstractChannel) -> None:
    """Every binding is there: what is published arrives."""
    for name, exchange in QUEUES:
        await (await channel.get_exchange(exchange)).publish(Message(b"two"), "")
        message = await (await channel.get_queue(name, ensure=False)).get(no_ack=True)
        assert message is not None


async def test_another_user_declares_by_command_and_the_service_reads_again_what_was_deleted(
    host: Host, stack: Stack
) -> None:
    """Where it declares nothing, it waits until another client has declared it again."""
    async with (
        connect(host.url("admin"), start_timeout=30) as connection,
        connection.channel() as channel,
    ):
        for name in rights.READS:
            await channel.queue_delete(name)
    made = await asyncio.to_thread(
        delivery, "topology", "apply", DELIVERY_AMQP_URL=host.url("admin")
    )
    assert (made.returncode, made.stdout) == (0, "exchanges, queues and bindings are there\n")
    ended = await asyncio.to_thread(
        delivery, "topology", "apply", DELIVERY_AMQP_URL=host.url("other")
    )
    assert ended.returncode == 2
    assert "lacks a right: ACCESS_REFUSED" in ended.stderr
    taken: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    async with (
        connect(host.url("admin"), start_timeout=30) as owner,
        connect(host.url("other"), start_timeout=30) as connection,
        owner.channel() as channel,
        connection.channel() as reading,
    ):
        name, exchange = QUEUES[0]
        queue = await BY_ANOTHER.queue(reading, name, exchange)
        await queue.consume(taken.put)
        await channel.queue_delete(name)
        await BY_ITSELF.queue(channel, name, exchange)
        await (await channel.get_exchange(exchange)).publish(Message(b"again"), "")
        async with asyncio.timeout(60):
            message = await taken.get()
        assert message.body == b"again"
        await message.ack()


async def test_rights_that_are_taken_and_given_again_while_it_runs_are_waited_for(
    host: Host,
    stack: Stack,
    admin: AbstractRobustConnection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What it reads stays in its queue, what it publishes is owed; both go on then."""
    user = f"{host.name}-other"
    name, exchange = QUEUES[0]
    taken: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def may(three: Sequence[str]) -> None:
        await rabbitmq.control(stack.folder, "set_permissions", "-p", host.name, user, *three)

    async with (
        connect(host.url("other"), start_timeout=30) as connection,
        open_publisher(connection, topology=BY_ANOTHER) as publisher,
        connection.channel() as reading,
        admin.channel() as channel,
    ):
        queue = await BY_ANOTHER.queue(reading, name, exchange)
        await queue.consume(taken.put)
        await may(["^$"] * 3)
        await rabbitmq.control(stack.folder, "close_all_user_connections", user, "for a test")
        async with asyncio.timeout(60):
            while f"ACCESS_REFUSED - access to queue '{name}'" not in caplog.text:
                await asyncio.sleep(0.1)
        with pytest.raises(BrokerUnavailableError):
            await publisher.publish(make_outgoing(kind=Kind.RESPONSE))
        await may(needed(declares=False).patterns)
        await (await channel.get_exchange(exchange)).publish(Message(b"later"), "")
        async with asyncio.timeout(60):
            await (await taken.get()).ack()
            await sent(publisher)


async def sent(publisher: AmqpPublisher) -> None:
    """Return once a message is confirmed; it is tried again, as the relay does."""
    while True:
        try:
            await publisher.publish(make_outgoing(kind=Kind.RESPONSE))
        except BrokerUnavailableError:
            await asyncio.sleep(0.1)
        else:
            return
