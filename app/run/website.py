"""The HTTP server: which parts it has, in a worker's process or alone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial

from mode import Service

from app.run.series import make_series
from app.run.wiring.dead_letters import dead_letter_store
from app.run.wiring.kafka import progress_table
from app.run.wiring.regards import password_flow, rs_order_check
from app.run.wiring.services import Services, open_services
from app.run.wiring.tenants import ConfigurationParts
from app.run.wiring.webhooks import webhook_sender
from app.settings import Settings
from app.telemetry.watchdog import watching_loop
from app.tenants.places import warn_of_places
from app.tenants.registry import ConfiguredTenants
from app.tenants.secret_rules import refuse_weak_secrets, token_secret
from streams.work.watcher import Watcher
from web.api.configuration import ConfigurationApi
from web.api.console import Console
from web.api.content import ContentApi
from web.api.dead_letters import DeadLettersApi
from web.api.deliveries import DeliveriesApi
from web.api.dry_runs import DryRunsApi
from web.api.events import EventsApi
from web.api.health import Check, Health
from web.api.limits import LimitsApi
from web.api.maintenance import OperationApi
from web.api.metrics import MetricsApi
from web.api.settings import SettingsApi
from web.api.sign_in import SignIns
from web.api.targets import TargetsApi
from web.api.webhooks import WebhooksApi
from web.api.workers import WorkersApi
from web.feed import Feed
from web.guard.auth import TokenVerifier
from web.guard.checks import Checks
from web.guard.downloads import Downloads
from web.guard.gate import Gate
from web.guard.limits import CallerLimits, RateLimit, Turns
from web.site import Parts, Site, create_probe_site, create_site, tls_context

_MAX_WAITING_REQUESTS = 20  # requests of one caller, beside those that are worked on


def make_site(services: Services, checks: Mapping[str, Check]) -> list[Service]:
    """Make the server and what it shows things with, in the order in which they start.

    Raises ConfigurationError when a key or a certificate is none.
    """
    settings = services.settings
    tls = tls_context(certificate=settings.web_tls_certificate, key=settings.web_tls_key)
    configure, tenants = services.configuration.configure, services.configuration.tenants
    gate = _gate(settings, tenants)
    tracking, audit = services.database.tracking, services.database.audit
    table = progress_table(settings)
    feed = Feed(tracking, table.news)
    health = Health(checks)
    metrics = MetricsApi(
        tracking, webhooks=partial(services.database.webhooks.seen, settings.tenants)
    )
    dead_letters = dead_letter_store(settings, known=tenants.known)
    parts = Parts(
        gate=gate,
        settings=SettingsApi(configure, Checks(services.objects.probe)),
        configuration=ConfigurationApi(configure, services.configuration.store, health, audit),
        operation=OperationApi(configure, audit),
        deliveries=DeliveriesApi(tracking, services.interventions, table.of),
        dry_runs=DryRunsApi(services.dry_runs, Checks(services.objects.probe)),
        limits=LimitsApi(tenants),
        content=ContentApi(
            tracking,
            services.delivered,
            services.links,
            audit,
            Downloads(
                settings.content_downloads,
                per_tenant=settings.content_downloads_per_tenant,
                per_user=settings.content_downloads_per_user,
            ),
        ),
        events=EventsApi(feed, tracking, tracking, table.of),
        dead_letters=DeadLettersApi(dead_letters, audit, serves=configure.serves),
        workers=WorkersApi(tracking),
        metrics=metrics,
        console=Console(_sign_ins(settings, tenants)),
        health=health,
        targets=TargetsApi(
            tenants,
            look=services.objects.look,
            trouble=services.objects.trouble,
            told=services.objects.told,
        ),
        webhooks=WebhooksApi(tenants, services.database.webhooks, webhook_sender(settings), audit),
        access_log=settings.web_access_log,
        requests_under_way=settings.web_requests_under_way,
        proxies=settings.web_proxies,
        cors_origins=settings.web_cors_origins,
        tls=tls is not None,
    )
    site = Site(
        create_site(parts),
        host=settings.web_host,
        port=settings.web_port,
        tls=tls,
        connections=settings.web_connections,
    )
    figures = (
        [_probe_site(settings, health, metrics, port=settings.metrics_port)]
        if settings.metrics_port
        else []
    )
    return [table, feed, *figures, site]


def _gate(settings: Settings, tenants: ConfiguredTenants) -> Gate:
    return Gate(
        TokenVerifier(secret=token_secret(settings), public_key=settings.jwt_public_key),
        tenants,
        limits=CallerLimits(
            rate=RateLimit(settings.web_requests_per_second, burst=settings.web_requests_burst),
            requests=Turns(settings.web_requests_at_once, waiting=_MAX_WAITING_REQUESTS),
            streams=Turns(settings.web_streams),
            all_streams=Turns(settings.web_streams_total),
        ),
        metrics_token=settings.metrics_token.get_secret_value(),
    )


def _sign_ins(settings: Settings, tenants: ConfiguredTenants) -> SignIns | None:
    flow = password_flow(settings)
    if flow is None:
        return None
    return SignIns(
        flow.token,
        served=tenants.known,
        per_minute=settings.web_sign_ins_per_minute,
        proxies=settings.web_proxies,
    )


def make_probe_sites(settings: Settings, checks: Mapping[str, Check]) -> list[Site]:
    """Make the servers of a worker that answers no HTTP but whether it works, and its figures."""
    health, metrics = Health(checks), MetricsApi(None)
    sites = []
    if settings.worker_port:
        sites.append(
            _probe_site(
                settings,
                health,
                metrics,
                port=settings.worker_port,
                host=settings.web_host,
                setting="DELIVERY_WORKER_PORT",
            )
        )
    if settings.metrics_port and settings.metrics_port != settings.worker_port:
        sites.append(_probe_site(settings, health, metrics, port=settings.metrics_port))
    return sites


def _probe_site(
    settings: Settings,
    health: Health,
    metrics: MetricsApi,
    *,
    port: int,
    host: str | None = None,
    setting: str = "DELIVERY_METRICS_PORT",
) -> Site:
    return Site(
        create_probe_site(health, metrics, access_log=settings.web_access_log),
        host=host or settings.metrics_host or settings.web_host,
        port=port,
        tls=None,
        connections=settings.web_connections,
        setting=setting,
    )


def make_watcher(configuration: ConfigurationParts, *then: Callable[[], object]) -> Watcher:
    """Make what hears of changed settings; `then` are called after each."""
    return Watcher(
        listening=configuration.store.listening,
        refresh=configuration.configure.refresh,
        changed=then,
    )


def make_checks(services: Services) -> dict[str, Check]:
    """Return what every process depends on; no server of a tenant is among it.

    Raises ConfigurationError when the file of a CA can't be used.
    """
    tenants = services.configuration.tenants

    async def keys() -> None:
        tenants.check_all_secrets()

    return {
        "postgresql": services.database.store.answers,
        "secret keys": keys,
        "rs-order": rs_order_check(services.settings),
    }


@contextlib.asynccontextmanager
async def running_site(settings: Settings) -> AsyncIterator[Service]:
    """Run the HTTP server alone. Raises ConfigurationError, also for weak secrets."""
    refuse_weak_secrets(settings, http=True)
    make_series(settings)
    async with (
        open_services(settings, stays=True) as services,
        services.for_http() as over_http,
        over_http.asking_users() as shown,
    ):
        warn_of_places(services.configuration.tenants, settings.tenants)
        *beside, site = make_site(shown, make_checks(services))
        watcher = make_watcher(services.configuration, services.objects.forget_unused)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(watching_loop())
            for part in (watcher, *beside, site):
                if part is not site:
                    part.beacon.reattach(site.beacon)
                await part.start()
                stack.push_async_callback(part.stop)
            yield site
