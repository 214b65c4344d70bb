"""How we ask over HTTPS: rs-order, rs-admin, the OAuth server."""

from __future__ import annotations

import aiohttp

from app.network.tls import TlsFiles, context_of, explain

_SETTING = "DELIVERY_HTTP"


def connector_of(ca: str, *, limit: int = 100) -> aiohttp.TCPConnector:
    """Return what a session connects with; CAs in the file `ca` are trusted beside the system's.

    `limit` is how many connections there may be at once; 0: any. Raises ConfigurationError when the
    file can't be used.
    """
    if not ca:
        return aiohttp.TCPConnector(limit=limit)
    files = TlsFiles(setting=_SETTING, ca=ca)
    return aiohttp.TCPConnector(limit=limit, ssl=context_of(files, public_too=True))


def said(error: BaseException) -> str:
    """Return what went wrong with a request, in words."""
    return explain(error, TlsFiles(setting=_SETTING)) or f"{type(error).__name__}: {error}"
