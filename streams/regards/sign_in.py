"""Signing in with a user's password at REGARDS (OAuth2, resource owner password credentials)."""

from __future__ import annotations

import aiohttp

from app.errors import NotAcceptedError, SourceUnavailableError
from app.network.https import connector_of, said, trust

_TIMEOUT = aiohttp.ClientTimeout(total=10)


class PasswordFlow:
    """Asks REGARDS' authentication for tokens. Passwords are passed on, and kept nowhere.

    Raises ConfigurationError when the file of a CA can't be used.
    """

    def __init__(self, url: str, *, client: str, secret: str, ca: str = "") -> None:
        self._url = url
        self._trusted = trust(ca)
        self._headers = {"Authorization": aiohttp.encode_basic_auth(client, secret)}

    async def token(self, tenant: str, user: str, password: str) -> str:
        """Return a token. Raises NotAcceptedError, or SourceUnavailableError without an answer."""
        form = {
            "grant_type": "password",
            "username": user,
            "password": password,
            "scope": tenant,
        }
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector_of(self._trusted),
                    timeout=_TIMEOUT,
                    cookie_jar=aiohttp.DummyCookieJar(),
                ) as session,
                session.post(
                    self._url, data=form, headers=self._headers, allow_redirects=False
                ) as answer,
            ):
                status = answer.status
                body = await answer.json(content_type=None) if status == 200 else {}
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise SourceUnavailableError(
                f"REGARDS' authentication does not answer at {self._url} ({said(error)})"
            ) from None
        token = body.get("access_token") if isinstance(body, dict) else None
        if isinstance(token, str):
            return token
        if status in (400, 401, 403):
            raise NotAcceptedError("REGARDS knows no such user and password for this tenant")
        raise SourceUnavailableError(
            f"REGARDS' authentication at {self._url} answered {status} without a token"
        )
