"""Which parts of a process read again, and how each takes what it has read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from app.errors import ConfigurationError
from app.network import tls
from app.run.reloads import Reloads
from app.run.series import make_series_of
from app.run.wiring.callers import KEYS, keys_of
from app.run.wiring.services import Services
from app.run.wiring.targets import check_stores
from app.settings import Settings
from app.tenants.places import warn_of_places
from app.tenants.secret_rules import check_renewed
from web.certificate import ServerCertificate
from web.guard.gate import Gate

# By what the names of their settings begin with: files that connections to others are made with.
_LINES = {
    "DELIVERY_AMQP": ("amqp_ca", "amqp_certificate", "amqp_key"),
    "DELIVERY_DATABASE": ("database_ca", "database_certificate", "database_key"),
    "DELIVERY_KAFKA": ("kafka_ca", "kafka_certificate", "kafka_key"),
    "DELIVERY_HTTP": ("http_ca",),
    "DELIVERY_S3": ("s3_ca",),
}


def renew_services(reloads: Reloads, services: Services) -> None:
    """Have what every process has read again: tenants, keys, and the files of connections."""
    _renew_tenants(reloads, services)
    _renew_keys(reloads, services)
    for line, names in _LINES.items():
        if any(getattr(services.settings, name) for name in names):
            reloads.add(f"files of {line}", _line(line))


def _renew_tenants(reloads: Reloads, services: Services) -> None:
    tenants, labels = services.configuration.tenants, services.settings.metric_labels

    async def serve(fresh: Settings) -> str | None:
        before = tenants.names
        if tuple(before) == fresh.tenants:
            return None
        changed = tenants.static.model_copy(update={"tenants": fresh.tenants})
        for findings in check_stores(changed).values():
            for finding in findings:
                raise ConfigurationError(finding.message)
        tenants.serve(changed)
        for tenant in fresh.tenants:
            make_series_of(tenant, labels)
        warn_of_places(tenants)
        return _difference(before, fresh.tenants)

    async def use_s3_key(fresh: Settings) -> str | None:
        key = {"s3_key": fresh.s3_key, "s3_secret": fresh.s3_secret}
        changed = tenants.static.model_copy(update=key)
        if changed == tenants.static:
            return None
        # What processes of the version before have set meanwhile is told by the key that was.
        await services.configuration.configure.refer_to_the_deployments_key()
        tenants.serve(changed)
        services.objects.forget_unused()
        return "what begins from now on is sent with the new one"

    reloads.add("tenants", serve, settings=("tenants",))
    reloads.add("the deployment's S3 key", use_s3_key, settings=("s3_key", "s3_secret"))


def _renew_keys(reloads: Reloads, services: Services) -> None:
    configuration = services.configuration

    async def seal(fresh: Settings) -> str | None:
        check_renewed(fresh, "secret_keys")
        keys = [key.get_secret_value() for key in fresh.secret_keys]
        if not keys or not configuration.vault.use(keys):
            return None
        await configuration.configure.refresh()
        return f"{len(keys)} keys; the first seals, and those before go on to open"

    async def sign(fresh: Settings) -> str | None:
        secret = fresh.rs_order_token_secret.get_secret_value()
        return "another secret" if secret and services.signer.sign_with(secret) else None

    reloads.add("keys that seal", seal, settings=("secret_keys",))
    reloads.add("tokens for REGARDS", sign, settings=("rs_order_token_secret",))


def renew_site(reloads: Reloads, gate: Gate, certificate: ServerCertificate | None) -> None:
    """Have what the HTTP server has read again: what callers are checked with, its certificate."""

    async def check(fresh: Settings) -> str | None:
        check_renewed(fresh, *KEYS)
        gate.check_with(keys_of(fresh))
        return "tokens are checked with what is there now"

    async def scrape(fresh: Settings) -> str | None:
        return (
            "another token" if gate.scraped_with(fresh.metrics_token.get_secret_value()) else None
        )

    reloads.add("tokens of callers", check, settings=KEYS)
    reloads.add("token of Prometheus", scrape, settings=("metrics_token",))
    if certificate is None:
        return

    async def show(_fresh: Settings) -> str | None:
        if not await asyncio.to_thread(certificate.read_again):
            return None
        return f"another certificate, which is good until {certificate.expires:%Y-%m-%d}"

    reloads.add("certificate of the HTTP server", show)


def _line(line: str) -> Callable[[Settings], Awaitable[str | None]]:
    async def read_again(_fresh: Settings) -> str:
        await tls.read_again(line)
        return "new connections are made with what is there now"

    return read_again


def _difference(before: Sequence[str], now: Sequence[str]) -> str:
    added = [name for name in now if name not in before]
    left = [name for name in before if name not in now]
    return "; ".join(
        f"{what} {', '.join(names)}"
        for what, names in (("now served:", added), ("served no more:", left))
        if names
    )
