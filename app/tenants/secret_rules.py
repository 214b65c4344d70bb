"""Which secrets are weak, and with which nothing starts.

A secret that signs tokens is found offline by a client that has one token, if it is short; one that
is printed in this repository is public. Those that are ours alone (what callers' tokens
are checked with, what seals) are refused. rs-order's is shared with all of REGARDS, so it can't be
changed here: it is reported, and refused only where it is public *and* lets callers in.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from jwt import InsecureKeyLengthWarning

from app.errors import ConfigurationError
from app.settings import Settings
from app.telemetry.logs import get_logger

log = get_logger(__name__)

_MIN_LENGTH = 32  # bytes
# Those of compose/docker-compose.yml.
PUBLIC_TOKEN_SECRETS = frozenset(
    {"a-shared-secret-of-at-least-64-characters-for-HS512-0123456789abcdef"}
)
PUBLIC_SEAL_KEYS = frozenset({"bG9vcGJhY2stb25seS1leGFtcGxlLWtleS0zMmJ5dGU="})

_HOW_TO_MAKE = "make one: python3 -c 'import secrets; print(secrets.token_urlsafe(64))'"


@dataclass(frozen=True, kw_only=True, slots=True)
class Weakness:
    """A secret that gives no shelter."""

    setting: str
    what: str
    advice: str
    refused: bool  # outside development


def token_secret(settings: Settings) -> str:
    """Return the shared secret that callers' tokens are checked with; empty: none is accepted.

    With an RSA key, or an identity provider, only who has the private half makes tokens, not every
    service that shares rs-order's secret.
    """
    if has_keys(settings) or settings.oidc_issuer:
        return settings.jwt_secret.get_secret_value()
    return settings.rs_order_token_secret.get_secret_value()


def has_keys(settings: Settings) -> bool:
    """Whether tokens are checked with keys of their own, beside those of an identity provider."""
    return bool(settings.jwt_secret.get_secret_value() or settings.jwt_public_key)


def weaknesses(settings: Settings, *, http: bool = True) -> Iterator[Weakness]:
    """Find weak secrets. Without `http`, none lets callers in."""
    own = settings.jwt_secret.get_secret_value()
    if flaw := _flaw(own):
        yield Weakness(setting="DELIVERY_JWT_SECRET", what=flaw, advice=_HOW_TO_MAKE, refused=True)
    for number, former in enumerate(settings.jwt_former_secrets, start=1):
        if flaw := _flaw(former.get_secret_value()):
            yield Weakness(
                setting="DELIVERY_JWT_FORMER_SECRETS",
                what=f"secret {number} {flaw}",
                advice="take it away: tokens by it are good no more",
                refused=True,
            )
    shared = settings.rs_order_token_secret.get_secret_value()
    if flaw := _flaw(shared):
        lets_in = http and token_secret(settings) == shared
        yield Weakness(
            setting="DELIVERY_RS_ORDER_TOKEN_SECRET",
            what=flaw + (", and callers' tokens are checked with it" if lets_in else ""),
            advice="change it in all of REGARDS"
            + (
                ", or set DELIVERY_JWT_SECRET, DELIVERY_JWT_PUBLIC_KEY or DELIVERY_OIDC_ISSUER"
                if lets_in
                else ""
            ),
            refused=lets_in and shared in PUBLIC_TOKEN_SECRETS,
        )
    for number, key in enumerate(settings.secret_keys, start=1):
        if key.get_secret_value() in PUBLIC_SEAL_KEYS:
            yield Weakness(
                setting="DELIVERY_SECRET_KEYS",
                what=f"key {number} is public: everybody can open what it has sealed",
                advice="put a key of your own before it (`delivery make-key`), restart, "
                "`delivery rotate-keys`, take it away, and change the secrets that it sealed",
                refused=number == 1,  # the others only open, until everything is sealed again
            )


def _flaw(secret: str) -> str | None:
    if secret in PUBLIC_TOKEN_SECRETS:
        return "is public: everybody can sign with it"
    if 0 < len(secret.encode()) < _MIN_LENGTH:
        return f"has fewer than {_MIN_LENGTH} bytes: who has one token can find it"
    return None


def refuse_weak_secrets(settings: Settings, *, http: bool) -> None:
    """Log what is weak. Raises ConfigurationError for what nothing starts with."""
    # Below it is reported in words, and above 32 bytes HS512 is as good as HS256.
    warnings.filterwarnings("ignore", category=InsecureKeyLengthWarning)
    weak = list(weaknesses(settings, http=http))
    if settings.development:
        log.warning("development", cause="DELIVERY_DEVELOPMENT is on: weak secrets are accepted")
    elif refused := [_in_words(weakness) for weakness in weak if weakness.refused]:
        reasons = "\n  ".join(refused)
        raise ConfigurationError(
            f"nothing starts with these secrets:\n  {reasons}\n"
            "For trying things out, DELIVERY_DEVELOPMENT=true accepts them"
        )
    for weakness in weak:
        log.warning(
            "secret_weak", setting=weakness.setting, cause=weakness.what, advice=weakness.advice
        )


def require_sign_in(settings: Settings) -> None:
    """Raise ConfigurationError where the console would take passwords for tokens that open nothing.

    That is so with an identity provider and no key that REGARDS' tokens are checked with.
    """
    if settings.oauth_url and settings.oidc_issuer and not has_keys(settings):
        raise ConfigurationError(
            "with DELIVERY_OAUTH_URL the console takes passwords of REGARDS, but with "
            "DELIVERY_OIDC_ISSUER alone the tokens that it gets for them are not taken: set "
            "DELIVERY_JWT_SECRET or DELIVERY_JWT_PUBLIC_KEY to what REGARDS' tokens are checked "
            "with, too, or leave DELIVERY_OAUTH_URL empty"
        )


def check_renewed(settings: Settings, *names: str) -> None:
    """Raise ConfigurationError where one of these, as it is now, is what nothing starts with."""
    meant = {f"DELIVERY_{name.upper()}" for name in names}
    refused = [
        _in_words(weakness)
        for weakness in weaknesses(settings)
        if weakness.refused and weakness.setting in meant
    ]
    if refused and not settings.development:
        raise ConfigurationError("; ".join(refused))


def _in_words(weakness: Weakness) -> str:
    return f"{weakness.setting} {weakness.what}; {weakness.advice}"


def require_token_secret(settings: Settings) -> None:
    """Raise ConfigurationError unless there is something to sign tokens for rs-order with."""
    if not settings.rs_order_token_secret.get_secret_value():
        raise ConfigurationError(
            "DELIVERY_RS_ORDER_TOKEN_SECRET is not set: give the secret that rs-order checks "
            "tokens with"
        )
