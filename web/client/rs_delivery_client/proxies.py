"""Proxies of the environment (`HTTPS_PROXY`, `NO_PROXY`), and nothing else of it."""

from __future__ import annotations

from typing import TypedDict

import aiohttp
from aiohttp.helpers import get_env_proxy_for_url
from yarl import URL


class Proxy(TypedDict):
    """Arguments of a request."""

    proxy: URL | None
    proxy_auth: aiohttp.BasicAuth | None


def proxy_for(url: URL) -> Proxy:
    """Return how a URL is asked for; without a proxy where none is set.

    aiohttp's own `trust_env` would sign in, too, with what a `.netrc` has for the host, or for any:
    beside a token that is an error, and beside a link the store refuses to be asked in two ways.
    """
    try:
        proxy, auth = get_env_proxy_for_url(url)
    except LookupError:
        return Proxy(proxy=None, proxy_auth=None)
    return Proxy(proxy=proxy, proxy_auth=auth)
