"""How we ask over HTTPS: rs-order, rs-admin, the OAuth server."""

from __future__ import annotations

from ssl import SSLContext

import aiohttp

from app.network.tls import TlsFiles, context_of, explain

_SETTING = "DELIVERY_HTTP"


def trust(ca: str) -> SSLContext | None:
    """Read the CAs in the file `ca`, trusted beside the system's; None without one.

    Once in a process: it reads files. Raises ConfigurationError when the file can't be used.
    """
    return context_of(TlsFiles(setting=_SETTING, ca=ca), public_too=True) if ca else None


def connector_of(trusted: SSLContext | None, *, limit: int = 100) -> aiohttp.TCPConnector:
    """Return what a session connects with, by what `trust` returned.

    `limit` is how many connections there may be at once; 0: any.
    """
    if trusted is None:
        return aiohttp.TCPConnector(limit=limit)
    return aiohttp.TCPConnector(limit=limit, ssl=trusted)


def said(error: BaseException) -> str:
    """Return what went wrong with a request, in words."""
    return explain(error, TlsFiles(setting=_SETTING)) or f"{type(error).__name__}: {error}"
