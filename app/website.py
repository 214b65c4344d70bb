"""The HTTP server: what it is wired of, in a worker's process or alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import aiohttp

from app.bootstrap import ConfigurationParts, Services, open_configuration, open_database
from app.errors import (
    BrokerUnavailableError,
    DeliveryError,
    SourceUnavailableError,
    TargetUnavailableError,
)
from app.model import S3Target
from app.settings import Settings
from app.signals import Signal
from app.store import PostgresStore
from sinks.probe import probe
from sinks.s3 import S3Sink, open_sink
from streams.watcher import Watcher
from web.auth import Verifier
from web.gate import Gate
from web.health import Check, Health
from web.limits import RateLimit
from web.site import Parts, Site, create_site, tls_context


def make_site(
    settings: Settings, configuration: ConfigurationParts, checks: Mapping[str, Check]
) -> Site:
    """Make the server. Raises ConfigurationError when a key or a certificate is none."""
    tls = tls_context(certificate=settings.web_tls_certificate, key=settings.web_tls_key)
    verifier = Verifier(
        secret=settings.jwt_secret.get_secret_value()
        or settings.rs_order_token_secret.get_secret_value(),
        public_key=settings.jwt_public_key,
    )
    parts = Parts(
        configure=configuration.configure,
        store=configuration.store,
        gate=Gate(
            verifier,
            configuration.tenants,
            limit=RateLimit(
                settings.web_requests_per_second, burst=settings.web_requests_per_second
            ),
        ),
        health=Health(checks),
        probe=probe,
        cors_origins=settings.web_cors_origins,
        tls=tls is not None,
    )
    return Site(create_site(parts), host=settings.web_host, port=settings.web_port, tls=tls)


def make_watcher(configuration: ConfigurationParts, *wake: Signal) -> Watcher:
    """Make what hears of changed settings; `wake` is notified after each."""

    def changed() -> None:
        for signal in wake:
            signal.notify()

    return Watcher(
        listening=configuration.store.listening,
        refresh=configuration.configure.refresh,
        changed=changed,
    )


def worker_checks(services: Services) -> dict[str, Check]:
    """Return what a worker depends on."""

    async def rabbitmq() -> None:
        if not services.connection.connected.is_set():
            raise BrokerUnavailableError("the connection to RabbitMQ is down; it is tried again")

    return {
        **_checks(services.settings, services.store, services.configuration, services.sink),
        "rabbitmq": rabbitmq,
        "kafka": services.events.check,
    }


def _checks(
    settings: Settings, store: PostgresStore, configuration: ConfigurationParts, sink: S3Sink
) -> dict[str, Check]:
    async def database() -> None:
        await store.summary()

    async def keys() -> None:
        for tenant in configuration.tenants.unreadable():
            configuration.tenants.check_secrets(tenant)  # raises

    async def rs_order() -> None:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.head(settings.rs_order_url, allow_redirects=False),
            ):
                return  # whatever it says, it answers
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SourceUnavailableError(
                f"rs-order does not answer at {settings.rs_order_url} ({type(error).__name__})"
            ) from None

    async def s3() -> None:
        # One tenant's wrong server must not make the service look broken to all others.
        servers: dict[str, S3Target] = {}
        for tenant in settings.tenants:
            target = configuration.tenants.settings(tenant).target
            servers.setdefault(target.endpoint, target)
        outcomes = await asyncio.gather(*map(sink.reach, servers.values()), return_exceptions=True)
        errors = [str(outcome) for outcome in outcomes if isinstance(outcome, DeliveryError)]
        if errors and len(errors) == len(outcomes):
            raise TargetUnavailableError("; ".join(errors))

    return {"postgresql": database, "secret keys": keys, "rs-order": rs_order, "s3": s3}


@contextlib.asynccontextmanager
async def running_site(settings: Settings) -> AsyncIterator[Site]:
    """Run the HTTP server alone."""
    async with open_database(settings) as pool, open_sink() as sink:
        configuration = await open_configuration(settings, pool)
        store = PostgresStore(pool, Signal())
        site = make_site(settings, configuration, _checks(settings, store, configuration, sink))
        watcher = make_watcher(configuration)
        watcher.beacon.reattach(site.beacon)
        async with contextlib.AsyncExitStack() as stack:
            for part in (watcher, site):
                await part.start()
                stack.push_async_callback(part.stop)
            yield site
