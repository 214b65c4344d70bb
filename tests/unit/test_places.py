"""Tenants that deliver to one place."""

from __future__ import annotations

from app.tenants.places import shared
from app.tenants.values import TenantSettings
from sinks.stores.file.target import FileTarget
from tests.builders import make_target, make_tenant_settings


def settings(
    *, endpoint: str = "https://s3:443", prefix: str = "", far: str = ""
) -> TenantSettings:
    """Return the settings of a tenant."""
    target = make_target(endpoint=endpoint, bucket="bucket", prefix=prefix)
    more = {"far": make_target(endpoint=far, bucket="bucket", region="q", key="l", secret="t")}
    return make_tenant_settings(target=target, targets=more if far else {})


def test_tenants_of_one_endpoint_bucket_and_prefix_are_named() -> None:
    found = shared(
        [
            ("a", settings()),
            ("b", settings(prefix="b/")),
            ("c", settings(endpoint="https://elsewhere:443", far="https://S3:443")),
            ("d", settings(prefix="d/")),
        ]
    )
    assert found == {"https://s3:443/bucket/": ["a (default)", "c (far)"]}


def test_two_targets_of_one_tenant_are_its_own_business() -> None:
    assert shared([("a", settings(far="https://s3:443")), ("b", settings(prefix="b/"))]) == {}


def test_case_counts_in_the_path_of_an_endpoint_and_nowhere_else() -> None:
    """Folders of a store may differ by it."""
    found = shared(
        [
            ("a", settings(endpoint="https://store/Maps")),
            ("b", settings(endpoint="https://store/maps")),
            ("c", settings(endpoint="HTTPS://Store/Maps")),
        ]
    )
    assert found == {"https://store/Maps/bucket/": ["a (default)", "c (default)"]}


def test_a_folder_is_one_place_by_whatever_path_and_prefix_it_is_named() -> None:
    found = shared(
        [
            ("a", make_tenant_settings(target=FileTarget(path="/mnt/a", prefix="in/"))),
            ("b", make_tenant_settings(target=FileTarget(path="/mnt/a/in"))),
            ("c", make_tenant_settings(target=FileTarget(path="/mnt/a"))),
        ]
    )
    assert found == {"file:///mnt/a/in/": ["a (default)", "b (default)"]}
