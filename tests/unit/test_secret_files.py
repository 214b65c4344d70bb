"""Secrets from files: `DELIVERY_<NAME>_FILE`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.errors import ConfigurationError
from app.settings import Settings, load_settings
from app.settings.files import may_be_in_a_file

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-8c1f"
IN_FILES = sorted(name for name, field in Settings.model_fields.items() if may_be_in_a_file(field))
# What must look like something, so that a file may hold it.
VALUES = {
    "amqp_url": f"amqps://regards:{CANARY}@rabbitmq:5671/%2F",
    "database_url": f"postgresql://delivery:{CANARY}@postgres/delivery",
    "metrics_token": f"{CANARY}-{CANARY}-{CANARY}",
}
# What is refused without others.
BESIDE = {
    "kafka_password": {
        "DELIVERY_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "DELIVERY_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "DELIVERY_KAFKA_USERNAME": "rs-delivery",
    }
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secret"


def plain(value: object) -> object:
    if isinstance(value, tuple):
        return ",".join(str(plain(item)) for item in value)
    return value.get_secret_value() if isinstance(value, SecretStr) else value


@pytest.mark.parametrize("name", IN_FILES)
def test_every_secret_may_lie_in_a_file(
    name: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = VALUES.get(name, CANARY)
    file.write_text(value + "\n")
    monkeypatch.delenv(f"DELIVERY_{name.upper()}", raising=False)
    monkeypatch.setenv(f"DELIVERY_{name.upper()}_FILE", str(file))
    for variable, beside in BESIDE.get(name, {}).items():
        monkeypatch.setenv(variable, beside)
    assert plain(getattr(load_settings(), name)) == value


@pytest.mark.parametrize("name", IN_FILES)
def test_a_setting_that_may_lie_in_a_file_is_documented_as_such(name: str) -> None:
    documented = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `DELIVERY_{name.upper()}` \|.*$", documented, re.MULTILINE)
    assert row, f"DELIVERY_{name.upper()} has no row"
    assert f"`DELIVERY_{name.upper()}_FILE`" in row[0], "say in its row that it may lie in a file"


def test_keys_in_a_file_are_separated_by_lines_or_commas(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("new\r\nold, older\n")
    monkeypatch.setenv("DELIVERY_SECRET_KEYS_FILE", str(file))
    assert [key.get_secret_value() for key in load_settings().secret_keys] == [
        "new",
        "old",
        "older",
    ]


def test_a_public_key_keeps_its_lines(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----\n")
    monkeypatch.setenv("DELIVERY_JWT_PUBLIC_KEY_FILE", str(file))
    assert load_settings().jwt_public_key.splitlines()[1] == "abc"


def test_a_file_that_is_named_by_an_empty_text_is_not_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DELIVERY_JWT_SECRET_FILE", "")
    monkeypatch.setenv("DELIVERY_JWT_SECRET", CANARY)
    assert load_settings().jwt_secret.get_secret_value() == CANARY


def refused(*told: str) -> None:
    """Check what is said, and that nothing of the secret is."""
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    for words in told:
        assert words in str(raised.value)
    assert CANARY not in str(raised.value)
    assert raised.value.__context__ is None or raised.value.__suppress_context__


def test_a_value_that_is_wrong_is_looked_for_in_its_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("a tenant")
    monkeypatch.delenv("DELIVERY_TENANTS", raising=False)
    monkeypatch.setenv("DELIVERY_TENANTS_FILE", str(file))
    refused("DELIVERY_TENANTS: in the file that DELIVERY_TENANTS_FILE names: 'a tenant' is no name")
    monkeypatch.delenv("DELIVERY_TENANTS_FILE")
    monkeypatch.setenv("DELIVERY_TENANTS", "a tenant")
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    assert "_FILE" not in str(raised.value)


def test_a_secret_that_is_given_twice_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(CANARY)
    monkeypatch.setenv("DELIVERY_JWT_SECRET", f"{CANARY}-too")
    monkeypatch.setenv("DELIVERY_JWT_SECRET_FILE", str(file))
    refused(
        "DELIVERY_JWT_SECRET: both DELIVERY_JWT_SECRET and DELIVERY_JWT_SECRET_FILE are set",
        "leave one of them out",
    )


def test_every_file_that_cannot_be_used_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe" + CANARY.encode())
    (tmp_path / "large").write_text(CANARY * 200_000)
    monkeypatch.setenv("DELIVERY_JWT_SECRET_FILE", str(tmp_path / "missing"))
    monkeypatch.setenv("DELIVERY_S3_SECRET_FILE", str(tmp_path))
    monkeypatch.setenv("DELIVERY_RS_ORDER_TOKEN_SECRET_FILE", str(tmp_path / "empty"))
    monkeypatch.setenv("DELIVERY_DATABASE_URL_FILE", str(tmp_path / "binary"))
    monkeypatch.setenv("DELIVERY_SECRET_KEYS_FILE", str(tmp_path / "large"))
    refused(
        f"DELIVERY_JWT_SECRET: DELIVERY_JWT_SECRET_FILE names '{tmp_path}/missing', which can't "
        "be read (No such file or directory)",
        f"DELIVERY_S3_SECRET: DELIVERY_S3_SECRET_FILE names '{tmp_path}', which can't be read "
        "(Is a directory)",
        f"DELIVERY_RS_ORDER_TOKEN_SECRET_FILE names '{tmp_path}/empty', which is empty",
        f"DELIVERY_DATABASE_URL_FILE names '{tmp_path}/binary', which is no text",
        f"DELIVERY_SECRET_KEYS_FILE names '{tmp_path}/large', which has more than a MiB",
    )


def test_a_setting_that_is_no_secret_is_not_taken_from_a_file_in_silence(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("9049")
    monkeypatch.setenv("DELIVERY_WEB_PORT_FILE", str(file))
    refused("DELIVERY_WEB_PORT: DELIVERY_WEB_PORT_FILE is set, but this is no secret")


def test_a_secret_in_a_file_does_not_show(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(f"postgresql://u:{CANARY}@h/d\n")
    monkeypatch.setenv("DELIVERY_DATABASE_URL_FILE", str(file))
    settings = load_settings()
    assert CANARY not in repr(settings)
    assert CANARY not in str(settings.model_dump())
