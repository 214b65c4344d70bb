"""Which secrets let callers in, and with which nothing starts."""

from __future__ import annotations

import pwd
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from structlog.testing import capture_logs

from app.cli import cli
from app.cli.who import current_user
from app.errors import ConfigurationError
from app.run.doctor import check_keys
from app.settings import Settings
from app.tenants.secret_rules import (
    PUBLIC_SEAL_KEYS,
    PUBLIC_TOKEN_SECRETS,
    refuse_weak_secrets,
    require_token_secret,
    token_secret,
)
from app.tenants.vault import make_key, vault_of
from web.guard.auth import TokenVerifier

GOOD, SHARED = "own-" + "o" * 28, "shared-" + "s" * 25
(PUBLIC,) = PUBLIC_TOKEN_SECRETS
(PUBLIC_SEAL,) = PUBLIC_SEAL_KEYS
PEM = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048)
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JWT_SECRET", "JWT_PUBLIC_KEY", "RS_ORDER_TOKEN_SECRET", "DEVELOPMENT"):
        monkeypatch.delenv(f"DELIVERY_{name}", raising=False)


def given(**fields: Any) -> Settings:
    return Settings(**{"rs_order_token_secret": SHARED, "secret_keys": (make_key(),)} | fields)


@pytest.mark.parametrize(
    ("fields", "secret"),
    [
        ({}, SHARED),
        ({"jwt_secret": GOOD}, GOOD),
        ({"jwt_public_key": PEM}, ""),
        ({"jwt_secret": GOOD, "jwt_public_key": PEM}, GOOD),
    ],
)
def test_rs_orders_secret_stands_in_only_where_nothing_else_is_set(
    fields: dict[str, str], secret: str
) -> None:
    assert token_secret(given(**fields)) == secret


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"jwt_secret": "s" * 31}, "DELIVERY_JWT_SECRET has fewer than 32 bytes"),
        ({"jwt_secret": PUBLIC}, "DELIVERY_JWT_SECRET is public"),
        ({"jwt_former_secrets": ("s" * 31,)}, "DELIVERY_JWT_FORMER_SECRETS secret 1 has fewer"),
        ({"secret_keys": (PUBLIC_SEAL,)}, "DELIVERY_SECRET_KEYS key 1 is public"),
        ({"secret_keys": (PUBLIC_SEAL, make_key())}, "DELIVERY_SECRET_KEYS key 1 is public"),
        ({"rs_order_token_secret": PUBLIC}, "DELIVERY_RS_ORDER_TOKEN_SECRET is public.*checked"),
    ],
)
def test_a_process_with_a_weak_secret_starts_only_in_development(
    fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as raised:
        refuse_weak_secrets(given(**fields), http=True)
    for value in ("s" * 31, PUBLIC, PUBLIC_SEAL):
        assert value not in str(raised.value)
    with capture_logs() as logged:
        refuse_weak_secrets(given(development=True, **fields), http=True)
    assert [line["event"] for line in logged] == ["development", "secret_weak"]


@pytest.mark.parametrize(
    ("fields", "http"),
    [
        ({"rs_order_token_secret": "short"}, True),  # though it lets callers in: it is not ours
        ({"rs_order_token_secret": "short"}, False),
        ({"rs_order_token_secret": PUBLIC}, False),
        ({"rs_order_token_secret": PUBLIC, "jwt_secret": GOOD}, True),
        ({"rs_order_token_secret": PUBLIC, "jwt_public_key": PEM}, True),
        ({"secret_keys": (make_key(), PUBLIC_SEAL)}, True),  # so that it can be changed
    ],
)
def test_a_weak_secret_that_cannot_be_changed_here_is_told_of(
    fields: dict[str, Any], http: bool
) -> None:
    with capture_logs() as logged:
        refuse_weak_secrets(given(**fields), http=http)
    (line,) = logged
    assert (line["event"], line["log_level"]) == ("secret_weak", "warning")
    problems = [finding for finding in check_keys(given(**fields)) if not finding.ok]
    assert [finding.check for finding in problems] == [line["setting"]]
    assert problems[0].advice


@pytest.mark.parametrize("fields", [{}, {"jwt_secret": GOOD}, {"jwt_public_key": PEM}])
def test_good_secrets_are_not_told_of(fields: dict[str, Any]) -> None:
    with capture_logs() as logged:
        refuse_weak_secrets(given(**fields), http=True)
    assert logged == []
    found = check_keys(given(**fields))
    assert all(finding.ok for finding in found)
    assert "development" not in {finding.check for finding in found}


def test_the_doctor_says_when_development_is_on() -> None:
    found = check_keys(given(development=True, jwt_secret="short"))
    assert all(finding.ok for finding in found)
    told = {finding.check: finding.message for finding in found}
    assert "DELIVERY_DEVELOPMENT is on" in told["development"]
    assert "fewer than 32 bytes" in told["DELIVERY_JWT_SECRET"]


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")  # as after a start
@pytest.mark.parametrize("secret", [GOOD, "o" * 64, "short"])
def test_a_token_is_made_with_the_secret_that_it_is_checked_with(secret: str) -> None:
    environment = {"DELIVERY_JWT_SECRET": secret, "DELIVERY_JWT_PUBLIC_KEY": PEM}
    made = CliRunner().invoke(cli, ["token", "--user", "u"], env=environment)
    assert made.exit_code == 0
    assert "Warning" not in made.stderr  # it may say that no database answers
    actor = TokenVerifier(secret=secret, public_key="").verify(made.stdout.strip())
    assert actor.name == "u"


def test_no_token_is_made_here_with_an_rsa_key_alone() -> None:
    environment = {"DELIVERY_JWT_PUBLIC_KEY": PEM, "DELIVERY_RS_ORDER_TOKEN_SECRET": SHARED}
    made = CliRunner().invoke(cli, ["token"], env=environment)
    assert isinstance(made.exception, ConfigurationError)
    assert "DELIVERY_JWT_SECRET" in str(made.exception)
    assert made.stdout == ""


def test_a_worker_needs_a_secret_for_its_tokens() -> None:
    require_token_secret(given())
    with pytest.raises(ConfigurationError, match="DELIVERY_RS_ORDER_TOKEN_SECRET is not set"):
        require_token_secret(given(rs_order_token_secret=""))


def test_a_key_to_seal_with_is_made_in_development_alone() -> None:
    with pytest.raises(ConfigurationError, match="DELIVERY_SECRET_KEYS is not set"):
        vault_of(given(secret_keys=()))
    with capture_logs() as logs:
        vault = vault_of(given(secret_keys=(), development=True))
    assert vault.open(vault.seal("a secret")) == "a secret"
    assert [line["event"] for line in logs] == ["secret_key_made"]


def test_a_caller_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """In containers of OpenShift no passwd entry is that of the user."""

    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr("os.getuid", lambda: 1234)
    assert current_user() == "uid-1234"
    monkeypatch.setenv("USER", "somebody")
    assert current_user() == "somebody"
