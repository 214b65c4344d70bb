"""Signing users of the console in at the provider: authorization code with PKCE (RFC 7636).

A user's browser makes the code verifier, and sends the user to the provider; the code that comes
back is exchanged here, so that the page connects to nothing but this service. The client is a
public one: there is no secret, here or there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from app.errors import IdentityUnavailableError, NotAcceptedError, as_cause
from app.views.sign_in import GivenTokens, ProviderEntrance
from streams.oidc.provider import Discovery

_MAX_TOLD = 200  # characters of what a provider says

# Sends a form; returns status and JSON of the answer. Raises IdentityUnavailableError.
Post = Callable[[str, Mapping[str, str]], Awaitable[tuple[int, Any]]]


class CodeFlow:
    """Where a user signs in, and what is had for the code that they come back with."""

    def __init__(
        self,
        post: Post,
        *,
        discovery: Callable[[], Awaitable[Discovery]],
        client: str,
        scopes: str = "openid",
        parameters: str = "",
    ) -> None:
        self._post = post
        self._discovery = discovery
        self.client = client
        self._scopes = scopes
        self._parameters = parse_qsl(parameters, keep_blank_values=True)

    async def entrance(self) -> ProviderEntrance:
        """Return where users sign in. Raises IdentityUnavailableError."""
        discovery = await self._discovery()
        own = {"response_type": "code", "client_id": self.client, "scope": self._scopes}
        return ProviderEntrance(
            issuer=discovery.issuer,
            authorization_endpoint=_there(discovery.authorization_endpoint, "authorization"),
            end_session_endpoint=discovery.end_session_endpoint,
            parameters=dict(self._parameters) | own,
        )

    async def exchange(self, code: str, *, verifier: str, redirect_uri: str) -> GivenTokens:
        """Return what the provider gives for a code.

        Raises NotAcceptedError, or IdentityUnavailableError.
        """
        return await self._granted(
            {
                "grant_type": "authorization_code",
                "code": code,
                "code_verifier": verifier,
                "redirect_uri": redirect_uri,
            }
        )

    async def refresh(self, token: str) -> GivenTokens:
        """Return new tokens for a refresh token. Raises as `exchange` does."""
        return await self._granted({"grant_type": "refresh_token", "refresh_token": token})

    async def _granted(self, form: Mapping[str, str]) -> GivenTokens:
        endpoint = _there((await self._discovery()).token_endpoint, "token")
        status, given = await self._post(endpoint, {**form, "client_id": self.client})
        body: Mapping[str, Any] = given if isinstance(given, dict) else {}
        access = body.get("access_token")
        if status == 200 and isinstance(access, str):
            return GivenTokens(
                token=access,
                refresh_token=_text(body, "refresh_token"),
                id_token=_text(body, "id_token"),
            )
        if status in (400, 401, 403):
            raise NotAcceptedError(
                "the identity provider does not take this sign-in "
                f"({_word(body, 'error') or f'it answered {status}'}); sign in again"
            )
        raise IdentityUnavailableError(
            f"the identity provider answered {status} at {endpoint} without a token"
        )


def _there(endpoint: str | None, name: str) -> str:
    if endpoint is None:
        raise IdentityUnavailableError(
            f"the identity provider has no {name} endpoint: users can't sign in there with a code"
        )
    return endpoint


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) and value else None


def _word(body: Mapping[str, Any], name: str) -> str | None:
    value = _text(body, name)
    return as_cause(value[:_MAX_TOLD]) if value is not None else None
