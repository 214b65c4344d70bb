"""The catalogue of error codes: the service's, as this program may be older than a code.

It is kept, and asked for again only where it has changed. Where the service does not answer, it is
the one that was kept, beside the one that this program was built with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import rs_delivery_client
from rs_delivery_client.catalogue import STANZAS
from rs_delivery_client.cli import cache
from rs_delivery_client.cli.place import Place
from rs_delivery_client.errors import ClientError

Stanza = Mapping[str, Any]

_KIND = "errors"
_TIMEOUT = 5.0  # seconds: it is a help, and there is one here


async def catalogue(place: Place | None) -> dict[str, Stanza]:
    """Return what each code means; None: no service is known."""
    built_in: dict[str, Stanza] = {
        code: {"code": code, **stanza} for code, stanza in STANZAS.items()
    }
    if place is None:
        return built_in
    kept = _kept(place)
    try:
        told = await _asked(place, kept.get("etag"))
    except ClientError:
        told = None
    if told is not None:
        cache.keep(place, _KIND, told)
    return built_in | _by_code((told or kept).get("content"))


async def _asked(place: Place, etag: str | None) -> dict[str, Any] | None:
    """Ask for the catalogue; None: it is as it was kept."""
    pauses = rs_delivery_client.Pauses(tries=1)
    client = rs_delivery_client.DeliveryClient(
        place.url, token=place.token, timeout=_TIMEOUT, pauses=pauses
    )
    async with client:
        found = await client.error_codes(etag=etag)
    return None if found is None else {"etag": found.etag, "content": found.content}


def _kept(place: Place) -> dict[str, Any]:
    found = cache.read(place, _KIND)
    return found if isinstance(found, dict) else {}


def _by_code(content: Any) -> dict[str, Stanza]:
    """Return stanzas by their codes; what was kept may be damaged."""
    stanzas = content if isinstance(content, list) else []
    return {
        str(stanza["code"]): stanza
        for stanza in stanzas
        if isinstance(stanza, dict) and "code" in stanza
    }
