"""How brokers are reached: what every client of Kafka is made with, Faust's too."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from aiokafka import client as aiokafka_client
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)

from app.errors import ConfigurationError, NotReachableError
from app.settings import Settings
from streams.broker_refusals import REFUSALS, RefusedError, refusal_of

RIGHTS = 'docs/configuration.md, "A secured Kafka cluster", has the rights that are needed'
_NOT_ALLOWED = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
)

# By their files. One for all clients: those that live long, too, go on with files that changed.
_contexts: dict[tuple[str, str, str], tuple[list[int], ssl.SSLContext]] = {}


def client_arguments(settings: Settings) -> dict[str, Any]:
    """Return brokers, TLS and SASL, as each of aiokafka's clients takes them.

    Raises ConfigurationError when a file can't be used.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_security_protocol.endswith("SSL"):
        arguments["ssl_context"] = _context(settings)
    if settings.kafka_security_protocol.startswith("SASL_"):
        arguments |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": settings.kafka_password.get_secret_value(),
        }
    return arguments


def _context(settings: Settings) -> ssl.SSLContext:
    """Return the context for TLS. Files that have changed are read again, for new connections."""
    ca, certificate, key = settings.kafka_ca, settings.kafka_certificate, settings.kafka_key
    named = {"CA": ca, "CERTIFICATE": certificate, "KEY": key}
    changed = [_changed_at(f"DELIVERY_KAFKA_{name}", file) for name, file in named.items() if file]
    before, context = _contexts.get((ca, certificate, key), ([], None))
    if context is not None and before == changed:
        return context
    try:
        if context is None:
            # It verifies certificates and names.
            context = ssl.create_default_context(cafile=ca or None)
        elif ca:
            context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"DELIVERY_KAFKA_CA: {ca} holds no certificates in PEM ({error.reason or error})"
        ) from None
    if certificate:
        _load(context, certificate, key)
    _contexts[ca, certificate, key] = changed, context
    return context


def _changed_at(name: str, file: str) -> int:
    try:
        with Path(file).open("rb"):
            return Path(file).stat().st_mtime_ns
    except OSError as error:
        raise ConfigurationError(
            f"{name}: {file} can't be read ({error.strerror}); correct the path, or the file's "
            "owner and mode"
        ) from None


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        context.load_cert_chain(certificate, key, password="")  # OpenSSL would ask a terminal
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"DELIVERY_KAFKA_CERTIFICATE, DELIVERY_KAFKA_KEY: {certificate} and {key} are no "
            f"certificate and its key ({error.reason or error}); both must be PEM, and the key not "
            "encrypted"
        ) from None


def not_reached(settings: Settings, error: BaseException) -> ConfigurationError:
    """Return what to raise when no client can be started: refused for good, or away for now."""
    where = settings.kafka_bootstrap_servers
    refusals = REFUSALS.now()
    if any(one.final for one in refusals):
        return ConfigurationError(f"Kafka refuses this service: {cause_of(error)}")
    if refusals:
        return NotReachableError(f"no Kafka broker can be used at {where}: {cause_of(error)}")
    return NotReachableError(
        f"no Kafka broker answers at {where} ({error}); start it, or correct "
        "DELIVERY_KAFKA_BOOTSTRAP_SERVERS or DELIVERY_KAFKA_SECURITY_PROTOCOL "
        f"({settings.kafka_security_protocol})"
    )


def cause_of(error: BaseException) -> str:
    """Return why Kafka can't be used: what its brokers refuse, else the error.

    aiokafka's clients keep the former to themselves: they raise that there is no broker.
    """
    if isinstance(error, _NOT_ALLOWED):
        return f"this user may not: {error}; {RIGHTS}"
    said = "; ".join(one.sentence for one in REFUSALS.now())
    return said or (f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


async def _connect(host: str, port: int, **arguments: Any) -> AIOKafkaConnection:
    """Connect as aiokafka does, and keep in mind what a broker refuses."""
    address = f"{host}:{port}"
    try:
        connection = await create_conn(host, port, **arguments)
    except Exception as error:
        refusal = refusal_of(address, error, arguments)
        if refusal is None or not REFUSALS.note(refusal):
            raise
        raise RefusedError(refusal.sentence) from error
    REFUSALS.taken(address)
    return connection


aiokafka_client.create_conn = _connect
