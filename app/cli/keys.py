"""`delivery make-key`, `rotate-keys` and `token`: what secrets are sealed and callers known by."""

from __future__ import annotations

import asyncio
import time
import warnings

import asyncpg
import click
import jwt

from app.audit import INSTANCE, AuditRecord
from app.cli.who import caller, current_user
from app.errors import ConfigurationError, DeliveryError, as_cause
from app.roles import MEANT, role_map
from app.run.wiring.database import connected, open_database
from app.settings import Settings, load_settings
from app.tenants.secret_rules import token_secret
from app.tenants.vault import make_key as new_key

_AUDIT_TIMEOUT = 2.0  # seconds for the audit trail to note a token


@click.command("make-key")
def make_key() -> None:
    """Print a new key for DELIVERY_SECRET_KEYS."""
    click.echo(new_key())


@click.command("rotate-keys")
def rotate_keys() -> None:
    """Seal every stored secret again with the first of DELIVERY_SECRET_KEYS.

    Put the new key before the old one, restart every process, run this, then remove the old key.
    """

    async def run(settings: Settings) -> int:
        async with open_database(settings) as database:
            return await database.tenant_settings().reseal(caller(INSTANCE))

    changed = asyncio.run(run(load_settings()))
    click.echo(f"values sealed again: {changed}")


@click.command()
@click.option("--tenant", help="Default: the first of DELIVERY_TENANTS.")
@click.option(
    "--role",
    default="PROJECT_ADMIN",
    show_default=True,
    help=f"One of {', '.join(MEANT)}, or of DELIVERY_ROLES.",
)
@click.option("--user", default=current_user, help="Who it is given to; default: you.")
@click.option("--ttl", type=click.IntRange(1), default=3600, show_default=True, help="Seconds.")
def token(tenant: str | None, role: str, user: str, ttl: int) -> None:
    """Print a token for the HTTP API, signed with DELIVERY_JWT_SECRET.

    It is in the audit trail, unless the database does not answer: then standard error says so.
    """
    settings = load_settings()
    secret = token_secret(settings)
    if not secret and settings.jwt_public_key:
        raise ConfigurationError(
            "DELIVERY_JWT_PUBLIC_KEY is set, so only who has its private key makes tokens; set "
            "DELIVERY_JWT_SECRET beside it to make some here, too, or take a token of REGARDS"
        )
    if not secret and settings.oidc_issuer:
        raise ConfigurationError(
            "DELIVERY_OIDC_ISSUER is set, so the identity provider makes tokens; set "
            "DELIVERY_JWT_SECRET beside it to make some here, too, or take a token of the provider"
        )
    if not secret:
        raise ConfigurationError("DELIVERY_JWT_SECRET is not set: there is nothing to sign with")
    if role not in MEANT and role not in (of_site := role_map(settings.roles)):
        others = f", {', '.join(of_site)}" if of_site else ""
        raise click.UsageError(
            f"unknown role {role[:255]}: it would open nothing; take one of "
            f"{', '.join(MEANT)}{others} (DELIVERY_ROLES says what roles of the site stand for)"
        )
    owner = tenant or settings.tenants[0]
    done = AuditRecord(
        actor=caller(owner),
        action="make token",
        subject=f"token of {as_cause(user[:255])}",
        before=None,
        after={"role": as_cause(role[:255]), "seconds": ttl},
    )
    asyncio.run(_note(settings, done))
    now = int(time.time())
    claims = {
        "tenant": owner,
        "sub": user,
        "email": user,
        "role": role,
        "iat": now,
        "exp": now + ttl,
    }
    # A digest that is longer than the secret adds nothing.
    algorithm = "HS512" if len(secret.encode()) >= 64 else "HS256"
    with warnings.catch_warnings(action="ignore", category=jwt.InsecureKeyLengthWarning):
        click.echo(jwt.encode(claims, secret, algorithm=algorithm))


async def _note(settings: Settings, done: AuditRecord) -> None:
    """Note it, soon or not at all: who has the secret needs no command to make a token."""
    try:
        async with (
            asyncio.timeout(_AUDIT_TIMEOUT),
            connected(settings, size=1, start_timeout=0) as database,
        ):
            await database.audit.record(done)
    except (DeliveryError, TimeoutError, asyncpg.PostgresError) as error:
        cause = str(error) or f"the database does not answer within {_AUDIT_TIMEOUT:g} s"
        click.echo(f"delivery: the token is not in the audit trail ({cause})", err=True)
