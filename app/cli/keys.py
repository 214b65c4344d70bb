"""`delivery make-key`, `rotate-keys` and `token`: what secrets are sealed and callers known by."""

from __future__ import annotations

import asyncio
import time
import warnings

import click
import jwt

from app.cli.who import current_user
from app.configured import open_vault
from app.database import open_database
from app.errors import ConfigurationError
from app.secret_rules import token_secret
from app.settings import Settings, load_settings
from app.store import PostgresConfiguration
from app.vault import make_key as new_key


@click.command("make-key")
def make_key() -> None:
    """Print a new key for DELIVERY_SECRET_KEYS."""
    click.echo(new_key())


@click.command("rotate-keys")
def rotate_keys() -> None:
    """Seal every stored secret anew with the first of DELIVERY_SECRET_KEYS.

    Put the new key before the old one, restart every process, run this, then remove the old key.
    """

    async def run(settings: Settings) -> int:
        async with open_database(settings) as pool:
            return await PostgresConfiguration(pool, open_vault(settings)).reseal()

    changed = asyncio.run(run(load_settings()))
    click.echo(f"values sealed anew: {changed}")


@click.command()
@click.option("--tenant", help="Default: the first of DELIVERY_TENANTS.")
@click.option("--role", default="PROJECT_ADMIN", show_default=True)
@click.option("--user", default=current_user, help="Who it is given to; default: you.")
@click.option("--ttl", type=click.IntRange(1), default=3600, show_default=True, help="Seconds.")
def token(tenant: str | None, role: str, user: str, ttl: int) -> None:
    """Print a token for the HTTP API, signed with DELIVERY_JWT_SECRET."""
    settings = load_settings()
    secret = token_secret(settings)
    if not secret and settings.jwt_public_key:
        raise ConfigurationError(
            "DELIVERY_JWT_PUBLIC_KEY is set, so only who has its private key makes tokens; set "
            "DELIVERY_JWT_SECRET beside it to make some here, too, or take a token of REGARDS"
        )
    if not secret:
        raise ConfigurationError("DELIVERY_JWT_SECRET is not set: there is nothing to sign with")
    now = int(time.time())
    claims = {
        "tenant": tenant or settings.tenants[0],
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
