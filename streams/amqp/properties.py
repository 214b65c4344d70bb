"""Messages whose AMQP properties can't be decoded must not take the connection down.

A timestamp in microseconds, a header that isn't UTF-8 or is nested too deep makes the AMQP library
end the connection; RabbitMQ gives the message again, and that ends the next one, for ever. So such
properties are replaced by a mark, and the message goes to its dead-letter queue.
"""

from __future__ import annotations

from aio_pika.abc import AbstractMessage
from pamqp.base import BasicProperties
from pamqp.commands import Basic

_MARK = "x-undecodable-properties"


def accept_any_properties() -> None:
    """Let messages with undecodable properties in, marked. Calling it again changes nothing."""
    original = Basic.Properties.unmarshal
    if getattr(original, "marks", False):
        return

    def unmarshal(self: BasicProperties, flags: int, data: bytes) -> None:
        try:
            original(self, flags, data)
        except Exception as error:  # noqa: BLE001 - whatever a stranger sent
            for name in Basic.Properties.__slots__:
                setattr(self, name, None)
            self.headers = {_MARK: f"{type(error).__name__}: {error}"}  # type: ignore[attr-defined]

    unmarshal.marks = True  # type: ignore[attr-defined]
    Basic.Properties.unmarshal = unmarshal  # type: ignore[method-assign]


def undecodable(message: AbstractMessage) -> str | None:
    """Return why a message's properties could not be decoded; None when they could."""
    reason = message.headers.get(_MARK)
    return None if reason is None else str(reason)
