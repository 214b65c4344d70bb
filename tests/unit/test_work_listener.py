"""A worker is woken by commits of others: at once, and again after its line was cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import cast
from uuid import uuid4

from app.delivery import outgoing
from app.delivery.lease import Lease
from app.delivery.model import Delivery
from app.delivery.outgoing import Kind
from app.delivery.ports import Leases
from app.delivery.states import Work
from app.errors import DeliveryError, StoreUnavailableError
from app.store.memory import MemoryDatabase, MemoryStore, MemoryWorkNews
from app.store.memory.database import ListeningLine
from app.waiting.grace import Grace
from app.waiting.own_news import OwnNews
from app.waiting.wakeup import Wakeup
from streams.work.listener import WorkListener
from streams.work.slots import Slots
from tests.builders import make_delivery

NEVER = 3600.0  # seconds between looks that no test waits for


class Server(MemoryDatabase):
    """A server that tells when a line is there, and cuts one."""

    def __init__(self) -> None:
        super().__init__()
        self.own = OwnNews[Work]()  # of one process
        self.store = MemoryStore(self, Wakeup(), woken=self.own.tell)

    async def ready(self, kind: Kind) -> None:
        """Commit that there is work."""
        async with self.store.transaction() as tx:
            await tx.hint(outgoing.wake(make_delivery(), kind))

    def cut(self) -> None:
        lines: list[ListeningLine] = list(self.lines)
        for line in lines:
            self.lines.pop(line)
            line.cut()


def listener(
    server: Server, news: MemoryWorkNews | None = None
) -> tuple[WorkListener, dict[Work, Wakeup]]:
    wake = {work: Wakeup() for work in Work}
    news = news or MemoryWorkNews(server)
    return WorkListener(news, own=server.own, wake=wake, retry_interval=0), wake


class FewLines(MemoryWorkNews):
    """Gives a line only when it is let: a pooler, or a firewall, may allow none."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.refused = asyncio.Event()
        self.allowed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Callable[[], Awaitable[frozenset[Work]]]]:
        if not self.allowed.is_set():
            self.refused.set()
            raise StoreUnavailableError("no line for the test")
        async with super().listening() as due:
            yield due


async def test_only_those_are_woken_that_do_such_work() -> None:
    server = Server()
    heard, wake = listener(server)
    waiting = {work: wake[work].waiter() for work in Work}
    await heard.start()
    async with asyncio.timeout(30):
        for waiter in waiting.values():
            await waiter.wait(NEVER)  # each looks once, when the line is there
        await server.ready(Kind.ORDER_READY)
        await waiting[Work.PLAN].wait(NEVER)
    await heard.stop()
    assert not waiting[Work.TRANSFER].event.is_set()
    assert not waiting[Work.CHECK].event.is_set()


async def test_after_a_cut_it_listens_again_and_looks_for_what_was_missed() -> None:
    server = Server()
    heard, wake = listener(server)
    waiter = wake[Work.TRANSFER].waiter()
    await heard.start()
    async with asyncio.timeout(30):
        await waiter.wait(NEVER)
        server.cut()
        await waiter.wait(NEVER)
        await server.ready(Kind.TRANSFER)
        await waiter.wait(NEVER)
    await heard.stop()


async def test_while_there_is_no_line_a_process_is_woken_by_its_own_commits() -> None:
    """What a quota lets through, as a delivery ends here, waits for no look by the clock."""
    server = Server()
    news = FewLines(server)
    heard, wake = listener(server, news)
    waiting = {work: wake[work].waiter() for work in Work}
    await heard.start()
    async with asyncio.timeout(30):
        await news.refused.wait()
        await server.ready(Kind.TRANSFER)
        await waiting[Work.TRANSFER].wait(NEVER)
        async with server.store.transaction() as tx:
            tx.wake(Work.CHECK)
        await waiting[Work.CHECK].wait(NEVER)
        assert not waiting[Work.PLAN].event.is_set()
        news.allowed.set()
        for waiter in waiting.values():
            await waiter.wait(NEVER)  # each looks once, when the line is there
    await heard.stop()


async def test_after_a_cut_a_process_is_woken_by_its_own_commits_at_once() -> None:
    server = Server()
    news = FewLines(server)
    news.allowed.set()
    heard, wake = listener(server, news)
    waiter = wake[Work.TRANSFER].waiter()
    await heard.start()
    async with asyncio.timeout(30):
        await waiter.wait(NEVER)
        news.allowed.clear()
        server.cut()
        await news.refused.wait()
        assert not waiter.event.is_set()
        await server.ready(Kind.TRANSFER)
        await waiter.wait(NEVER)
    await heard.stop()


async def test_while_there_is_a_line_a_commit_is_told_by_that_alone() -> None:
    """Told twice, it would be looked for twice."""
    server = Server()
    heard, wake = listener(server)
    waiter = wake[Work.TRANSFER].waiter()
    await heard.start()
    async with asyncio.timeout(30):
        await waiter.wait(NEVER)
        server.own.tell(frozenset({Work.TRANSFER}))
        assert not waiter.event.is_set()
    await heard.stop()


@dataclass(eq=False)
class Queue:
    """What is due, for all workers."""

    due: list[Delivery] = field(default_factory=list)

    async def claim(self, _kind: Work) -> Delivery | None:
        return replace(self.due.pop(0), attempt=1) if self.due else None

    async def renew(self, _delivery: Delivery) -> bool:
        return True

    holds = renew


class Worker:
    """Slots that look by themselves so rarely that no test sees it."""

    def __init__(self, server: Server, queue: Queue) -> None:
        self.listener, wake = listener(server)
        self.began: asyncio.Queue[Delivery] = asyncio.Queue()
        self.ends = asyncio.Event()
        self.slots = Slots(
            kind=Work.TRANSFER,
            count=1,
            work=self._work,
            settle=self._settle,
            leases=cast("Leases", queue),
            wake=wake[Work.TRANSFER],
            interval=NEVER,
            lease_ttl=NEVER,
            grace=Grace(0),
        )

    async def start(self) -> None:
        await self.slots.start()
        await self.listener.start()

    async def stop(self) -> None:
        self.ends.set()
        await self.listener.stop()
        await self.slots.stop()

    async def _work(self, delivery: Delivery, _lease: Lease) -> None:
        await self.began.put(delivery)
        await self.ends.wait()

    async def _settle(self, _delivery: Delivery, error: DeliveryError) -> None:
        raise AssertionError(error)


async def test_where_one_worker_is_full_another_is_woken_and_waits_for_no_look_of_its_own() -> None:
    """An event of Kafka goes to one worker alone: that may be the one without room."""
    server, queue = Server(), Queue()
    full, free = Worker(server, queue), Worker(server, queue)
    first, second = make_delivery(id=uuid4()), make_delivery(id=uuid4())
    async with asyncio.timeout(30):
        await full.start()
        queue.due.append(first)
        await server.ready(Kind.TRANSFER)
        assert (await full.began.get()).id == first.id
        await free.start()
        queue.due.append(second)
        await server.ready(Kind.TRANSFER)
        assert (await free.began.get()).id == second.id
    assert full.began.empty()
    await full.stop()
    await free.stop()
