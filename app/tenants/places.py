"""Tenants whose archives go to one and the same place: a key names no tenant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from app.delivery.targets import Target
from app.network.hosts import canonical
from app.telemetry.logs import get_logger
from app.tenants.registry import ConfiguredTenants
from app.tenants.values import TenantSettings

log = get_logger(__name__)


def shared(settings: Iterable[tuple[str, TenantSettings]]) -> Mapping[str, list[str]]:
    """Return each endpoint, container and prefix that several tenants have, and whose targets."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for tenant, own in settings:
        for name, target in {"default": own.target, **own.targets}.items():
            found[place_of(target)].setdefault(tenant, name)
    return {
        place: [f"{tenant} ({name})" for tenant, name in whose.items()]
        for place, whose in found.items()
        if len(whose) > 1
    }


def place_of(target: Target) -> str:
    """Return where a target's keys begin, as people write it."""
    endpoint, container = canonical(target.endpoint), target.container
    if container.startswith("/") and endpoint.endswith(container):  # a folder's has its path
        return f"{endpoint}/{target.prefix}"
    return f"{endpoint}/{container}/{target.prefix}"


def warn_of_places(tenants: ConfiguredTenants) -> None:
    """Warn the operator of places that tenants share, and of keys they borrow."""
    known = [(name, tenants.settings(name)) for name in tenants.names]
    for place, whose in shared(known).items():
        log.warning(
            "place_shared",
            place=place,
            tenants=whose,
            consequence="with the same correlation id, one tenant can't deliver while "
            "another's archive is there",
            advice="give each a bucket or a prefix of its own: {tenant} in "
            "DELIVERY_DELIVERY_BUCKET or DELIVERY_DELIVERY_PREFIX, or its settings",
        )
    for tenant, (endpoint, bucket) in tenants.borrowing().items():
        log.warning(
            "deployment_key_borrowed",
            tenant=tenant,
            endpoint=endpoint,
            bucket=bucket,
            advice="`delivery doctor` says what to do",
        )
