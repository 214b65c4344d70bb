"""Settings: read from the environment, documented, and silent about secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.errors import ConfigurationError
from app.run.doctor import check_memory
from app.run.wiring.worker import require_memory
from app.settings import Settings, environment_names, load_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", environment_names().values())
def test_every_setting_is_documented(name: str) -> None:
    documented = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert f"`{name}`" in documented


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_documented_defaults_are_the_real_ones() -> None:
    lines = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split("|") for line in lines if line.startswith("| `DELIVERY_")]
    documented = {row[1].strip(" `"): row[2].strip(" `") for row in rows}
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        if name == "worker_id":
            continue
        if hasattr(default, "get_secret_value"):
            default = default.get_secret_value()
        shown = ",".join(default) if isinstance(default, tuple) else str(default)
        assert documented[f"DELIVERY_{name.upper()}"] == shown, name


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELIVERY_TENANTS", " sentinel, swot ,")
    monkeypatch.setenv("DELIVERY_MAX_TRANSFERS", "7")
    settings = load_settings()
    assert settings.tenants == ("sentinel", "swot")
    assert settings.max_transfers == 7


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("regards.delivery.request.finished.bulk.size", "outbox_batch_size"),
        ("regards.delivery.available.files.bulk.size", "available_files_bulk_size"),
        ("regards.delivery.request.bulk.size", "request_bulk_size"),
        ("regards.delivery.request.expired.jobs.bulk.size", "expired_bulk_size"),
        ("regards.delivery.request.expired.bulk.size", "expired_bulk_size"),
    ],
)
def test_every_property_of_the_contract_has_a_setting(
    monkeypatch: pytest.MonkeyPatch, alias: str, name: str
) -> None:
    monkeypatch.setenv(alias, "42")
    assert getattr(load_settings(), name) == 42


@pytest.mark.parametrize(
    "alias",
    [
        "DELIVERY_AVAILABLE_FILES_BULK_SIZE",
        "regards.delivery.available.files.bulk.size",
        "REGARDS_DELIVERY_AVAILABLE_FILES_BULK_SIZE",
    ],
)
def test_names_of_regards_are_understood(monkeypatch: pytest.MonkeyPatch, alias: str) -> None:
    monkeypatch.setenv(alias, "42")
    assert load_settings().available_files_bulk_size == 42


def test_a_mistake_names_the_variable_and_not_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELIVERY_LEASE_TTL", "hunter2")
    monkeypatch.setenv("DELIVERY_WEB_PORT", "99999")
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    assert "DELIVERY_LEASE_TTL: " in str(raised.value)
    assert "DELIVERY_WEB_PORT: " in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELIVERY_S3_SECRET", "hunter2")
    monkeypatch.setenv("DELIVERY_DATABASE_URL", "postgresql://u:hunter2@h/d")
    assert "hunter2" not in repr(load_settings())


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load_settings().max_transfers = 3  # type: ignore[misc]


def test_fewer_connections_than_are_held_for_long_are_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DELIVERY_DATABASE_POOL_SIZE", "7")
    with pytest.raises(ConfigurationError, match="must be 8 or more: six connections may be held"):
        load_settings()
    monkeypatch.setenv("DELIVERY_DATABASE_POOL_SIZE", "8")
    assert load_settings().database_pool_size == 8


def test_a_worker_that_can_hold_no_transfer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELIVERY_WORKER_MEMORY", str(64 * 1024**2))
    with pytest.raises(
        ConfigurationError, match=r"DELIVERY_WORKER_MEMORY: .*less than DELIVERY_TRANSFER_MEMORY"
    ):
        load_settings()


SASL = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_USERNAME": "rs-delivery",
    "KAFKA_PASSWORD": "hunter2",
}
TLS = {"KAFKA_SECURITY_PROTOCOL": "SSL"}


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        (SASL | {"KAFKA_SASL_MECHANISM": ""}, "DELIVERY_KAFKA_SASL_MECHANISM: .*needed, as"),
        (SASL | {"KAFKA_USERNAME": ""}, "DELIVERY_KAFKA_USERNAME: .*needed, as"),
        (SASL | {"KAFKA_PASSWORD": ""}, "DELIVERY_KAFKA_PASSWORD: .*needed, as"),
        (SASL | {"KAFKA_SASL_MECHANISM": "GSSAPI"}, "DELIVERY_KAFKA_SASL_MECHANISM: .*SCRAM"),
        (SASL | TLS, "DELIVERY_KAFKA_PASSWORD: .*not used, as .*is SSL: is SASL_SSL meant"),
        ({"KAFKA_USERNAME": "u"}, "DELIVERY_KAFKA_USERNAME: .*not used, as .*is PLAINTEXT"),
        ({"KAFKA_CA": "ca.pem"}, "DELIVERY_KAFKA_CA: .*not used, as .*is PLAINTEXT"),
        (
            SASL | {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_CA": "ca.pem"},
            "DELIVERY_KAFKA_CA: .*not used, as .*is SASL_PLAINTEXT",
        ),
        (TLS | {"KAFKA_CERTIFICATE": "c.pem"}, "DELIVERY_KAFKA_KEY: .*needed, as"),
        (TLS | {"KAFKA_KEY": "k.pem"}, "DELIVERY_KAFKA_KEY: .*without DELIVERY_KAFKA_CERTIFICATE"),
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "DELIVERY_KAFKA_SECURITY_PROTOCOL: .*SASL_SSL"),
    ],
)
def test_settings_of_a_secured_kafka_that_do_not_go_together_are_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], refused: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(f"DELIVERY_{name}", value)
    with pytest.raises(ConfigurationError, match=refused) as raised:
        load_settings()
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "changes",
    [
        SASL,
        SASL | {"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_CA": "ca.pem"},
        SASL | {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"},
        SASL | {"KAFKA_CERTIFICATE": "c.pem", "KAFKA_KEY": "k.pem"},
        TLS,
        TLS | {"KAFKA_CA": "ca.pem", "KAFKA_CERTIFICATE": "c.pem", "KAFKA_KEY": "k.pem"},
    ],
)
def test_settings_of_a_secured_kafka_that_go_together_are_taken(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(f"DELIVERY_{name}", value)
    settings = load_settings()
    assert settings.kafka_security_protocol == changes["KAFKA_SECURITY_PROTOCOL"]
    assert "hunter2" not in repr(settings)


def test_a_worker_without_memory_for_a_format_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would take such requests in, and end each of them in ERROR, however little is ordered."""
    monkeypatch.setenv("DELIVERY_WORKER_MEMORY", str(128 * 1024**2))
    require_memory(load_settings())
    assert check_memory(load_settings()).ok
    monkeypatch.setenv("DELIVERY_ZSTD_LEVEL", "19")
    with pytest.raises(ConfigurationError, match=r"\.tar\.zst .*raise it to 2\d+ .*_ZSTD_LEVEL"):
        require_memory(load_settings())
    found = check_memory(load_settings())
    assert not found.ok
    assert "a worker would not start" in found.message


def test_a_list_in_a_file_has_comments_and_may_be_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comment would be a secret that is easily guessed; the last secret may have to go."""
    file = tmp_path / "former"
    monkeypatch.setenv("DELIVERY_JWT_FORMER_SECRETS_FILE", str(file))
    file.write_text(f"# taken away after the first of December\n{'s' * 32}\n")
    (kept,) = load_settings().jwt_former_secrets
    assert kept.get_secret_value() == "s" * 32
    for content in ("", "\n", "# none\n"):
        file.write_text(content)
        assert load_settings().jwt_former_secrets == ()


def test_keys_in_a_file_that_is_empty_are_no_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.touch()
    monkeypatch.setenv("DELIVERY_SECRET_KEYS_FILE", str(file))
    with pytest.raises(ConfigurationError, match="which is empty"):
        load_settings()
