"""What requests are signed with: a token that an account's key signs, or one of this machine.

Google takes a token that the key itself has signed, so nothing is asked of the address for tokens
that the key names: a tenant could name any.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Protocol

import aiohttp
import jwt

from sinks.stores.gcs.answers import read
from sinks.stores.gcs.settings import read_account

METADATA = "http://metadata.google.internal"
_OF_THE_MACHINE = "/computeMetadata/v1/instance/service-accounts/default/token"
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_LIFETIME = 3600.0  # seconds; the most that Google takes
_EARLY = 300.0  # seconds before its end in which a token is not used any more
_BEHIND = 60  # seconds that Google's clock may be behind this machine's
_MAX_ANSWER = 64 * 1024  # bytes


class NoIdentityError(aiohttp.ClientError):
    """This machine gives no token."""


class Tokens(Protocol):
    """What signs requests."""

    async def token(self) -> str:
        """Return a token that is good for some minutes."""

    def forget(self) -> None:
        """Forget it: it was refused."""


class AccountTokens:
    """Those that the key of a service account signs. Raises ValueError where it is none."""

    def __init__(self, credentials: str, *, clock: Callable[[], float] = time.time) -> None:
        account = read_account(credentials)
        self._email: str = account["client_email"]
        self._key: str = account["private_key"]
        self._key_id: str = account["private_key_id"]
        self._clock = clock
        self._token = ""
        self._until = 0.0

    async def token(self) -> str:
        """Sign one, unless the last is still good."""
        now = self._clock()
        if now > self._until - _EARLY:
            self._until = now + _LIFETIME - _BEHIND
            claims = {
                "iss": self._email,
                "sub": self._email,
                "scope": _SCOPE,
                "iat": int(now) - _BEHIND,
                "exp": int(self._until),
            }
            self._token = jwt.encode(claims, self._key, "RS256", {"kid": self._key_id})
        return self._token

    def forget(self) -> None:
        """Sign another the next time."""
        self._until = 0.0


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

    async def token(self) -> str:
        """Ask for one, unless the last is still good. Raises NoIdentityError."""
        now = self._clock()
        if now > self._until - _EARLY:
            try:
                async with self._session.get(
                    self._url, headers={"Metadata-Flavor": "Google"}, allow_redirects=False
                ) as answer:
                    status, body = answer.status, await read(answer, _MAX_ANSWER)
                told = json.loads(body) if status == 200 else {}
                self._token, self._until = str(told["access_token"]), now + told["expires_in"]
            except (aiohttp.ClientError, OSError) as error:
                raise NoIdentityError(type(error).__name__) from None
            except (KeyError, TypeError, ValueError):
                raise NoIdentityError(f"it answered {status}") from None
        return self._token

    def forget(self) -> None:
        """Ask again the next time."""
        self._until = 0.0
