"""What an operator puts in the place of a dead letter's body is held to its kind's rules.

So that it is not buried again, nor denied; and no tenant's administrator makes it another tenant's.
"""

from __future__ import annotations

from app.delivery.requests import parse_request
from app.errors import InvalidRequestError, UnreadableMessageError
from app.tenants.registry import ConfiguredTenants
from app.views.dead_letters import KeptLetter, LetterKind
from streams.amqp.dead_letters import going_back
from streams.amqp.kept_letters import as_it_comes, dead_message_of
from streams.amqp.messages import read
from streams.channels import INCOMING, KAFKA
from streams.events import Event, RequestReceived, check_tenant
from streams.kafka.topics import Topics


def check_mend(
    kept: KeptLetter,
    *,
    body: bytes,
    tenant: str | None,
    whose: str | None,
    tenants: ConfiguredTenants,
    topics: Topics,
    max_bytes: int,
    forced: bool,
) -> None:
    """Raise InvalidRequestError where a letter would be refused with this body, in words.

    `tenant` takes the place of a message's own; `whose` is the tenant that it must be of, None for
    any. What would be refused is taken if it is `forced`: but never what is another tenant's.
    """
    # First: it holds, too, for a body that can't be read.
    if whose is not None and (tenant or kept.letter.tenant) != whose:
        raise InvalidRequestError([f"tenant: it is of another tenant than {whose}"])
    try:
        event = _read(kept, body=body, tenant=tenant, topics=topics, max_bytes=max_bytes)
    except UnreadableMessageError as error:
        if forced:
            return
        raise _refused(str(error)) from None
    if event is None:  # another service's: its rules are not known here
        return
    if whose is not None and event.tenant != whose:
        raise InvalidRequestError([f"body: it is of another tenant than {whose}"])
    if forced:
        return
    try:
        check_tenant(event, tenants, requeue="put the letter back")
    except UnreadableMessageError as error:
        raise _refused(str(error)) from None
    if isinstance(event, RequestReceived):
        message = event.message
        try:
            parse_request(
                message.body,
                delivery_id=message.ingress.id,
                tenant=message.tenant,
                origin_app=message.origin_app,
                priority=message.priority,
                trace=None,
            )
        except InvalidRequestError as error:
            raise _refused(str(error)) from None


def _refused(why: str) -> InvalidRequestError:
    return InvalidRequestError(
        [f"body: put back like this it would be refused again: {why} (`force` takes it anyway)"]
    )


def _read(
    kept: KeptLetter, *, body: bytes, tenant: str | None, topics: Topics, max_bytes: int
) -> Event | None:
    """Read a body as who it goes to does. Raises UnreadableMessageError."""
    letter = kept.letter
    if letter.kind is LetterKind.EVENT:
        channel = next((each for each in KAFKA if topics.of(each) == letter.origin), None)
        event = getattr(channel, "event", None)
        if event is None or not issubclass(event, Event):
            return None
        read_event: Event = event.decode(body)
        return read_event
    way = next((each for each in INCOMING if each.queue.name == letter.origin), None)
    if way is None:
        return None
    if len(body) > max_bytes:
        raise UnreadableMessageError(
            f"the body has {len(body)} bytes, more than DELIVERY_MAX_MESSAGE_BYTES "
            f"({max_bytes}) allows"
        )
    dead = dead_message_of(kept)
    if dead.is_lacking and tenant is None:
        raise UnreadableMessageError("its properties are not known: give a tenant, too")
    _, back = going_back(dead, body=body, tenant=tenant)
    came = as_it_comes(back.body, back.properties.marshal())
    return way.event.read(read(came, way.kind))


def key_of(kept: KeptLetter, body: bytes, topics: Topics) -> bytes:
    """Return the key that an event has with this body."""
    try:
        event = _read(kept, body=body, tenant=None, topics=topics, max_bytes=len(body))
    except UnreadableMessageError:
        event = None
    return event.key if event is not None else kept.letter.key or b""
