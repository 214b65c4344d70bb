"""The worker: which parts it has, and in what order they start and stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from mode import Service

from app.delivery.outgoing import Lane
from app.delivery.states import Work
from app.delivery.webhooks import GIVEN_UP_AFTER
from app.errors import DeliveryError
from app.run.reloads import Reloads
from app.run.renewals import renew_services
from app.run.series import make_series
from app.run.website import make_checks, make_probe_sites, make_site, make_watcher
from app.run.wiring.webhooks import webhook_sender
from app.run.wiring.worker import WorkerServices, open_worker_services
from app.settings import Settings
from app.telemetry.logs import get_logger
from app.telemetry.watchdog import watching_loop
from app.tenants.places import warn_of_places
from app.tenants.secret_rules import refuse_weak_secrets
from app.usecases.ask_orders import OrderInquiry
from app.usecases.away import TargetsAway
from app.usecases.expire import expire
from app.usecases.folders import Folders
from app.usecases.free_place import Places
from app.usecases.laying_out import Room
from app.usecases.paused import Paused
from app.usecases.plan import Planning
from app.usecases.reconcile import append_again
from app.usecases.reports import Reports
from app.usecases.retention import Retention
from app.usecases.segments import Segments
from app.usecases.settle import Settlement
from app.usecases.submit import check
from app.usecases.sweep import Sweep, after_end
from app.usecases.transfer import COMPLETION, Transfers
from app.usecases.uploads import Uploads
from app.usecases.webhooks import Courier
from app.waiting.backoff import Backoff
from app.waiting.grace import Grace
from app.waiting.patience import Patience
from app.waiting.wakeup import Wakeup
from sinks import formats
from sinks.pipeline.budget import Budget
from sinks.pipeline.digest import BUILD_ADVICE, without_checkpoints
from streams.work.admissions import Admissions
from streams.work.couriers import Couriers
from streams.work.listener import WorkListener
from streams.work.relay import Relay
from streams.work.slots import Slots, without_lease
from streams.work.timers import Timer, led
from web.api.health import Check

log = get_logger(__name__)

_USER_CHECK_CONCURRENCY = 4  # users that a worker asks about at once
_PLANNING_CONCURRENCY = 4  # listings that a worker reads at once
_HEARTBEAT_INTERVAL = 10.0  # seconds between signs of life
_WAIT_REPORT_INTERVAL = 2.0  # seconds between looks whether deliveries know why they wait
_PAUSES_INTERVAL = 1.0  # seconds between looks whether one has begun, or ended by the clock
_JANITOR_INTERVAL = 600.0  # seconds
_DEAD_LETTERS_INTERVAL = 30.0  # seconds between looks how many dead letters there are
_REAPPEND_BATCH_SIZE = 500  # lost events
_SWEEP_BATCH_SIZE = 100  # deliveries that may have left uploads open
_INQUIRY_BATCH_SIZE = 100


def _relays(services: WorkerServices) -> list[Service]:
    outbox = services.database.outbox()
    return [
        Relay(
            outbox=outbox,
            lane=lane,
            publish=publish,
            owed=services.database.owed,
            interval=services.settings.outbox_poll_interval,
        )
        for lane, publish in services.routes
    ]


def _couriers(services: WorkerServices) -> Couriers:
    """Make what sends to webhooks: beside the relays, so that none waits for a webhook."""
    settings = services.settings
    courier = Courier(
        outbox=services.database.webhooks,
        webhooks=services.configuration.tenants.webhooks,
        sender=webhook_sender(settings),
    )
    return Couriers(
        courier,
        owed=services.database.owed,
        interval=settings.outbox_poll_interval,
        places=settings.webhook_rounds,
    )


def _reports(services: WorkerServices, uploads: Uploads) -> Reports:
    """Make what writes the reports of deliveries that fail."""
    return Reports(
        store=services.database.store,
        tenants=services.configuration.tenants,
        objects=services.objects,
        uploads=uploads,
        source=services.source,
        within=COMPLETION,
        kept=timedelta(seconds=services.settings.finished_retention),
    )


def make_timers(
    services: WorkerServices, uploads: Uploads, room: Room, reports: Reports
) -> list[Service]:
    """Make what is due by the clock; what one process does for all is led.

    `room` is what looks at orders have, that never wait for memory.
    """
    settings = services.settings
    store, arrivals = services.database.store, services.database.arrivals
    leading = services.database.leader.leading
    end_overdue = partial(expire, store=store, limit=settings.expired_bulk_size, reports=reports)
    append = partial(
        append_again, arrivals=arrivals, append=services.events.carry, limit=_REAPPEND_BATCH_SIZE
    )
    sweep = Sweep(
        store=store,
        tenants=services.configuration.tenants,
        uploads=uploads,
        checkpoints=services.database.checkpoints(),
        after=after_end(settings.lease_duration),
        limit=_SWEEP_BATCH_SIZE,
    )
    inquiry = OrderInquiry(
        source=services.source,
        store=store,
        room=room,
        limit=_INQUIRY_BATCH_SIZE,
        max_suborders=services.configuration.tenants.max_suborders,
        reports=services.configuration.tenants.reports,
        frees_places=settings.cancel_delivered_orders,
        user_places=settings.rs_order_user_places,
    )
    places = Places(
        source=services.source,
        store=store,
        frees=settings.cancel_delivered_orders,
        limit=_INQUIRY_BATCH_SIZE,
    )
    forget = partial(
        services.database.janitor().forget,
        finished=timedelta(seconds=settings.finished_retention),
        audited=timedelta(seconds=settings.audit_retention),
    )
    retention = Retention(
        store=store,
        contents=services.database.contents(),
        tenants=services.configuration.tenants,
        folders=Folders(store=store, checkpoints=services.database.checkpoints(), uploads=uploads),
        within=COMPLETION,
    )
    tidy = partial(
        services.database.webhooks.tidy,
        given_up_after=GIVEN_UP_AFTER,
        kept=timedelta(seconds=settings.webhook_retention),
        most=settings.webhook_max_events,
    )
    led_jobs: list[tuple[str, Callable[[], Awaitable[object]], float]] = [
        ("reconcile", append, settings.reconcile_interval),
        ("sweep", sweep.look, settings.reconcile_interval),
        ("orders", inquiry.look, settings.reconcile_interval),
        ("places", places.look, settings.reconcile_interval),
        ("retention", retention.look, settings.reconcile_interval),
        ("quotas", partial(services.quotas.end_over, reports=reports), settings.reconcile_interval),
        ("reports", reports.look, settings.reconcile_interval),
        ("janitor", forget, _JANITOR_INTERVAL),
        ("webhooks", tidy, _JANITOR_INTERVAL),
    ]
    return [
        Timer(name="expiry", job=end_overdue, interval=settings.expiry_interval),
        *(
            Timer(name=name, job=partial(led, name, job, leading=leading), interval=interval)
            for name, job, interval in led_jobs
        ),
        Timer(
            name="dead letters", job=services.count_dead_letters, interval=_DEAD_LETTERS_INTERVAL
        ),
        Timer(
            name="dead letters kept",
            job=services.sweep_dead_letters,
            interval=_DEAD_LETTERS_INTERVAL,
        ),
    ]


def _workers(
    services: WorkerServices, *, wake: Mapping[Work, Wakeup]
) -> tuple[list[Service], list[Slots]]:
    """Return what works: timers, and the slots that claim."""
    settings = services.settings
    store, tenants = services.database.store, services.configuration.tenants
    away = TargetsAway(
        tenants=tenants,
        trouble=services.objects.trouble,
        store=store,
    )
    services.objects.on_trouble(wake[Work.TRANSFER].notify)

    def wake_all() -> None:
        for signal in wake.values():
            signal.notify()

    paused = Paused(tenants=tenants, worker=settings.worker_id, ended=wake_all)
    leases = services.database.leases(blocked=away.blocked, archived=services.archived.of)
    uploads = Uploads(
        objects=services.objects,
        seal=services.configuration.vault,
        store=store,
        kinds=tenants.kinds,
    )
    backoff = Backoff(first=settings.retry_backoff, longest=settings.retry_backoff_max)
    patience = Patience.of(settings.target_patience, backoff)
    memory = Budget(settings.worker_memory)
    room = Room(memory=memory.size, reserve=memory.reserve, most_files=settings.max_order_files)
    room_at_once = replace(room, reserve=memory.reserve_at_once, grows=True)
    transfers = Transfers(
        store=store,
        leases=leases,
        tenants=tenants,
        objects=services.objects,
        uploads=uploads,
        checkpoints=services.database.checkpoints(),
        attempts=settings.transfer_attempts,
        archiver=services.archiver(memory=memory, patience=patience),
        segments=Segments(
            source=services.source,
            store=store,
            room=room_at_once,
            suffix_of=formats.suffix_of,
            pauses=without_checkpoints() is None,
        ),
        patience=patience,
        settled=after_end(settings.lease_duration),
        frees_places=settings.cancel_delivered_orders,
    )
    reports = _reports(services, uploads)
    settlement = Settlement(
        store=store,
        leases=leases,
        backoff=backoff,
        attempts=settings.transfer_attempts,
        source=services.source,
        tell=services.tell,
        reports=reports,
    )
    check_user = partial(check, store=store, tenants=tenants, users=services.users)
    quotas = services.quotas
    planning = Planning(
        source=services.source,
        store=store,
        room=room,
        suffix_of=formats.suffix_of,
        max_suborders=tenants.max_suborders,
        quota_of=quotas.of,
        memory_of=transfers.memory_of,
    )
    slots = partial(
        Slots,
        settle=settlement.settle,
        leases=leases,
        interval=settings.claim_poll_interval,
        lease_ttl=settings.lease_ttl,
        grace=Grace(settings.shutdown_grace),
        may_claim=paused.may_claim,
        stopped_by=paused.stopped_by,
    )
    waits = Timer(name="targets", job=away.record_waits, interval=_WAIT_REPORT_INTERVAL)
    told = Timer(name="pauses", job=paused.tell, interval=_PAUSES_INTERVAL)
    admissions = Admissions(
        look=quotas.look,
        any_set=quotas.any_set,
        ended=services.database.owed.waiter(Lane.RESPONSES),
        interval=settings.claim_poll_interval,
    )
    return [waits, told, admissions, *make_timers(services, uploads, room_at_once, reports)], [
        slots(
            kind=Work.CHECK,
            count=_USER_CHECK_CONCURRENCY,
            work=partial(without_lease, check_user),
            wake=wake[Work.CHECK],
        ),
        slots(
            kind=Work.PLAN,
            count=_PLANNING_CONCURRENCY,
            work=partial(without_lease, planning.plan),
            wake=wake[Work.PLAN],
        ),
        slots(
            kind=Work.TRANSFER,
            count=settings.max_transfers,
            work=transfers.deliver,
            wake=wake[Work.TRANSFER],
        ),
    ]


class Root(Service):
    """What all parts of a worker hang on: crashed when one of them is."""


@contextlib.asynccontextmanager
async def running_worker(
    settings: Settings, *, site: bool, reloads: Reloads | None = None
) -> AsyncIterator[Service]:
    """Run a worker, with the HTTP server beside it if asked; stop it in order at the end.

    First the ways in (AMQP, Kafka), while the work under way hands itself over; then what is left
    of that, all kinds at once; then the ways out.
    Raises ConfigurationError, also for weak secrets.
    """
    refuse_weak_secrets(settings, http=site)
    reloads = reloads or Reloads(settings)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(watching_loop())
        make_series(settings)
        services = await stack.enter_async_context(open_worker_services(settings))
        warn_of_places(services.configuration.tenants)
        _warn_without_checkpoints()
        renew_services(reloads, services)
        wake = {kind: Wakeup() for kind in Work}
        root = Root()
        presence = services.database.presence()
        consumer = services.consumer(wake=wake)
        bridge = services.bridge()
        timers, slots = _workers(services, wake=wake)
        parts: list[Service] = [
            Timer(name="presence", job=presence.heartbeat, interval=_HEARTBEAT_INTERVAL),
            make_watcher(
                services.configuration,
                services.objects.forget_unused,
                *(signal.notify for signal in wake.values()),
            ),
            WorkListener(services.database.work_news(), own=services.database.own, wake=wake),
            *_relays(services),
            _couriers(services),
            Timer(name="progress", job=services.progress.tell, interval=settings.progress_interval),
            *timers,
        ]
        await root.start()
        stack.push_async_callback(root.stop)
        stack.push_async_callback(_leave, presence.deregister)
        checks: dict[str, Check] = {
            **make_checks(services),
            "kafka": services.events.check,
            "rabbitmq": bridge.check,
            "events": consumer.check,
        }
        if site:
            shown = await stack.enter_async_context(services.for_http())
            parts = make_site(shown, checks, reloads) + parts
        else:
            parts = [*make_probe_sites(settings, checks, reloads), *parts]
        groups: list[Sequence[Service]] = [[part] for part in parts]
        for group in [*groups, slots, [consumer], [bridge]]:
            await stack.enter_async_context(running(group, of=root))
        # The ways in may take longer to close than there is grace, where a broker is silent.
        # Meanwhile, nothing new may begin, and what runs needs neither of them to be handed over.
        stack.callback(_stop_claiming, slots)
        log.info("worker_ready", worker=settings.worker_id)
        preparing = asyncio.create_task(services.objects.prepare())
        stack.callback(preparing.cancel)
        yield root


@contextlib.asynccontextmanager
async def running(parts: Sequence[Service], *, of: Service) -> AsyncIterator[None]:
    """Run parts `of` a whole, which crashes when one of them does; stop them at once at the end.

    Returns when all have stopped. Raises the first of what they raise then.
    """
    started: list[Service] = []
    try:
        for part in parts:
            part.beacon.reattach(of.beacon)
            await part.start()
            started.append(part)
        yield
    finally:
        # Who waits for all of them closes what they use: none is left behind for another's error.
        ends = await asyncio.gather(*(part.stop() for part in started), return_exceptions=True)
        _raise_first([end for end in ends if isinstance(end, BaseException)])


def _raise_first(errors: Sequence[BaseException]) -> None:
    for other in errors[1:]:
        errors[0].add_note(f"and {other!r}, as another part stopped")
    if errors:
        raise errors[0]


def _warn_without_checkpoints() -> None:
    flaw = without_checkpoints()
    if flaw is not None:
        log.warning(
            "no_checkpoints",
            cause=flaw,
            consequence="transfers that break off begin again from their first file, and an "
            "archive that waits for a suborder keeps its worker's memory",
            advice=BUILD_ADVICE,
        )


def _stop_claiming(slots: Sequence[Slots]) -> None:
    for slots_of_kind in slots:
        slots_of_kind.stop_claiming()


async def _leave(deregister: Callable[[], Awaitable[None]]) -> None:
    with contextlib.suppress(DeliveryError):  # its silence tells, too
        await deregister()
