"""Signing in at the identity provider: codes are exchanged here, limited, logged, counted."""

from __future__ import annotations

from typing import Annotated, Protocol

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from app.audit import Actor
from app.codes import Code
from app.errors import NotAcceptedError, RetryableError
from app.views.sign_in import GivenTokens, ProviderEntrance
from web.answers import body_as, refusal, shown
from web.api.sign_in import limited, note
from web.guard.address import address_of, caller_of
from web.guard.errors import NotSignedInError
from web.guard.limits import RateLimit, Turns
from web.guard.oidc import ProviderTokens

_CONCURRENCY = 4  # that the provider is asked for
_MAX_WAITING = 16  # more; each waits for the provider for five seconds at most
_RENEWALS = 12  # for each sign-in that an address has: tokens end within minutes

_Text = Annotated[str, Field(min_length=1, max_length=2000)]


class _Given(BaseModel):
    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )


class ConsoleCode(_Given):
    """What a user comes back with from the provider, and what the page began with."""

    code: Annotated[str, Field(min_length=1, max_length=8000, repr=False)]
    code_verifier: Annotated[str, Field(min_length=43, max_length=128, repr=False)]
    redirect_uri: _Text
    nonce: _Text


class ConsoleRefresh(_Given):
    """What a token is renewed with."""

    refresh_token: Annotated[str, Field(min_length=1, max_length=16_000, repr=False)]


class CodeExchange(Protocol):
    """What gets tokens from the provider. Each raises IdentityUnavailableError."""

    async def entrance(self) -> ProviderEntrance:
        """Return where users sign in."""

    async def exchange(self, code: str, *, verifier: str, redirect_uri: str) -> GivenTokens:
        """Return what is given for a code. Raises NotAcceptedError."""

    async def refresh(self, token: str) -> GivenTokens:
        """Return what is given for a refresh token. Raises NotAcceptedError."""


class ProviderSignIns:
    """Exchanges codes for tokens, and looks at these before the page has them.

    Few from one address, few at once: it must not be a way to flood the provider.
    """

    def __init__(
        self,
        flow: CodeExchange,
        *,
        tokens: ProviderTokens,
        issuer: str,
        client: str,
        per_minute: int,
        proxies: int = 0,
    ) -> None:
        self.issuer = issuer
        self._flow = flow
        self._tokens = tokens
        self._client = client
        self._proxies = proxies
        self._codes = RateLimit(per_minute / 60, burst=per_minute)
        renewals = per_minute * _RENEWALS
        self._renewals = RateLimit(renewals / 60, burst=renewals)
        self._turns = Turns(_CONCURRENCY, waiting=_MAX_WAITING)

    async def entrance(self) -> web.Response:
        """Say where users sign in."""
        return shown(await self._flow.entrance())

    async def enter(self, request: web.Request) -> web.Response:
        """Get tokens for a code, if they are of the sign-in that the page began."""
        address = address_of(request, proxies=self._proxies)
        # Before the body is read: it may take its time.
        wait = self._codes.wait(caller_of(address))
        if wait:
            return limited(wait, address=address)
        given = await body_as(ConsoleCode, request)
        async with self._turns.taken("all") as taken:
            if not taken:
                note("busy", address=address)
                return _busy()
            try:
                tokens, actor = await self._exchanged(given)
            except (NotAcceptedError, NotSignedInError):
                note("refused", address=address)
                raise
            except RetryableError:
                note("unavailable", address=address)
                raise
        note("accepted", tenant=actor.tenant, user=actor.name, address=address)
        return shown(tokens)

    async def _exchanged(self, given: ConsoleCode) -> tuple[GivenTokens, Actor]:
        tokens = await self._flow.exchange(
            given.code, verifier=given.code_verifier, redirect_uri=given.redirect_uri
        )
        if tokens.id_token is None:
            raise NotSignedInError("the identity provider gave no ID token with this sign-in")
        await self._tokens.check_identity(tokens.id_token, client=self._client, nonce=given.nonce)
        return tokens, await self._tokens.verify(tokens.token)

    async def renew(self, request: web.Request) -> web.Response:
        """Get a token in place of one that ends."""
        address = address_of(request, proxies=self._proxies)
        wait = self._renewals.wait(caller_of(address))
        if wait:
            return limited(wait, address=address)
        given = await body_as(ConsoleRefresh, request)
        async with self._turns.taken("all") as taken:
            if not taken:
                return _busy()
            tokens = await self._flow.refresh(given.refresh_token)
            await self._tokens.verify(tokens.token)
        return shown(tokens)


def _busy() -> web.Response:
    words = "too many sign in just now; try again"
    return refusal(503, words, code=Code.TOO_MANY_CALLS, Retry_After="5")
