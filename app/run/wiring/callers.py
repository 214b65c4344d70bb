"""What the tokens of callers are checked with."""

from __future__ import annotations

from app.settings import Settings
from app.tenants.secret_rules import token_secret
from web.guard.auth import TokenVerifier
from web.guard.keys import TokenKeys
from web.guard.oidc import ProviderTokens

# What of it may lie in files.
KEYS = ("jwt_secret", "jwt_public_key", "jwt_former_secrets", "rs_order_token_secret")


def verifier_of(settings: Settings, provider: ProviderTokens | None) -> TokenVerifier:
    """Return what checks the tokens of callers. Raises ConfigurationError."""
    return TokenVerifier(
        secret=token_secret(settings),
        public_key=settings.jwt_public_key,
        former_secrets=_former(settings),
        provider=provider,
    )


def keys_of(settings: Settings) -> TokenKeys:
    """Return the keys that the operator gives for that. Raises ConfigurationError."""
    return TokenKeys(
        secrets=(token_secret(settings), *_former(settings)), public_keys=settings.jwt_public_key
    )


def _former(settings: Settings) -> list[str]:
    return [secret.get_secret_value() for secret in settings.jwt_former_secrets]
