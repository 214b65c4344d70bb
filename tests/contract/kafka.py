"""What Kafka does for those who append and for the agents that read, with Faust between them.

Where the brokers leave open what happens, a test allows each of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from app.errors import BrokerUnavailableError
from streams.channels import REQUESTS
from streams.kafka.log import EventLog

_PATIENCE = 120.0  # seconds, of the loop's clock
_LOOK = 0.1  # seconds between two looks

Positions = dict[tuple[str, int], int]  # by topic and partition


@dataclass(kw_only=True)
class Worker:
    """What reads the requests: a member of the group, as the brokers see it."""

    freeze: Callable[[], object]  # it is silent until it is thawed, if it ever is
    thaw: Callable[[], object]
    reader: Reader


@dataclass
class Reader:
    """What handles events, or holds them."""

    holds: bool | frozenset[bytes] = False  # all, or some
    read: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    handled: list[bytes] = field(default_factory=list)
    _held: list[asyncio.Future[None]] = field(default_factory=list)

    async def __call__(self, values: Sequence[bytes]) -> None:
        for value in values:
            self.read.put_nowait(value)
        if self.holds is True or (self.holds and self.holds & set(values)):
            self._held.append(asyncio.get_running_loop().create_future())
            await self._held[-1]
        self.handled += values

    def let(self) -> None:
        """Let what is held be handled; what comes later is held."""
        held, self._held = self._held, []
        for each in held:
            if not each.done():
                each.set_result(None)

    async def take(self, count: int) -> list[bytes]:
        async with asyncio.timeout(_PATIENCE):
            return [await self.read.get() for _ in range(count)]

    async def take_until(self, wanted: Iterable[bytes]) -> list[bytes]:
        """Return what is read until all of these are among it."""
        left, came = set(wanted), []
        while left:
            came += await self.take(1)
            left.discard(came[-1])
        return came


@dataclass(kw_only=True)
class Place(ABC):
    """Topics and a group of the test's own."""

    events: EventLog

    @abstractmethod
    def worker(self, reader: Reader | None = None) -> AbstractAsyncContextManager[Worker]:
        """Run a worker; it has joined the group."""

    @abstractmethod
    async def committed(self) -> Positions:
        """Return where the group reads on."""

    @abstractmethod
    async def commit(self, offset: int) -> None:
        """Let the group, which has no member, be there in each partition."""

    @abstractmethod
    async def delete_topics(self) -> None:
        """Delete all topics, as an operator does."""

    async def append(self, *values: bytes, key: bytes | None = None) -> None:
        """Append requests, one after the other; each has a key of its own, if none is given."""
        topic = self.events.topics.of(REQUESTS)
        for value in values:
            await self.events.append(topic, key=key or b"t/" + value, value=value)

    async def append_until(self, seen: Callable[[], object]) -> int:
        """Append requests until that is so; return how many were confirmed."""
        confirmed = 0
        async with asyncio.timeout(_PATIENCE):
            for number in itertools.count():
                if seen():
                    break
                with contextlib.suppress(BrokerUnavailableError):
                    await self.append(b"new %d" % number)
                    confirmed += 1
                await asyncio.sleep(_LOOK)
        return confirmed

    async def handled(self, count: int) -> Positions:
        """Return once so many requests are committed; return where."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                positions = await self.positions()
                if sum(positions.values()) >= count:
                    return positions
                await asyncio.sleep(_LOOK)

    async def positions(self) -> Positions:
        """Return where the group reads on in the requests."""
        topic = self.events.topics.of(REQUESTS)
        return {where: at for where, at in (await self.committed()).items() if where[0] == topic}


def numbered(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last + 1)]


class KafkaContract:
    """To be subclassed where there is a fixture `place`."""

    async def test_events_of_a_key_are_read_in_their_order_each_once(self, place: Place) -> None:
        sent = {key: [key + value for value in numbered(1, 8)] for key in (b"a", b"b", b"c")}
        async with place.worker() as worker:
            for values in zip(*sent.values(), strict=True):
                for key, value in zip(sent, values, strict=True):
                    await place.append(value, key=key)
            came = await worker.reader.take(24)
            await place.handled(24)
        assert {key: [value for value in came if value.startswith(key)] for key in sent} == sent
        assert worker.reader.read.empty()

    async def test_what_was_appended_before_a_worker_came_is_read(self, place: Place) -> None:
        whatever = [b"\x00\xff", b"", b"x" * 100_000]
        for number, value in enumerate(whatever):
            await place.append(value, key=b"%d" % number)
        async with place.worker() as worker:
            assert sorted(await worker.reader.take(3)) == sorted(whatever)

    async def test_a_new_worker_goes_on_where_the_last_commit_was(self, place: Place) -> None:
        async with place.worker() as worker:
            await place.append(*numbered(1, 5))
            await place.handled(5)
            worker.reader.holds = True
            await place.append(*numbered(6, 8))
            await worker.reader.take(2)  # a third waits: so many batches are handled at once
        async with place.worker() as worker:
            assert sorted(await worker.reader.take(3)) == numbered(6, 8)
            await place.handled(8)
            assert worker.reader.read.empty()

    async def test_nothing_is_committed_beyond_an_event_that_is_not_handled(
        self, place: Place
    ) -> None:
        async with place.worker(Reader(holds=frozenset({b"0"}))) as worker:
            await place.append(b"0")
            await worker.reader.take_until([b"0"])
            await place.append(*numbered(1, 9))
            await worker.reader.take_until(numbered(1, 9))
        async with place.worker() as worker:
            assert b"0" in await worker.reader.take_until([b"0"])
            await place.handled(10)

    async def test_what_a_silent_worker_had_not_committed_is_read_by_another(
        self, place: Place
    ) -> None:
        async with place.worker() as silent:
            await place.append(*numbered(1, 5))
            await silent.reader.take_until(numbered(1, 5))
            silent.reader.holds = True
            await place.append(*numbered(6, 8))
            await silent.reader.take(2)  # a third waits: so many batches are handled at once
            silent.freeze()
            async with place.worker() as other:
                came = await other.reader.take_until(numbered(6, 8))
                assert set(came) <= set(numbered(1, 8))  # what was handled may come again
                await place.handled(8)
            silent.reader.holds = False
            silent.reader.let()
            silent.thaw()

    async def test_a_second_worker_takes_a_part_and_each_event_is_read(self, place: Place) -> None:
        async with place.worker() as first:
            await place.append(*numbered(1, 10))
            await first.reader.take_until(numbered(1, 10))
            async with place.worker() as second:
                # (While they change places, both may read what was not committed.)
                number = await place.append_until(lambda: second.reader.handled)
                await place.append(*numbered(11, 30))
                await place.handled(30 + number)
                last = set(numbered(11, 30))
                divided = [last & set(each.reader.handled) for each in (first, second)]
                assert divided[0] | divided[1] == last
                assert all(divided)
                everything = {*first.reader.handled, *second.reader.handled}
                assert len(everything) == 30 + number

    async def test_a_late_commit_of_a_worker_that_was_silent_is_refused(self, place: Place) -> None:
        """It has handled what it read before; the one that took over has not."""
        held = frozenset({b"1", b"2"})
        async with place.worker(Reader(holds=held)) as silent:
            await place.append(b"0", key=b"k")
            (where,) = (at for at, offset in (await place.handled(1)).items() if offset)
            await place.append(b"1", b"2", key=b"k")
            await silent.reader.take_until([b"1"])
            silent.freeze()
            silent.reader.let()  # what it handles, it can't tell
            async with place.worker(Reader(holds=held)) as other:
                await other.reader.take_until([b"1"])
                silent.thaw()
                # It has told what it handled before it reads anything else.
                number = await place.append_until(lambda: silent.reader.handled[2:])
                assert (await place.positions())[where] == 1
                for each in (silent, other):
                    each.reader.holds = False
                    each.reader.let()
                await place.handled(3 + number)

    async def test_a_group_that_is_beyond_the_end_reads_from_the_beginning(
        self, place: Place
    ) -> None:
        await place.append(*numbered(1, 5))
        await place.commit(1000)
        async with place.worker() as worker:
            assert sorted(await worker.reader.take(5)) == numbered(1, 5)
            await place.append(b"6")
            await worker.reader.take_until([b"6"])
            async with asyncio.timeout(_PATIENCE):
                while sum((await place.positions()).values()) != 6:
                    await asyncio.sleep(_LOOK)

    async def test_topics_that_are_deleted_are_made_again_and_read(self, place: Place) -> None:
        """What is appended where the group believes to have been already may not be read."""
        async with place.worker() as worker:
            await place.append(*numbered(1, 5))
            await place.handled(5)
            await place.delete_topics()
            await place.append_until(lambda: len(worker.reader.handled) >= 15)
