"""Signing in at an identity provider without a browser here: its device flow (RFC 8628).

The client is the public one that the service's console has: there is no secret.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from rs_delivery_client.errors import NotReachableError, NotSignedInError, cause_of
from rs_delivery_client.proxies import proxy_for
from rs_delivery_client.tokens import Renewed

_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_INTERVAL = 5.0  # seconds, where the provider says none; and how much slower it may ask for
_MIN_INTERVAL = 1.0
_MAX_INTERVAL = 60.0
_MAX_SECONDS = 1800.0  # that a code holds
_MAX_ANSWER = 1024 * 1024  # bytes
_PLAIN = {"Accept": "application/json", "Accept-Encoding": "identity"}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

Tell = Callable[[str, str], None]  # takes where to go, and the code
Sleep = Callable[[float], Awaitable[object]]


async def signed_in(
    session: aiohttp.ClientSession,
    provider: Mapping[str, Any],
    tell: Tell,
    *,
    sleep: Sleep = asyncio.sleep,
) -> Renewed:
    """Return what the provider gives when its user has let this client in.

    `provider` is as the service tells it; `sleep` waits between two questions.
    Raises NotSignedInError, NotReachableError.
    """
    issuer = str(provider["issuer"])
    found = await _asked(session, "GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if found.get("issuer") != issuer:
        raise _refused(f"{issuer} says that it is another")
    begin, end = (_address(found, name) for name in ("device_authorization", "token"))
    parameters = dict(provider.get("parameters") or {})
    parameters.pop("response_type", None)  # of a code, which a browser comes back with
    code = await _asked(session, "POST", begin, parameters)
    try:
        where = str(code.get("verification_uri_complete") or code["verification_uri"])
        device, shown = str(code["device_code"]), str(code["user_code"])
        left = min(_MAX_SECONDS, float(code["expires_in"]))  # in this order also of NaN
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _refused(f"{issuer} gives no code ({_why(code)})") from None
    tell(where, shown)
    form = {"grant_type": _GRANT, "device_code": device, "client_id": parameters["client_id"]}
    try:
        async with asyncio.timeout(left):
            return await _given(session, end, form, _interval(code.get("interval")), sleep)
    except TimeoutError:
        raise _refused("the code was not given in time") from None


def _interval(said: object) -> float:
    """Return how many seconds are between two questions, by what the provider says."""
    try:
        interval = float(str(said))
    except ValueError:
        return _INTERVAL
    return max(_MIN_INTERVAL, interval) if math.isfinite(interval) else _INTERVAL


async def _given(
    session: aiohttp.ClientSession,
    address: str,
    form: Mapping[str, str],
    interval: float,
    sleep: Sleep,
) -> Renewed:
    """Ask until the user has decided, also while the provider is away."""
    while True:
        interval = min(interval, _MAX_INTERVAL)
        await sleep(interval)
        try:
            found = await _asked(session, "POST", address, form)
        except NotReachableError:
            interval *= 2  # RFC 8628, 3.5
            continue
        token, refresh = found.get("access_token"), found.get("refresh_token")
        if isinstance(token, str) and token:
            return Renewed(token=token, refresh=refresh if isinstance(refresh, str) else None)
        if found.get("error") == "slow_down":
            interval += _INTERVAL
        elif found.get("error") != "authorization_pending":
            raise _refused(f"the identity provider does not let you in ({_why(found)})")


async def _asked(
    session: aiohttp.ClientSession,
    method: str,
    address: str,
    form: Mapping[str, str] | None = None,
) -> Mapping[str, Any]:
    url = URL(address)
    try:
        async with session.request(
            method, url, data=form, headers=_PLAIN, allow_redirects=False, **proxy_for(url)
        ) as answer:
            content = await answer.content.read(_MAX_ANSWER)
            while len(content) < _MAX_ANSWER and not answer.content.at_eof():
                content += await answer.content.read(_MAX_ANSWER)
            status = answer.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise NotReachableError(f"{url.origin()} does not answer ({cause_of(error)})") from error
    if status >= 500:
        raise NotReachableError(f"{url.origin()} answers {status}")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _refused(f"{url.origin()} answers {status}, and no JSON")
    return found


def _address(found: Mapping[str, Any], name: str) -> str:
    """Return where something is asked for. Raises NotSignedInError for what is no safe place."""
    address = found.get(f"{name}_endpoint")
    if not isinstance(address, str):
        raise _refused(f"the identity provider has no {name.replace('_', ' ')} endpoint")
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise _refused(f"{address} is no https address")
    return address


def _why(found: Mapping[str, Any]) -> str:
    return str(found.get("error_description") or found.get("error") or "it says nothing")[:200]


def _refused(why: str) -> NotSignedInError:
    return NotSignedInError(why, status=401)
