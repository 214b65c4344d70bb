"""Dead letters as administrators see them: whose they are, how many, and back."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import aio_pika
import pytest
from pydantic import SecretStr

from app.errors import BrokerUnavailableError, NotPossibleError, UnknownDeadLetterError
from app.settings import Settings
from app.views.dead_letters import DeadLetter, DeadLetterList
from streams.amqp import names
from streams.amqp.dead_letters import QUEUES
from streams.amqp.topology import declare_topology
from streams.channels import CANCELS, DEAD_LETTERS, REQUESTS
from streams.kafka.log import EventLog, open_event_log
from streams.kafka.topics import ensure_topics
from streams.operators import dead_letters
from streams.operators.dead_letters import BrokerDeadLetters, LookLimits
from tests.integration.gate import gate

QUEUE = REQUESTS.queue.name
TENANTS = ("sentinel", "swot")
MIB = 1024 * 1024


class Post:
    """Leaves dead letters."""

    def __init__(self, channel: aio_pika.abc.AbstractChannel) -> None:
        self._channel = channel

    async def leave(
        self,
        *bodies: bytes,
        tenant: str | None = "sentinel",
        queue: str = "requests",
        **headers: Any,
    ) -> None:
        if tenant is not None:
            headers[names.HEADER_TENANT] = tenant
        exchange = self._channel.default_exchange
        await asyncio.gather(
            *(
                exchange.publish(
                    aio_pika.Message(body, headers=headers, message_id="m"), QUEUES[queue]
                )
                for body in bodies
            )
        )

    async def back(self) -> list[bytes]:
        """Return what was put back into the queue of requests."""
        queue = await self._channel.get_queue(QUEUE)
        found = []
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            found.append(message.body)
        return found


@pytest.fixture
async def post(settings: Settings) -> AsyncIterator[Post]:
    """Empty queues; they are empty after it, too."""
    connection = await aio_pika.connect(settings.amqp_url.get_secret_value())
    async with connection, connection.channel() as channel:
        await declare_topology(channel)
        queues = (QUEUE, *QUEUES.values())
        for queue in queues:
            await (await channel.get_queue(queue)).purge()
        yield Post(channel)
        for queue in queues:
            await (await channel.get_queue(queue)).purge()


@pytest.fixture
async def events(settings: Settings) -> AsyncIterator[EventLog]:
    """A log with topics of the test's own."""
    await ensure_topics(settings)
    async with open_event_log(settings) as opened:
        yield opened


MakeBox = Callable[..., BrokerDeadLetters]


@pytest.fixture
def make_box(settings: Settings, events: EventLog) -> MakeBox:
    """Make what is tested, with limits; it serves two tenants."""

    def make(**limits: Any) -> BrokerDeadLetters:
        return BrokerDeadLetters(settings, known=TENANTS.__contains__, limits=LookLimits(**limits))

    return make


@pytest.fixture
def box(make_box: MakeBox) -> BrokerDeadLetters:
    """One with the limits of the service."""
    return make_box()


async def append_dead(events: EventLog, key: str, *values: bytes) -> None:
    headers = [("origin-topic", events.topics.of(REQUESTS).encode()), ("reason", b"of this test")]
    for value in values:
        await events.append(
            events.topics.of(DEAD_LETTERS), key=key.encode(), value=value, headers=headers
        )


async def put_back(
    box: BrokerDeadLetters, tenant: str | None, ids: Sequence[str]
) -> dict[str, str]:
    """Put letters back; each is noted with where it went."""
    noted: dict[str, str] = {}

    @contextlib.asynccontextmanager
    async def audited(dead_letter: DeadLetter, place: str) -> AsyncIterator[None]:
        yield
        noted[dead_letter.id] = place

    where = await box.requeue(tenant, ids, audited=audited)
    assert where == noted
    return where


def texts(look: DeadLetterList) -> list[str]:
    return sorted(dead_letter.text for dead_letter in look.dead_letters)


def ids(look: DeadLetterList) -> list[str]:
    return [dead_letter.id for dead_letter in look.dead_letters]


async def test_the_dead_letters_of_one_tenant_hide_no_others(
    make_box: MakeBox, post: Post, events: EventLog
) -> None:
    box = make_box(kept=3)
    await post.leave(*(b"of sentinel %d" % number for number in range(700)))
    await post.leave(b"of swot", tenant="swot")
    await append_dead(events, "sentinel/a", *(b"event %d" % number for number in range(7)))
    await append_dead(events, "swot/b", b"event of swot")
    ours = await box.look("sentinel")
    assert len(ours.dead_letters) == 6
    assert [text for text in texts(ours) if "event" in text] == ["event 4", "event 5", "event 6"]
    assert ours.truncated
    theirs = await box.look("swot")
    assert (texts(theirs), theirs.truncated) == (["event of swot", "of swot"], False)


async def test_a_look_says_when_it_did_not_see_all(
    make_box: MakeBox, post: Post, events: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post.leave(b"a", b"b", b"c")
    assert not (await make_box().look("swot")).truncated
    few = make_box(read=2)
    for tenant in ("sentinel", "swot", None):
        assert (await few.look(tenant)).truncated
    assert len((await few.look("sentinel")).dead_letters) == 2
    assert (await make_box(seconds=0.0).look("swot")).truncated
    monkeypatch.setattr(dead_letters, "QUEUES", {})
    await append_dead(events, "sentinel/a", b"1", b"2", b"3")  # one partition
    seen = await make_box(read=1).look("sentinel")
    assert (texts(seen), seen.truncated) == (["3"], True)


async def test_looks_at_once_see_the_same_and_hide_nothing_from_each_other(
    make_box: MakeBox, post: Post
) -> None:
    box = make_box(fresh=0.0)
    await post.leave(*(b"%d" % number for number in range(100)))
    looks = await asyncio.gather(*(box.look("sentinel") for _ in range(4)))
    assert {len(look.dead_letters) for look in looks} == {100}
    assert len({tuple(sorted(ids(look))) for look in looks}) == 1
    some = ids(looks[0])[:10]
    where, after = await asyncio.gather(put_back(box, "sentinel", some), box.look("sentinel"))
    assert where == dict.fromkeys(some, QUEUE)
    assert len(after.dead_letters) == 90
    assert len(await post.back()) == 10


async def test_one_look_is_for_all_who_ask_within_some_seconds(
    box: BrokerDeadLetters, post: Post
) -> None:
    await post.leave(b"first")
    await post.leave(b"of swot", tenant="swot")
    first = await box.look("sentinel")
    await post.leave(b"second")
    assert ids(await box.look("sentinel")) == ids(first)
    assert texts(await box.look("swot")) == ["of swot"]
    await put_back(box, "sentinel", ids(first))  # tells that it is no longer so
    assert texts(await box.look("sentinel")) == ["second"]


async def test_dead_letters_of_other_services_and_of_no_known_tenant_are_the_instances(
    box: BrokerDeadLetters, post: Post, events: EventLog
) -> None:
    other = {names.HEADER_ORIGIN_QUEUE: "regards.broadcast.rs-order.SomeHandler"}
    ours = {names.HEADER_ORIGIN_QUEUE: QUEUE}
    await post.leave(b"of rs-order", queue="global", **other)
    await post.leave(b"of nobody's queue", queue="global")
    await post.leave(b"ours, the long way", queue="global", **ours)
    await post.leave(b"of a stranger", tenant="stranger")
    await post.leave(b"of no tenant", tenant=None)
    await post.leave(b"ours")
    await append_dead(events, "stranger/x", b"event of a stranger")
    assert texts(await box.look("sentinel")) == ["ours", "ours, the long way"]
    assert (await box.look("swot")).dead_letters == []
    assert (await box.look("stranger")).dead_letters == []
    everything = await box.look(None)
    assert len(everything.dead_letters) == 7
    foreign = [
        dead_letter.id for dead_letter in everything.dead_letters if dead_letter.owner is None
    ]
    assert len(foreign) == 5
    for id_ in foreign:
        with pytest.raises(UnknownDeadLetterError, match="there is no dead letter"):
            await put_back(box, "sentinel", [id_])
    stranger = [
        dead_letter.id
        for dead_letter in everything.dead_letters
        if dead_letter.text == "of a stranger"
    ]
    assert await put_back(box, None, stranger) == {stranger[0]: QUEUE}


async def test_dead_letters_that_differ_have_ids_that_differ(make_box: MakeBox, post: Post) -> None:
    box = make_box(fresh=0.0)
    await post.leave(b"x", b"x", kept="1")  # twice the same
    await post.leave(b"x", kept="2")
    await post.leave(b"x", queue="cancels", kept="1")
    seen = await box.look("sentinel")
    assert len(set(ids(seen))) == 4
    assert sorted(id_.partition(":")[2].partition(":")[0] for id_ in ids(seen)) == [
        *("cancels", "requests", "requests", "requests"),
    ]
    assert all(len(id_.rpartition(":")[2].partition("-")[0]) == 32 for id_ in ids(seen))
    assert ids(await box.look("sentinel")) == ids(seen)
    (cancel,) = (id_ for id_ in ids(seen) if "cancels" in id_)
    assert await put_back(box, "sentinel", [cancel]) == {cancel: CANCELS.queue.name}
    assert len((await box.look("sentinel")).dead_letters) == 3


async def test_all_are_put_back_or_none(
    box: BrokerDeadLetters, post: Post, events: EventLog
) -> None:
    await post.leave(b"message")
    await append_dead(events, "sentinel/a", b"event")
    message, event = ids(await box.look("sentinel"))
    for wrong in ("amqp:requests:" + "0" * 32, "event:0:99999", "event:x", "amqp:x", "nonsense"):
        with pytest.raises(UnknownDeadLetterError, match="nothing was put back"):
            await put_back(box, "sentinel", [message, event, wrong])
    with pytest.raises(UnknownDeadLetterError):
        await put_back(box, "swot", [message])
    assert await post.back() == []
    where = await put_back(box, "sentinel", [message, event])
    assert where == {message: QUEUE, event: events.topics.of(REQUESTS)}
    assert (await box.look("sentinel")).dead_letters == []
    with pytest.raises(UnknownDeadLetterError):
        await put_back(box, "sentinel", [event])


async def test_a_letter_that_cannot_go_back_is_told_and_nothing_was_put_back(
    make_box: MakeBox, post: Post, events: EventLog
) -> None:
    box = make_box(fresh=0.0)
    await post.leave(b"good")
    (good,) = ids(await box.look("sentinel"))
    await post.leave(b"of nowhere", queue="global")
    headers = [("reason", b"of this test")]
    await events.append(
        events.topics.of(DEAD_LETTERS), key=b"sentinel/a", value=b"of no topic", headers=headers
    )
    strays = [id_ for id_ in ids(await box.look(None)) if id_ != good]
    assert len(strays) == 2
    for stray in strays:
        with pytest.raises(NotPossibleError, match="does not say which"):
            await put_back(box, None, [good, stray])
    assert await post.back() == []


async def test_a_dead_letter_whose_queue_is_gone_is_told_and_stays(
    box: BrokerDeadLetters, post: Post
) -> None:
    gone = {names.HEADER_ORIGIN_QUEUE: "gone.queue"}
    await post.leave(b"of a queue that is gone", queue="global", **gone)
    (one,) = ids(await box.look(None))
    with pytest.raises(NotPossibleError, match=r"there is no queue gone\.queue"):
        await put_back(box, None, [one])
    assert ids(await box.look(None)) == [one]


async def test_rabbitmq_that_goes_away_in_a_look_is_told(
    settings: Settings, events: EventLog, post: Post
) -> None:
    await post.leave(b"one", b"two")
    async with gate(settings.amqp_url.get_secret_value()) as way:

        def known(_tenant: str) -> bool:
            way.cut()
            return True

        box = BrokerDeadLetters(
            settings.model_copy(update={"amqp_url": SecretStr(way.url)}),
            known=known,
        )
        with pytest.raises(BrokerUnavailableError, match="RabbitMQ"):
            await box.look("sentinel")


async def test_kafka_that_goes_away_before_events_go_back_is_told(
    settings: Settings, events: EventLog, post: Post, box: BrokerDeadLetters
) -> None:
    await post.leave(b"message")
    await append_dead(events, "sentinel/a", b"event")
    both = ids(await box.look("sentinel"))
    async with gate(f"kafka://{settings.kafka_bootstrap_servers}") as way:
        here = way.url.removeprefix("kafka://")
        box = BrokerDeadLetters(
            settings.model_copy(update={"kafka_bootstrap_servers": here}),
            known=TENANTS.__contains__,
        )

        @contextlib.asynccontextmanager
        async def audited(_dead_letter: DeadLetter, _place: str) -> AsyncIterator[None]:
            await way.shut()
            yield

        with pytest.raises(BrokerUnavailableError, match="Kafka"):
            await box.requeue("sentinel", both, audited=audited)


async def test_large_letters_are_put_back_bit_by_bit(
    make_box: MakeBox, post: Post, events: EventLog
) -> None:
    box = make_box(put_back=100)  # bytes
    await post.leave(b"a" * 150, b"b" * 150)
    await append_dead(events, "sentinel/a", b"c" * 150, b"d" * 150)
    seen = ids(await box.look("sentinel"))
    for several in (seen[:2], seen[2:]):
        with pytest.raises(NotPossibleError, match="choose fewer"):
            await put_back(box, "sentinel", several)
    for id_ in seen:
        assert (await put_back(box, "sentinel", [id_])).keys() == {id_}


async def test_an_event_that_was_put_back_and_failed_again_is_another(
    box: BrokerDeadLetters, events: EventLog, post: Post
) -> None:
    await append_dead(events, "sentinel/a", b"event")
    (first,) = ids(await box.look("sentinel"))
    await put_back(box, "sentinel", [first])
    await append_dead(events, "sentinel/a", b"event")
    (second,) = ids(await box.look("sentinel"))
    assert first != second


async def test_a_large_topic_is_read_and_not_kept(
    box: BrokerDeadLetters, events: EventLog, post: Post
) -> None:
    for _ in range(180):
        await append_dead(events, "sentinel/a", b"x" * (MIB // 2))
    tracemalloc.start()
    try:
        seen = await box.look("sentinel")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(seen.dead_letters) == 180
    assert most < 45 * MIB  # of 90


async def test_a_broker_that_is_away_is_told_to_all_who_wait(
    settings: Settings, events: EventLog
) -> None:
    away = settings.model_copy(update={"amqp_url": type(settings.amqp_url)("amqp://127.0.0.1:1/")})
    box = BrokerDeadLetters(away, known=TENANTS.__contains__)
    said = await asyncio.gather(
        *(box.look(tenant) for tenant in ("sentinel", "swot")), return_exceptions=True
    )
    assert all(isinstance(error, BrokerUnavailableError) for error in said)
