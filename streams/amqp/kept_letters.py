"""Dead messages, as they are kept beside their queue, and made again of what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from aio_pika import IncomingMessage, Message
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from app.encoding import is_crowded
from app.errors import as_cause
from app.views.dead_letters import (
    MAX_KEPT_BODY,
    BuriedLetter,
    KeptLetter,
    LetterKind,
    name_kept,
)
from streams.amqp import names
from streams.amqp.dead_letters import QUEUES, DeadMessage, copy, digest_of, encodable

PREFIX = "amqp:"  # of the ids of messages, among those of all letters
_OURS = {queue.removesuffix(names.DEAD_LETTER_SUFFIX) for queue in QUEUES.values()}
_NAMES = {queue: name for name, queue in QUEUES.items()}
_FLAGS = 2  # bytes before the properties: which there are


def name_of(queue: str) -> str:
    """Return what operators call the dead letters of a queue that is read."""
    return _NAMES[names.dead_letters_of(queue)]


def letter_id_of(dead: DeadMessage) -> str:
    """Return the id of a message as a letter, which its copies share."""
    return f"{PREFIX}{dead.queue}:{dead.digest}"


def kept_of(dead: DeadMessage) -> BuriedLetter:
    """Return what is kept of a message in a dead-letter queue, or about to be there."""
    message, tenant, correlation_id = dead.message, dead.tenant, dead.correlation_id
    plain = copy(message, headers=message.headers)
    # What other services could not handle is in the queue that all of them share. A name that
    # can't be kept as it is, is no tenant's.
    ours = (dead.queue != "global" or dead.origin in _OURS) and tenant == name_kept(tenant)
    return BuriedLetter(
        id=letter_id_of(dead),
        kind=LetterKind.AMQP,
        place=QUEUES[dead.queue],
        origin=name_kept(dead.origin),
        tenant=name_kept(tenant),
        ours=ours,
        correlation_id=name_kept(correlation_id),
        reason=as_cause(dead.reason),
        at=message.timestamp,
        size=len(message.body),
        body=message.body[:MAX_KEPT_BODY],
        properties=plain.properties.marshal() if encodable(plain) else None,
    )


async def read_kept(dead: DeadMessage) -> BuriedLetter:
    """Return what `kept_of` does; a body of very many values is read beside the event loop."""
    if is_crowded(dead.message.body):
        return await asyncio.to_thread(kept_of, dead)
    return kept_of(dead)


def buried_copy(queue: str, dead_letter: Message) -> DeadMessage:
    """Return the copy of a message that goes to the dead letters of its queue, as it is there."""
    name = name_of(queue)
    made = as_it_comes(dead_letter.body, dead_letter.properties.marshal())
    digest = digest_of(made)
    return DeadMessage(id=f"{name}:{digest}", queue=name, message=made, digest=digest)


def dead_message_of(kept: KeptLetter) -> DeadMessage:
    """Return a message as it is in its dead-letter queue, made of what is kept of it."""
    letter = kept.letter
    queue, _, digest = letter.id.removeprefix(PREFIX).partition(":")
    return DeadMessage(
        id=letter.id,
        queue=queue,
        message=as_it_comes(letter.body, letter.properties),
        digest=digest,
        is_lacking=letter.properties is None,
    )


def queues_of(ids: Collection[str]) -> list[str]:
    """Return the keys of `QUEUES` that the ids of letters name."""
    named = {letter_id.removeprefix(PREFIX).partition(":")[0] for letter_id in ids}
    return [name for name in QUEUES if name in named]


def as_it_comes(body: bytes, written: bytes | None) -> IncomingMessage:
    """Make a message as it would come, but that it can't be acknowledged."""
    properties = Basic.Properties()
    if written is not None:
        properties.unmarshal(int.from_bytes(written[:_FLAGS], "big"), written[_FLAGS:])
    return IncomingMessage(
        DeliveredMessage(
            delivery=Basic.Deliver(),
            header=ContentHeader(body_size=len(body), properties=properties),
            body=body,
            channel=None,  # type: ignore[arg-type]  # for acknowledgements alone
        ),
        no_ack=True,
    )
