"""Kafka in memory: partitions, one group, and what loses events or shows them twice.

- An event counts once it is confirmed; of one that is not, nothing is known.
- The group reads on from its last commit: what was handled since comes again.
- While a member is silent (frozen, away) another reads its partitions: for a while, both do.
- A commit of a member that has lost a partition is refused
  (https://kafka.apache.org/documentation/#design_consumergroups).
- Brokers that die together lose the end of a partition; an operator deletes a topic.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiokafka.errors import KafkaConnectionError
from mode import Service

from app.errors import StoreUnavailableError
from streams.kafka.topics import Topics
from tests.simulation.processes import Process
from tests.simulation.weather import Link, Weather, by_nobody

PARTY = "Kafka"
PARTITIONS = 2
_DEADLINE = 30.0  # seconds for a confirm
_SESSION_TIMEOUT = 10.0  # seconds until a silent member is out
_INTERVAL = 3.0  # seconds between heartbeats, each with a commit: about those of Faust

Where = tuple[str, int]  # topic and partition


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
        self.missing: tuple[str, ...] = ()  # topics that were found missing, until told
        self._readers: list[Consumer] = []
        # Who look on: at what is appended, and at what is passed over by a commit.
        self.on_append: Callable[[str, Record], object] = lambda *_: None
        self.on_commit: Callable[[str, Sequence[Record]], object] = lambda *_: None

    def append(self, topic: str, record: Record) -> None:
        """Append an event."""
        self.on_append(topic, record)
        number = zlib.crc32(record.key) % PARTITIONS
        self.records[topic, number].append(record)
        for reader in self._readers:
            reader.grows((topic, number))

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
                del records[-lost:]
                self.weather.note(f"{PARTY} loses the last {lost} of {where[0]}/{where[1]}")
                self.group.cut_back(where, len(records))

    def lose_topics(self) -> None:
        """Lose all events, as when an operator deletes the topics: new ones are empty."""
        self.weather.note(f"{PARTY}'s topics are deleted")
        for records in self.records.values():
            records.clear()
        self.missing = Topics().all
        self.group.rewind()

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
    ) -> None:
        """Append an event; return once it is confirmed."""
        del headers
        act = partial(self._log.append, topic, Record(key, value))
        tenant, _, correlation_id = key.decode().partition("/")
        about = tenant, correlation_id
        await self._link.ask(f"append to {topic}", act, away=KafkaConnectionError, about=about)

    async def send(self, topic: str, *, value: bytes, key: bytes) -> asyncio.Future[None]:
        """Append an event some time, unheard."""
        by_nobody(
            self._log.weather.later(PARTY), partial(self._log.append, topic, Record(key, value))
        )
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sent.set_result(None)
        return sent


@dataclass(eq=False)
class Member:
    """A consumer in the group, by its own knowledge."""

    process: Process
    generation: int = 0
    assigned: dict[Where, int] = field(default_factory=dict)  # where it reads next
    heard: float = 0.0  # when the brokers last heard of it


class Group:
    """The coordinator: who reads what, and how far."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.committed: dict[Where, int] = {}
        self.generation = 0
        self.owners: dict[Where, Member] = {}
        self.members: list[Member] = []

    def join(self, member: Member) -> None:
        """Take a member in, and divide the partitions again."""
        member.heard = asyncio.get_running_loop().time()
        if member not in self.members:
            self.members.append(member)
            self._divide()

    def leave(self, member: Member) -> None:
        """Let a member go."""
        if member in self.members:
            self.members.remove(member)
            self._divide()

    def hear(self, member: Member) -> bool:
        """Hear a heartbeat; return whether it is still a member."""
        member.heard = asyncio.get_running_loop().time()
        return member in self.members

    def skip(self, seconds: float) -> None:
        """Take no silence for one in which nothing happened."""
        for member in self.members:
            member.heard += seconds

    def expel(self) -> None:
        """Let go of members that are silent."""
        now = asyncio.get_running_loop().time()
        for member in list(self.members):
            if now - member.heard > _SESSION_TIMEOUT:
                self._log.weather.note(f"{PARTY} takes partitions from {member.process}")
                self.leave(member)

    def _divide(self) -> None:
        self.generation += 1
        self.owners = {}
        if self.members:
            for number, where in enumerate(self._log.records):
                self.owners[where] = self.members[number % len(self.members)]

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
                passed = self._log.records[where][self.committed.get(where, 0) : offset]
                self._log.on_commit(where[0], passed)
                self.committed[where] = offset
        return True

    def rewind(self) -> None:
        """Forget how far the group is."""
        self.committed = {}
        self._divide()

    def cut_back(self, where: Where, end: int) -> None:
        """Let the group be no further than the end."""
        self.committed[where] = min(self.committed.get(where, 0), end)
        self._divide()


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
        group.join(member)
        while not self.should_stop and not self._failed.is_set():
            away = PARTY in self._log.weather.down
            now = loop.time()
            if not away and now >= due:
                due = now + _INTERVAL
                if not group.hear(member):
                    group.join(member)
                group.commit(member, member.generation, dict(self._acks))
            if not away and member.generation != group.generation:
                await asyncio.sleep(self._log.weather.later(PARTY, longest=0.5))
                member.generation = group.generation
                member.assigned = group.assignment(member)
                self._acks = {}
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

    def _fetch(self, streams: dict[str, _Stream]) -> None:
        for where, offset in list(self._member.assigned.items()):
            if where[0] not in streams:
                continue
            records = self._log.records[where]
            for number in range(offset, len(records)):
                record = records[number]
                event = _Event(record.key, record.value, _Message(where), where, number, self._acks)
                streams[where[0]].waiting.put_nowait(event)
            self._member.assigned[where] = max(offset, len(records))
