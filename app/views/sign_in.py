"""Signing in at the identity provider: what the console begins with, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from app.views.view import View


class ProviderEntrance(View):
    """Where the console sends a user to, and with what."""

    issuer: str
    authorization_endpoint: str
    end_session_endpoint: str | None = None
    parameters: Mapping[str, str] = Field(
        description="Of the request, beside what each sign-in makes: redirect, state, nonce, "
        "code challenge."
    )


class GivenTokens(View):
    """What the provider gives for a code, or for a refresh token."""

    token: str = Field(repr=False)
    refresh_token: str | None = Field(None, repr=False)
    id_token: str | None = Field(None, repr=False)
