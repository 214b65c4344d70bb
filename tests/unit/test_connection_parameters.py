"""How neighbours are reached: made in one place each, refused in words, without a secret."""

from __future__ import annotations

import re
import ssl
from ipaddress import ip_address
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.errors import ConfigurationError
from app.network.tls import TlsFiles, context_of, explain, stays
from app.settings import Settings, load_settings
from app.store.checkup import encryption
from app.store.parameters import parameters_of as database_parameters
from streams.amqp.parameters import parameters_of as amqp_parameters
from tests.certificates import Authority

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-8c1f"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("site"))


@pytest.mark.parametrize(
    ("call", "places"),
    [
        (r"asyncpg\.(connect|create_pool)\((?!\*\*parameters\.arguments)", {"app/store/pool.py"}),
        (r"aio_pika\.(connect|RobustConnection)\((?!\*\*parameters\.arguments)", set()),
        (r"database_url\.get_secret_value", {"app/store/parameters.py"}),
        (r"amqp_url\.get_secret_value", {"streams/amqp/parameters.py", "app/cli/topology.py"}),
        (
            r"aiohttp\.TCPConnector\(",
            {"app/network/https.py", "streams/webhooks/sender.py", "sinks/stores/sessions.py"},
        ),
    ],
)
def test_the_options_of_a_connection_come_from_one_place(call: str, places: set[str]) -> None:
    found = {
        str(path.relative_to(ROOT))
        for folder in ("app", "streams", "sinks", "web")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(call, path.read_text())
    }
    assert found <= places


def database(site: Authority, **changes: str) -> Settings:
    return Settings(database_ca=str(site.file), **changes)  # type: ignore[arg-type]


def test_nothing_is_told_to_postgresql_where_nothing_is_set() -> None:
    assert database_parameters(Settings()).ssl is None


def test_certificate_and_name_are_checked_with_a_ca(site: Authority) -> None:
    context = database_parameters(database(site)).ssl
    assert isinstance(context, ssl.SSLContext)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    # Of no other: a public CA may certify whatever name.
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("mode", "verify", "names"),
    [
        ("require", ssl.CERT_REQUIRED, False),  # libpq's way, where a CA is given
        ("verify-ca", ssl.CERT_REQUIRED, False),
        ("verify-full", ssl.CERT_REQUIRED, True),
    ],
)
def test_the_modes_are_those_of_libpq(
    site: Authority, mode: str, verify: ssl.VerifyMode, names: bool
) -> None:
    for settings in (
        database(site, database_sslmode=mode),
        database(site, database_url=f"postgresql://u:p@h/d?sslmode={mode}"),
    ):
        context = database_parameters(settings).ssl
        assert isinstance(context, ssl.SSLContext)
        assert context.verify_mode is verify
        assert context.check_hostname is names


def test_an_address_that_asks_for_no_encryption_is_left_to_the_driver() -> None:
    assert database_parameters(Settings(database_sslmode="disable")).ssl == "disable"
    assert database_parameters(Settings(database_sslmode="prefer")).ssl == "prefer"


def refused(*told: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    for words in told:
        assert words in str(raised.value)
    assert CANARY not in str(raised.value)


@pytest.mark.parametrize("mode", ["disable", "prefer"])
def test_a_ca_that_would_not_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("DELIVERY_DATABASE_SSLMODE", mode)
    monkeypatch.setenv("DELIVERY_DATABASE_CA", "/ca.pem")
    refused(f"DELIVERY_DATABASE_CA: DELIVERY_DATABASE_SSLMODE is {mode}, which uses no")
    monkeypatch.delenv("DELIVERY_DATABASE_SSLMODE")
    monkeypatch.setenv("DELIVERY_AMQP_CA", "/ca.pem")
    refused("DELIVERY_AMQP_CA: RabbitMQ would be spoken to in plain text all the same")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DELIVERY_AMQP_URL", f"amqp://u:{CANARY}/x@h/v"),
        ("DELIVERY_AMQP_URL", f"http://u:{CANARY}@h/v"),
        ("DELIVERY_DATABASE_URL", f"postgresql://u:{CANARY}#x@h:5432/d"),
        ("DELIVERY_DATABASE_URL", f"postgresql://u:[{CANARY}@h:5432/d"),
        ("DELIVERY_DATABASE_URL", f"postgresql://u:123#{CANARY}@h:5432/d"),
        ("DELIVERY_AMQP_URL", f"amqp://u:x@y/{CANARY}@h/v"),
        ("DELIVERY_DATABASE_URL", f"postgresql://u:x@y/{CANARY}@h/d"),
        ("DELIVERY_DATABASE_URL", f"postgresql://u:x@y?{CANARY}@h/d"),
        ("DELIVERY_DATABASE_URL", f"mysql://u:{CANARY}@h:5432/d"),
        ("DELIVERY_RS_ORDER_URL", f"http://u:{CANARY}@h"),
        ("DELIVERY_RS_ADMIN_URL", f"http://u:{CANARY}@h"),
        ("DELIVERY_OAUTH_URL", f"http://u:{CANARY}@h/token"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    monkeypatch.setenv(name, url)
    refused(f"{name}: ")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@h1:5432,h2:5433/d?target_session_attrs=any",
        "postgresql:///d?host=/var/run/postgresql",
        "postgresql://u:a%2Fb%40c@[::1]:5432/d",
        "postgresql://u:x@y@h/d%40e",
    ],
)
def test_addresses_that_the_driver_takes_are_taken(url: str) -> None:
    assert database_parameters(Settings(database_url=SecretStr(url))).url == url


def test_a_password_apart_takes_the_place_of_one_in_the_address() -> None:
    settings = Settings(
        amqp_url=SecretStr("amqp://u:old@h/v"),
        amqp_password=SecretStr("a/b@c"),
        database_url=SecretStr("postgresql://u:old@h/d"),
        database_password=SecretStr("a/b@c"),
    )
    assert amqp_parameters(settings).url.password == "a/b@c"
    assert database_parameters(settings).arguments["password"] == "a/b@c"
    for parameters in (amqp_parameters(settings), database_parameters(settings)):
        assert "a/b@c" not in repr(parameters)
        assert "old" not in repr(parameters)
        assert parameters.place.startswith("h")


def test_files_that_cannot_be_used_are_named(site: Authority, tmp_path: Path) -> None:
    certificate, key = site.issue("one", "localhost")
    _, another = site.issue("two", "localhost")
    (tmp_path / "none").write_text("none")
    for files, told in (
        (
            {"ca": str(tmp_path / "missing")},
            "DELIVERY_X_CA names '.*missing', which can't be read",
        ),
        (
            {"ca": str(tmp_path / "none")},
            "DELIVERY_X_CA names '.*none', which holds no cert",
        ),
        ({"certificate": str(tmp_path)}, r"DELIVERY_X_CERTIFICATE names '.*', which can't be read"),
        ({"key": str(key)}, "DELIVERY_X_KEY is set without a certificate"),
        ({"certificate": str(certificate), "key": str(another)}, "the key that of the certificate"),
        ({"certificate": str(certificate)}, "DELIVERY_X_CERTIFICATE .* can't be used"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            context_of(TlsFiles(setting="DELIVERY_X", **files))
    context_of(TlsFiles(setting="DELIVERY_X", certificate=str(certificate), key=str(key)))


def test_an_error_that_is_not_of_tls_is_not_explained_as_one() -> None:
    error = ConnectionRefusedError(111, "refused")
    error.__cause__ = ValueError("of another kind")
    assert explain(error, TlsFiles(setting="DELIVERY_X")) is None


@pytest.mark.parametrize(
    ("row", "decided", "ok"),
    [
        ({"ssl": True, "version": "TLSv1.3", "cipher": "X", "client": None}, False, True),
        ({"ssl": False, "client": None}, False, True),  # a socket of the machine
        ({"ssl": False, "client": ip_address("127.0.0.1")}, False, True),
        ({"ssl": False, "client": ip_address("10.0.0.7")}, True, True),
        ({"ssl": False, "client": ip_address("10.0.0.7")}, False, False),
    ],
)
def test_plain_text_over_a_network_without_a_decision_is_a_problem(
    row: dict[str, object], decided: bool, ok: bool
) -> None:
    assert encryption(row, decided=decided).ok is ok


@pytest.mark.parametrize(
    ("reason", "told", "final"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "give one: DELIVERY_X_CERTIFICATE and", True),
        ("TLSV1_ALERT_UNKNOWN_CA", "give one: DELIVERY_X_CERTIFICATE and", True),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "give one: DELIVERY_X_CERTIFICATE and", True),
        ("TLSV1_ALERT_INTERNAL_ERROR", "TLS failed (TLSV1_ALERT_INTERNAL_ERROR)", False),
        ("WRONG_VERSION_NUMBER", "does not speak TLS at this port", False),
        ("UNEXPECTED_EOF_WHILE_READING", "TLS failed", False),
    ],
)
def test_the_words_of_a_server_that_breaks_off_are_told(
    reason: str, told: str, final: bool
) -> None:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    outer = OSError("of a driver")
    outer.__cause__ = error
    assert told in str(explain(outer, TlsFiles(setting="DELIVERY_X")))
    assert stays(outer) is final
