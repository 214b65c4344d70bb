"""What requests are signed with: a token that an account's key signs, or one of this machine.

Google takes a token that the key itself has signed, so nothing is asked of the address for tokens
that the key names: a tenant could name any.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import aiohttp
import jwt
from cryptography.exceptions import InternalError, UnsupportedAlgorithm

from sinks.stores.gcs.account import read_account
from sinks.stores.gcs.answers import read

METADATA = "http://metadata.google.internal"
_OF_THE_MACHINE = "/computeMetadata/v1/instance/service-accounts/default/token"
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_LIFETIME = 3600.0  # seconds; the most that Google takes
# Seconds before its end in which another token is had. The metadata server gives the same one again
# until some minutes before that, so to ask it earlier is in vain.
_EARLY = 225.0
_IN_NEED = 60.0  # seconds before its end up to which a token does where no other can be had
_BEHIND = 60  # seconds that Google's clock may be behind this machine's
_TIMEOUT = 3.0  # seconds; the metadata server is of this machine
_MAX_ANSWER = 64 * 1024  # bytes


class NoIdentityError(aiohttp.ClientError):
    """This machine gives no token."""


class UselessKeyError(Exception):
    """The key of a service account signs nothing."""


class Tokens(Protocol):
    """What signs requests."""

    async def token(self) -> str:
        """Return a token that is good for some minutes."""

    def taken(self, token: str) -> None:
        """Note that a token was taken."""

    def refused(self, token: str) -> bool:
        """Forget it; return whether the next may be taken."""


class AccountTokens:
    """Those that the key of a service account signs. Raises ValueError where it is none."""

    def __init__(self, credentials: str, *, clock: Callable[[], float] = time.time) -> None:
        self._account = read_account(credentials)
        self._clock = clock
        self._token = ""
        self._until = 0.0
        self._taken = False  # one was, after the last that was refused
        self._forgiven = ""  # the last that was refused after that: several requests had it

    async def token(self) -> str:
        """Sign one, unless the last is still good. Raises UselessKeyError."""
        now = self._clock()
        if now > self._until - _EARLY:
            until = now + _LIFETIME - _BEHIND
            claims = {
                "iss": self._account.email,
                "sub": self._account.email,
                "scope": _SCOPE,
                "iat": int(now) - _BEHIND,
                "exp": int(until),
            }
            # The key as it was read: its text would be read again, and its primes be proved.
            self._token, self._until = self._signed(claims), until
        return self._token

    def _signed(self, claims: Mapping[str, Any]) -> str:
        try:
            return jwt.encode(
                dict(claims), self._account.key, "RS256", {"kid": self._account.key_id}
            )
        except (jwt.PyJWTError, InternalError, UnsupportedAlgorithm, ValueError) as error:
            raise UselessKeyError(type(error).__name__) from None

    def taken(self, token: str) -> None:
        """Note that the account and its key are known there."""
        self._taken = self._taken or token == self._token

    def refused(self, token: str) -> bool:
        """Sign another the next time, which may be taken if the key was known a while ago.

        The clock may have been wrong when it was signed. A second in a row is the key's fault.
        """
        if token == self._token:
            self._token, self._until = "", 0.0
            self._forgiven, self._taken = token if self._taken else "", False
        return token == self._forgiven


class MachineTokens:
    """Those of the service account that this machine, or its Kubernetes cluster, lends us."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        url: str = METADATA,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._session = session
        self._url = f"{url}{_OF_THE_MACHINE}"
        self._clock = clock
        self._token = ""
        self._until = 0.0
        self._one_at_a_time = asyncio.Lock()

    async def token(self) -> str:
        """Ask for one, unless the last is still good. Raises NoIdentityError.

        Once for all who wait; while it is good for a little, the last does where there is no other.
        """
        if self._is_good(_EARLY):
            return self._token
        try:
            async with asyncio.timeout(_TIMEOUT), self._one_at_a_time:
                if not self._is_good(_EARLY):
                    await self._ask()
        except (aiohttp.ClientError, OSError) as error:
            if not self._is_good(_IN_NEED):
                if isinstance(error, NoIdentityError):
                    raise
                raise NoIdentityError(type(error).__name__) from None
        return self._token

    def _is_good(self, seconds: float) -> bool:
        return self._clock() <= self._until - seconds

    async def _ask(self) -> None:
        async with self._session.get(
            self._url, headers={"Metadata-Flavor": "Google"}, allow_redirects=False
        ) as answer:
            status, body = answer.status, await read(answer, _MAX_ANSWER)
        try:
            told = json.loads(body) if status == 200 else {}
            self._token, self._until = str(told["access_token"]), self._clock() + told["expires_in"]
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise NoIdentityError(f"it answered {status}") from None

    def taken(self, token: str) -> None:
        """Note nothing: another may be had at any time."""

    def refused(self, token: str) -> bool:
        """Ask again the next time, if it is still this one."""
        if token == self._token:
            self._token, self._until = "", 0.0
        return True
