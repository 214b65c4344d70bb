"""What brokers refuse this service for, in words: TLS, certificates, users.

aiokafka's clients only say that there is no broker, and go on trying.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from app.network.tls import TlsFiles, explain, explain_cut, is_cut, stays
from app.telemetry.logs import get_logger

log = get_logger(__name__)

_RETRY_INTERVAL = 1.0  # seconds between attempts of a client
_REFUSAL_LIFETIME = (
    60.0  # seconds that the last word of a broker is believed: it is tried again all the time
)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A broker that answers, and can't be used."""

    broker: str  # host:port
    sentence: str  # with the broker, and what to do
    stays: bool  # whether it will be so until an operator changes something
    mistake: bool = False  # whether that is a setting of this service


class BrokerRefusedError(KafkaConnectionError):  # type: ignore[misc] # aiokafka has no types
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
        if not refusal.stays and refusal.broker in self._known:
            return False
        _, before = self._by_broker.get(refusal.broker, (0.0, None))
        self._by_broker[refusal.broker] = time.monotonic(), refusal
        if before != refusal:
            log.error("kafka_refuses", broker=refusal.broker, cause=refusal.sentence)
        return True

    def pause(self, broker: str) -> float:
        """Return the seconds until it is worth asking again: clients would do so all the time."""
        at, _ = self._by_broker.get(broker, (-_RETRY_INTERVAL, None))
        return max(0.0, at + _RETRY_INTERVAL - time.monotonic())

    def taken(self, broker: str) -> None:
        """Forget what a broker refused: it has taken a connection."""
        self._known.add(broker)
        if self._by_broker.pop(broker, None) is not None:
            log.info("kafka_takes", broker=broker)

    def now(self) -> list[Refusal]:
        """Return those of late."""
        oldest = time.monotonic() - _REFUSAL_LIFETIME
        return [refusal for at, refusal in list(self._by_broker.values()) if at >= oldest]


REFUSALS = Refusals()  # of this process: clients are many, and come and go


def refusal_of(
    broker: str, error: BaseException, arguments: Mapping[str, Any], files: TlsFiles
) -> Refusal | None:
    """Return why a connection was refused; None when it was not: nothing answers, for one.

    `arguments` are those of the connection, `files` what its TLS was made with.
    """
    for cause in (error, error.__cause__):
        if isinstance(cause, SaslAuthenticationFailed | UnsupportedSaslMechanismError):
            said = _of_user(cause, arguments)
            return Refusal(broker=broker, sentence=f"{broker} {said}", stays=True, mistake=True)
    told = explain(error, files)
    if told is not None:
        return Refusal(broker=broker, sentence=f"{broker}: {told}", stays=stays(error))
    protocol = arguments["security_protocol"]
    compare = f"DELIVERY_KAFKA_SECURITY_PROTOCOL is {protocol}: compare it with the listener"
    sasl = protocol.startswith("SASL_")
    if sasl and isinstance(
        error, ValueError | AssertionError | LookupError | IllegalSaslStateError
    ):
        said = f"does not sign users in as it should ({type(error).__name__}: {error}); {compare}"
        return Refusal(broker=broker, sentence=f"{broker} {said}", stays=True)
    if isinstance(error, KafkaConnectionError) or is_cut(error):
        said = explain_cut(error, files) if protocol.endswith("SSL") else "it hangs up at once"
        return Refusal(broker=broker, sentence=f"{broker}: {said}; {compare}", stays=False)
    return None


def _of_user(error: BaseException, arguments: Mapping[str, Any]) -> str:
    user, mechanism = arguments["sasl_plain_username"], arguments["sasl_mechanism"]
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"does not sign users in by {mechanism}; correct DELIVERY_KAFKA_SASL_MECHANISM"
    return (
        f"does not sign user {user} in by {mechanism} ({error}); correct "
        "DELIVERY_KAFKA_USERNAME or DELIVERY_KAFKA_PASSWORD, or make the user there"
    )
