"""`/metrics`: what this process has counted, and what the database holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.delivery.pauses import Pause, PauseScope
from app.delivery.states import State
from app.delivery.webhooks import WebhookSeen
from app.errors import DeliveryError
from app.telemetry.logs import get_logger
from app.views.attention import CATALOGUE, Need, Trouble, Troubles
from app.views.dead_letters import LettersWaiting
from app.views.deliveries import Depth, OverdueContents, Overview, Owed, PlacesHeld, WorkerSeen
from web import schemas
from web.endpoint import ACTOR, OPERATORS, READERS, Endpoint
from web.guard.gate import SCRAPER

log = get_logger(__name__)

_CACHE_LIFETIME = 5.0  # seconds that figures of the database are told again: any client may ask


class DatabaseCollector(Collector):
    """Figures of the database, as they were read last."""

    def __init__(
        self,
        pauses: Callable[[], Sequence[Pause]] = tuple,
        tenants: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._pauses = pauses
        self._tenants = tenants
        self.depths: list[Depth] = []
        self.places: list[PlacesHeld] = []
        self.contents: list[OverdueContents] = []
        self.owed: list[Owed] = []
        self.workers: list[WorkerSeen] = []
        self.webhooks: Sequence[WebhookSeen] = ()
        self.dead_letters: Sequence[LettersWaiting] = ()
        self.troubles: Sequence[Trouble] = ()
        self.up = False

    def collect(self) -> Iterable[Metric]:
        """Give them; the same in every process, so take `max`, not `sum`."""
        up = GaugeMetricFamily("delivery_database_up", "Whether PostgreSQL answered just now.")
        up.add_metric([], self.up)
        yield up
        yield _of_pauses(self._pauses(), self._tenants())
        if not self.up:
            return
        active = GaugeMetricFamily(
            "delivery_active",
            "Deliveries before their end. Of the database: take max, not sum, over processes.",
            labels=("tenant", "state"),
        )
        oldest = GaugeMetricFamily(
            "delivery_active_oldest_seconds",
            "How long the oldest of them has been in that state, however often it was tried there; "
            "but for those that wait for a quota, a pause or a maintenance.",
            labels=("tenant", "state"),
        )
        parked = GaugeMetricFamily(
            "delivery_parked",
            "Of those that are TRANSFERRING: half-made archives that wait for rs-order to make the "
            "next suborder of their order available. Of the database: take max.",
            labels=("tenant",),
        )
        waiting = GaugeMetricFamily(
            "delivery_parked_oldest_seconds",
            "How long the one of them has waited that has waited longest; 0: none waits.",
            labels=("tenant",),
        )
        quotas = GaugeMetricFamily(
            "delivery_quota_waiting",
            "Of those that are RECEIVED: requests that wait for a place in a quota; of those that "
            "are READY: deliveries that wait for bytes of one. Of the database: take max.",
            labels=("tenant", "state"),
        )
        late = GaugeMetricFamily(
            "delivery_quota_waiting_late",
            "Of those that wait for a quota: how many have less than half of their time left. Of "
            "the database: take max.",
            labels=("tenant", "state"),
        )
        for depth in self.depths:
            if depth.state in (State.RECEIVED, State.READY):
                quotas.add_metric([depth.tenant, depth.state.value], depth.held)
                late.add_metric([depth.tenant, depth.state.value], depth.held_late)
            if depth.state is State.TRANSFERRING:
                parked.add_metric([depth.tenant], depth.parked)
                waiting.add_metric([depth.tenant], depth.oldest_parked)
            active.add_metric([depth.tenant, depth.state.value], depth.deliveries)
            oldest.add_metric([depth.tenant, depth.state.value], depth.oldest)
        places = GaugeMetricFamily(
            "delivery_places_held",
            "Deliveries that are DONE, whose order may keep one of its user's places at rs-order: "
            "it is asked until it answers. Of the database: take max.",
            labels=("tenant",),
        )
        held = GaugeMetricFamily(
            "delivery_places_held_oldest_seconds",
            "How long ago the first of them was done.",
            labels=("tenant",),
        )
        for place in self.places:
            places.add_metric([place.tenant], place.places)
            held.add_metric([place.tenant], place.oldest)
        contents = GaugeMetricFamily(
            "delivery_contents_overdue",
            "Deliveries whose content is to be removed from its target by now, and is not yet. Of "
            "the database: take max.",
            labels=("tenant",),
        )
        longest = GaugeMetricFamily(
            "delivery_contents_overdue_oldest_seconds",
            "How long ago the first of them was to be removed.",
            labels=("tenant",),
        )
        for content in self.contents:
            contents.add_metric([content.tenant], content.contents)
            longest.add_metric([content.tenant], content.oldest)
        owed = GaugeMetricFamily(
            "delivery_outbox_messages", "Messages no broker has confirmed.", labels=("lane",)
        )
        overdue = GaugeMetricFamily(
            "delivery_outbox_overdue_seconds", "How long the oldest is overdue.", labels=("lane",)
        )
        for lane in self.owed:
            owed.add_metric([lane.lane], lane.messages)
            overdue.add_metric([lane.lane], lane.oldest)
        workers = GaugeMetricFamily("delivery_workers", "Workers that told lately they are there.")
        workers.add_metric([], sum(worker.alive for worker in self.workers))
        yield from (active, oldest, parked, waiting, quotas, late, places, held, contents, longest)
        yield from (owed, overdue, workers)
        yield from _of_webhooks(self.webhooks)
        yield from _of_dead_letters(self.dead_letters)
        yield from _of_troubles(self.troubles, self._tenants())


def _of_troubles(troubles: Sequence[Trouble], tenants: Sequence[str]) -> Iterator[Metric]:
    labels = ("code", "severity", "tenant", "subject")
    needed = GaugeMetricFamily(
        "delivery_attention",
        "What needs an operator now, as `GET /attention` says it: how much of it there is, at "
        "least 1; no series of what is well. `subject` is a target, worker, state or lane; without "
        "a tenant: what is of none. Of the database: take max.",
        labels=labels,
    )
    since = GaugeMetricFamily(
        "delivery_attention_since_timestamp_seconds",
        "Since when, in seconds since 1970: that of the oldest row that it is about.",
        labels=labels,
    )
    # Of tenants that are not served, as any message may name them, together: they make no series.
    found: dict[tuple[Need, str, str], list[Trouble]] = {}
    for trouble in troubles:
        tenant = trouble.tenant if trouble.tenant in tenants else None
        found.setdefault((trouble.code, tenant or "", trouble.subject or ""), []).append(trouble)
    for (code, *whose), same in found.items():
        values = [code.value, CATALOGUE[code].severity, *whose]
        needed.add_metric(values, max(1, sum(trouble.count for trouble in same)))
        oldest = min((t.since for t in same if t.since is not None), default=None)
        if oldest is not None:
            since.add_metric(values, oldest.timestamp())
    yield from (needed, since)


def _of_dead_letters(waiting: Sequence[LettersWaiting]) -> Iterator[Metric]:
    labels = ("place", "tenant")
    letters = GaugeMetricFamily(
        "delivery_dead_letters_kept",
        "Dead letters that wait to be put back or removed, by queue or topic; without a "
        "tenant: those of none that is served. Of the database: take max.",
        labels=labels,
    )
    oldest = GaugeMetricFamily(
        "delivery_dead_letters_kept_oldest_seconds",
        "How long ago the first of them was buried.",
        labels=labels,
    )
    for seen in waiting:
        letters.add_metric([seen.place, seen.tenant or ""], seen.letters)
        oldest.add_metric([seen.place, seen.tenant or ""], seen.oldest)
    yield from (letters, oldest)


def _of_pauses(pauses: Sequence[Pause], tenants: Sequence[str]) -> Metric:
    family = GaugeMetricFamily(
        "delivery_paused",
        "1 while transfers are paused, by scope: of the `tenant`, to its target `name`, of all "
        "(`instance`: a series of each tenant); or the worker `name` is drained. The same in "
        "every process: take max.",
        labels=("scope", "tenant", "name"),
    )
    for pause in pauses:
        subject = pause.subject
        whose = tenants if subject.scope is PauseScope.INSTANCE else (subject.tenant,)
        for tenant in whose:
            family.add_metric([subject.scope.value, tenant, subject.name], 1)
    return family


def _of_webhooks(seen: Sequence[WebhookSeen]) -> Iterator[Metric]:
    figures: dict[str, tuple[str, Callable[[WebhookSeen], int]]] = {
        "delivery_webhooks_failing": (
            "Webhooks that take no events, or are gone. Of the database: take max.",
            lambda webhook: webhook.failing_since is not None or webhook.gone_url is not None,
        ),
        "delivery_webhook_events_owed": (
            "Events that wait for a webhook. Of the database: take max.",
            lambda webhook: webhook.owed,
        ),
        "delivery_webhook_events_dead": (
            "Events that were given up, and can be sent again. Of the database: take max.",
            lambda webhook: webhook.dead,
        ),
    }
    tenants = sorted({webhook.tenant for webhook in seen})
    for name, (what, of) in figures.items():
        family = GaugeMetricFamily(name, what, labels=("tenant",))
        for tenant in tenants:
            family.add_metric(
                [tenant], sum(of(webhook) for webhook in seen if webhook.tenant == tenant)
            )
        yield family


class _Own(Collector):
    """What of a registry a tenant may know: nothing that names another, or another's server."""

    def __init__(self, registry: Collector, tenant: str) -> None:
        self._registry = registry
        self._tenant = tenant

    def collect(self) -> Iterable[Metric]:
        for family in self._registry.collect():
            own = Metric(family.name, family.documentation, family.type, family.unit)
            own.samples = [
                sample
                for sample in family.samples
                if sample.labels.get("tenant", self._tenant) == self._tenant
                and "server" not in sample.labels
            ]
            yield own


class MetricsApi:
    """The handler. Without `overview`, only what this process has counted."""

    def __init__(
        self,
        overview: Overview | None,
        *,
        webhooks: Callable[[], Awaitable[Sequence[WebhookSeen]]] | None = None,
        dead_letters: Callable[[], Awaitable[Sequence[LettersWaiting]]] | None = None,
        troubles: Troubles | None = None,
        pauses: Callable[[], Sequence[Pause]] = tuple,
        tenants: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._overview = overview
        self._troubles = troubles
        self._webhooks = webhooks
        self._dead_letters = dead_letters
        self._database = DatabaseCollector(pauses, tenants)
        self._registry = CollectorRegistry()
        self._registry.register(self._database)
        self._read_at = 0.0
        self._reading = asyncio.Lock()

    async def metrics(self, request: web.Request) -> web.Response:
        """Answer in Prometheus' text format, to who is known."""
        actor = request[ACTOR]
        everything = actor.role in (SCRAPER.role, "INSTANCE_ADMIN")
        return await self._text(None if everything else actor.tenant)

    async def everything(self, _request: web.Request) -> web.Response:
        """Answer on a port of its own, where every client is trusted."""
        return await self._text(None)

    async def _text(self, tenant: str | None) -> web.Response:
        registries: list[Collector] = [REGISTRY]
        if self._overview is not None:
            await self._read(self._overview)
            registries.append(self._registry)
        if tenant is not None:
            registries = [_Own(registry, tenant) for registry in registries]
        text = b"".join(map(generate_latest, registries))
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _read(self, overview: Overview) -> None:
        async with self._reading:
            if time.monotonic() - self._read_at < _CACHE_LIFETIME:
                return
            database = self._database
            try:
                (
                    database.depths,
                    database.places,
                    database.contents,
                    database.owed,
                    database.workers,
                ) = await asyncio.gather(
                    overview.depths(),
                    overview.places_held(),
                    overview.contents_overdue(),
                    overview.owed(),
                    overview.workers(),
                )
                if self._webhooks is not None:
                    database.webhooks = await self._webhooks()
                if self._dead_letters is not None:
                    database.dead_letters = await self._dead_letters()
                database.up = True
            except DeliveryError as error:
                database.up = False
                log.warning("metrics_without_database", cause=str(error))
            else:
                database.troubles = await self._read_troubles()
            self._read_at = time.monotonic()

    async def _read_troubles(self) -> Sequence[Trouble]:
        """Return what is wrong. That is much to look at: without it, all else is told."""
        if self._troubles is None:
            return ()
        try:
            return await self._troubles.troubles(None)
        except DeliveryError as error:
            log.warning("metrics_without_attention", cause=str(error))
            return ()

    def endpoints(self) -> list[Endpoint]:
        """Return what this part serves."""
        return [
            Endpoint(
                method="GET",
                path="/metrics",
                operation="getMetrics",
                handler=self.metrics,
                summary="Figures for Prometheus; of all tenants for an INSTANCE_ADMIN",
                tag="health",
                roles=OPERATORS | READERS,
                scraped=True,
                whole_instance=True,
                in_maintenance=True,
                responses={
                    200: {
                        "description": "Prometheus' text format.",
                        "content": {"text/plain": {"schema": {"type": "string"}}},
                    },
                    **schemas.errors(401, 403, 429),
                },
            )
        ]
