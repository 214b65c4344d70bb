"""Kafka in memory: partitions, one group, and what loses events or shows them twice.

It keeps `tests/contract/kafka.py`, which the brokers keep, with Faust before them:

- an event counts once it is confirmed; of one that is not, nothing is known
  (https://kafka.apache.org/documentation/#producerconfigs_acks);
- the group reads on from its last commit: what was handled since comes again
  (https://kafka.apache.org/documentation/#semantics);
- while a member is silent (frozen, away) another reads its partitions: for a while, both do;
- a commit of a member that has lost a partition is refused
  (https://kafka.apache.org/protocol#protocol_error_codes: ILLEGAL_GENERATION);
- brokers that die together lose the end of a partition, also of what was confirmed
  (https://kafka.apache.org/documentation/#design_ha); an operator deletes a topic. Offsets may
  outlive what they count: who is beyond the end reads nothing, or goes on behind what was appended
  meanwhile, and begins again once that is noticed (`tests/integration/test_rewound.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from aiokafka.errors import KafkaConnectionError, UnknownTopicOrPartitionError
from mode import Service

from app.errors import StoreUnavailableError
from streams.kafka.topics import Topics
from tests.simulation.processes import Process
from tests.simulation.weather import Link, Weather, by_no_process

PARTY = "Kafka"
PARTITIONS = 2
_DEADLINE = 30.0  # seconds for a confirm
_SESSION_TIMEOUT = 10.0  # seconds until a silent member is out
_INTERVAL = 3.0  # seconds between heartbeats, each with a commit: about those of Faust
_REBALANCE_TIMEOUT = 8.0  # seconds until one that does not join again is out
_STUCK_AFTER = 30.0  # seconds that a partition may make no progress, until Faust's app is replaced

Where = tuple[str, int]  # topic and partition


class Place(NamedTuple):
    """Where an event is in its topic."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Record:
    """An event in a partition."""

    key: bytes
    value: bytes


class Log:
    """The brokers."""

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        self.records: dict[Where, list[Record]] = {
            (topic, number): [] for topic in Topics().all for number in range(PARTITIONS)
        }
        self.group = Group(self)
        # Where a partition ended before it lost events. Offsets up to there, which outlive a loss,
        # count others since: those may be passed over.
        self.ended: defaultdict[Where, int] = defaultdict(int)
        self.missing: tuple[str, ...] = ()  # topics that were found missing, until told
        self._readers: list[Consumer] = []
        # Who look on: at what is appended, and at what is passed over by a commit.
        self.on_append: Callable[[str, Record], object] = lambda *_: None
        self.on_commit: Callable[[str, Sequence[Record]], object] = lambda *_: None

    def append(self, topic: str, record: Record) -> Place:
        """Append an event; return where it is. Raises UnknownTopicOrPartitionError."""
        if topic in self.missing:
            raise UnknownTopicOrPartitionError(topic)
        self.on_append(topic, record)
        number = zlib.crc32(record.key) % PARTITIONS
        self.records[topic, number].append(record)
        for reader in self._readers:
            reader.grows((topic, number))
        return Place(number, len(self.records[topic, number]) - 1)

    def wake(self) -> None:
        """Let all consumers look at their group."""
        for reader in self._readers:
            reader.wake()

    def watch(self, reader: Consumer) -> None:
        """Tell a consumer whenever there is more to read."""
        self._readers.append(reader)

    def unwatch(self, reader: Consumer) -> None:
        """Tell it no more."""
        self._readers.remove(reader)

    def lose_ends(self) -> None:
        """Lose the last events of each partition, as brokers do that die together."""
        stream = self.weather.draws.of("lost ends")
        for where, records in self.records.items():
            lost = stream.randint(0, 3)
            if records and lost:
                self._note_end(where)
                del records[-lost:]
                self.weather.note(f"{PARTY} loses the last {lost} of {where[0]}/{where[1]}")

    def lose_topics(self) -> None:
        """Lose all events, as when an operator deletes the topics: new ones are empty.

        Where the group was in them may be forgotten, too.
        """
        self.weather.note(f"{PARTY}'s topics are deleted")
        for where, records in self.records.items():
            self._note_end(where)
            records.clear()
        self.missing = Topics().all
        if self.weather.draws.of("lost topics").random() < 0.5:
            self.group.committed = {}

    def _note_end(self, where: Where) -> None:
        self.ended[where] = max(self.ended[where], len(self.records[where]))

    def rewind(self) -> None:
        """Forget commits: the group reads from the beginning."""
        self.weather.note(f"{PARTY} forgets what was committed")
        self.group.rewind()


class Producer:
    """What a process writes with, as aiokafka has it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._link = Link(party=PARTY, weather=log.weather, deadline=_DEADLINE)

    async def send_and_wait(
        self, topic: str, *, value: bytes, key: bytes, headers: object = None
    ) -> Place:
        """Append an event; return where it is, once that is confirmed."""
        del headers
        act = partial(self._log.append, topic, Record(key, value))
        tenant, _, correlation_id = key.decode().partition("/")
        about = tenant, correlation_id
        return await self._link.ask(
            f"append to {topic}", act, away=KafkaConnectionError, about=about
        )

    async def send(self, topic: str, *, value: bytes, key: bytes) -> asyncio.Future[None]:
        """Append an event some time, unheard."""

        def arrives() -> None:
            with contextlib.suppress(UnknownTopicOrPartitionError):
                self._log.append(topic, Record(key, value))

        by_no_process(self._log.weather.later(PARTY), arrives)
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sent.set_result(None)
        return sent


@dataclass(eq=False)
class Member:
    """A consumer in the group, by its own knowledge."""

    process: Process
    generation: int = 0
    assigned: dict[Where, int] = field(default_factory=dict)  # where it reads next
    beyond: dict[Where, float] = field(default_factory=dict)  # since when it is beyond the end
    heard: float = 0.0  # when the brokers last heard of it


class Group:
    """The coordinator: who reads what, and how far.

    Whenever a member comes or goes, all join again, and a new generation begins once they have, or
    without those that are silent for too long.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self.committed: dict[Where, int] = {}
        self.generation = 0
        self.owners: dict[Where, Member] = {}
        self.members: list[Member] = []
        self._joined: dict[Member, None] | None = None  # while they join again

    def join(self, member: Member) -> None:
        """Take a member in, or in again."""
        member.heard = asyncio.get_running_loop().time()
        if member not in self.members:
            self.members.append(member)
        self._rebalance()[member] = None
        self._begin_if_all_have_joined()

    def leave(self, member: Member) -> None:
        """Let a member go."""
        if member in self.members:
            self.members.remove(member)
            self._rebalance().pop(member, None)
            self._begin_if_all_have_joined()

    def hear(self, member: Member) -> bool:
        """Hear a heartbeat; return whether all is as it was: if not, it has to join again."""
        member.heard = asyncio.get_running_loop().time()
        return member in self.members and (self._joined is None or member in self._joined)

    def skip(self, seconds: float) -> None:
        """Take no member for silent in time that was skipped."""
        for member in self.members:
            member.heard += seconds

    def expel(self) -> None:
        """Let go of members that are silent."""
        now = asyncio.get_running_loop().time()
        for member in list(self.members):
            if PARTY in self._log.weather.down:
                member.heard = now  # it is not the member that is silent
            elif now - member.heard > _SESSION_TIMEOUT:
                self._log.weather.note(f"{PARTY} takes partitions from {member.process}")
                self.leave(member)

    def _rebalance(self) -> dict[Member, None]:
        if self._joined is None:
            self._joined = {}
            by_no_process(_REBALANCE_TIMEOUT, partial(self._begin, self.generation))
        return self._joined

    def _begin_if_all_have_joined(self) -> None:
        if self._joined is not None and len(self._joined) == len(self.members):
            self._begin(self.generation)

    def _begin(self, after: int) -> None:
        if self._joined is None or after != self.generation:
            return
        self.members = [member for member in self.members if member in self._joined]
        self._joined = None
        self.generation += 1
        self.owners = {}
        if self.members:
            for number, where in enumerate(self._log.records):
                self.owners[where] = self.members[number % len(self.members)]
        self._log.wake()

    def is_new_to(self, member: Member) -> bool:
        """Whether a generation has begun of which a member does not know what it reads."""
        return (
            self._joined is None and member in self.members and member.generation != self.generation
        )

    def assignment(self, member: Member) -> dict[Where, int]:
        """Return what a member reads, and from where."""
        return {
            where: self.committed.get(where, 0)
            for where, owner in self.owners.items()
            if owner is member
        }

    def commit(self, member: Member, generation: int, offsets: dict[Where, int]) -> bool:
        """Note how far a member is; False when it is not its to say."""
        if generation != self.generation or member not in self.members:
            return False
        for where, offset in offsets.items():
            if self.owners.get(where) is member:
                begin = max(self.committed.get(where, 0), self._log.ended[where])
                passed = self._log.records[where][begin:offset]
                self._log.on_commit(where[0], passed)
                self.committed[where] = offset
        return True

    def rewind(self) -> None:
        """Forget how far the group is, which is gathered again."""
        self.committed = {}
        self._rebalance()


@dataclass(frozen=True)
class _Event:
    """An event, as Faust gives it to an agent."""

    key: bytes
    value: bytes
    message: Any
    where: Where
    offset: int
    acks: dict[Where, int]

    def ack(self) -> None:
        """Let the offset be committed."""
        self.acks[self.where] = max(self.acks.get(self.where, 0), self.offset + 1)


@dataclass(frozen=True)
class _Message:
    tp: Where


class _Stream:
    """A stream of one topic, as an agent reads it."""

    def __init__(self, topic: str, taken: Callable[[], object]) -> None:
        self._topic = topic
        self._taken = taken
        self.waiting: asyncio.Queue[_Event] = asyncio.Queue()

    @property
    def channel(self) -> _Stream:
        return self

    def get_topic_name(self) -> str:
        return self._topic

    def noack(self) -> _Stream:
        return self

    async def events(self) -> AsyncIterator[_Event]:
        while True:
            yield await self.waiting.get()
            self._taken()


class Consumer(Service):
    """A worker's consumer: what Faust does around the agents, which are the real ones."""

    def __init__(
        self,
        log: Log,
        process: Process,
        agents: Callable[[Callable[[BaseException], Awaitable[None]]], Mapping[str, Any]],
        *,
        lost: Callable[[Sequence[str]], Awaitable[None]],
        taken: Callable[[], object],
    ) -> None:
        """`agents` makes them of what they crash by; `lost` is told of topics that were missing.

        `taken` is called each time an agent has taken an event.
        """
        super().__init__()
        self._log = log
        self._process = process
        self._make_agents = agents
        self._lost = lost
        self._taken = taken
        self._member = Member(process)
        self._grown = asyncio.Event()
        self._acks: dict[Where, int] = {}
        self._running: list[asyncio.Task[None]] = []
        self._failed = asyncio.Event()

    @Service.task
    async def _run(self) -> None:
        while not self.should_stop:
            self._failed.clear()
            streams = self._start_agents()
            group = self._log.group
            self._log.watch(self)
            try:
                await self._read(group, streams)
            finally:
                self._log.unwatch(self)
                for task in self._running:
                    task.cancel()

    def grows(self, where: Where) -> None:
        """Hear that a partition has more."""
        if where in self._member.assigned:
            self._grown.set()

    def wake(self) -> None:
        """Look at the group."""
        self._grown.set()

    def _start_agents(self) -> dict[str, _Stream]:
        self._acks = {}
        agents = self._make_agents(self._agent_failed)
        streams = {topic: _Stream(topic, self._taken) for topic in agents}
        self._running = [asyncio.create_task(run(streams[topic])) for topic, run in agents.items()]
        return streams

    async def _agent_failed(self, _error: BaseException) -> None:
        self._failed.set()
        self._grown.set()

    async def _read(self, group: Group, streams: dict[str, _Stream]) -> None:
        member = self._member
        loop = asyncio.get_running_loop()
        due = loop.time()
        member.assigned, member.beyond = {}, {}
        group.join(member)
        while not self.should_stop and not self._failed.is_set():
            away = PARTY in self._log.weather.down
            now = loop.time()
            if not away and now >= due:
                due = now + _INTERVAL
                if not group.hear(member):
                    group.commit(member, member.generation, dict(self._acks))
                    member.assigned = {}
                    group.join(member)
                group.commit(member, member.generation, dict(self._acks))
            if not away and group.is_new_to(member):
                await asyncio.sleep(self._log.weather.later(PARTY, longest=0.5))
            if not away and group.is_new_to(member):
                member.generation = group.generation
                member.assigned = group.assignment(member)
                member.beyond = {}
                self._acks = {}
                self._begin_again()
            if not away:
                await self._look_for_topics()
                self._fetch(streams)
            self._grown.clear()
            try:
                async with asyncio.timeout(_INTERVAL):
                    await self._grown.wait()
            except TimeoutError:
                pass
        group.commit(member, member.generation, dict(self._acks))
        group.leave(member)

    async def _look_for_topics(self) -> None:
        if self._log.missing:
            try:
                await self._lost(self._log.missing)
            except StoreUnavailableError:
                return  # at the next look
            self._log.missing = ()
            self._failed.set()

    def _begin_again(self) -> None:
        """Let the group be nowhere that is beyond an end: Faust's transport looks for that."""
        member, group = self._member, self._log.group
        for where, offset in member.assigned.items():
            if offset > len(self._log.records[where]):
                member.assigned[where] = 0
                group.commit(member, member.generation, {where: 0})

    def _fetch(self, streams: dict[str, _Stream]) -> None:
        for where, offset in list(self._member.assigned.items()):
            if where[0] not in streams:
                continue
            records = self._log.records[where]
            if offset > len(records):
                now = asyncio.get_running_loop().time()
                if now - self._member.beyond.setdefault(where, now) > _STUCK_AFTER:
                    self._failed.set()  # its supervisor has noticed
                continue
            self._member.beyond.pop(where, None)
            for number in range(offset, len(records)):
                record = records[number]
                event = _Event(record.key, record.value, _Message(where), where, number, self._acks)
                streams[where[0]].waiting.put_nowait(event)
            self._member.assigned[where] = max(offset, len(records))
