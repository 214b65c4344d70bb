"""How brokers are reached: what every client of Kafka is made with, Faust's too."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import client as aiokafka_client
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)

from app.errors import ConfigurationError, NotReachableError
from app.network.tls import TlsFiles, context_of
from app.settings import Settings
from app.telemetry.logs import get_logger
from streams.kafka.refusals import REFUSALS, BrokerRefusedError, refusal_of

log = get_logger(__name__)

RIGHTS = 'docs/configuration.md, "A secured Kafka cluster", has the rights that are needed'
_NOT_ALLOWED = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
)

# By their files. One for all clients: those that live long, too, go on with files that changed.
_contexts: dict[TlsFiles, tuple[list[int], ssl.SSLContext]] = {}


def tls_files(settings: Settings) -> TlsFiles:
    """Return the files that connections are made with."""
    return TlsFiles(
        setting="DELIVERY_KAFKA",
        ca=settings.kafka_ca,
        certificate=settings.kafka_certificate,
        key=settings.kafka_key,
    )


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


@contextlib.asynccontextmanager
async def open_consumer(settings: Settings, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer of no topic yet; it is closed also where it does not start."""
    consumer = AIOKafkaConsumer(**options, **client_arguments(settings))
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


def _context(settings: Settings) -> ssl.SSLContext:
    """Return the context for TLS. Files that have changed are read again, for new connections."""
    files = tls_files(settings)
    changed = [_changed_at(file) for file in (files.ca, files.certificate, files.key) if file]
    before, context = _contexts.get(files, ([], None))
    if context is not None and before == changed:
        return context
    try:
        fresh = context_of(files)
    except ConfigurationError as error:
        if context is None:
            raise
        # They are being replaced: what they held goes on, until they are whole.
        log.warning("kafka_files_not_read", cause=str(error))
        return context
    if context is None:
        context = fresh
    else:
        if files.ca:
            context.load_verify_locations(files.ca)
        if files.certificate:
            context.load_cert_chain(files.certificate, files.key, password="")
    _contexts[files] = changed, context
    return context


def _files_of(context: ssl.SSLContext | None) -> TlsFiles:
    known = (files for files, (_, made) in _contexts.items() if made is context)
    return next(known, TlsFiles(setting="DELIVERY_KAFKA"))


def _changed_at(file: str) -> int:
    try:
        return Path(file).stat().st_mtime_ns
    except (OSError, ValueError):
        return 0  # who reads it says what is wrong


def not_reached(settings: Settings, error: BaseException) -> ConfigurationError:
    """Return what to raise when no client can be started: by mistake here, or Kafka is away."""
    where = settings.kafka_bootstrap_servers
    refusals = REFUSALS.now()
    if any(refusal.mistake for refusal in refusals):
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
    said = "; ".join(refusal.sentence for refusal in REFUSALS.now())
    return said or (f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


async def _connect(host: str, port: int, **arguments: Any) -> AIOKafkaConnection:
    """Connect as aiokafka does, and keep in mind what a broker refuses."""
    address = f"{host}:{port}"
    await asyncio.sleep(REFUSALS.pause(address))
    try:
        connection = await create_conn(host, port, **arguments)
    except Exception as error:
        refusal = refusal_of(address, error, arguments, _files_of(arguments.get("ssl_context")))
        if refusal is None or not REFUSALS.note(refusal):
            raise
        raise BrokerRefusedError(refusal.sentence) from error
    REFUSALS.taken(address)
    return connection


aiokafka_client.create_conn = _connect
