"""The HTTP server: which parts it has, in a worker's process or alone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta

from aiohttp import web
from mode import Service

from app.roles import PROVIDER, role_map
from app.run.reloads import Reloads
from app.run.renewals import renew_services, renew_site
from app.run.series import make_series
from app.run.wiring.callers import verifier_of
from app.run.wiring.dead_letters import dead_letter_desk
from app.run.wiring.kafka import progress_table
from app.run.wiring.oidc import OpenProvider, identity_provider
from app.run.wiring.regards import password_flow, rs_order_check
from app.run.wiring.services import Services, open_services
from app.run.wiring.tenants import ConfigurationParts
from app.run.wiring.webhooks import webhook_sender
from app.settings import Settings
from app.telemetry.watchdog import watching_loop
from app.tenants.places import warn_of_places
from app.tenants.registry import ConfiguredTenants
from app.tenants.secret_rules import refuse_weak_secrets, require_sign_in
from app.views.stalls import Stalls
from streams.work.watcher import Watcher
from web.api.attention import AttentionApi
from web.api.configuration import ConfigurationApi
from web.api.console import Console
from web.api.content import ContentApi
from web.api.dead_letters import DeadLettersApi
from web.api.deliveries import DeliveriesApi
from web.api.dry_runs import DryRunsApi
from web.api.events import EventsApi
from web.api.health import Check, Health
from web.api.history import HistoryApi
from web.api.limits import LimitsApi
from web.api.maintenance import OperationApi
from web.api.many import ManyApi
from web.api.metrics import MetricsApi
from web.api.pauses import PausesApi
from web.api.provider_sign_in import ProviderSignIns
from web.api.quota import QuotaApi
from web.api.schema import SchemaApi
from web.api.settings import SettingsApi
from web.api.sign_in import SignIns
from web.api.target_states import TargetStatesApi
from web.api.targets import TargetsApi
from web.api.webhooks import WebhooksApi
from web.api.workers import WorkersApi
from web.certificate import certificate_of
from web.feed import Feed
from web.guard.checks import Checks
from web.guard.downloads import Downloads
from web.guard.gate import Gate
from web.guard.limits import CallerLimits, RateLimit, Turns
from web.guard.oidc import ClaimNames, ProviderTokens
from web.site import Parts, Site, create_probe_site, create_site

_MAX_WAITING_REQUESTS = 20  # requests of one caller, beside those that are worked on


def make_site(services: Services, checks: Mapping[str, Check], reloads: Reloads) -> list[Service]:
    """Make the server and what it shows things with, in the order in which they start.

    Raises ConfigurationError when a key or a certificate is none.
    """
    settings = services.settings
    certificate = certificate_of(certificate=settings.web_tls_certificate, key=settings.web_tls_key)
    tls = None if certificate is None else certificate.context
    configure, tenants = services.configuration.configure, services.configuration.tenants
    require_sign_in(settings)
    provider = identity_provider(settings)
    provider_tokens = _provider_tokens(settings, provider)
    gate = _gate(settings, tenants, provider_tokens)
    renew_site(reloads, gate, certificate)
    tracking, audit = services.database.tracking, services.database.audit
    table = progress_table(settings)
    stalls = Stalls(tracking, reports=table.all, report_of=table.of)
    feed = Feed(tracking, table.news)
    health = Health(checks, noted=reloads.failed)
    metrics = MetricsApi(
        tracking,
        webhooks=lambda: services.database.webhooks.seen(tenants.worked_for),
        dead_letters=lambda: services.database.dead_letters.waiting(tenants.worked_for),
        troubles=services.database.attention,
        pauses=tenants.pauses.all,
        tenants=lambda: tenants.worked_for,
    )
    dead_letters = dead_letter_desk(services.database, tenants)
    parts = Parts(
        gate=gate,
        settings=SettingsApi(configure, Checks(services.objects.probe)),
        configuration=ConfigurationApi(configure, services.configuration.store, health, audit),
        operation=OperationApi(configure, audit),
        deliveries=DeliveriesApi(tracking, services.interventions, stalls),
        many=ManyApi(services.many),
        dry_runs=DryRunsApi(services.dry_runs, Checks(services.objects.probe)),
        limits=LimitsApi(tenants),
        quota=QuotaApi(services.quotas),
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
        dead_letters=DeadLettersApi(dead_letters),
        attention=AttentionApi(services.database.attention, served=lambda: tenants.worked_for),
        workers=WorkersApi(tracking, stalls),
        schema=SchemaApi(services.database.schema.seen, tracking),
        metrics=metrics,
        console=Console(
            _sign_ins(settings, tenants), _provider_sign_ins(settings, provider, provider_tokens)
        ),
        health=health,
        targets=TargetsApi(
            tenants,
            look=services.objects.look,
            trouble=services.objects.trouble,
            told=services.objects.told,
        ),
        target_states=TargetStatesApi(services.target_states, tenants),
        history=HistoryApi(
            services.database.history,
            kept=timedelta(seconds=settings.finished_retention),
            tenants=lambda: tenants.worked_for,
        ),
        webhooks=WebhooksApi(tenants, services.database.webhooks, webhook_sender(settings), audit),
        pauses=PausesApi(services.pausing),
        access_log=settings.web_access_log,
        requests_under_way=settings.web_requests_under_way,
        proxies=settings.web_proxies,
        cors_origins=settings.web_cors_origins,
        tls=tls is not None,
    )
    application = create_site(parts)
    if provider is not None:
        _look_at(provider, application)
    site = Site(
        application,
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


def _provider_tokens(settings: Settings, provider: OpenProvider | None) -> ProviderTokens | None:
    if provider is None:
        return None
    names = ClaimNames(
        users=settings.oidc_user_claims,
        role=settings.oidc_role_claim,
        tenant=settings.oidc_tenant_claim,
        fixed_tenant=settings.oidc_tenant,
    )
    return ProviderTokens(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        keys=provider.known.keys,
        names=names,
        roles=role_map(settings.roles, issuer=PROVIDER),
    )


def _look_at(provider: OpenProvider, application: web.Application) -> None:
    """Read its keys while the site starts, which waits for none of it; leave nothing behind."""

    async def begin(_site: web.Application) -> None:
        provider.known.begin()

    async def close(_site: web.Application) -> None:
        await provider.known.close()

    application.on_startup.append(begin)
    application.on_cleanup.append(close)


def _gate(settings: Settings, tenants: ConfiguredTenants, provider: ProviderTokens | None) -> Gate:
    return Gate(
        verifier_of(settings, provider),
        tenants,
        limits=CallerLimits(
            rate=RateLimit(settings.web_requests_per_second, burst=settings.web_requests_burst),
            requests=Turns(settings.web_requests_at_once, waiting=_MAX_WAITING_REQUESTS),
            streams=Turns(settings.web_streams),
            all_streams=Turns(settings.web_streams_total),
        ),
        metrics_token=settings.metrics_token.get_secret_value(),
        roles=role_map(settings.roles),
        provider_roles=role_map(settings.roles, issuer=PROVIDER),
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


def _provider_sign_ins(
    settings: Settings, provider: OpenProvider | None, tokens: ProviderTokens | None
) -> ProviderSignIns | None:
    if provider is None or tokens is None or provider.code_flow is None:
        return None
    return ProviderSignIns(
        provider.code_flow,
        tokens=tokens,
        issuer=settings.oidc_issuer,
        client=settings.oidc_client_id,
        per_minute=settings.web_sign_ins_per_minute,
        proxies=settings.web_proxies,
    )


def make_probe_sites(
    settings: Settings, checks: Mapping[str, Check], reloads: Reloads
) -> list[Site]:
    """Make the servers of a worker that answers no HTTP but whether it works, and its figures."""
    health, metrics = Health(checks, noted=reloads.failed), MetricsApi(None)
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
async def running_site(settings: Settings, reloads: Reloads) -> AsyncIterator[Service]:
    """Run the HTTP server alone. Raises ConfigurationError, also for weak secrets."""
    refuse_weak_secrets(settings, http=True)
    make_series(settings)
    async with (
        open_services(settings, stays=True) as services,
        services.for_http() as over_http,
        over_http.asking_users() as shown,
    ):
        warn_of_places(services.configuration.tenants)
        renew_services(reloads, services)
        *beside, site = make_site(shown, make_checks(services), reloads)
        watcher = make_watcher(services.configuration, services.objects.forget_unused)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(watching_loop())
            for part in (watcher, *beside, site):
                if part is not site:
                    part.beacon.reattach(site.beacon)
                await part.start()
                stack.push_async_callback(part.stop)
            yield site
