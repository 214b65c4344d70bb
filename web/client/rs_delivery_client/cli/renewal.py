"""A profile's token, and another one when it ends: by the refresh token that is kept with it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import rs_delivery_client
from rs_delivery_client.profiles import Profile, Profiles

if TYPE_CHECKING:
    from rs_delivery_client.tokens import Renewed

_TIMEOUT = 30.0  # seconds


class Renewal:
    """Gives the token of a profile; asked again, another one, which is kept in its place."""

    def __init__(
        self, url: str, profile: Profile, token: str, profiles: Profiles | None = None
    ) -> None:
        self._url = url
        self._profile = profile
        self._token = token
        self._profiles = profiles or Profiles()
        self._given = False

    async def __call__(self) -> str:
        """Return it. Raises NotSignedInError, ProfileError, NotReachableError."""
        if self._given or _is_over(self._token):
            self._token = await self._another()
        self._given = True
        return self._token

    async def _another(self) -> str:
        with contextlib.ExitStack() as stack:
            # In a thread: another program may be at it, and this one has more to do meanwhile.
            await asyncio.to_thread(stack.enter_context, self._profiles.renewing())
            kept = self._profiles.find(self._profile.name)
            if kept is None or not kept.is_of(self._url):
                return self._token
            token = self._profiles.token_of(kept)
            if token is not None and token != self._token and not _is_over(token):
                return token  # another program was at it
            refresh = self._profiles.refresh_of(kept)
            if refresh is None:
                return self._token
            given = await self._asked(refresh)
            renewed = replace(kept, token=given.token, refresh=given.refresh or refresh)
            self._profiles.keep(renewed, keyring=kept.in_keyring)
            return given.token

    async def _asked(self, refresh: str) -> Renewed:
        client = rs_delivery_client.DeliveryClient(self._url, timeout=_TIMEOUT)
        async with client:
            return await client.renewed(refresh)


def _is_over(token: str) -> bool:
    ends = ends_at(token)
    return ends is not None and ends <= datetime.now(UTC)


def ends_at(token: str | None) -> datetime | None:
    """Return when a token ends; None: it does not tell. It is not checked here."""
    parts = (token or "").split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), UTC)
    except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError):
        return None
