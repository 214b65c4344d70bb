"""What clients of Kafka are made with, and what a broker that refuses them is heard to say."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from cryptography.hazmat.primitives import serialization
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from structlog.testing import capture_logs

from app.errors import ConfigurationError, NotReachableError
from app.network.tls import TlsFiles
from app.settings import Settings
from streams.kafka import brokers
from streams.kafka.brokers import cause_of, client_arguments, not_reached
from streams.kafka.faust_app import credentials_of
from streams.kafka.refusals import Refusal, Refusals, refusal_of
from tests.certificates import Authority

USER = {
    "kafka_sasl_mechanism": "SCRAM-SHA-256",
    "kafka_username": "rs-delivery",
    "kafka_password": "hunter2",
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Issues certificates."""
    return Authority(tmp_path / "authority")


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> Refusals:
    """Those of a process that has just begun."""
    new = Refusals()
    monkeypatch.setattr(brokers, "REFUSALS", new)
    return new


def settings_for(protocol: str, **values: str) -> Settings:
    here = {"kafka_bootstrap_servers": "kafka:9092", "kafka_security_protocol": protocol}
    return Settings(**here | values)  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
def test_faust_is_given_what_the_other_clients_are_given(protocol: str) -> None:
    settings = settings_for(protocol, **(USER if protocol.startswith("SASL") else {}))
    arguments = client_arguments(settings)
    assert arguments.pop("bootstrap_servers") == "kafka:9092"
    given = credentials_to_aiokafka_auth(credentials_of(settings))
    assert {name: value for name, value in given.items() if value is not None} == arguments
    assert ("ssl_context" in arguments) == protocol.endswith("SSL")
    assert ("sasl_plain_password" in arguments) == protocol.startswith("SASL")


def test_certificates_and_names_of_brokers_are_verified(authority: Authority) -> None:
    for ca in ("", str(authority.file)):
        context = client_arguments(settings_for("SSL", kafka_ca=ca))["ssl_context"]
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_only_the_given_ca_is_trusted(authority: Authority) -> None:
    context = client_arguments(settings_for("SSL", kafka_ca=str(authority.file)))["ssl_context"]
    assert len(context.get_ca_certs()) == 1


def encrypted(key: Path) -> bytes:
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    return loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"hunter2"),
    )


def test_files_that_cannot_be_used_are_told(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("one")
    _, other = authority.issue("other")
    no_pem = tmp_path / "no.pem"
    no_pem.write_text("no certificate")
    locked = tmp_path / "locked.pem"
    locked.write_bytes(encrypted(key))
    mine: dict[str, Any] = {"kafka_certificate": certificate, "kafka_key": key}
    for changes, sentence in (
        ({"kafka_ca": tmp_path / "none"}, r"DELIVERY_KAFKA_CA .*/none.* can't be read \(No such"),
        ({"kafka_ca": tmp_path}, r"DELIVERY_KAFKA_CA .* can't be read \(Is a directory"),
        ({"kafka_ca": no_pem}, "DELIVERY_KAFKA_CA .*/no.pem.* holds no certificate"),
        (mine | {"kafka_key": tmp_path / "none"}, "DELIVERY_KAFKA_KEY .*/none.* can't be read"),
        (mine | {"kafka_key": other}, r"can't be used \(.*MISMATCH"),
        (mine | {"kafka_key": locked}, "and without a passphrase"),
        (mine | {"kafka_certificate": no_pem}, "DELIVERY_KAFKA_CERTIFICATE .* can't be used"),
    ):
        values = {name: str(file) for name, file in changes.items()}
        with pytest.raises(ConfigurationError, match=sentence):
            client_arguments(settings_for("SSL", **values))


def test_files_that_are_being_replaced_end_nothing(authority: Authority, tmp_path: Path) -> None:
    """A certificate is there a moment before its key."""
    certificate, key = authority.issue("one")
    settings = settings_for("SSL", kafka_certificate=str(certificate), kafka_key=str(key))
    context = client_arguments(settings)["ssl_context"]
    later = authority.issue("later")
    certificate.write_bytes(later[0].read_bytes())
    os.utime(certificate, ns=(0, 0))  # another time, however coarse the clock
    with capture_logs() as logs:
        assert client_arguments(settings)["ssl_context"] is context
        key.unlink()
        assert client_arguments(settings)["ssl_context"] is context
        key.write_bytes(later[1].read_bytes())
        assert client_arguments(settings)["ssl_context"] is context
    assert [entry["event"] for entry in logs] == ["kafka_files_not_read"] * 2


def of_tls(reason: str) -> KafkaConnectionError:
    """Return what aiokafka makes of a broker's alert."""
    alert = ssl.SSLError(1, f"[SSL: {reason}]")
    alert.reason = reason
    error = KafkaConnectionError("Connection at broker:9093 closed")
    error.__cause__ = alert
    return error


MINE = TlsFiles(setting="DELIVERY_KAFKA", certificate="mine.pem", key="mine-key.pem")
NONE = TlsFiles(setting="DELIVERY_KAFKA")


@pytest.mark.parametrize(
    ("error", "files", "sentence", "stays"),
    [
        (of_tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), NONE, "give one: DELIVERY_KAFKA_CERT", True),
        (of_tls("SSLV3_ALERT_BAD_CERTIFICATE"), MINE, "does not take the certificate of", True),
        (of_tls("TLSV1_ALERT_UNKNOWN_CA"), MINE, "is it of its CA, and has it expired", True),
        (of_tls("WRONG_VERSION_NUMBER"), NONE, "does not speak TLS at this port", False),
        (KafkaConnectionError("closed"), MINE, "SECURITY_PROTOCOL is SASL_SSL: compare", False),
        (SaslAuthenticationFailed("no"), NONE, "not sign user rs-delivery in by SCRAM-SHA-2", True),
        (UnsupportedSaslMechanismError("no"), NONE, "correct DELIVERY_KAFKA_SASL_MECHANISM", True),
        (ValueError("Server sent wrong signature!"), NONE, "not sign users in as it should", True),
    ],
)
def test_a_refusal_of_a_broker_is_told_with_what_to_do(
    error: Exception, files: TlsFiles, sentence: str, stays: bool
) -> None:
    arguments: Mapping[str, Any] = client_arguments(settings_for("SASL_SSL", **USER))
    refusal = refusal_of("broker:9093", error, arguments, files)
    assert refusal is not None
    assert sentence in refusal.sentence
    assert (refusal.stays, refusal.sentence.startswith("broker:9093")) == (stays, True)
    assert "hunter2" not in refusal.sentence


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError(), OSError("no host")])
def test_a_broker_that_does_not_answer_refuses_nothing(error: Exception) -> None:
    assert refusal_of("b:1", error, {"security_protocol": "PLAINTEXT"}, NONE) is None


def test_a_broker_that_ends_connections_when_it_is_stopped_refuses_nothing() -> None:
    refusals = Refusals()
    ended = Refusal(broker="b:1", sentence="ends", stays=False)
    assert refusals.note(ended)
    refusals.taken("b:1")
    assert not refusals.note(ended)
    assert refusals.now() == []


def test_a_refusal_is_logged_once_until_it_is_another_or_is_over() -> None:
    refusals = Refusals()
    with capture_logs() as logs:
        for sentence in ("old", "old", "expired"):
            refusals.note(Refusal(broker="b:1", sentence=sentence, stays=True))
        refusals.taken("b:1")
    assert [(entry["event"], entry.get("cause")) for entry in logs] == [
        ("kafka_refuses", "old"),
        ("kafka_refuses", "expired"),
        ("kafka_takes", None),
    ]


def test_a_user_that_is_refused_is_a_mistake_and_all_else_may_be_mended_elsewhere(
    refusals: Refusals,
) -> None:
    """The exit code follows from it: whether a supervisor should try again."""
    error, settings = KafkaConnectionError("Unable to bootstrap"), settings_for("SSL")
    away = not_reached(settings, error)
    assert isinstance(away, NotReachableError)
    assert "no Kafka broker answers at kafka:9092" in str(away)
    assert "Unable to bootstrap" in cause_of(error)
    refusals.note(Refusal(broker="b:2", sentence="b:2 has expired", stays=True))
    assert isinstance(not_reached(settings, error), NotReachableError)
    refusals.taken("b:2")
    refusals.note(
        Refusal(broker="b:1", sentence="b:1 wants another password", stays=True, mistake=True)
    )
    refused = not_reached(settings, error)
    assert not isinstance(refused, NotReachableError)
    assert str(refused) == "Kafka refuses this service: b:1 wants another password"


def test_a_broker_that_refuses_is_not_asked_again_at_once() -> None:
    """Clients would ask fifty times a second, with a wrong password, too."""
    refusals = Refusals()
    assert refusals.pause("b:1") == 0
    refusals.note(Refusal(broker="b:1", sentence="no", stays=True))
    assert 0 < refusals.pause("b:1") <= 1
    assert refusals.pause("b:2") == 0
    refusals.taken("b:1")
    assert refusals.pause("b:1") == 0
