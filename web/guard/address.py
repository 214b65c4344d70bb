"""Where a request comes from."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from aiohttp import web

_FORWARDED = "X-Forwarded-For"


def address_of(request: web.Request, *, proxies: int) -> str:
    """Return the address of the client before so many `proxies` of the site; "" if it has none.

    Each proxy appends whom it heard to `X-Forwarded-For`; what is before that, the client may have
    written itself. A request that passed fewer of them is one of the peer that sent it.
    """
    peer = request.remote or ""
    heard = [
        hop.strip() for line in request.headers.getall(_FORWARDED, []) for hop in line.split(",")
    ]
    if 0 < proxies <= len(heard):
        with contextlib.suppress(ValueError):
            return str(_parsed(heard[-proxies]))
    return peer


def caller_of(address: str) -> str:
    """Return what is one caller: of IPv6 the network of a host, which has all of its addresses."""
    try:
        parsed = _parsed(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed), 64), strict=False))
    return str(parsed)


def _parsed(text: str) -> IPv4Address | IPv6Address:
    """Read an address; some proxies add the port, and brackets. Raises ValueError."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    parsed = ip_address(text.partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed
