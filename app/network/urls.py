"""URLs as they are told to who did not set them: a path or a query may be a secret itself."""

from __future__ import annotations

import hashlib
import ipaddress
from urllib.parse import urlsplit

_DIGITS = 8  # of the hash: enough to tell two URLs of a host apart


def told(url: str) -> str:
    """Return scheme, host and port of a URL, and a short hash of all of it where there is more."""
    try:
        address = urlsplit(url)
        place = f"{address.scheme}://{address.netloc.rpartition('@')[2]}/"
    except ValueError:
        place = ""
    if place and url in (place, place[:-1]):
        return place
    return f"{place}…{hashlib.sha256(url.encode()).hexdigest()[:_DIGITS]}"


def keeps_secrets(url: str) -> bool:
    """Whether what is sent there is read by no other: it is `https`, or does not leave us."""
    try:
        address = urlsplit(url)
        host = address.hostname or ""
    except ValueError:
        return False
    if address.scheme == "https":
        return bool(host)
    return address.scheme == "http" and _is_loopback(host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
