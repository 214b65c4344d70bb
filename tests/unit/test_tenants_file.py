"""The tenants from a file: `DELIVERY_TENANTS_FILE`, and what is wrong with one, in words."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from app.delivery.orders import OrderStatus
from app.errors import ConfigurationError, UnreadableMessageError
from app.run.wiring.kinds import KINDS
from app.settings import Settings, load_settings, reread
from app.tenants.registry import ConfiguredTenants
from streams.events import CancelRequested, OrderProgressed, RequestReceived, check_tenant
from tests.builders import make_message

TEXT = """\
# Those of the mission
sentinel
swot   # since March

esa, cnes
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "tenants"
    file.write_text(TEXT)
    monkeypatch.delenv("DELIVERY_TENANTS", raising=False)
    monkeypatch.setenv("DELIVERY_TENANTS_FILE", str(file))
    return file


def test_tenants_stand_on_lines_with_comments(file: Path) -> None:
    assert load_settings().tenants == ("sentinel", "swot", "esa", "cnes")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sentinel\nswot esa\n", "line 2: 'swot esa' is no name of a tenant; put one on a line"),
        ("sentinel\n\n" + "x" * 256 + "\n", "line 3: 'xxx"),
        ("sentinel\nswot\nsentinel # again\n", "line 3: sentinel is there twice, first on line 1"),
        ("sentinel\nsw\x00ot\n", "line 2: 'sw\\x00ot' is no name of a tenant"),
        ("# none yet\n\n", "names no tenant; put the name of one on a line"),
    ],
)
def test_a_mistake_is_told_with_its_line(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    assert f"in the file that DELIVERY_TENANTS_FILE names: {told}" in str(raised.value)


def test_a_file_beside_the_variable_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELIVERY_TENANTS", "sentinel")
    with pytest.raises(ConfigurationError, match="both DELIVERY_TENANTS and DELIVERY_TENANTS_FILE"):
        load_settings()


def test_a_name_that_is_there_twice_in_the_environment_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DELIVERY_TENANTS", "sentinel,swot,sentinel")
    assert load_settings().tenants == ("sentinel", "swot")


def test_files_are_read_again_and_all_else_stays(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("one-secret")
    monkeypatch.setenv("DELIVERY_JWT_SECRET_FILE", str(secret))
    before = load_settings()
    file.write_text("swot\n")
    secret.write_text("another-secret")
    after, flaws = reread(before)
    assert flaws == {}
    assert (after.tenants, after.jwt_secret.get_secret_value()) == (("swot",), "another-secret")
    changed = {"tenants": before.tenants, "jwt_secret": before.jwt_secret}
    assert after.model_copy(update=changed) == before


def test_a_file_that_is_wrong_leaves_its_setting_as_it_was_and_no_other(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("one-secret")
    monkeypatch.setenv("DELIVERY_JWT_SECRET_FILE", str(secret))
    before = load_settings()
    file.write_text("sentinel\na b\n")
    secret.write_text("another-secret")
    after, flaws = reread(before)
    assert flaws.keys() == {"tenants"}
    assert "line 2: 'a b'" in flaws["tenants"]
    assert after.tenants == before.tenants
    assert after.jwt_secret.get_secret_value() == "another-secret"


def test_a_tenant_whose_bucket_would_be_none_leaves_the_tenants_as_they_were(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELIVERY_DELIVERY_BUCKET", "deliveries-{tenant}")
    before = load_settings()
    file.write_text("sentinel\nESA\n")
    after, flaws = reread(before)
    assert after == before
    assert "DELIVERY_DELIVERY_BUCKET: as the bucket of tenant ESA" in flaws["tenants"]


def served(*names: str) -> Settings:
    return Settings(tenants=names, delivery_bucket="of-{tenant}")


def test_a_tenant_that_left_is_worked_for_and_not_served() -> None:
    tenants = ConfiguredTenants(served("one", "two"), KINDS)
    tenants.serve(served("two", "three"))
    assert list(tenants.names) == ["two", "three"]
    assert [tenants.known(name) for name in ("one", "two", "three", "four")] == [
        False,
        True,
        True,
        False,
    ]
    assert [tenants.works_for(name) for name in ("one", "two", "three", "four")] == [
        True,
        True,
        True,
        False,
    ]
    assert {target.container for target in tenants.targets()} == {"of-one", "of-two", "of-three"}
    tenants.serve(served("one"))
    assert tenants.known("one")
    assert list(tenants.worked_for) == ["one", "two", "three"]


def test_only_new_requests_of_a_tenant_that_left_are_refused() -> None:
    tenants = ConfiguredTenants(served("one"), KINDS)
    request = RequestReceived.read(make_message(tenant="one"))
    others = [
        OrderProgressed(tenant="one", correlation_id="c", status=OrderStatus.DONE),
        CancelRequested(tenant="one", correlation_id="c", ingress_id=uuid4(), origin_app=None),
    ]
    for event in (request, *others):
        check_tenant(event, tenants, requeue="requeue")
    tenants.serve(served("two"))
    with pytest.raises(UnreadableMessageError, match="unknown tenant 'one'; add it to DELIVERY_TE"):
        check_tenant(request, tenants, requeue="requeue")
    for event in others:
        check_tenant(event, tenants, requeue="requeue")
