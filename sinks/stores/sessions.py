"""Sessions of aiohttp as object stores have them: addresses are judged, and requests made once."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.client import DEFAULT_TIMEOUT

from app.network.judged import Judge, judged
from sinks.stores.https import context_for

_CONNECTIONS = 64


def guarded_session(
    endpoint: str,
    *,
    judge: Judge,
    ca: str = "",
    timeout: aiohttp.ClientTimeout = DEFAULT_TIMEOUT,
    direct: bool = False,
) -> aiohttp.ClientSession:
    """Return a session for one endpoint; it unpacks no answer, and keeps no cookies.

    It goes by a proxy of the operator's environment, unless it is to be `direct`.
    """
    address = urlsplit(endpoint)
    named = address.scheme in getproxies() and not proxy_bypass(address.hostname or "")
    proxied = named and not direct  # a proxy connects by itself: it has to judge addresses, too
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            ssl=context_for(ca),
            limit=_CONNECTIONS,
            socket_factory=None if proxied else judged(judge),
        ),
        trust_env=proxied,
        timeout=timeout,
        headers={"Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )
    # aiohttp asks again by itself where a kept connection breaks: what was carried out once would
    # be carried out again. There is no other way to say so; tests hold it.
    session._retry_connection = False  # noqa: SLF001
    return session
