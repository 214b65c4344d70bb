"""A worker of a night: the real parts, put together by the real composition.

The services are named as `app.run.wiring.worker.WorkerServices` names them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from app.audit import Actor
from app.delivery.attempts import Archived
from app.delivery.model import Delivery
from app.delivery.notices import silent
from app.delivery.outgoing import Lane, OutgoingMessage
from app.delivery.states import Work
from app.delivery.targets import Blocked, TargetKinds
from app.delivery.webhooks import WEBHOOKS
from app.errors import DeliveryError, SourceUnavailableError
from app.run import worker as composition
from app.settings import Settings
from app.store.memory import (
    MemoryArrivals,
    MemoryCheckpoints,
    MemoryConfiguration,
    MemoryContents,
    MemoryOutbox,
    MemoryStore,
    MemoryTracking,
    MemoryWebhooks,
    MemoryWorkers,
    MemoryWorkNews,
)
from app.store.woken import unpublished
from app.tenants.quotas import QuotaValue
from app.tenants.registry import ConfiguredTenants
from app.tenants.values import Configuration, StoredValue
from app.tenants.vault import vault_of
from app.usecases.intervene import Interventions
from app.usecases.quotas import Quotas
from app.usecases.reconcile import topics_lost
from app.waiting.own_news import OwnNews
from app.waiting.patience import Patience
from app.waiting.wakeup import Wakeup
from sinks.formats import formats_with
from sinks.formats.tar_zst import DEFAULT_LEVEL
from sinks.pipeline.budget import Budget
from sinks.stores.memory import MemoryTarget
from sinks.transfer import StreamingArchiver
from streams.amqp.publisher import AmqpPublisher, open_channel
from streams.amqp.topology import Topology
from streams.bridge import Bridge
from streams.channels import KAFKA
from streams.kafka.agents import Dependencies, agent, handler_of
from streams.kafka.dispatch import Dispatcher
from streams.kafka.hints import HintPublisher
from streams.kafka.log import EventLog
from streams.kafka.topics import Topics
from streams.work.admissions import Admissions
from streams.work.couriers import Couriers
from streams.work.listener import WorkListener
from streams.work.slots import Slots
from streams.work.timers import Timer
from tests.simulation import archives, kafka, rabbitmq
from tests.simulation.pauses import HeedingLeases
from tests.simulation.plan import TENANTS, Step
from tests.simulation.postgres import Leadership, SimulatedDatabase
from tests.simulation.processes import Process
from tests.simulation.rs_order import RsOrder, Source
from tests.simulation.targets import Objects, Shelf
from tests.simulation.weather import Weather
from tests.simulation.webhooks import Webhooks, setting_of

KINDS = TargetKinds(MemoryTarget)
EVENTS = "events of an agent"
MOST_EVENTS = 8
_PART_SIZE = 4 * 1024 * 1024
# A night has the same memory on each machine.
_FORMATS = formats_with(zstd_level=DEFAULT_LEVEL, deflate_threads=2)


@dataclass(frozen=True, kw_only=True)
class Parties:
    """Whom all workers talk to, and how their networks are."""

    weather: Weather
    database: SimulatedDatabase
    leader: Leadership
    broker: rabbitmq.Broker
    log: kafka.Log
    shelf: Shelf
    rs_order: RsOrder
    webhooks: Webhooks | None = None  # None: no tenant has any
    quota: Mapping[str, Any] | None = None  # of each tenant; None: none has one


async def declare(broker: rabbitmq.Broker) -> None:
    """Declare what workers declare when they start: the night is not their first."""
    connection: Any = rabbitmq.Connection(broker, Process("yesterday"))
    await Topology().all(await open_channel(connection))
    await connection.close()


class _Janitor:
    async def forget(self, *, finished: timedelta, audited: timedelta) -> int:
        """A night is too short for anything to be old."""
        del finished, audited
        return 0


@dataclass(frozen=True)
class _Users:
    """rs-admin: it knows who has a name that it knows. It may be slow, or away for a request."""

    weather: Weather

    def remembers(self, tenant: str, email: str) -> bool:
        del tenant
        return email.startswith("known")

    async def known(self, tenant: str, email: str) -> bool:
        slow = self.weather.strikes("rs-admin is slow")
        await asyncio.sleep(self.weather.draws.of("rs-admin").uniform(0.5, 20) if slow else 0.01)
        if self.weather.strikes("rs-admin is away"):
            raise SourceUnavailableError(f"rs-admin can't be asked about user {email} of {tenant}")
        return not email.startswith("stranger")


def ignored(_what: str) -> None:
    """It is not looked at."""


def _report(_progress: object) -> None:
    """It is not looked at."""


@dataclass(frozen=True, kw_only=True)
class _Database:
    """See `app.run.wiring.database.PostgresDatabase`."""

    settings: Settings
    memory: SimulatedDatabase
    leader: Leadership
    patience: timedelta = timedelta()  # with which another order's answer is waited for
    owed: Wakeup = field(default_factory=Wakeup)
    hinted: Callable[[Sequence[OutgoingMessage]], object] = unpublished
    own: OwnNews[Work] = field(default_factory=OwnNews)
    wrong: Callable[[str], None] = ignored  # told what must not be

    @cached_property
    def store(self) -> MemoryStore:
        return MemoryStore(self.memory, self.owed, hinted=self.hinted, woken=self.own.tell)

    @cached_property
    def arrivals(self) -> MemoryArrivals:
        return MemoryArrivals(self.memory, allowance=self.settings.event_duration)

    @cached_property
    def tracking(self) -> MemoryTracking:
        return MemoryTracking(self.memory)

    def contents(self) -> MemoryContents:
        return MemoryContents(self.memory)

    @cached_property
    def webhooks(self) -> MemoryWebhooks:
        return MemoryWebhooks(self.memory)

    def outbox(self) -> MemoryOutbox:
        return MemoryOutbox(
            self.memory, batch=self.settings.outbox_batch_size, patience=self.patience
        )

    def janitor(self) -> _Janitor:
        return _Janitor()

    def presence(self) -> MemoryWorkers:
        return MemoryWorkers(self.memory, worker=self.settings.worker_id, version="1", slots=1)

    def work_news(self) -> MemoryWorkNews:
        return MemoryWorkNews(self.memory)

    def leases(
        self, *, blocked: Callable[[], Blocked], archived: Callable[[Delivery], int | None]
    ) -> HeedingLeases:
        return HeedingLeases(
            self.memory,
            wrong=self.wrong,
            owner=self.settings.worker_id,
            ttl=self.settings.lease_duration,
            transfers_per_tenant=self.settings.max_transfers_per_tenant or None,
            blocked=blocked,
            archived=archived,
        )

    def checkpoints(self) -> MemoryCheckpoints:
        return MemoryCheckpoints(self.memory, owner=self.settings.worker_id)


@dataclass(kw_only=True)
class Held:
    """Where a worker keeps what it has in memory."""

    process: Process
    arrivals: MemoryArrivals
    owed: Wakeup
    wake: Mapping[Work, Wakeup]
    relays: int = 0
    since: float = 0.0  # by the clock of the night
    slots: Sequence[Slots] = ()
    memory: Budget = field(default_factory=lambda: Budget(0))
    dispatchers: list[Dispatcher] = field(default_factory=list)
    bridge: Bridge | None = None

    def compare_events(self) -> None:
        """Compare how many events each agent has with what it may have."""
        for dispatcher in self.dispatchers:
            self.process.compare(EVENTS, dispatcher._events)


def _tenants(parties: Parties, settings: Settings) -> ConfiguredTenants:
    """Return the tenants, each with what it has set."""
    tenants = ConfiguredTenants(settings, KINDS)
    if own := _set(parties):
        tenants.apply(Configuration(settings=own))
    return tenants


def _set(parties: Parties) -> dict[str, dict[str, StoredValue]]:
    own: dict[str, dict[str, StoredValue]] = {}
    if parties.webhooks is not None:
        for tenant in parties.webhooks.tenants:
            own[tenant] = {WEBHOOKS: StoredValue(value=setting_of(tenant), version=1)}
    if parties.quota is not None:
        value = QuotaValue.model_validate(parties.quota).model_dump(mode="json")
        for tenant in TENANTS:
            own.setdefault(tenant, {})["quota"] = StoredValue(value=value, version=1)
    return own


async def _hear(parties: Parties, tenants: ConfiguredTenants) -> None:
    """Take in what is paused: as a process hears of it, and would look now and then anyway."""
    look = tenants.look()
    known = await MemoryConfiguration(parties.database).read()
    tenants.apply(replace(known, settings=_set(parties)), look=look)


def _couriers(services: Any, webhooks: Webhooks | None) -> list[Couriers]:
    """Return what sends to webhooks, if there are any."""
    if webhooks is None:
        return []
    with patch.object(composition, "webhook_sender", lambda _settings: webhooks.sender()):
        return [composition._couriers(services)]


def _counted(
    process: Process,
    lane: Lane,
    publish: Callable[[OutgoingMessage], Awaitable[None]],
    most: int,
) -> Callable[[OutgoingMessage], Awaitable[None]]:
    """Count what is being sent on a lane."""
    what = f"{lane} being sent"
    process.bound(what, most)

    async def counted(message: OutgoingMessage) -> None:
        process.take(what)
        try:
            await publish(message)
        finally:
            process.give(what)

    return counted


class Worker:
    """One worker in a process of its own."""

    def __init__(
        self,
        process: Process,
        parties: Parties,
        settings: Settings,
        *,
        patience: float,
        without: Collection[str],
        wrong: Callable[[str], None],
    ) -> None:
        self.process = process
        self._parties = parties
        self._settings = settings
        self._patience = timedelta(seconds=patience)
        self._without = without  # jobs of timers
        self._wrong = wrong
        self._stopping = asyncio.Event()
        self.held: Held | None = None  # once it has started
        self._started: list[Any] = []  # its parts
        self._main = process.start(self._run())

    @property
    def ended(self) -> bool:
        """Whether it has stopped, or crashed."""
        return self._main.done()

    def failure(self) -> BaseException | None:
        """Return what it crashed of, or one of its parts: then the real one ends."""
        if self._main.done():
            return self._main.exception()
        return next((part.crash_reason for part in self._started if part.crash_reason), None)

    def stop(self) -> None:
        """Ask it to stop in order."""
        self._stopping.set()

    async def _run(self) -> None:
        parts, held = await self._parts()
        try:
            for part in parts:
                await part.start()
                self._started.append(part)
            held.since = asyncio.get_running_loop().time()
            self.held = held
            await self._stopping.wait()
        finally:
            self.held = None
            for each in held.slots:
                each.stop_claiming()
            for part in reversed(self._started):
                await part.stop()

    async def _parts(self) -> tuple[Sequence[Any], Held]:
        parties, settings, process = self._parties, self._settings, self.process
        process.bound(rabbitmq.HELD, settings.request_bulk_size)
        process.bound(EVENTS, MOST_EVENTS)
        process.bound(archives.MEMORY, settings.worker_memory)
        producer: Any = kafka.Producer(parties.log)
        events = EventLog(producer, Topics())
        database = _Database(
            settings=settings,
            memory=parties.database,
            leader=parties.leader,
            patience=self._patience,
            hinted=HintPublisher(events).send,
            wrong=self._wrong,
        )
        tenants = _tenants(parties, settings)
        connection: Any = rabbitmq.Connection(parties.broker, self.process)
        topology = Topology()
        publisher = AmqpPublisher(
            await open_channel(connection),
            await open_channel(connection, on_return_raises=True),
            topology=topology,
        )
        objects = Objects(parties.shelf)
        users = _Users(parties.weather)
        source = Source(parties.rs_order)
        vault = vault_of(settings)

        held = Held(
            process=process,
            arrivals=database.arrivals,
            owed=database.owed,
            wake={kind: Wakeup() for kind in Work},
        )

        def archiver(*, memory: Budget, patience: Patience) -> StreamingArchiver:
            held.memory = memory
            return StreamingArchiver(
                source,
                objects,
                _report,
                compression=settings.compression,
                part_size=_PART_SIZE,
                memory=settings.transfer_memory,
                worker_memory=memory,
                max_object_size=settings.max_object_size,
                connections=settings.source_connections,
                patience=patience,
                formats=_FORMATS,
            )

        async def count_dead_letters() -> None:
            """It is not looked at."""

        services: Any = SimpleNamespace(
            settings=settings,
            database=database,
            configuration=SimpleNamespace(tenants=tenants, vault=vault),
            objects=objects,
            users=users,
            source=source,
            quotas=Quotas(store=database.store, tenants=tenants),
            events=events,
            archiver=archiver,
            archived=Archived(),
            count_dead_letters=count_dead_letters,
            sweep_dead_letters=count_dead_letters,
            tell=silent,
            routes=(
                (lane, _counted(process, lane, publish, settings.outbox_batch_size))
                for lane, publish in (
                    (Lane.RESPONSES, publisher.publish),
                    (Lane.ORDERS, publisher.publish),
                    (Lane.EVENTS, events.publish),
                )
            ),
        )
        timers, held.slots = composition._workers(services, wake=held.wake)
        # Nights from before there were any keep the order of what happens in them.
        timers = [timer for timer in timers if getattr(timer, "_name", "") not in self._without]
        if parties.quota is None:
            timers = [timer for timer in timers if not isinstance(timer, Admissions)]
        dependencies = Dependencies(
            store=database.store, tenants=tenants, users=users, wake=held.wake
        )

        def agents(crash: Any) -> dict[str, Any]:
            held.dispatchers = []
            return {
                events.topics.of(channel): agent(
                    handler_of(channel, dependencies),
                    events=events,
                    arrivals=database.arrivals,
                    register=held.dispatchers.append,
                    crash=crash,
                    concurrency=channel.agent.concurrency,
                    batch=channel.agent.batch,
                )
                for channel in KAFKA
                if channel.agent is not None
            }

        held.bridge = bridge = Bridge(
            connection=connection,
            publisher=publisher,
            events=events,
            arrivals=database.arrivals,
            tenants=tenants,
            topology=topology,
            prefetch=settings.request_bulk_size,
            max_bytes=settings.max_message_bytes,
        )
        presence = database.presence()
        listening = []
        if "pauses" not in self._without:
            hear = partial(_hear, parties, tenants)
            listening.append(Timer(name="configuration", job=hear, interval=1.0))
        relays = [*composition._relays(services), *_couriers(services, parties.webhooks)]
        held.relays = len(relays) + 1  # and what lets through what waits for a quota
        return [
            Timer(name="presence", job=presence.heartbeat, interval=10.0),
            *listening,
            WorkListener(database.work_news(), own=database.own, wake=held.wake),
            *relays,
            *timers,
            *held.slots,
            kafka.Consumer(
                parties.log,
                self.process,
                agents,
                taken=held.compare_events,
                lost=partial(topics_lost, consumed=Topics().consumed, arrivals=database.arrivals),
            ),
            bridge,
        ], held


async def steer(
    parties: Parties, settings: Settings, step: Step, note: Callable[[str], None]
) -> None:
    """Do what a person asks for over HTTP, and note the answer."""
    database = _Database(settings=settings, memory=parties.database, leader=parties.leader)
    interventions = Interventions(
        store=database.store,
        tracking=database.tracking,
        tenants=_tenants(parties, settings),
        users=_Users(parties.weather),
    )
    actor = Actor(name="operator", role="ADMIN", tenant=step.tenant)
    acts: dict[str, Callable[..., Awaitable[object]]] = {
        "cancel": interventions.cancel,
        "retry": interventions.retry,
        "remove": interventions.remove,
    }
    try:
        await acts[step.what](actor, step.correlation_id)
    except DeliveryError as error:
        note(f"the person is told: {error}")
