"""One night, from its plan to what was found."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Any
from unittest.mock import patch

import structlog
from mode import Seconds, Service, want_seconds
from pydantic import SecretStr

from app.delivery.lease import Lease
from app.delivery.pauses import PauseSubject
from app.delivery.webhooks import GIVEN_UP_AFTER
from app.settings import Settings
from app.store.memory import MemoryArrivals
from app.store.memory.rows import WebhookEventRow
from app.telemetry.metrics import RUNNING
from app.tenants.definitions import Definitions
from app.usecases.sweep import after_end
from app.usecases.transfer import Transfers
from app.usecases.webhooks import Courier
from app.waiting.grace import Grace
from streams.kafka.dispatch import Dispatcher
from tests.simulation import archives, pauses
from tests.simulation.bounds import Bounds
from tests.simulation.checks import Checks
from tests.simulation.clients import Clients
from tests.simulation.draws import Draws
from tests.simulation.fences import Fences
from tests.simulation.kafka import Log
from tests.simulation.loop import SimulatedLoop
from tests.simulation.misfortunes import Misfortunes
from tests.simulation.moments import Moments
from tests.simulation.pauses import PauseStep
from tests.simulation.plan import PATIENT, RETENTION_FROM, TENANTS, Plan, Step
from tests.simulation.postgres import Leadership, SimulatedDatabase
from tests.simulation.processes import PROCESS, Process
from tests.simulation.rabbitmq import Broker
from tests.simulation.rs_order import RsOrder
from tests.simulation.targets import DEADLINE, Shelf
from tests.simulation.weather import NO_PROCESS, Weather, by_no_process
from tests.simulation.webhooks import Webhooks
from tests.simulation.worker import KINDS, MOST_EVENTS, Parties, Worker, declare, steer

_DEFINITIONS = Definitions(KINDS)  # of all workers: schemas take milliseconds
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
_LEASE = timedelta(seconds=12)
_SWEPT_AFTER = after_end(_LEASE)
_COMPLETION = timedelta(seconds=2 * DEADLINE)  # after that, one has happened or never will
_MIB = 1024 * 1024
_REST = 10.0  # seconds between looks whether all has come to rest
_PATIENCE = 3600.0  # seconds after the calm; by then it must have
_UNFORESEEN = (
    "work_failed",
    "event_failed",
    "slot_failed",
    "message_failed",
    "timer_failed",
    "agent_failed",
    "message_not_sent",
    "arrival_kept",
)


@dataclass(frozen=True)
class Line:
    """What happened: in a process, or (None) among the parties."""

    at: float
    who: str | None
    what: str

    def __str__(self) -> str:
        return f"{self.at:10.4f}  {self.who or '-':10}  {self.what}"


@dataclass
class Night:
    """What came of a plan."""

    plan: Plan
    lines: list[Line] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0  # of the night's own clock


def settings_of(plan: Plan, worker: str) -> Settings:
    """Return what the workers of a night are set to: short intervals, as many lives are short."""
    settings = _settings(plan.ttl, shared=plan.shared)
    return settings.model_copy(
        update={
            "worker_id": worker,
            "delivered_ttl_hours": plan.kept / 3600,
            "manifest": plan.manifest,
            "sha256": plan.sha256,
            "report": plan.reports,
        }
    )


@lru_cache(maxsize=16)  # settings are read from the environment, which takes milliseconds
def _settings(ttl: float, *, shared: bool) -> Settings:
    return Settings(
        worker_id="any",
        tenants=TENANTS,
        secret_keys=(SecretStr(_KEY),),
        delivery_bucket="shared" if shared else "{tenant}",
        request_ttl_hours=ttl / 3600,
        lease_ttl=_LEASE.total_seconds(),
        request_bulk_size=6,
        outbox_batch_size=2,
        max_transfers=3,
        transfer_memory=32 * _MIB,
        worker_memory=64 * _MIB,  # of two transfers
        claim_poll_interval=10,
        retry_backoff=1,
        retry_backoff_max=15,
        target_patience=20,
        outbox_poll_interval=10,
        expiry_interval=7,
        reconcile_interval=15,
        shutdown_grace=5,
    )


class _Played:
    """A night while it is played."""

    def __init__(
        self, night: Night, loop: SimulatedLoop, draws: Draws, *, to_the_end: bool
    ) -> None:
        self.night = night
        self._plan = plan = night.plan
        self._loop = loop
        self.weather = weather = Weather(draws, plan.faults, self.note, pace=plan.pace)
        database = SimulatedDatabase(weather, now=self._now)
        leader = Leadership(database)
        broker = Broker(weather)
        self.parties = Parties(
            weather=weather,
            database=database,
            leader=leader,
            webhooks=Webhooks(weather, database, TENANTS) if plan.webhooks else None,
            quota=plan.quota,
            broker=broker,
            log=Log(weather),
            shelf=Shelf(weather, Fences(database, leader), mute=plan.mute),
            rs_order=RsOrder(
                weather,
                broker,
                suborders=plan.suborders,
                # What is told in part waits a minute, and so it is late without a neighbour.
                knows_all=plan.mute is not None,
            ),
        )
        self.clients = Clients(weather, broker, plan.formats, plan.names, plan.parts)
        self.checks = Checks(
            self.parties,
            self.clients,
            patient=plan.patience == PATIENT,
            epoch=_EPOCH,
            found=night.wrong,
        )
        if self.parties.webhooks is not None:
            self.parties.webhooks.wrong = self.checks.wrong
        if not to_the_end:
            self.checks.on_wrong = loop.stop
        self.moments = Moments(self.parties, self.checks.wrong, timedelta(seconds=plan.patience))
        self.clients.excused = self.moments.copies.answers
        self.workers: list[Worker] = []
        self._bounds = Bounds(database, self.checks.wrong)
        self._crashed = asyncio.Event()
        self._born = 0
        self._misfortunes = Misfortunes(
            weather=weather,
            parties=self.parties,
            clients=self.clients,
            workers=self.workers,
            step_in=self._person,
        )
        self._misfortunes.lie_in_wait(plan.ambushes)

    def _now(self) -> datetime:
        return _EPOCH + timedelta(seconds=self._loop.time())

    def note(self, what: str) -> None:
        """Write down what happened among the parties."""
        self.night.lines.append(Line(self._loop.time(), None, what))

    def logged(self, _logger: object, level: str, event: MutableMapping[str, Any]) -> str:
        """Write down what a worker logs."""
        name = event.pop("event")
        process = PROCESS.get()
        if level in ("error", "exception", "critical") and name in _UNFORESEEN:
            error = event.get("exc_info")
            error = sys.exc_info()[1] if error is True else error
            text = "".join(traceback.format_exception(error)[-3:]) if error else ""
            self.checks.wrong(f"{name}: {text}")
        elif name == "timer_failed" and "UnavailableError" not in event.get("cause", ""):
            self.checks.wrong(f"{name}: {event}")
        elif name == "delivery_done":
            self.moments.told_done(event)
        elif name == "lease_lost":
            self.moments.told_lost(event)
        elif name == "order_event_ignored":
            self.moments.owed.ignored(event)
        # What is bound to the context comes in an order that differs from process to process.
        text = " ".join(f"{key}={value}" for key, value in sorted(event.items()))
        self.night.lines.append(
            Line(self._loop.time(), process.name if process else None, f"{name} {text}")
        )
        raise structlog.DropEvent

    def born(self, number: int) -> Worker:
        """Start a worker in the place of one that is gone."""
        self._born += 1
        process = Process(f"w{number}.{self._born}", clock=self._plan.clocks[number])
        self.note(f"{process} starts")
        settings = settings_of(self._plan, process.name)
        worker = Worker(
            process,
            self.parties,
            settings,
            patience=self._plan.patience,
            without={
                *({"retention"} if self._plan.seed < RETENTION_FROM else ()),
                *(() if self._plan.reports else {"reports"}),
                *(() if self._plan.pauses is not None else {"pauses"}),
            },
            wrong=self.checks.wrong,
        )
        process.exceeds = lambda what, has: self._bounds.exceeds(worker, f"{has} {what}", of=what)
        return worker

    async def play(self) -> None:
        """Let it all happen."""
        await declare(self.parties.broker)
        for number in range(self._plan.workers):
            self.workers.append(self.born(number))
        for wish in self._plan.wishes:
            self.clients.plan(wish)
        for step in self._plan.steps:
            by_no_process(step.at, partial(self._person, step))
        for pause in self._plan.pauses or ():
            by_no_process(pause.at, partial(self._pause, pause))
        for disaster in self._plan.disasters:
            by_no_process(disaster.at, partial(self._misfortunes.befall, disaster))
        self._tend()
        self._look()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._plan.storm):
                await self._crashed.wait()
                return
        self.weather.calm = True
        self.weather.down.clear()
        self.parties.shelf.mute = None
        self.note("calm")
        self.checks.calm_at = self._now()
        await self._come_to_rest()
        # Clients ask again, once they are answered.
        await self._bounds.at_rest(
            self.workers, is_due=lambda: not self._at_rest(), patience=_PATIENCE
        )
        await self._come_to_rest()  # an event that is told twice may just have come
        self.checks.at_the_end()

    async def _come_to_rest(self) -> None:
        began = self._loop.time()
        until = began + _PATIENCE
        while self._loop.time() < until and not self._at_rest():
            # What a webhook has refused often waits for hours, in which nothing else happens.
            until = min(until + self._skip(), began + GIVEN_UP_AFTER.total_seconds())
            await asyncio.sleep(_REST)

    def _tend(self) -> None:
        """Do what goes on by itself: silent members are expelled, dead workers replaced."""
        self.parties.log.group.expel()
        for number, worker in enumerate(self.workers):
            if worker.failure() is not None:
                self.checks.wrong(f"{worker.process} crashed: {worker.failure()!r}")
                self._crashed.set()
            if worker.ended or not worker.process.alive:
                self.workers[number] = self.born(number)
        by_no_process(2.0, self._tend)

    def _look(self) -> None:
        """See that each worker has no more than it may."""
        self._bounds.look(worker for worker in self.workers if worker.process.alive)
        by_no_process(1.0, self._look)

    def _person(self, step: Step) -> None:
        self.note(f"a person: {step.what} {step.correlation_id} of {step.tenant}")
        if step.what == "retry":  # what has ended is asked for again
            self.clients.asked[step.tenant, step.correlation_id] += 1
        Process("console").start(
            steer(self.parties, settings_of(self._plan, "console"), step, self.note)
        )

    def _pause(self, step: PauseStep) -> None:
        subject = pauses.subject_of(step, self.workers[step.whom].process.name)
        self.note(f"a person pauses {subject} ({step.running}) for {step.lasts:.0f} s")
        database = self.parties.database
        Process("console").start(pauses.begin(database, subject, step))
        if not step.by_itself:
            by_no_process(step.lasts, partial(self._resume, subject))

    def _resume(self, subject: PauseSubject) -> None:
        self.note(f"a person resumes {subject}")
        pauses.end(self.parties.database, subject)

    def _skip(self) -> float:
        """Let the time be over in which all look for work, and none is due; return how long."""
        seconds = self._until_due() - self._loop.time() - _REST
        if seconds > _REST:
            self.note(f"nothing is due for {seconds:.0f} s")
            self._loop.skip(seconds, but=NO_PROCESS)
            self.parties.log.group.skip(seconds)
            return seconds
        return 0.0

    def _until_due(self) -> float:
        """Return the time at which there is something to do again."""
        database, now = self.parties.database, self._loop.time()
        rows = [row for _, row in database.deliveries.items()]
        waits = (row.work is not None or row.delivery.held for row in rows)
        if not self._is_quiet() or any(waits):
            return now
        ours = self._tend, self._look
        due = [when for when, act in self._loop.due(NO_PROCESS) if act not in ours]
        for row in rows:
            if not row.state.ended:
                due.append(database.seconds_until(row.delivery.expires_at) + now)
            elif not row.swept and self._may_be_open(row):
                swept = max(row.not_before + _SWEPT_AFTER, row.completing_until or row.not_before)
                due.append(database.seconds_until(swept) + now)
        looks = [kept.due_at for _, kept in database.kept_contents.items()]
        looks += [row.report_until for row in rows if row.state.ended]
        looks += self._owed_to_webhooks()
        due += [database.seconds_until(at) + now for at in looks if at is not None]
        return min(due, default=now)

    def _owed_to_webhooks(self) -> list[datetime]:
        """Return when what is owed to webhooks is looked at next."""
        webhooks, looks = self.parties.database.webhooks, list[datetime]()
        for owed in self._owed():
            by = webhooks.get(owed.of)
            waits = [] if by is None else [by.resume_at, by.claimed_until]
            looks.append(max([owed.due_at, *(at for at in waits if at is not None)]))
        return looks

    def _owed(self) -> list[WebhookEventRow]:
        return [row for _, row in self.parties.database.webhook_events.items()]

    def _at_rest(self) -> bool:
        if any(kept.due_at is not None for _, kept in self.parties.database.kept_contents.items()):
            return False
        if self._owed():
            return False
        return self._is_quiet() and all(
            row.state.ended
            and row.report_until is None
            and (row.swept or not self._may_be_open(row))
            for _, row in self.parties.database.deliveries.items()
        )

    def _is_quiet(self) -> bool:
        """Whether nothing is on its way, or open."""
        database = self.parties.database
        return (
            not list(database.outbox.items())
            and not list(database.arrivals.items())
            and not any(
                queue.waiting
                for queue in self.parties.broker.queues.values()
                if not queue.is_of_dead_letters
            )
            and not self.parties.shelf.store.open()
        )

    @staticmethod
    def _may_be_open(row: Any) -> bool:
        may_be = row.state.value == "ERROR" or row.left_open
        return bool(row.delivery.attempt > (0 if may_be else 1))


async def _sleep(self: Service, seconds: Seconds) -> None:
    """Sleep as mode's services do, until they stop: theirs makes a task each time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(want_seconds(seconds)):
            await self._stopped.wait()


class _Datetime(datetime):
    """The time of a process's wall clock."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
        process = PROCESS.get()
        ahead = 0.0 if process is None else process.clock
        seconds = asyncio.get_running_loop().time() + ahead
        return (_EPOCH + timedelta(seconds=seconds)).astimezone(tz)


@contextlib.contextmanager
def _world(loop: SimulatedLoop, draws: Draws) -> Iterator[None]:
    """Let clocks and lots be those of the night."""
    lots = draws.of("lots")
    with contextlib.ExitStack() as stack:
        for name, value in (
            ("time.monotonic", loop.time),
            ("os.urandom", lots.randbytes),
            ("streams.amqp.messages.datetime", _Datetime),
            ("mode.Service.sleep", _sleep),
            ("app.tenants.registry.Definitions", lambda _kinds: _DEFINITIONS),
            # Their trouble is found out by each who asks: there is nothing to report.
            ("app.run.worker._WAIT_REPORT_INTERVAL", 60.0),
            ("sinks.transfer.Prefetcher", archives.Prefetcher),
            ("sinks.transfer.FileVerifier", archives.FileVerifier),
            ("sinks.transfer.ArchiveStream", archives.ArchiveStream),
            ("sinks.transfer.plan_parts", archives.plan_parts),
            ("sinks.transfer.plan_folder", archives.plan_folder),
            ("sinks.transfer.Placer", archives.Placer),
            ("sinks.transfer.FileCounter", archives.FileCounter),
            ("sinks.formats.zip.ZipWriter", archives.Writer),
            ("sinks.formats.tar.TarWriter", archives.Writer),
            ("sinks.formats.tar_zst.TarZstWriter", archives.Writer),
            ("sinks.formats.files.ManifestWriter", archives.ManifestWriter),
            ("app.usecases.folders._LATE", _COMPLETION),
            ("app.run.worker.COMPLETION", _COMPLETION),
            ("app.usecases.folders._NOTED", 2 * _COMPLETION),
            ("sinks.pipeline.checkpoints.EVERY_SECONDS", 1.0),
        ):
            stack.enter_context(patch(name, value))
        # Defaults that were bound before the night began.
        for function, defaults in (
            (Lease.__init__, {"clock": loop.time}),
            (Grace.__init__, {"clock": loop.time}),
            (MemoryArrivals.__init__, {"monotonic": loop.time}),
            (Transfers.__init__, {"completion": _COMPLETION}),
            (Dispatcher.__init__, {"most_events": MOST_EVENTS}),
            (Courier.__init__, {"clock": loop.time}),
        ):
            bound: Any = function.__kwdefaults__
            stack.enter_context(patch.dict(bound, defaults))
        random.seed(draws.seed)
        yield


def play(plan: Plan, *, to_the_end: bool = True) -> Night:
    """Play a night, to its end or until something is wrong."""
    gc_was_on = gc.isenabled()
    gc.disable()
    gc.freeze()  # what is there already is not looked at: modules are many
    try:
        return _play(plan, to_the_end=to_the_end)
    finally:
        _forget_tasks()
        if gc_was_on:
            gc.enable()


def _play(plan: Plan, *, to_the_end: bool) -> Night:
    night, draws = Night(plan), Draws(plan.seed)
    loop = SimulatedLoop(draws.of("order"), disorder=plan.disorder)
    loop.set_exception_handler(lambda _loop, _context: None)
    asyncio.set_event_loop(loop)
    try:
        with _world(loop, draws):
            work = _played(night, loop, draws, to_the_end=to_the_end)
            try:
                loop.run_until_complete(work)
            except RuntimeError:  # it was stopped
                if to_the_end or not night.wrong:
                    raise
            finally:
                work.close()  # what it patched is as before
    finally:
        loop.close()
        asyncio.set_event_loop(None)
        # What would hold on to the night until the next one, and be frozen with it.
        structlog.reset_defaults()
        RUNNING.clear()
    night.steps = loop.steps
    night.seconds = loop.time()
    return night


def _forget_tasks() -> None:
    """Let go of the night: killed processes, and those that were there at its end.

    Their clean-up runs now, and finds no loop; nothing of it is of the night. What has cleaned up
    is garbage only at a further look.
    """
    with patch("sys.unraisablehook", lambda _unraisable: None):
        while gc.collect():
            pass


async def _played(night: Night, loop: SimulatedLoop, draws: Draws, *, to_the_end: bool) -> None:
    played = _Played(night, loop, draws, to_the_end=to_the_end)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, played.logged],
        logger_factory=structlog.ReturnLoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    with contextlib.ExitStack() as stack:
        for watched in played.moments.patches():
            stack.enter_context(watched)
        for watched in played.parties.shelf.fences.patches():
            stack.enter_context(watched)
        await played.play()
