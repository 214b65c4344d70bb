"""Tries containers of Azure, for tenants and for operators."""

from __future__ import annotations

from functools import partial

from app.errors import DeliveryError
from app.network.hosts import host_and_port
from sinks.stores.azure.calls import AzureCalls
from sinks.stores.azure.requests import by_azure, said_anything
from sinks.stores.azure.rights import try_to_write
from sinks.stores.azure.target import AzureTarget
from sinks.stores.trying import Trying

_PUBLIC = ".blob.core.windows.net"


def trying(calls: AzureCalls) -> Trying[AzureTarget]:
    """Return what tries them."""
    return Trying(
        store="blob storage of Azure's",
        container="container",
        advice="account and endpoint are right",
        look=calls.look_at_container,
        write=partial(try_to_write, calls),
        said=by_azure,
        public=_is_public,
    )


def _is_public(target: AzureTarget, error: DeliveryError) -> bool:
    return host_and_port(target.endpoint)[0].endswith(_PUBLIC) and not said_anything(error)
