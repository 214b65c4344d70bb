"""Notices to operators as REGARDS' `NotificationEvent`: shown, and mailed, by rs-notification."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

from aio_pika import DeliveryMode, Message

from app.delivery.messages import NotificationEvent
from app.delivery.notices import Notice
from app.encoding import dumps
from streams.amqp.messages import headers_of
from streams.amqp.publisher import AmqpPublisher
from streams.channels import NOTICES

_SENDER = "rs-delivery"


def encode(notice: Notice, roles: Sequence[str]) -> Message:
    """Make the AMQP message of a notice to users with these roles."""
    event = NotificationEvent(
        message=notice.message,
        title=notice.title,
        sender=_SENDER,
        level="ERROR",
        role_recipients=list(roles),
        project_user_recipients=[],
        mime_type="text/plain",
    )
    return Message(
        dumps(event.body()),
        headers=headers_of(notice.tenant, NOTICES.exchange.type_id),
        content_type="application/json",
        content_encoding="UTF-8",
        delivery_mode=DeliveryMode.PERSISTENT,
        timestamp=datetime.now(UTC),
        priority=1,
        app_id=_SENDER,
        message_id=str(uuid4()),
    )


async def publish(notice: Notice, *, publisher: AmqpPublisher, roles: Sequence[str]) -> None:
    """Publish a notice. Raises BrokerUnavailableError."""
    await publisher.tell_operators(encode(notice, roles))
