"""Tenants whose archives go to one and the same place: a key names no tenant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from app.delivery.targets import TenantSettings


def shared(settings: Iterable[tuple[str, TenantSettings]]) -> Mapping[str, list[str]]:
    """Return each endpoint, bucket and prefix that several tenants have, and whose targets."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for tenant, own in settings:
        for name, target in {"default": own.target, **own.targets}.items():
            place = f"{target.endpoint.lower()}/{target.bucket}/{target.prefix}"
            found[place].setdefault(tenant, name)
    return {
        place: [f"{tenant} ({name})" for tenant, name in whose.items()]
        for place, whose in found.items()
        if len(whose) > 1
    }
