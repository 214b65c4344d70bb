"""A worker of a night: the real parts, put together by the real composition.

The services are named as `app.run.wiring.worker.WorkerServices` names them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any

from app.audit import Actor
from app.delivery.outgoing import Lane
from app.delivery.states import Work
from app.delivery.targets import Blocked, TargetKinds
from app.errors import DeliveryError
from app.run import worker as composition
from app.settings import Settings
from app.store.memory import (
    MemoryArrivals,
    MemoryCheckpoints,
    MemoryLeases,
    MemoryOutbox,
    MemoryStore,
    MemoryTracking,
    MemoryWorkers,
)
from app.tenants.registry import ConfiguredTenants
from app.tenants.vault import vault_of
from app.usecases.intervene import Interventions
from app.usecases.reconcile import topics_lost
from app.waiting.patience import Patience
from app.waiting.wakeup import Wakeup
from sinks.pipeline.budget import Budget
from sinks.stores.memory import MemoryTarget
from sinks.transfer import StreamingArchiver
from streams.amqp.publisher import AmqpPublisher, open_channel
from streams.amqp.topology import Topology
from streams.bridge import Bridge
from streams.channels import KAFKA
from streams.kafka.agents import Dependencies, agent, handler_of
from streams.kafka.log import EventLog
from streams.kafka.topics import Topics
from streams.work.timers import Timer
from tests.simulation import kafka, rabbitmq
from tests.simulation.plan import Step
from tests.simulation.postgres import Leadership, SimulatedDatabase
from tests.simulation.processes import Process
from tests.simulation.rs_order import RsOrder, Source
from tests.simulation.targets import Objects, Shelf

KINDS = TargetKinds(MemoryTarget)


@dataclass(frozen=True, kw_only=True)
class Parties:
    """Whom all workers talk to."""

    database: SimulatedDatabase
    leader: Leadership
    broker: rabbitmq.Broker
    log: kafka.Log
    shelf: Shelf
    rs_order: RsOrder


class _Janitor:
    async def forget(self, *, finished: timedelta, audited: timedelta) -> int:
        """A night is too short for anything to be old."""
        del finished, audited
        return 0


class _Users:
    """rs-admin: it knows who has a name that it knows."""

    def remembers(self, tenant: str, email: str) -> bool:
        del tenant
        return email.startswith("known")

    async def known(self, tenant: str, email: str) -> bool:
        del tenant
        await asyncio.sleep(0.01)
        return not email.startswith("stranger")


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

    @cached_property
    def store(self) -> MemoryStore:
        return MemoryStore(self.memory, self.owed)

    @cached_property
    def arrivals(self) -> MemoryArrivals:
        return MemoryArrivals(self.memory, allowance=self.settings.event_duration)

    @cached_property
    def tracking(self) -> MemoryTracking:
        return MemoryTracking(self.memory)

    def outbox(self) -> MemoryOutbox:
        return MemoryOutbox(
            self.memory, batch=self.settings.outbox_batch_size, patience=self.patience
        )

    def janitor(self) -> _Janitor:
        return _Janitor()

    def presence(self) -> MemoryWorkers:
        return MemoryWorkers(self.memory, worker=self.settings.worker_id, version="1", slots=1)

    def leases(self, *, blocked: Callable[[], Blocked]) -> MemoryLeases:
        return MemoryLeases(
            self.memory,
            owner=self.settings.worker_id,
            ttl=self.settings.lease_duration,
            transfers_per_tenant=self.settings.max_transfers_per_tenant or None,
            blocked=blocked,
        )

    def checkpoints(self) -> MemoryCheckpoints:
        return MemoryCheckpoints(self.memory, owner=self.settings.worker_id)


class Worker:
    """One worker in a process of its own."""

    def __init__(
        self, process: Process, parties: Parties, settings: Settings, *, patience: float
    ) -> None:
        self.process = process
        self._parties = parties
        self._settings = settings
        self._patience = timedelta(seconds=patience)
        self._stopping = asyncio.Event()
        self._main = process.start(self._run())

    @property
    def ended(self) -> bool:
        """Whether it has stopped, or crashed."""
        return self._main.done()

    def failure(self) -> BaseException | None:
        """Return what it crashed of."""
        return self._main.exception() if self._main.done() else None

    def stop(self) -> None:
        """Ask it to stop in order."""
        self._stopping.set()

    async def _run(self) -> None:
        parts, slots = await self._parts()
        started: list[Any] = []
        try:
            for part in parts:
                await part.start()
                started.append(part)
            await self._stopping.wait()
        finally:
            for each in slots:
                each.stop_claiming()
            for part in reversed(started):
                await part.stop()

    async def _parts(self) -> tuple[Sequence[Any], Sequence[Any]]:
        parties, settings = self._parties, self._settings
        database = _Database(
            settings=settings,
            memory=parties.database,
            leader=parties.leader,
            patience=self._patience,
        )
        tenants = ConfiguredTenants(settings, KINDS)
        connection: Any = rabbitmq.Connection(parties.broker, self.process)
        topology = Topology()
        publisher = AmqpPublisher(
            await open_channel(connection),
            await open_channel(connection, on_return_raises=True),
            topology=topology,
        )
        producer: Any = kafka.Producer(parties.log)
        events = EventLog(producer, Topics())
        objects = Objects(parties.shelf)
        users = _Users()
        source = Source(parties.rs_order)
        vault = vault_of(settings)

        def archiver(*, memory: Budget, patience: Patience) -> StreamingArchiver:
            return StreamingArchiver(
                source,
                objects,
                _report,
                compression=settings.compression,
                part_size=512,
                memory=settings.transfer_memory,
                worker_memory=memory,
                max_object_size=settings.max_object_size,
                connections=settings.source_connections,
                patience=patience,
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
            events=events,
            archiver=archiver,
            count_dead_letters=count_dead_letters,
            routes=(
                (Lane.RESPONSES, publisher.publish),
                (Lane.ORDERS, publisher.publish),
                (Lane.EVENTS, events.publish),
            ),
        )
        wake = {kind: Wakeup() for kind in Work}
        timers, slots = composition._workers(services, wake=wake)
        dependencies = Dependencies(store=database.store, tenants=tenants, users=users, wake=wake)

        def agents(crash: Any) -> dict[str, Any]:
            return {
                events.topics.of(channel): agent(
                    handler_of(channel, dependencies),
                    events=events,
                    arrivals=database.arrivals,
                    register=lambda _dispatcher: None,
                    crash=crash,
                    concurrency=channel.agent.concurrency,
                    batch=channel.agent.batch,
                )
                for channel in KAFKA
                if channel.agent is not None
            }

        bridge = Bridge(
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
        return [
            Timer(name="presence", job=presence.heartbeat, interval=10.0),
            *composition._relays(services),
            *timers,
            *slots,
            kafka.Consumer(
                parties.log,
                self.process,
                agents,
                lost=partial(topics_lost, consumed=Topics().consumed, arrivals=database.arrivals),
            ),
            bridge,
        ], slots


async def steer(
    parties: Parties, settings: Settings, step: Step, note: Callable[[str], None]
) -> None:
    """Do what a person asks for over HTTP, and note the answer."""
    database = _Database(settings=settings, memory=parties.database, leader=parties.leader)
    interventions = Interventions(
        store=database.store,
        tracking=database.tracking,
        tenants=ConfiguredTenants(settings, KINDS),
        users=_Users(),
    )
    actor = Actor(name="operator", role="ADMIN", tenant=step.tenant)
    act = interventions.cancel if step.what == "cancel" else interventions.retry
    try:
        await act(actor, step.correlation_id)
    except DeliveryError as error:
        note(f"the person is told: {error}")
