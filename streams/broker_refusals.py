"""What brokers refuse this service for, in words: TLS, certificates, users.

aiokafka's clients only say that there is no broker, and go on trying.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from app.logs import get_logger

log = get_logger(__name__)

_KEPT = 60.0  # seconds that the last word of a broker is believed: it is tried again all the time

# OpenSSL's numbers (X509_V_ERR_…) of what is wrong with a certificate.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = (62, 64)
# What a broker says of this service's certificate: names of TLS alerts, as OpenSSL gives them.
_OURS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE", "DECRYPT_ERROR")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A broker that answers, and can't be used."""

    broker: str  # host:port
    sentence: str  # with the broker, and what to do
    final: bool  # whether it will be so until somebody changes something


class RefusedError(KafkaConnectionError):
    """A broker refuses the connection, or is refused. Its message is the sentence."""

    def __str__(self) -> str:
        return str(self.args[0])


class Refusals:
    """The last refusal of each broker, until it takes a connection."""

    def __init__(self) -> None:
        self._by_broker: dict[str, tuple[float, Refusal]] = {}
        self._known: set[str] = set()  # have taken a connection

    def note(self, refusal: Refusal) -> bool:
        """Keep it, and log it unless it was logged; return whether it is one.

        A broker that has taken connections ends others when it is stopped: that is none.
        """
        if not refusal.final and refusal.broker in self._known:
            return False
        _, before = self._by_broker.get(refusal.broker, (0.0, None))
        self._by_broker[refusal.broker] = time.monotonic(), refusal
        if before != refusal:
            log.error("kafka_refuses", broker=refusal.broker, cause=refusal.sentence)
        return True

    def taken(self, broker: str) -> None:
        """Forget what a broker refused: it has taken a connection."""
        self._known.add(broker)
        if self._by_broker.pop(broker, None) is not None:
            log.info("kafka_takes", broker=broker)

    def now(self) -> list[Refusal]:
        """Return those of late."""
        oldest = time.monotonic() - _KEPT
        return [refusal for at, refusal in list(self._by_broker.values()) if at >= oldest]


REFUSALS = Refusals()  # of this process: clients are many, and come and go


def refusal_of(broker: str, error: BaseException, arguments: Mapping[str, Any]) -> Refusal | None:
    """Return why a connection was refused; None when it was not: nothing answers, for one.

    `arguments` are those of the connection.
    """
    for one in _chain(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            return Refusal(broker=broker, sentence=_of_certificate(broker, one), final=True)
        if isinstance(one, ssl.SSLError):
            return _of_tls(broker, one)
        if isinstance(one, SaslAuthenticationFailed | UnsupportedSaslMechanismError):
            return Refusal(broker=broker, sentence=_of_user(broker, one, arguments), final=True)
    sasl = arguments["security_protocol"].startswith("SASL_")
    if sasl and isinstance(
        error, ValueError | AssertionError | LookupError | IllegalSaslStateError
    ):
        return Refusal(
            broker=broker,
            sentence=f"{broker} does not sign users in by {arguments['sasl_mechanism']} "
            f"({type(error).__name__}: {error}); compare DELIVERY_KAFKA_SECURITY_PROTOCOL and "
            "DELIVERY_KAFKA_SASL_MECHANISM with its listener",
            final=True,
        )
    if isinstance(error, KafkaConnectionError | ConnectionResetError | EOFError):
        return Refusal(broker=broker, sentence=_of_end(broker, arguments), final=False)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__


def _of_certificate(broker: str, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == _EXPIRED:
        return f"the certificate of {broker} has expired; renew it there (or set the clock here)"
    if error.verify_code == _NOT_YET_VALID:
        return f"the certificate of {broker} is not valid yet; compare the clocks here and there"
    if error.verify_code in _OTHER_NAME:
        return (
            f"the certificate of {broker} is for other names ({error.verify_message}); have it "
            "issued for this one, or correct DELIVERY_KAFKA_BOOTSTRAP_SERVERS or the broker's "
            "advertised.listeners"
        )
    return (
        f"the certificate of {broker} is of no CA that is trusted here ({error.verify_message}); "
        "give the file of its CA in DELIVERY_KAFKA_CA"
    )


def _of_tls(broker: str, error: ssl.SSLError) -> Refusal:
    reason = error.reason or str(error)
    if "CERTIFICATE_REQUIRED" in reason:
        sentence = (
            f"{broker} asks for a certificate of this service ({reason}); give "
            "DELIVERY_KAFKA_CERTIFICATE and DELIVERY_KAFKA_KEY"
        )
    elif "ALERT" in reason and any(word in reason for word in _OURS):
        sentence = (
            f"{broker} does not take the certificate of this service ({reason}): it is missing, "
            "has expired, or is of a CA that the broker does not trust; see "
            "DELIVERY_KAFKA_CERTIFICATE and the broker's log"
        )
    else:
        sentence = (
            f"{broker} does not speak TLS, or another one ({reason}); compare "
            "DELIVERY_KAFKA_SECURITY_PROTOCOL with its listener"
        )
        return Refusal(broker=broker, sentence=sentence, final=False)
    return Refusal(broker=broker, sentence=sentence, final=True)


def _of_user(broker: str, error: BaseException, arguments: Mapping[str, Any]) -> str:
    user, mechanism = arguments.get("sasl_plain_username"), arguments.get("sasl_mechanism")
    if isinstance(error, UnsupportedSaslMechanismError):
        return (
            f"{broker} does not sign users in by {mechanism}; correct DELIVERY_KAFKA_SASL_MECHANISM"
        )
    return (
        f"{broker} does not sign user {user} in by {mechanism} ({error}); correct "
        "DELIVERY_KAFKA_USERNAME or DELIVERY_KAFKA_PASSWORD, or make the user there"
    )


def _of_end(broker: str, arguments: Mapping[str, Any]) -> str:
    protocol = arguments["security_protocol"]
    other = "wants TLS or a user" if protocol == "PLAINTEXT" else "is one of another kind"
    if protocol == "SSL":
        other = "does not take the certificate of this service, or wants a user"
    return (
        f"{broker} ends the connection at once: perhaps its listener {other} "
        f"(DELIVERY_KAFKA_SECURITY_PROTOCOL is {protocol})"
    )
