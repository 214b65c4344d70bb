"""Where this service signs in as itself, and for whom."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential
from pydantic import ValidationError

from app.delivery.marks import marks_of
from app.delivery.targets import TargetKinds
from app.errors import InvalidSettingError, TargetForbiddenError
from app.settings import Settings
from app.settings.azure import AzureSection, IdentityPlace
from app.tenants.definitions import Definitions
from sinks.stores.azure.clients import AzureClients
from sinks.stores.azure.settings import AzureDeliveryTarget
from sinks.stores.azure.target import AzureTarget, identity_flaw
from sinks.stores.s3.target import S3Target
from tests.builders import make_delivery

HOST = "a.blob.core.windows.net"
ID = "01234567-89ab-cdef-0123-456789abcdef"
TARGET = AzureTarget(
    endpoint=f"https://{HOST}",
    account="a",
    container="deliveries",
    prefix="esa/products/",
    identity="default",
)


@pytest.mark.parametrize(
    ("place", "changed"),
    [
        (f"esa={HOST}/deliveries", {}),
        (f"esa={HOST}/deliveries/esa", {}),
        (f"esa={HOST}/deliveries/esa/products/", {}),
        (f"esa={HOST}/deliveries", {"endpoint": f"https://{HOST}:443"}),
        (f"esa={HOST}/deliveries#{ID}", {"identity": ID}),
        (f"esa={HOST}/deliveries#{ID}", {"identity": ID.upper()}),
    ],
)
def test_a_tenant_uses_the_identity_where_the_operator_says(
    place: str, changed: dict[str, Any]
) -> None:
    target = replace(TARGET, **changed)
    assert identity_flaw(target, [place], tenant="esa") is None
    assert identity_flaw(target, [place]) is None


@pytest.mark.parametrize(
    ("place", "changed"),
    [
        ("", {}),
        (f"cnes={HOST}/deliveries", {}),
        (f"esa={HOST}/others", {}),
        (f"esa={HOST}/deliveries/es", {}),
        (f"esa={HOST}/deliveries/esa/products/more", {}),
        (f"esa=b.{HOST}/deliveries", {}),
        (f"esa={HOST}/deliveries#{ID}", {}),
        (f"esa={HOST}/deliveries", {"identity": ID}),
        (f"esa={HOST}/deliveries", {"endpoint": f"http://{HOST}"}),
        (f"esa={HOST}/deliveries", {"endpoint": f"https://{HOST}:8443"}),
        (f"esa={HOST}/deliveries", {"endpoint": f"https://{HOST}/a"}),
    ],
)
def test_a_tenant_uses_the_identity_nowhere_else(place: str, changed: dict[str, Any]) -> None:
    places = [place] if place else []
    assert identity_flaw(replace(TARGET, **changed), places, tenant="esa") is not None


def test_nothing_is_put_for_a_tenant_that_the_place_is_not_for() -> None:
    delivery = make_delivery()
    clients = AzureClients(identity_places=[f"{delivery.tenant}={HOST}/deliveries"])
    clients.check_tenant(TARGET, marks_of(delivery))
    clients.check_tenant(replace(TARGET, identity=None, key="a2V5"), {})
    for marks in (marks_of(replace(delivery, tenant="another")), {}):
        with pytest.raises(TargetForbiddenError, match="DELIVERY_AZURE_IDENTITY_PLACES"):
            clients.check_tenant(TARGET, marks)


@pytest.mark.parametrize(
    "text",
    [
        HOST,
        f"{HOST}/deliveries",
        f"esa={HOST}",
        f"={HOST}/deliveries",
        f"esa={HOST}:443/deliveries",
        f"esa={HOST}/UPPER",
        f"esa={HOST}/deliveries/../others",
        f"esa={HOST}/deliveries#me",
        f"esa={HOST}/deliveries#",
    ],
)
def test_what_is_no_place_of_a_tenant_is_refused_when_it_is_set(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|no name|no client"):
        IdentityPlace.read(text)
    with pytest.raises(ValidationError):
        AzureSection(azure_identity_places=(text,))


@pytest.mark.parametrize(
    ("identity", "kind"), [(ID, ManagedIdentityCredential), ("default", DefaultAzureCredential)]
)
async def test_a_client_id_is_that_managed_identity_alone(identity: str, kind: type) -> None:
    place = f"esa={HOST}/deliveries" + (f"#{ID}" if identity == ID else "")
    clients = AzureClients(identity_places=[place])
    async with (
        contextlib.aclosing(clients),
        clients.of(replace(TARGET, identity=identity)) as client,
    ):
        assert type(client.credential) is kind


def test_a_tenant_can_not_set_the_place_of_another() -> None:
    entry = {"type": "azure", "account": "abc", "container": "deliveries", "identity": "default"}
    settings = Settings(azure_identity_places=("esa=abc.blob.core.windows.net/deliveries",))

    def parse(tenant: str) -> Any:
        definitions = Definitions(TargetKinds(S3Target, AzureTarget))
        own = settings.of_tenant(tenant)
        return definitions.parse("delivery_targets", {"far": entry}, current={}, settings=own)

    assert parse("esa") == {"far": entry}
    with pytest.raises(InvalidSettingError, match="DELIVERY_AZURE_IDENTITY_PLACES") as raised:
        parse("cnes")
    (reason,) = raised.value.reasons
    assert reason.startswith("delivery_targets.far.identity: abc.blob.core.windows.net/deliveries/")


def test_an_accounts_own_host_has_no_path() -> None:
    entry = {"type": "azure", "account": "abc", "container": "deliveries", "key": "a2V5"}
    with pytest.raises(ValidationError, match="must have no path"):
        AzureDeliveryTarget.model_validate(entry | {"endpoint": f"https://{HOST}/abc"})
    AzureDeliveryTarget.model_validate(entry | {"endpoint": "https://azure.site/abc"})
