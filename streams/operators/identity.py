"""The identity provider, as `delivery doctor` looks at it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from app.errors import ConfigurationError, IdentityUnavailableError
from app.settings import Settings
from app.views.findings import Finding, bad, good
from streams.oidc.provider import Discovery, Provider

_PART = "identity provider"


async def check_identity_provider(settings: Settings) -> AsyncIterator[Finding]:
    """Look whether it answers, is the one that is meant, and has what is needed of it."""
    if not settings.oidc_issuer:
        return
    try:
        provider = Provider(settings.oidc_issuer, ca=settings.http_ca)
    except ConfigurationError as error:
        yield bad(_PART, "certificates", str(error), "see DELIVERY_HTTP_CA")
        return
    try:
        discovery = await provider.discover()
    except IdentityUnavailableError as error:
        yield bad(
            _PART,
            "discovery",
            str(error),
            "DELIVERY_OIDC_ISSUER is the provider's address as its tokens have it in `iss`; while "
            "it does not answer, its last keys stay good in processes that run",
        )
        return
    yield good(_PART, "discovery", f"it is {discovery.issuer}")
    try:
        keys = await provider.keys_at(discovery.jwks_uri)
    except IdentityUnavailableError as error:
        yield bad(_PART, "keys", str(error), "see which keys it signs with (`jwks_uri`)")
    else:
        left_out = f"; {keys.unusable} of no use here" if keys.unusable else ""
        yield good(_PART, "keys", f"{len(keys.keys)}, for {', '.join(keys.algorithms)}{left_out}")
    yield good(_PART, "audience", f"tokens must be for {settings.oidc_audience}")
    yield _of_console(settings, discovery)


def _of_console(settings: Settings, discovery: Discovery) -> Finding:
    check = "console"
    if not settings.oidc_client_id:
        return good(_PART, check, "it does not sign in there: DELIVERY_OIDC_CLIENT_ID is not set")
    lacks = [
        name
        for name in ("authorization_endpoint", "token_endpoint")
        if getattr(discovery, name) is None
    ]
    methods = discovery.code_challenge_methods_supported
    if methods is not None and "S256" not in methods:
        lacks.append("PKCE by S256")
    if lacks:
        return bad(
            _PART,
            check,
            f"it lacks {', '.join(lacks)}: no user signs in to the console there",
            "allow it at the provider, or leave DELIVERY_OIDC_CLIENT_ID empty",
        )
    ends = "signs out there, too" if discovery.end_session_endpoint else "signs out here alone"
    return good(_PART, check, f"it signs in as {settings.oidc_client_id}, and {ends}")
