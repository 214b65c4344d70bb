"""Dead letters are found, mended and put back: once, and never lost, whatever fails in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aio_pika
import asyncpg
import click
import pytest
from aio_pika.abc import AbstractConnection
from aiokafka.admin import AIOKafkaAdminClient
from click.testing import CliRunner
from pydantic import SecretStr

from app.audit import INSTANCE, Actor
from app.cli.dead_letter_queues import purge
from app.errors import (
    BrokerUnavailableError,
    InvalidRequestError,
    NotPossibleError,
    UnknownDeadLetterError,
)
from app.settings import Settings
from app.store import Leader, PostgresAudit, PostgresDeadLetters, alone
from app.views.dead_letters import DEAD_LETTERS_JOB, DeadLetterFilter, Handled, KeptLetter
from streams.amqp import names
from streams.amqp.dead_letters import QUEUES, DeadLetterQueues
from streams.amqp.topology import declare_topology
from streams.channels import CANCELS, DEAD_LETTERS, REQUESTS
from streams.kafka import dead_letters as dead_letter_topic
from streams.kafka.dead_letters import look, put_back
from streams.kafka.log import EventLog, open_event_log
from streams.kafka.topics import ensure_topics
from streams.operators import dead_letter_sweep as sweeps
from streams.operators import dead_letters as desks
from streams.operators.dead_letter_sweep import DeadLetterSweep
from streams.operators.dead_letters import BrokerDesk
from tests.builders import GivenTenants, make_buried
from tests.command import delivery
from tests.deliveries import blocked_sessions
from tests.integration.gate import gate

QUEUE = REQUESTS.queue.name
ADA = Actor(name="ada", role="ADMIN", tenant="sentinel")
ALL = DeadLetterFilter()
MIB = 1024 * 1024


def request_of(correlation_id: str) -> dict[str, Any]:
    """Return a request that is taken."""
    order = {"user": "someone@example.org", "queries": ["x"]}
    return {"correlationId": correlation_id, "order": order}


class Post:
    """Leaves dead letters, and sees what lies in queues."""

    def __init__(self, connection: AbstractConnection) -> None:
        self.connection = connection

    async def leave(
        self,
        *bodies: bytes,
        tenant: str | None = "sentinel",
        queue: str = "requests",
        **headers: Any,
    ) -> None:
        """Leave them, as who keeps no rows buries them."""
        if tenant is not None:
            headers[names.HEADER_TENANT] = tenant
        async with self.connection.channel() as channel:
            await asyncio.gather(
                *(
                    channel.default_exchange.publish(
                        aio_pika.Message(body, headers=headers, message_id="m", priority=3),
                        QUEUES[queue],
                    )
                    for body in bodies
                )
            )

    async def bodies(self, queue: str = QUEUES["requests"]) -> list[bytes]:
        """Return what lies in a queue, in its order; all of it stays."""
        found = []
        async with self.connection.channel() as channel:
            waiting = await channel.get_queue(queue)
            while (message := await waiting.get(fail=False)) is not None:
                found.append(message.body)
        return found

    async def back(self, queue: str = QUEUE) -> list[aio_pika.abc.AbstractIncomingMessage]:
        """Take what was put back."""
        found = []
        async with self.connection.channel() as channel:
            waiting = await channel.get_queue(queue)
            while (message := await waiting.get(no_ack=True, fail=False)) is not None:
                found.append(message)
        return found


@pytest.fixture
async def post(settings: Settings) -> AsyncIterator[Post]:
    """Empty queues; they are empty after it, too."""
    connection = await aio_pika.connect(settings.amqp_url.get_secret_value())
    queues = (QUEUE, CANCELS.queue.name, *QUEUES.values())
    async with connection, connection.channel() as channel:
        await declare_topology(channel)
        for queue in queues:
            await (await channel.get_queue(queue)).purge()
        yield Post(connection)
        for queue in queues:
            await (await channel.get_queue(queue)).purge()


@pytest.fixture
async def events(settings: Settings) -> AsyncIterator[EventLog]:
    """A log with topics of the test's own."""
    await ensure_topics(settings)
    async with open_event_log(settings) as opened:
        yield opened


def desk_of(
    settings: Settings, pool: asyncpg.Pool, table: PostgresDeadLetters | None = None
) -> BrokerDesk:
    """Return what a process has."""
    return BrokerDesk(
        settings,
        table=table or PostgresDeadLetters(pool),
        leading=Leader(pool).leading,
        tenants=GivenTenants(settings),
    )


def sweep_of(
    settings: Settings, pool: asyncpg.Pool, table: PostgresDeadLetters | None = None
) -> DeadLetterSweep:
    """Return what a worker has."""
    table = table or PostgresDeadLetters(pool)
    return DeadLetterSweep(settings, table=table, leading=Leader(pool).leading)


class Office:
    """Desks over one database, each as a process of its own has it."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool, post: Post, log: EventLog) -> None:
        self.settings = settings.model_copy(update={"tenants": ("sentinel", "swot", "sar")})
        self.pool = pool
        self.post = post
        self.log = log
        self.table = PostgresDeadLetters(pool)
        self.desk = self.another()
        self.worker = self.another_worker()

    def another(self, **changes: Any) -> BrokerDesk:
        """Return a desk of another process."""
        return desk_of(self.settings.model_copy(update=changes), self.pool, self.table)

    def another_worker(self) -> DeadLetterSweep:
        """Return what another worker has."""
        return sweep_of(self.settings, self.pool, self.table)

    async def sweep(self, worker: DeadLetterSweep | None = None) -> None:
        """Let a worker look for what has no row."""
        await (worker or self.worker).sweep(self.post.connection, self.log)

    async def letters(self, whose: str | None = None) -> list[KeptLetter]:
        """Return what waits."""
        return await self.desk.browse(whose, ALL, after=0, limit=5000)

    async def ids(self, whose: str | None = None) -> list[str]:
        """Return the ids of what waits."""
        return [kept.letter.id for kept in await self.letters(whose)]

    async def texts(self, whose: str | None = None) -> list[str]:
        """Return the bodies of what waits."""
        return sorted(kept.letter.text for kept in await self.letters(whose))

    async def requeue(self, ids: Sequence[str], whose: str | None = None) -> Handled:
        """Put letters back."""
        return await self.desk.requeue(ADA, whose, ids)

    async def trail(self) -> list[tuple[str, str, str, Any]]:
        """Return what the audit trail has."""
        entries = await PostgresAudit(self.pool).entries(None, before=2**62, limit=5000)
        return [(each.tenant, each.action, each.subject, each.after) for each in entries]


@pytest.fixture
def office(settings: Settings, pool: asyncpg.Pool, post: Post, events: EventLog) -> Office:
    """An office with nothing in it."""
    return Office(settings, pool, post, events)


async def append_dead(events: EventLog, key: str, *values: bytes) -> None:
    headers = [("origin-topic", events.topics.of(REQUESTS).encode()), ("reason", b"of this test")]
    for value in values:
        await events.append(
            events.topics.of(DEAD_LETTERS), key=key.encode(), value=value, headers=headers
        )


async def test_what_was_buried_without_a_row_is_found_and_shown_to_whom_it_is_for(
    office: Office, post: Post, events: EventLog
) -> None:
    other = {names.HEADER_ORIGIN_QUEUE: "regards.broadcast.rs-order.SomeHandler"}
    ours = {names.HEADER_ORIGIN_QUEUE: QUEUE}
    await post.leave(b"of rs-order", queue="global", **other)
    await post.leave(b"of an unknown queue", queue="global")
    await post.leave(b"ours, the long way", queue="global", **ours)
    await post.leave(b"of a stranger", tenant="stranger")
    await post.leave(b"of no tenant", tenant=None)
    await post.leave(b"ours", b"\xff", **{names.HEADER_REASON: "of this test"})
    await post.leave(b"of swot", tenant="swot", queue="cancels")
    await append_dead(events, "sentinel/a", b"event")
    await append_dead(events, "stranger/x", b"event of a stranger")
    await office.sweep()
    assert await office.texts("sentinel") == ["event", "ours", "ours, the long way", "\ufffd"]
    assert await office.texts("swot") == ["of swot"]
    assert await office.texts("sar") == []
    assert len(await office.letters()) == 10
    for kept in await office.letters():
        if kept.letter.text not in await office.texts("sentinel"):
            with pytest.raises(UnknownDeadLetterError, match="there is no dead letter"):
                await office.requeue([kept.letter.id], "sentinel")
            with pytest.raises(UnknownDeadLetterError):
                await office.desk.one("sentinel", kept.letter.id)
    await office.sweep()
    assert len(await office.letters()) == 10
    assert len(await post.bodies()) == 4


async def test_a_look_for_what_has_no_row_leaves_the_queue_in_its_order(
    office: Office, post: Post
) -> None:
    bodies = [b"%04d" % number for number in range(600)]
    for start in range(0, 600, 100):
        await post.leave(*bodies[start : start + 100])
    before = await post.bodies()
    await office.sweep()
    assert len(await office.letters()) == 600
    assert await post.bodies() == before


async def test_a_queue_is_looked_through_once_whichever_process_comes(
    office: Office, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look takes what is in it, and quorum queues drop what was taken too often."""
    looks = []
    read = DeadLetterQueues.read

    def counted(self: DeadLetterQueues, name: str, **more: Any) -> Any:
        looks.append(name)
        return read(self, name, **more)

    monkeypatch.setattr(DeadLetterQueues, "read", counted)

    async def looked(worker: DeadLetterSweep | None = None) -> list[str]:
        await office.sweep(worker or office.another_worker())
        found = looks[:]
        looks.clear()
        return found

    await post.leave(b"1", b"2", b"2")
    assert await looked() == ["requests"]
    assert await looked() == []
    await office.table.keep([make_buried("amqp:requests:x", place=QUEUES["requests"])], again=True)
    await post.leave(b"with a row")  # as who buries does it
    assert await looked() == []
    await post.leave(b"3")
    assert await looked() == ["requests"]
    assert await looked() == []
    two = [kept.letter.id for kept in await office.letters() if kept.letter.text == "2"]
    await office.requeue(two)
    looks.clear()  # that was one, too
    await back_in(post, 3)
    # It got shorter: what went may hide what has come since.
    assert await looked(office.worker) == []
    assert await looked(office.worker) == ["requests"]
    assert (await office.table.seen())[QUEUES["requests"]] == -1
    assert await looked(office.worker) == []
    await post.leave(b"4")
    assert await looked() == ["requests"]
    assert "4" in await office.texts()


async def test_a_thousand_letters_are_put_back_once_each_and_the_others_stay_in_order(
    office: Office, post: Post
) -> None:
    await post.leave(*(b"%04d" % number for number in range(1000)))
    await post.leave(*(b"stays %d" % number for number in range(10)), tenant="swot")
    await office.sweep()
    left = [body for body in await post.bodies() if body.startswith(b"stays")]
    mine = await office.ids("sentinel")
    done = [await office.requeue(mine[start : start + 500]) for start in (0, 500)]
    assert {*done[0].where, *done[1].where} == {*mine}
    assert {*done[0].where.values()} == {QUEUE}
    back = await post.back()
    assert sorted(message.body for message in back) == [b"%04d" % n for n in range(1000)]
    assert {(message.message_id, message.priority) for message in back} == {("m", 3)}
    assert await post.bodies() == left
    assert len(await office.letters()) == 10
    await office.sweep()
    assert len(await office.letters()) == 10
    assert await office.table.handled(QUEUES["requests"]) == []
    trail = await office.trail()
    assert len(trail) == 1000
    assert {entry[:2] for entry in trail} == {("sentinel", "requeue")}


async def test_letters_that_two_put_back_at_once_go_back_once(office: Office, post: Post) -> None:
    await post.leave(*(b"%d" % number for number in range(20)))
    await office.sweep()
    ids = await office.ids()
    desks = [office.another() for _ in range(3)]
    done = await asyncio.gather(
        *(desk.requeue(ADA, None, ids) for desk in desks), return_exceptions=True
    )
    assert sum(isinstance(each, Handled) for each in done) == 1
    assert sum(isinstance(each, UnknownDeadLetterError) for each in done) == 2
    assert len(await post.back()) == 20


async def test_all_copies_of_a_message_are_one_letter(office: Office, post: Post) -> None:
    await post.leave(b"x", b"x", b"x", kept="1")
    await post.leave(b"x", kept="2")
    await post.leave(b"x", queue="cancels", kept="1")
    await office.sweep()
    ids = await office.ids()
    assert len(ids) == 3
    assert all(len(letter_id.rpartition(":")[2]) == 32 for letter_id in ids)
    await office.requeue([kept.letter.id for kept in await office.letters()])
    assert len(await post.back()) == 2
    assert len(await post.back(CANCELS.queue.name)) == 1
    assert await post.bodies() == []


async def test_a_copy_that_another_command_has_put_back_leaves_the_others(
    office: Office, post: Post, database: str
) -> None:
    """As they came, unless the letter is mended: that command knows of no mend."""
    here = {
        "DELIVERY_DATABASE_URL": database,
        "DELIVERY_KAFKA_TOPIC_PREFIX": office.settings.kafka_topic_prefix,
    }

    def dlq(*arguments: str) -> Any:
        return delivery("dlq", *arguments, **here)

    await post.leave(b"twice", b"twice")
    await office.sweep()
    (letter_id,) = await office.ids()
    await office.desk.mend(ADA, None, letter_id, body=json.dumps(request_of("r")).encode())
    listed = await asyncio.to_thread(dlq, "list", "--json")
    first = json.loads(listed.stdout.splitlines()[0])["id"]
    refused = await asyncio.to_thread(dlq, "requeue", first)
    assert refused.returncode == 1
    assert f"it is mended: `delivery dead-letters requeue {letter_id}`" in refused.stderr
    assert [kept.mend is None for kept in await office.letters()] == [False]
    gone = await asyncio.to_thread(dlq, "purge", "--yes", first)
    assert gone.returncode == 0, gone.stderr
    await office.sweep()
    assert await office.ids() == [letter_id]
    assert await post.bodies() == [b"twice"]
    back = await asyncio.to_thread(dlq, "requeue", "--all")
    assert back.returncode == 0, back.stderr
    await office.sweep()
    assert (await office.ids(), await post.bodies()) == ([], [])
    assert await office.table.rows(QUEUES["requests"]) == 0


async def test_a_look_waits_until_none_else_has_letters_in_its_hands(
    office: Office, post: Post, database: str
) -> None:
    """It holds what it reads: a letter that was handled meanwhile seemed to have no copy."""
    await post.leave(b"x")
    here = {"DELIVERY_DATABASE_URL": database}
    async with alone(office.pool, DEAD_LETTERS_JOB):
        looking = asyncio.create_task(asyncio.to_thread(delivery, "dlq", "list", "--json", **here))
        while not looking.done() and not await blocked_sessions(office.pool):
            await asyncio.sleep(0.05)
        assert not looking.done()
        assert await post.bodies() == [b"x"]
    listed = await looking
    assert (listed.returncode, len(listed.stdout.splitlines()), listed.stderr) == (0, 1, "")


async def test_letters_are_looked_at_where_the_database_is_away(post: Post) -> None:
    await post.leave(b"x")
    away = {"DELIVERY_DATABASE_URL": "postgresql://delivery@127.0.0.1:1/delivery"}
    listed = await asyncio.to_thread(delivery, "dlq", "list", "--json", **away)
    assert (listed.returncode, len(listed.stdout.splitlines())) == (0, 1)
    assert "warning: looking without the database (" in listed.stderr


async def test_none_waits_for_the_answer_of_who_is_asked_before_letters_are_removed(
    office: Office, post: Post, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post.leave(b"a", b"b")
    asked = await asyncio.to_thread(
        delivery, "dlq", "purge", "--all", DELIVERY_DATABASE_URL=database
    )
    assert "remove 2 dead letters for good?" in asked.stdout
    assert asked.returncode == 130  # no user there to say yes
    loop = asyncio.get_running_loop()
    told = []

    async def others_lead() -> bool:
        async with Leader(office.pool).leading(DEAD_LETTERS_JOB) as leads:
            return leads

    def confirm(question: str, **_: Any) -> None:
        told.append((question, asyncio.run_coroutine_threadsafe(others_lead(), loop).result(30)))
        raise click.Abort

    monkeypatch.setenv("DELIVERY_DATABASE_URL", database)
    monkeypatch.setattr(click, "confirm", confirm)
    await asyncio.to_thread(CliRunner().invoke, purge, ["--all"])
    assert told == [("remove 2 dead letters for good?", True)]
    assert len(await post.bodies()) == 2


async def test_a_mended_letter_goes_back_with_what_came_with_it(office: Office, post: Post) -> None:
    await post.leave(b"{", custom="kept", **{names.HEADER_REASON: "no JSON"})
    await office.sweep()
    (letter_id,) = await office.ids()
    good = json.dumps(request_of("c-1")).encode()
    mended = await office.desk.mend(ADA, "sentinel", letter_id, body=good)
    assert mended.mend is not None
    assert (mended.mend.body, mended.mend.by, mended.letter.body) == (good, "ada", b"{")
    assert mended.headers is not None
    assert mended.headers["custom"] == "kept"
    await office.requeue([letter_id], "sentinel")
    (back,) = await post.back()
    assert (back.body, back.message_id) == (good, "m")
    assert back.headers == {"custom": "kept", names.HEADER_TENANT: "sentinel"}
    told = {"bytes": len(good)}
    subject = f"dead letter {letter_id}"
    assert await office.trail() == [
        ("sentinel", "requeue", subject, QUEUE),
        ("sentinel", "mend", subject, told),
    ]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "the body is no JSON"),
        (b"\xff", "the body is not UTF-8"),
        (b'{"order": {}}', "the body has no correlationId"),
        (b'{"correlationId": "x"}', "order is missing"),
        (b" " * MIB, "more than DELIVERY_MAX_MESSAGE_BYTES"),
    ],
)
async def test_a_mend_that_would_be_refused_again_is_refused_in_words(
    office: Office, post: Post, body: bytes, why: str
) -> None:
    await post.leave(b"x")
    await office.sweep()
    (letter_id,) = await office.ids()
    with pytest.raises(InvalidRequestError, match=why):
        await office.desk.mend(ADA, "sentinel", letter_id, body=body)
    assert await office.trail() == []
    await office.desk.mend(ADA, "sentinel", letter_id, body=body, forced=True)
    await office.requeue([letter_id])
    (back,) = await post.back()
    assert back.body == body


async def test_no_mend_makes_a_letter_another_tenants(
    office: Office, post: Post, events: EventLog
) -> None:
    await post.leave(b"x")
    value = json.dumps({"tenant": "sentinel", "correlationId": "a", "eventId": "x"}).encode()
    headers = [("origin-topic", events.topics.of(CANCELS).encode()), ("reason", b"of this test")]
    await events.append(
        events.topics.of(DEAD_LETTERS), key=b"sentinel/a", value=value, headers=headers
    )
    await office.sweep()
    message, event = sorted(await office.ids("sentinel"))
    good = json.dumps(request_of("c")).encode()
    other = {
        "tenant": "swot",
        "correlationId": "a",
        "eventId": "00000000-0000-0000-0000-000000000001",
        "originApp": None,
    }
    for forced in (False, True):
        with pytest.raises(InvalidRequestError, match="of another tenant than sentinel"):
            await office.desk.mend(
                ADA, "sentinel", message, body=good, tenant="swot", forced=forced
            )
        with pytest.raises(InvalidRequestError, match="of another tenant than sentinel"):
            await office.desk.mend(
                ADA, "sentinel", event, body=json.dumps(other).encode(), forced=forced
            )
    with pytest.raises(NotPossibleError, match="says its tenant in its body"):
        await office.desk.mend(ADA, None, event, body=b"{}", tenant="swot")
    with pytest.raises(InvalidRequestError, match="unknown tenant 'nosuch'"):
        await office.desk.mend(ADA, None, message, body=good, tenant="nosuch")
    await office.desk.mend(ADA, None, message, body=good, tenant="swot")
    await office.desk.mend(ADA, None, event, body=json.dumps(other).encode())
    await office.requeue([message, event])
    (back,) = await post.back()
    assert back.headers[names.HEADER_TENANT] == "swot"


async def test_a_letter_of_no_tenant_is_given_one(office: Office, post: Post) -> None:
    good = json.dumps(request_of("c")).encode()
    await post.leave(good, tenant=None)
    await office.sweep()
    (letter_id,) = await office.ids()
    await office.desk.mend(ADA, None, letter_id, body=None, tenant="swot")
    await office.requeue([letter_id])
    (back,) = await post.back()
    assert (back.body, back.headers) == (good, {names.HEADER_TENANT: "swot"})
    assert [entry[0] for entry in await office.trail()] == [INSTANCE, INSTANCE]


async def test_removed_letters_are_gone_from_queue_and_topic(
    office: Office, post: Post, events: EventLog
) -> None:
    await post.leave(b"a", b"b")
    await append_dead(events, "sentinel/a", b"event")
    await office.sweep()
    chosen = [kept.letter.id for kept in await office.letters() if kept.letter.text != "b"]
    await office.desk.remove(ADA, "sentinel", chosen)
    assert await post.bodies() == [b"b"]
    assert await look(office.settings) == []
    await office.sweep(office.another_worker())
    assert await office.texts() == ["b"]
    assert {entry[1] for entry in await office.trail()} == {"purge"}


async def test_events_go_back_where_they_were_once(office: Office, events: EventLog) -> None:
    await append_dead(events, "sentinel/a", b"event", b"another", b"event")
    await office.sweep()
    ids = await office.ids("sentinel")
    assert len(ids) == 2
    done = await office.requeue(ids)
    assert {*done.where.values()} == {events.topics.of(REQUESTS)}
    assert await office.ids() == []
    assert await look(office.settings) == []
    await office.sweep(office.another_worker())
    assert await office.ids() == []


async def test_an_event_that_another_way_has_put_back_waits_no_more(
    office: Office, events: EventLog
) -> None:
    await append_dead(events, "sentinel/a", b"event")
    await office.sweep()
    assert len(await office.ids()) == 1
    (event,) = await look(office.settings)
    await put_back(event, events)
    await office.sweep()
    assert await office.ids() == []


async def made_again(office: Office, topic: str) -> None:
    """Let Kafka lose a topic with all that is in it; it is made again."""
    admin = AIOKafkaAdminClient(bootstrap_servers=office.settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([topic])
        async with asyncio.timeout(60):
            while topic in await admin.list_topics():
                await asyncio.sleep(0.05)
    finally:
        await admin.close()
    await ensure_topics(office.settings)


@pytest.mark.parametrize("after", [b"of an earlier topic", b"event"])
async def test_a_letter_is_found_and_stays_after_the_topic_was_made_again(
    office: Office, events: EventLog, after: bytes
) -> None:
    """What lay where it lies is put back: that is not this one, whatever way puts it back."""
    await append_dead(events, "sentinel/a", b"of an earlier topic")
    await office.sweep()
    (earlier,) = await office.ids()
    await made_again(office, events.topics.of(DEAD_LETTERS))
    await append_dead(events, "sentinel/a", b"event", b"another")
    await office.sweep(office.another_worker())
    assert await office.texts() == ["another", "event", "of an earlier topic"]
    if after == b"event":
        (event,) = [each for each in await look(office.settings) if each.value == after]
        await put_back(event, events)
    else:
        await office.requeue([earlier])
    await office.sweep(office.another_worker())
    waits = {"another", "event", "of an earlier topic"} - {after.decode()}
    assert {*await office.texts()} == waits
    assert {each.value.decode() for each in await look(office.settings)} == waits - {
        "of an earlier topic"
    }


async def test_a_mark_that_names_another_event_hides_none(office: Office, events: EventLog) -> None:
    """The mark is of a copy on a topic that is no more; its letter had it still."""
    await append_dead(events, "sentinel/a", b"event")
    (event,) = await look(office.settings)
    mark = [
        (dead_letter_topic.REQUEUED, event.id.encode()),
        (dead_letter_topic.LETTER, b"event:another"),
    ]
    await events.append(events.topics.of(DEAD_LETTERS), key=b"sentinel/a", value=b"", headers=mark)
    assert await look(office.settings) == [event]
    await office.sweep()
    assert await office.texts() == ["event"]


async def test_a_topic_is_read_on_where_another_process_has_stopped(
    office: Office, events: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each turn does a little, and lets others have theirs."""
    monkeypatch.setattr(sweeps, "_SLICE", 0.0)
    await append_dead(events, "sentinel/a", b"1", b"2", b"3")
    for count in (1, 2, 3, 3):
        await office.sweep(office.another_worker())
        assert await office.texts() == ["1", "2", "3"][:count]


async def test_a_database_that_is_slow_is_no_silence_of_the_broker(
    office: Office, events: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter_topic, "_TIMEOUT", 2.0)
    monkeypatch.setattr(sweeps, "_KEPT_BYTES", 0)
    await append_dead(events, "sentinel/a", b"1", b"2", b"3")
    keep = office.table.keep

    loop, passed = asyncio.get_running_loop(), 0.0
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + passed)

    async def slow(*given: Any, **more: Any) -> None:
        nonlocal passed
        passed += 1.0
        await keep(*given, **more)

    monkeypatch.setattr(office.table, "keep", slow)
    await office.sweep()
    assert await office.texts() == ["1", "2", "3"]


async def test_all_are_there_or_nothing_is_done(
    office: Office, post: Post, events: EventLog
) -> None:
    await post.leave(b"message")
    await append_dead(events, "sentinel/a", b"event")
    await office.sweep()
    message, event = sorted(await office.ids())
    for wrong in ("amqp:requests:" + "0" * 32, "event:0:99999", "amqp:x", "nonsense"):
        with pytest.raises(UnknownDeadLetterError, match="nothing was done"):
            await office.requeue([message, event, wrong])
    assert await post.back() == []
    await office.requeue([message, event])
    with pytest.raises(UnknownDeadLetterError):
        await office.requeue([event])


async def test_a_letter_that_cannot_go_back_is_told_and_waits_on(
    office: Office, post: Post
) -> None:
    await post.leave(b"good")
    await post.leave(b"of nowhere", queue="global")
    await post.leave(b"of a queue", queue="global", **{names.HEADER_ORIGIN_QUEUE: "gone.queue"})
    await office.sweep()
    by_text = {kept.letter.text: kept.letter.id for kept in await office.letters()}
    with pytest.raises(NotPossibleError, match="does not say which queue"):
        await office.requeue([by_text["of nowhere"]])
    none = await office.requeue([by_text["of nowhere"], by_text["of a queue"]])
    assert (none.where, len(none.failed)) == ({}, 2)  # what is behind them can be gone on with
    done = await office.requeue(list(by_text.values()))
    assert done.where == {by_text["good"]: QUEUE}
    assert "does not say which queue" in done.failed[by_text["of nowhere"]]
    assert "there is no queue gone.queue" in done.failed[by_text["of a queue"]]
    assert await office.texts() == ["of a queue", "of nowhere"]
    assert len(await post.bodies(QUEUES["global"])) == 2


async def test_a_letter_waits_on_where_rabbitmq_goes_away_before_it_is_confirmed(
    office: Office, post: Post
) -> None:
    await post.leave(b"one", b"two")
    await office.sweep()
    ids = await office.ids()
    async with gate(office.settings.amqp_url.get_secret_value()) as way:
        desk = office.another(amqp_url=SecretStr(way.url))
        settling = office.table.settling

        @contextlib.asynccontextmanager
        async def cut(*given: Any, **more: Any) -> AsyncIterator[Any]:
            async with settling(*given, **more) as kept:
                await way.shut()
                yield kept

        office.table.settling = cut  # type: ignore[method-assign]
        with pytest.raises(BrokerUnavailableError, match="RabbitMQ"):
            await desk.requeue(ADA, None, ids)
        office.table.settling = settling  # type: ignore[method-assign]
    assert await office.ids() == ids
    assert await office.trail() == []
    assert len((await office.requeue(ids)).where) == 2


async def test_who_is_stopped_before_the_copies_are_taken_leaves_that_to_the_next(
    office: Office, post: Post, events: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is handled, and both letters went back: no look makes them letters again."""
    await post.leave(b"message", b"message", b"other")
    await append_dead(events, "sentinel/a", b"event")
    await office.sweep()
    ids = [kept.letter.id for kept in await office.letters() if kept.letter.text != "other"]

    async def stopped(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(DeadLetterQueues, "remove", stopped)
        patched.setattr(dead_letter_topic, "mark", stopped)
        for letter_id in ids:
            with pytest.raises(asyncio.CancelledError):
                await office.requeue([letter_id])
    assert len(await post.bodies()) == 3
    assert await office.texts() == ["other"]
    await office.sweep(office.another_worker())
    assert await post.bodies() == [b"other"]
    assert await office.texts() == ["other"]
    assert await look(office.settings) == []
    assert await office.table.handled() == []
    assert await office.table.handled(QUEUES["requests"]) == []
    assert len(await post.back()) == 1


@contextlib.asynccontextmanager
async def held_by_another(post: Post, queue: str = QUEUES["requests"]) -> AsyncIterator[None]:
    """Hold all that is in a queue meanwhile, as another look does."""
    async with post.connection.channel() as channel:
        waiting = await channel.get_queue(queue)
        while await waiting.get(fail=False) is not None:
            pass
        yield


async def back_in(post: Post, count: int, queue: str = QUEUES["requests"]) -> None:
    """Wait until RabbitMQ has so many back in a queue."""
    async with asyncio.timeout(60), post.connection.channel() as channel:
        while True:
            declared = await channel.declare_queue(queue, passive=True)
            if declared.declaration_result.message_count == count:
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("sweeps", [0, 3])
async def test_a_letter_that_is_put_back_while_another_look_holds_its_copy_stays_handled(
    office: Office, post: Post, sweeps: int
) -> None:
    await post.leave(b"message")
    await office.sweep()
    ids = await office.ids()
    async with held_by_another(post):
        await office.requeue(ids)
        for _ in range(sweeps):
            await office.sweep()
        assert await office.ids() == []
    await back_in(post, 1)
    await office.sweep()
    assert await office.ids() == []
    assert await post.bodies() == []
    assert await office.table.handled(QUEUES["requests"]) == []
    assert len(await post.back()) == 1


async def test_copies_that_a_stopped_process_still_holds_stay_handled(
    office: Office, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post.leave(b"message")
    await office.sweep()

    async def stopped(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(DeadLetterQueues, "remove", stopped)
        with pytest.raises(asyncio.CancelledError):
            await office.requeue(await office.ids())
    await back_in(post, 1)
    async with held_by_another(post):
        await office.sweep(office.another_worker())
    await back_in(post, 1)
    await office.sweep(office.another_worker())
    assert (await office.ids(), await post.bodies()) == ([], [])


async def test_a_handled_letter_whose_copy_never_comes_back_is_forgotten_in_the_end(
    office: Office, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy was taken by other means; it is looked for once, and not at each turn."""
    await post.leave(b"message", b"other")
    await office.sweep()
    (letter,) = [kept.letter.id for kept in await office.letters() if kept.letter.text == "message"]
    async with post.connection.channel() as channel:
        waiting = await channel.get_queue(QUEUES["requests"])
        first = await waiting.get()
        await (first if first.body == b"message" else await waiting.get()).ack()
    await back_in(post, 1)
    await office.requeue([letter])
    await office.sweep()
    looks = []
    read = DeadLetterQueues.read

    def counted(self: DeadLetterQueues, name: str, **more: Any) -> Any:
        looks.append(name)
        return read(self, name, **more)

    monkeypatch.setattr(DeadLetterQueues, "read", counted)
    await office.sweep()
    assert looks == []
    assert [each.id for each in await office.table.handled(QUEUES["requests"])] == [letter]
    monkeypatch.setattr(sweeps, "_RETURN_LIMIT", 0.0)
    await office.sweep()
    assert await office.table.handled(QUEUES["requests"]) == []
    assert await office.texts() == ["other"]


async def test_what_is_buried_while_more_was_taken_by_other_means_is_found(
    office: Office, post: Post
) -> None:
    """A queue that got shorter is looked through before its length counts as seen."""
    await post.leave(b"1", b"1", b"1", b"1")
    await office.sweep()
    async with post.connection.channel() as channel:
        waiting = await channel.get_queue(QUEUES["requests"])
        for _ in range(3):
            await (await waiting.get()).ack()
    await post.leave(b"2")
    for _ in range(2):
        await office.sweep()
    assert await office.texts() == ["1", "2"]


async def test_a_copy_that_was_buried_after_its_letter_was_handled_waits(
    office: Office, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was put back, and failed again, in a worker that keeps no rows."""
    await post.leave(b"message")
    await office.sweep()
    ids = await office.ids()

    async def stopped(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(DeadLetterQueues, "remove", stopped)
        with pytest.raises(asyncio.CancelledError):
            await office.requeue(ids)
    await post.leave(b"message")
    await office.sweep()
    assert await office.ids() == ids
    assert await post.bodies() == [b"message"]


async def test_a_letter_that_fails_again_waits_where_another_could_not_be_put_back(
    office: Office, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known of its copies ends with them, not with those of all that go back with it."""
    await post.leave(b"1", b"2")
    await office.sweep()
    first, second = await office.letters()
    publish_back = DeadLetterQueues.publish_back

    async def away(self: DeadLetterQueues, dead: Any, **more: Any) -> str:
        if dead.id == second.letter.id:
            raise BrokerUnavailableError("of this test")
        return await publish_back(self, dead, **more)

    with monkeypatch.context() as patched:
        patched.setattr(DeadLetterQueues, "publish_back", away)
        with pytest.raises(BrokerUnavailableError, match="of this test"):
            await office.requeue([first.letter.id, second.letter.id])
    (back,) = await post.back()
    await post.leave(back.body)  # by who keeps no rows
    await office.sweep()
    assert sorted(await post.bodies()) == [b"1", b"2"]
    assert await office.texts() == ["1", "2"]


async def test_a_letter_that_fails_again_waits_where_a_look_was_cut_short(
    office: Office, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post.leave(b"handled")
    await office.sweep()

    async def stopped(*_: object, **_more: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(DeadLetterQueues, "remove", stopped)
        with pytest.raises(asyncio.CancelledError):
            await office.requeue(await office.ids())
    await post.leave(b"without a row")
    with monkeypatch.context() as patched:
        patched.setattr(office.table, "keep", stopped)
        with pytest.raises(asyncio.CancelledError):
            await office.sweep()
    assert await post.bodies() == [b"without a row"]
    await post.leave(b"handled")
    await office.sweep()
    assert sorted(await post.bodies()) == [b"handled", b"without a row"]
    assert await office.texts() == ["handled", "without a row"]


async def test_an_event_that_fails_again_before_it_is_marked_waits(
    office: Office, events: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append_dead(events, "sentinel/a", b"event")
    await office.sweep()
    ids = await office.ids()

    async def stopped(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(dead_letter_topic, "mark", stopped)
        with pytest.raises(asyncio.CancelledError):
            await office.requeue(ids)
    await append_dead(events, "sentinel/a", b"event")  # by who keeps no rows
    await office.sweep()
    assert await office.ids() == ids
    await office.requeue(ids)
    await office.sweep()
    assert (await office.ids(), await look(office.settings)) == ([], [])


async def test_what_is_too_large_for_a_row_goes_back_whole(
    office: Office, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b"x" * (5 * MIB)
    await post.leave(body)
    await office.sweep()
    (kept,) = await office.letters()
    assert (kept.letter.size, kept.letter.is_whole) == (len(body), False)
    whole = await office.desk.one(None, kept.letter.id)
    assert len(whole.letter.body) == 4 * MIB
    await office.requeue([kept.letter.id])
    (back,) = await post.back()
    assert back.body == body
    assert await post.bodies() == []


async def test_bodies_that_are_in_rows_or_are_removed_count_for_nothing(
    office: Office, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not held in memory: together they may have any size."""
    monkeypatch.setattr(desks, "_MAX_HELD", 10 * MIB)
    small = [b"%d" % number + b"x" * MIB for number in range(12)]
    large = [b"%d" % number + b"x" * (5 * MIB) for number in range(3)]
    await post.leave(*small)
    await post.leave(*large, tenant="swot")
    await office.sweep()
    done = await office.requeue(await office.ids("sentinel"))
    assert len(done.where) == 12
    assert sorted(message.body for message in await post.back()) == sorted(small)
    ids = await office.ids("swot")
    with pytest.raises(NotPossibleError, match="too large to be put back at once; choose fewer"):
        await office.requeue(ids)
    assert len((await office.desk.remove(ADA, None, ids)).where) == 3
    assert await office.letters() == []
    assert await post.bodies() == []


async def test_a_large_topic_is_read_and_not_kept_in_memory(
    office: Office, events: EventLog
) -> None:
    for number in range(180):
        await append_dead(events, "sentinel/a", b"%d" % number + b"x" * (MIB // 2))
    tracemalloc.start()
    try:
        await office.sweep()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert await office.desk.count("sentinel", ALL) == 180
    assert most < 45 * MIB  # of 90
