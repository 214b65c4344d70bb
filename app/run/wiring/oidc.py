"""The site's identity provider."""

from __future__ import annotations

from app.settings import Settings
from streams.oidc.code_flow import CodeFlow
from streams.oidc.known import KnownProvider
from streams.oidc.provider import Provider


class OpenProvider:
    """The provider, and what signs in there where the console may.

    Raises ConfigurationError when the file of a CA can't be used.
    """

    def __init__(self, settings: Settings) -> None:
        provider = Provider(settings.oidc_issuer, ca=settings.http_ca)
        self.known = KnownProvider(provider.read)
        self.code_flow = (
            CodeFlow(
                provider.post,
                discovery=self.known.discovery,
                client=settings.oidc_client_id,
                scopes=settings.oidc_scopes,
                parameters=settings.oidc_parameters,
            )
            if settings.oidc_client_id
            else None
        )


def identity_provider(settings: Settings) -> OpenProvider | None:
    """Return it; None where none is configured. Raises as OpenProvider does."""
    return OpenProvider(settings) if settings.oidc_issuer else None
