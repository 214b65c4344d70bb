"""A profile's token, and another one when it ends: by the refresh token that is kept with it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

import rs_delivery_client
from rs_delivery_client.cli.ends import printable
from rs_delivery_client.errors import ProfileError
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
        # A refresh token that is used up and kept still, and the one that could not be kept.
        self._unkept: tuple[str, str] | None = None

    async def __call__(self) -> str:
        """Return it. Raises NotSignedInError, NotReachableError; ProfileError, if none is read."""
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
            if token is not None and not _is_same_user(token, self._token):
                return self._token
            stored = self._profiles.refresh_of(kept)
            used, refresh = self._unkept or (None, None)
            if refresh is None or used != stored:
                if token is not None and token != self._token and not _is_over(token):
                    return token  # another program was at it
                refresh = stored
            if stored is None or refresh is None:
                return self._token
            given = await self._asked(refresh)
            self._keep(kept, stored, given.token, given.refresh or refresh)
            return given.token

    def _keep(self, kept: Profile, stored: str, token: str, refresh: str) -> None:
        """Keep what was given; where that fails it is told, once, as the token is good."""
        try:
            self._profiles.renew(kept, stored, token=token, refresh=refresh)
        except ProfileError as error:
            if self._unkept is None:
                said = f"the token is renewed for this call alone, and not kept: {error}"
                click.echo(printable(said), err=True)
            self._unkept = stored, refresh

    async def _asked(self, refresh: str) -> Renewed:
        client = rs_delivery_client.DeliveryClient(self._url, timeout=_TIMEOUT)
        async with client:
            return await client.renewed(refresh)


def _is_over(token: str) -> bool:
    ends = ends_at(token)
    return ends is not None and ends <= datetime.now(UTC)


def _is_same_user(one: str, other: str) -> bool:
    first, second = _claims(one), _claims(other)
    return all(first.get(name) == second.get(name) for name in ("iss", "tenant", "sub"))


def ends_at(token: str | None) -> datetime | None:
    """Return when a token ends; None: it does not tell. It is not checked here."""
    try:
        return datetime.fromtimestamp(float(_claims(token)["exp"]), UTC)
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return None


def _claims(token: str | None) -> Mapping[str, Any]:
    """Return what a token says; nothing, where it is none that can be read."""
    parts = (token or "").split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
