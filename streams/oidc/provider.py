"""What is read of an identity provider: what it says of itself, and its keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.helpers import get_env_proxy_for_url
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from yarl import URL

from app.errors import IdentityUnavailableError
from app.network.https import connector_of, said, trust
from app.network.urls import keeps_secrets
from streams.oidc.jwks import KeySet, read_keys

_TIMEOUT = aiohttp.ClientTimeout(total=5)
_MAX_DOCUMENT = 512 * 1024  # bytes
_WELL_KNOWN = "/.well-known/openid-configuration"


class Discovery(BaseModel):
    """What a provider says of itself (OpenID Connect Discovery), as far as it is used."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    issuer: str
    jwks_uri: str
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    end_session_endpoint: str | None = None
    code_challenge_methods_supported: tuple[str, ...] | None = None

    @field_validator("jwks_uri", "authorization_endpoint", "token_endpoint", "end_session_endpoint")
    @classmethod
    def _keeps_what_it_is_sent(cls, value: str | None) -> str | None:
        if value is not None and not keeps_secrets(value):
            raise ValueError("it must begin with https://")
        return value


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderState:
    """A provider as it was read once."""

    discovery: Discovery
    keys: KeySet


class Provider:
    """Asks a provider over HTTPS, through the environment's proxy where there is one.

    Redirects are not followed: what a provider says of itself names all its addresses. Raises
    ConfigurationError when the file of a CA can't be used.
    """

    def __init__(self, issuer: str, *, ca: str = "") -> None:
        self.issuer = issuer
        self._trusted = trust(ca)

    async def read(self) -> ProviderState:
        """Return what it says now. Raises IdentityUnavailableError."""
        discovery = await self.discover()
        return ProviderState(discovery=discovery, keys=await self.keys_at(discovery.jwks_uri))

    async def discover(self) -> Discovery:
        """Return what it says of itself. Raises IdentityUnavailableError."""
        url = self.issuer.rstrip("/") + _WELL_KNOWN
        document = await self._good("GET", url)
        try:
            discovery = Discovery.model_validate(document)
        except ValidationError as error:
            fields = ", ".join(
                f"{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}"
                for item in error.errors(include_input=False, include_url=False)
            )
            raise IdentityUnavailableError(
                f"what the identity provider says at {url} can't be used ({fields})"
            ) from None
        if discovery.issuer != self.issuer:
            raise IdentityUnavailableError(
                f"the identity provider at {url} calls itself {discovery.issuer!r}, and "
                f"DELIVERY_OIDC_ISSUER is {self.issuer!r}; they must be the same, to the last slash"
            )
        return discovery

    async def keys_at(self, url: str) -> KeySet:
        """Return its keys. Raises IdentityUnavailableError, also where none is of use."""
        try:
            keys = read_keys(await self._good("GET", url))
        except ValueError as error:
            raise IdentityUnavailableError(f"at {url}: {error}") from None
        if not keys.keys:
            raise IdentityUnavailableError(
                f"the identity provider publishes no key at {url} that tokens can be checked with "
                f"(of {keys.unusable}): an RSA key of 2048 bits or more, P-256, P-384, P-521 or "
                "Ed25519"
            )
        return keys

    async def post(self, url: str, form: Mapping[str, str]) -> tuple[int, Any]:
        """Return status and JSON of its answer to a form. Raises IdentityUnavailableError."""
        return await self._ask("POST", url, form)

    async def _good(self, method: str, url: str) -> Any:
        status, document = await self._ask(method, url, None)
        if status != 200:
            raise IdentityUnavailableError(f"the identity provider answered {status} at {url}")
        return document

    async def _ask(self, method: str, url: str, form: Mapping[str, str] | None) -> tuple[int, Any]:
        try:
            proxy, proxy_auth = _proxy_for(url)
            async with (
                aiohttp.ClientSession(
                    connector=connector_of(self._trusted),
                    timeout=_TIMEOUT,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={"Accept": "application/json"},
                ) as session,
                session.request(
                    method,
                    url,
                    data=form,
                    allow_redirects=False,
                    proxy=proxy,
                    proxy_auth=proxy_auth,
                ) as answer,
            ):
                content = bytearray()
                async for chunk in answer.content.iter_any():
                    content += chunk
                    if len(content) > _MAX_DOCUMENT:
                        raise ValueError(f"more than {_MAX_DOCUMENT} bytes")
                return answer.status, _json(content, answer.status)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
            raise IdentityUnavailableError(
                f"the identity provider does not answer at {url} as it must ({said(error)})"
            ) from None


def _json(content: bytearray, status: int) -> Any:
    """Return what an answer says; None where it says no and not in JSON. Raises ValueError."""
    try:
        return json.loads(content)
    except ValueError:
        if status == 200:
            raise
        return None


def _proxy_for(url: str) -> tuple[URL | None, aiohttp.BasicAuth | None]:
    """Return the environment's proxy for a URL; by `trust_env`, a `.netrc` would sign us in."""
    try:
        return get_env_proxy_for_url(URL(url, encoded=True))
    except LookupError:
        return None, None
