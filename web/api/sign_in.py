"""Signing in with a password of REGARDS: limited, logged, counted."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Callable
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from app.audit import INSTANCE
from app.codes import Code
from app.errors import NotAcceptedError, RetryableError
from app.telemetry.logs import get_logger
from app.telemetry.metrics import SIGN_INS
from app.views.view import View
from web.answers import body_as, refusal, shown
from web.guard.address import address_of, caller_of
from web.guard.errors import NotSignedInError
from web.guard.limits import RateLimit, Turns

log = get_logger(__name__)

# Takes tenant, user and password; returns a token. Raises NotAcceptedError, RetryableError.
SignIn = Callable[[str, str, str], Awaitable[str]]

_MAX_LOGGED = 255  # characters of a user that is not known
_CONCURRENCY = 4  # that REGARDS is asked for
_MAX_WAITING = 16  # more; each waits for REGARDS for ten seconds at most
_REFUSED = "REGARDS knows no such user and password for this tenant"


_Text = Annotated[str, Field(min_length=1, max_length=1000)]


class ConsoleSignIn(BaseModel):
    """What a password of REGARDS is sent with."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    tenant: _Text
    user: _Text
    password: _Text = Field(repr=False)


class ConsoleToken(View):
    """What a user of REGARDS is let in with."""

    token: str


class SignIns:
    """Passes passwords on, but is no place to try many out.

    Few from one address, few for one user, few at once; none for a tenant that is not served, but
    for INSTANCE, which is of those who administer all.
    """

    def __init__(
        self,
        ask: SignIn,
        *,
        served: Callable[[str], bool],
        per_minute: int,
        proxies: int = 0,
    ) -> None:
        self._ask = ask
        self._served = served
        self._proxies = proxies
        self._addresses = RateLimit(per_minute / 60, burst=per_minute)
        self._users = RateLimit(per_minute / 60, burst=per_minute)
        self._turns = Turns(_CONCURRENCY, waiting=_MAX_WAITING)

    async def enter(self, request: web.Request) -> web.Response:
        """Get a token for a user of REGARDS."""
        address = address_of(request, proxies=self._proxies)
        # Before the body is read: it may take its time.
        wait = self._addresses.wait(caller_of(address))
        if wait:
            return limited(wait, address=address)
        given = await body_as(ConsoleSignIn, request)
        tenant, user, password = given.tenant, given.user, given.password
        who = {"tenant": tenant[:_MAX_LOGGED], "user": user[:_MAX_LOGGED], "address": address}
        wait = self._users.wait(_key(tenant, user))
        if wait:
            return limited(wait, **who)
        async with self._turns.taken("all") as taken:
            if not taken:
                note("busy", **who)
                words = "too many sign in just now; try again"
                return refusal(503, words, code=Code.TOO_MANY_CALLS, Retry_After="5")
            return await self._entered(tenant, user, password, who)

    async def _entered(
        self, tenant: str, user: str, password: str, who: dict[str, str]
    ) -> web.Response:
        try:
            if tenant != INSTANCE and not self._served(tenant):
                raise NotAcceptedError(_REFUSED)
            token = await self._ask(tenant, user, password)
        except NotAcceptedError:
            note("refused", **who)
            raise NotSignedInError(_REFUSED) from None
        except RetryableError:
            note("unavailable", **who)
            raise
        note("accepted", **who)
        return shown(ConsoleToken(token=token))


def _key(tenant: str, user: str) -> str:
    """Return a user in few bytes, however many a stranger sends."""
    name = f"{tenant}\0{user.strip().casefold()}"
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()


def limited(wait: float, **who: str) -> web.Response:
    """Answer a client that tries too often; `wait` is in seconds."""
    note("limited", **who)
    seconds = math.ceil(wait)
    words = f"too many tries to sign in; wait {seconds} seconds"
    return refusal(429, words, code=Code.TOO_MANY_CALLS, Retry_After=str(seconds))


def note(outcome: str, **who: str) -> None:
    """Log and count how a try ended."""
    SIGN_INS.labels(outcome).inc()
    level = log.info if outcome == "accepted" else log.warning
    level("sign_in", outcome=outcome, **who)
