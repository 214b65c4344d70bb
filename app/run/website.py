"""The HTTP server: what it is wired of, in a worker's process or alone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import aiohttp
import asyncpg
from mode import Service

from app.audit import INSTANCE
from app.delivery.ports import Users
from app.errors import SecretUnreadableError, SourceUnavailableError
from app.run.configured import ConfigurationParts, open_configuration
from app.run.database import open_database, open_migrated, open_web_pool
from app.run.series import make_series
from app.settings import Settings
from app.store import PostgresAudit, PostgresStore, PostgresTracking
from app.telemetry.metrics import TARGET_UP
from app.telemetry.watchdog import watching_loop
from app.tenants.secret_rules import refuse_weak_secrets, token_secret
from app.usecases.intervene import Interventions
from app.waiting.signals import Signal
from sinks.stores.s3.probe import Prober
from sinks.stores.s3.store import S3Sink, open_sink
from streams.dead_letters import Letters
from streams.kafka.progress_table import ProgressTable
from streams.regards.https import connector_of, said, trust
from streams.regards.sign_in import PasswordFlow
from streams.regards.users import AnyUser, AskedLater
from streams.work.watcher import Watcher
from web.api.console import Console
from web.api.health import Check, Health
from web.api.metrics import MetricsApi
from web.api.sign_in import SignIns
from web.api.targets import TargetsApi
from web.feed import Feed
from web.guard.auth import Verifier
from web.guard.gate import Gate
from web.guard.limits import Limits, RateLimit, Turns
from web.site import Parts, Site, create_probe_site, create_site, tls_context

if TYPE_CHECKING:  # a process without work need not import what works
    from app.run.bootstrap import Services


_WAITING = 20  # requests of one caller, beside those that are worked on
_RS_ORDER_TIMEOUT = aiohttp.ClientTimeout(total=3)


@dataclass(frozen=True, kw_only=True)
class Base:
    """What a process with an HTTP server has open."""

    pool: asyncpg.Pool
    owed: Signal  # notified after a commit that left something to publish
    configuration: ConfigurationParts
    sink: S3Sink
    users: Users

    @property
    def store(self) -> PostgresStore:
        """The deliveries."""
        return PostgresStore(self.pool, self.owed)


@contextlib.asynccontextmanager
async def open_web_base(settings: Settings, base: Base) -> AsyncIterator[Base]:
    """Give what the HTTP server works with: the same, over connections of its own."""
    async with open_web_pool(settings) as pool:
        yield replace(base, pool=pool, configuration=base.configuration.over(pool))


def interventions_of(base: Base) -> Interventions:
    """Return what may be done to deliveries from outside."""
    return Interventions(
        store=base.store,
        tracking=PostgresTracking(base.pool),
        tenants=base.configuration.tenants,
        users=base.users,
    )


def make_site(settings: Settings, base: Base, checks: Mapping[str, Check]) -> list[Service]:
    """Make the server and what it shows things with, in the order in which they start.

    Raises ConfigurationError when a key or a certificate is none.
    """
    tls = tls_context(certificate=settings.web_tls_certificate, key=settings.web_tls_key)
    verifier = Verifier(
        secret=token_secret(settings),
        public_key=settings.jwt_public_key,
    )
    configuration = base.configuration
    tracking = PostgresTracking(base.pool)
    table = ProgressTable(settings)
    feed = Feed(tracking, table.news)
    prober = Prober(base.sink.clients, settings.allowed_hosts)
    parts = Parts(
        configure=configuration.configure,
        store=configuration.store,
        audit=PostgresAudit(base.pool),
        gate=Gate(
            verifier,
            configuration.tenants,
            limits=Limits(
                rate=RateLimit(settings.web_requests_per_second, burst=settings.web_requests_burst),
                requests=Turns(settings.web_requests_at_once, waiting=_WAITING),
                streams=Turns(settings.web_streams),
                all_streams=Turns(settings.web_streams_total),
            ),
            metrics_token=settings.metrics_token.get_secret_value(),
        ),
        health=Health(checks),
        targets=TargetsApi(
            configuration.tenants,
            look=prober.looking(base.sink),
            trouble=base.sink.breakers.trouble,
            told=prober.told,
        ),
        probe=prober.probe,
        tracking=tracking,
        changes=tracking,
        overview=tracking,
        interventions=interventions_of(base),
        feed=feed,
        progress=table.of,
        letters=Letters(settings, known=configuration.tenants.known),
        console=Console(_sign_ins(settings, configuration)),
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
        [_probe_site(settings, parts.health, MetricsApi(tracking), port=settings.metrics_port)]
        if settings.metrics_port
        else []
    )
    return [table, feed, *figures, site]


def _sign_ins(settings: Settings, configuration: ConfigurationParts) -> SignIns | None:
    if not settings.oauth_url:
        return None
    secret = settings.oauth_client_secret.get_secret_value()
    flow = PasswordFlow(
        settings.oauth_url, client=settings.oauth_client, secret=secret, ca=settings.http_ca
    )

    def served(tenant: str) -> bool:
        return tenant == INSTANCE or configuration.tenants.known(tenant)

    return SignIns(
        flow.token,
        served=served,
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

    def changed() -> None:
        for tell in then:
            tell()

    return Watcher(
        listening=configuration.store.listening,
        refresh=configuration.configure.refresh,
        changed=changed,
    )


def base_of(services: Services) -> Base:
    """Return what a worker's own connections give its HTTP server."""
    return Base(
        pool=services.pool,
        owed=services.owed,
        configuration=services.configuration,
        sink=services.sink,
        users=services.users,
    )


def worker_checks(services: Services) -> dict[str, Check]:
    """Return what a worker depends on, but for what its own parts tell."""
    return {
        **_checks(services.settings, base_of(services)),
        "kafka": services.events.check,
    }


def _checks(settings: Settings, base: Base) -> dict[str, Check]:
    """Return what every process depends on; no server of a tenant is among it.

    Raises ConfigurationError when the file of a CA can't be used.
    """
    configuration = base.configuration
    trusted = trust(settings.http_ca)

    async def database() -> None:
        await base.store.answers()

    async def keys() -> None:
        unreadable = len(configuration.tenants.unreadable())
        if unreadable:  # who they are is not for operators of another tenant
            raise SecretUnreadableError(
                f"secrets of {unreadable} tenants can't be read with DELIVERY_SECRET_KEYS; the log "
                "(settings_unreadable) and `delivery doctor` name them"
            )

    async def rs_order() -> None:
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector_of(trusted), timeout=_RS_ORDER_TIMEOUT
                ) as session,
                session.head(settings.rs_order_url, allow_redirects=False),
            ):
                return  # whatever it says, it answers
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SourceUnavailableError(
                f"rs-order does not answer at {settings.rs_order_url} ({said(error)})"
            ) from None

    return {"postgresql": database, "secret keys": keys, "rs-order": rs_order}


@contextlib.asynccontextmanager
async def open_base(settings: Settings, *, stays: bool = False) -> AsyncIterator[Base]:
    """Open what deliveries are looked at and steered with, without a worker.

    A process that `stays` may migrate the database; a command does not.
    """
    opened = open_migrated(settings) if stays else open_database(settings)
    async with (
        opened as pool,
        open_sink(up=TARGET_UP, ca=settings.s3_ca, hosts=settings.allowed_hosts) as sink,
    ):
        configuration = await open_configuration(settings, pool)
        sink.breakers.in_use = configuration.tenants.targets
        yield Base(
            pool=pool,
            owed=Signal(),
            configuration=configuration,
            sink=sink,
            users=AskedLater() if settings.rs_admin_url else AnyUser(),
        )


@contextlib.asynccontextmanager
async def running_site(settings: Settings) -> AsyncIterator[Service]:
    """Run the HTTP server alone. Raises ConfigurationError, also for weak secrets."""
    refuse_weak_secrets(settings, http=True)
    make_series(settings)
    async with (
        open_base(settings, stays=True) as base,
        open_web_base(settings, base) as web_base,
    ):
        base.configuration.warn_of_places(settings.tenants)
        *beside, site = make_site(settings, web_base, _checks(settings, base))
        watcher = make_watcher(base.configuration, base.sink.breakers.forget_unused)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(watching_loop())
            for part in (watcher, *beside, site):
                if part is not site:
                    part.beacon.reattach(site.beacon)
                await part.start()
                stack.push_async_callback(part.stop)
            yield site
