"""The processes: which services run in them, and in what order they start and stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial

from mode import Service

from app import __version__
from app.delivery.model import Delivery
from app.delivery.outgoing import Lane
from app.delivery.states import Work
from app.errors import DeliveryError
from app.run.bootstrap import CHECKS, PLANS, Services, open_services
from app.run.series import make_series
from app.run.topics import make_topics
from app.run.website import (
    base_of,
    interventions_of,
    make_probe_sites,
    make_site,
    make_watcher,
    open_web_base,
    worker_checks,
)
from app.settings import Settings
from app.store import Leader, Outbox, PostgresJanitor, PostgresLeases, PostgresWorkers
from app.telemetry.logs import get_logger
from app.telemetry.watchdog import watching_loop
from app.tenants.secret_rules import refuse_weak_secrets
from app.usecases.away import TargetsAway
from app.usecases.expire import expire
from app.usecases.plan import plan
from app.usecases.reconcile import append_again
from app.usecases.settle import Backoff, Settlement
from app.usecases.submit import check
from app.usecases.sweep import Sweep
from app.usecases.transfer import Transfers
from app.usecases.uploads import Uploads
from app.waiting.patience import Patience
from app.waiting.signals import Signal
from sinks.pipeline.budget import Budget
from sinks.transfer import StreamingArchiver
from streams.amqp.line import line_of
from streams.amqp.topology import topology_of
from streams.amqp.waiting_letters import count_waiting
from streams.bridge import Bridge
from streams.kafka.faust_app import DeliveryApp, create_app
from streams.kafka.lag import Lag
from streams.kafka.progress import ProgressReporter
from streams.kafka.supervisor import Consumer
from streams.work.relay import Relay
from streams.work.slots import Lease, Slots
from streams.work.timers import Timer

log = get_logger(__name__)

_PRESENCE = 10.0  # seconds between signs of life
_TELLING = 2.0  # seconds between looks whether deliveries know why they wait
_JANITOR_INTERVAL = 600.0  # seconds
_COUNTING = 30.0  # seconds between looks how many dead letters there are
# Seconds between two tries at a target that a running transfer waits for.
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 15.0
_APPENDED_AT_ONCE = 500  # lost events
_SWEPT_AT_ONCE = 100  # deliveries that may have left uploads open


def _relays(services: Services) -> list[Service]:
    settings = services.settings
    outbox = Outbox(services.pool, batch=settings.outbox_batch_size)
    routes = (
        (Lane.RESPONSES, services.publisher.publish),
        (Lane.ORDERS, services.publisher.publish),
        (Lane.EVENTS, services.events.publish),
    )
    return [
        Relay(
            outbox=outbox,
            lane=lane,
            publish=publish,
            owed=services.owed,
            interval=settings.outbox_poll_interval,
        )
        for lane, publish in routes
    ]


def _timers(services: Services, uploads: Uploads) -> list[Service]:
    settings = services.settings

    leader = Leader(services.pool)
    janitor = PostgresJanitor(services.pool)
    sweep = Sweep(
        store=services.store,
        tenants=services.configuration.tenants,
        uploads=uploads,
        # By then a worker that lost its lease knows it, and has opened nothing more.
        after=2 * settings.lease_duration,
        limit=_SWEPT_AT_ONCE,
    )

    async def end_overdue() -> None:
        await expire(store=services.store, limit=settings.expired_bulk_size)

    async def forget() -> None:
        await janitor.forget(
            finished=timedelta(seconds=settings.finished_retention),
            audited=timedelta(seconds=settings.audit_retention),
        )

    async def append() -> None:
        await append_again(
            arrivals=services.arrivals, append=services.events.carry, limit=_APPENDED_AT_ONCE
        )

    def led(name: str, job: Callable[[], Awaitable[object]], interval: float) -> Timer:
        """Return a timer of what one process does for all; jobs don't wait for each other."""

        async def lead() -> None:
            async with leader.leading(name) as leads:
                if leads:
                    await job()

        return Timer(name=name, job=lead, interval=interval)

    return [
        Timer(name="expiry", job=end_overdue, interval=settings.expiry_interval),
        led("reconcile", append, settings.reconcile_interval),
        led("sweep", sweep.look, settings.reconcile_interval),
        led("janitor", forget, _JANITOR_INTERVAL),
        Timer(
            name="dead letters",
            job=partial(count_waiting, services.connection),
            interval=_COUNTING,
        ),
    ]


def _workers(
    services: Services, *, wake: Mapping[Work, Signal]
) -> tuple[list[Service], list[Slots]]:
    """Return what works: timers, and the slots that claim."""
    settings = services.settings
    breakers = services.sink.breakers
    away = TargetsAway(
        names=settings.tenants,
        tenants=services.configuration.tenants,
        trouble=breakers.trouble,
        store=services.store,
    )
    breakers.on_change.append(wake[Work.TRANSFER].notify)
    leases = PostgresLeases(
        services.pool,
        owner=settings.worker_id,
        ttl=settings.lease_duration,
        transfers_per_tenant=settings.max_transfers_per_tenant or None,
        blocked=away.blocked,
    )
    tenants = services.configuration.tenants
    uploads = Uploads(sink=services.sink, seal=services.configuration.vault, store=services.store)
    patience = Patience(
        limit=settings.target_patience,
        first=min(settings.retry_backoff, _FIRST_PAUSE),
        longest=min(settings.retry_backoff_max, _LONGEST_PAUSE),
    )
    memory = Budget(settings.worker_memory)
    work = Transfers(
        store=services.store,
        leases=leases,
        tenants=tenants,
        sink=services.sink,
        uploads=uploads,
        archiver=StreamingArchiver(
            services.source,
            services.sink,
            ProgressReporter(services.events),
            compression=settings.compression,
            part_size=settings.part_size,
            memory=settings.transfer_memory,
            worker_memory=memory,
            max_object_size=settings.max_object_size,
            connections=settings.source_connections,
            patience=patience,
        ),
        patience=patience,
    )
    settlement = Settlement(
        store=services.store,
        leases=leases,
        backoff=Backoff(
            first=settings.retry_backoff,
            longest=settings.retry_backoff_max,
            attempts=settings.transfer_attempts,
        ),
    )

    async def check_user(delivery: Delivery, _held: Lease) -> None:
        await check(delivery, store=services.store, tenants=tenants, users=services.users)

    async def make_plan(delivery: Delivery, _held: Lease) -> None:
        await plan(
            delivery,
            source=services.source,
            store=services.store,
            memory=memory.size,
            reserve=memory.reserve,
            most_files=settings.max_order_files,
        )

    def slots(kind: Work, count: int, do: Callable[[Delivery, Lease], Awaitable[None]]) -> Slots:
        return Slots(
            kind=kind,
            count=count,
            work=do,
            settle=settlement.settle,
            leases=leases,
            wake=wake[kind],
            interval=settings.claim_poll_interval,
            lease_ttl=settings.lease_ttl,
            grace=settings.shutdown_grace,
        )

    telling = Timer(name="targets", job=away.tell, interval=_TELLING)
    return [telling, *_timers(services, uploads)], [
        slots(Work.CHECK, CHECKS, check_user),
        slots(Work.PLAN, PLANS, make_plan),
        slots(Work.TRANSFER, settings.max_transfers, work.deliver),
    ]


def _consumer(services: Services, *, wake: Mapping[Work, Signal]) -> Consumer:
    settings = services.settings

    def make() -> DeliveryApp:
        return create_app(
            settings,
            store=services.store,
            arrivals=services.arrivals,
            tenants=services.configuration.tenants,
            users=services.users,
            interventions=interventions_of(base_of(services)),
            events=services.events,
            wake=wake,
        )

    lag = Lag(
        settings, make_topics=partial(make_topics, settings, services.pool, services.arrivals)
    )
    return Consumer(make=make, lag=lag, stuck_after=settings.kafka_stuck_after)


class Root(Service):
    """What all parts of a worker hang on: crashed when one of them is."""


@contextlib.asynccontextmanager
async def running_worker(settings: Settings, *, site: bool) -> AsyncIterator[Service]:
    """Run a worker, with the HTTP server beside it if asked; stop it in order at the end.

    First the ways in (AMQP, Kafka), then the work under way, then the ways out. Raises
    ConfigurationError, also for weak secrets.
    """
    refuse_weak_secrets(settings, http=site)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(watching_loop())
        make_series(settings)
        services = await stack.enter_async_context(open_services(settings))
        services.configuration.warn_of_places(settings.tenants)
        wake = {kind: Signal() for kind in Work}
        root = Root()
        presence = PostgresWorkers(
            services.pool,
            worker=settings.worker_id,
            version=__version__,
            slots=settings.max_transfers,
        )
        consumer = _consumer(services, wake=wake)
        bridge = Bridge(
            connection=services.connection,
            publisher=services.publisher,
            events=services.events,
            arrivals=services.arrivals,
            tenants=services.configuration.tenants,
            topology=topology_of(settings),
            prefetch=settings.request_bulk_size,
            max_bytes=settings.max_message_bytes,
            line=line_of(settings),
        )
        timers, slots = _workers(services, wake=wake)
        parts: list[Service] = [
            Timer(name="presence", job=presence.seen, interval=_PRESENCE),
            make_watcher(
                services.configuration,
                services.sink.breakers.forget_unused,
                wake[Work.CHECK].notify,
            ),
            *_relays(services),
            *timers,
            *slots,
            consumer,
            bridge,
        ]
        await root.start()
        stack.push_async_callback(root.stop)
        stack.push_async_callback(_leave, presence)
        checks = worker_checks(services) | {"rabbitmq": bridge.check, "events": consumer.check}
        if site:
            base = await stack.enter_async_context(open_web_base(settings, base_of(services)))
            parts = make_site(settings, base, checks) + parts
        else:
            parts = [*make_probe_sites(settings, checks), *parts]
        for part in parts:
            # Should a part crash, the root (and with it the process) goes too.
            part.beacon.reattach(root.beacon)
            await part.start()
            stack.push_async_callback(part.stop)
        # The ways in take a while to close; meanwhile, nothing new may begin.
        stack.callback(_stop_claiming, slots)
        log.info("worker_ready", worker=settings.worker_id)
        preparing = asyncio.create_task(services.sink.clients.prepare())
        stack.callback(preparing.cancel)
        yield root


def _stop_claiming(slots: Sequence[Slots]) -> None:
    for some in slots:
        some.stop_claiming()


async def _leave(presence: PostgresWorkers) -> None:
    with contextlib.suppress(DeliveryError):  # its silence tells, too
        await presence.left()
