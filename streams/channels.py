"""What goes through RabbitMQ and Kafka: a row a kind of message.

Exchanges, queues and their dead letters, topics, what the bridge reads, where messages go out, the
agents and the AsyncAPI document are made of these rows. What a message means is none of their
business: that is in `app/delivery`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from app.delivery import messages as bodies
from app.delivery.ingress import ArrivalKind
from app.delivery.outgoing import Kind
from streams import events

_JAVA = "fr.cnes.regards"
_MODULES = f"{_JAVA}.modules"
_BROADCAST = "regards.broadcast"
_QUEUE = f"{_BROADCAST}.rs-delivery.{_MODULES}"

# The public page about responses says `ltamanager` for `delivery`; who followed it listens here.
MISSPELT_RESPONSES = f"{_BROADCAST}.{_MODULES}.ltamanager.amqp.output.DeliveryResponseDtoEvent"


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A fanout exchange, and what goes through it. Names are REGARDS' (contract, section 1)."""

    package: str  # of the Java class
    namespace: str = _MODULES  # that it is in
    body: type[bodies.Wire]  # called like the Java class
    title: str  # its channel in the AsyncAPI document
    text: str

    @property
    def type_id(self) -> str:
        """Java class of the body, as consumers in Java look for it in the headers."""
        return f"{self.namespace}.{self.package}.{self.body.__name__}"

    @property
    def name(self) -> str:
        """Name of the exchange."""
        return f"{_BROADCAST}.{self.type_id}"


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A queue that this service reads."""

    name: str
    dead_letters: str  # what operators call its dead letters


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A Kafka topic of ours. Every event's key is `tenant/correlationId`."""

    name: str  # a deployment may put a prefix before it
    title: str  # its channel in the AsyncAPI document
    text: str
    compacted: bool = False  # to the last event of each key
    for_ever: bool = False  # kept until an operator has looked


@dataclass(frozen=True, kw_only=True)
class Agent:
    """What reads a topic, and how much of it at once."""

    name: str
    concurrency: int  # batches that are handled side by side
    batch: int  # events, each of another key


@dataclass(frozen=True, kw_only=True)
class IncomingChannel:
    """From a peer: exchange, queue, bridge, topic, agent."""

    exchange: Exchange
    queue: Queue
    event: type[events.Arrived]  # what the bridge makes of it
    topic: Topic
    agent: Agent

    @property
    def kind(self) -> ArrivalKind:
        """What arrives."""
        return self.event.kind


@dataclass(frozen=True, kw_only=True)
class OutgoingChannel:
    """To a peer: outbox, exchange."""

    kind: Kind | None  # None: not of the outbox, and never owed
    exchange: Exchange
    mandatory: bool  # stays owed until a queue is bound: RabbitMQ would confirm it nevertheless
    # Declared when something is sent, and by `delivery topology apply`: a broker on which the
    # service has no right to it serves all that does without.
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class InternalChannel:
    """Among workers: topic, and the agent that reads it, if one does."""

    topic: Topic
    event: type[events.Event] | None  # None: events of other topics, as they were
    kind: Kind | None = None  # None: not of the outbox
    agent: Agent | None = None


@dataclass(frozen=True, kw_only=True)
class NoticeChannel:
    """To operators, where they want it: an exchange of REGARDS, and no outbox."""

    exchange: Exchange


# A kind of message, and its way.
Channel: TypeAlias = IncomingChannel | OutgoingChannel | InternalChannel

REQUESTS = IncomingChannel(
    exchange=Exchange(
        package="delivery.amqp.input",
        body=bodies.DeliveryRequestDtoEvent,
        title="deliveryRequests",
        text="Clients ask for products to be delivered.",
    ),
    queue=Queue(
        name=f"{_QUEUE}.delivery.service.submission.create.amqp.DeliveryRequestEventHandler",
        dead_letters="requests",
    ),
    event=events.RequestReceived,
    topic=Topic(name="delivery.requests", title="requests", text="Requests as they arrived."),
    agent=Agent(name="submit", concurrency=2, batch=100),
)
ORDER_RESPONSES = IncomingChannel(
    exchange=Exchange(
        package="order.amqp.output",
        body=bodies.OrderResponseDtoEvent,
        title="orderResponses",
        text="rs-order tells how orders go.",
    ),
    queue=Queue(
        name=f"{_QUEUE}.order.client.amqp.AutoOrderResponseHandler",
        dead_letters="order-responses",
    ),
    event=events.OrderProgressed,
    topic=Topic(name="delivery.order-events", title="orderEvents", text="What rs-order said."),
    agent=Agent(name="order-progress", concurrency=4, batch=1),
)
CANCELS = IncomingChannel(
    exchange=Exchange(  # Not of REGARDS: named like its neighbours.
        package="delivery.amqp.input",
        body=bodies.DeliveryCancelRequestDtoEvent,
        title="deliveryCancels",
        text="Clients end deliveries. What has ended, or is not known (yet), stays. Not of "
        "REGARDS.",
    ),
    queue=Queue(
        name=f"{_QUEUE}.delivery.service.submission.cancel.amqp.DeliveryCancelRequestEventHandler",
        dead_letters="cancels",
    ),
    event=events.CancelRequested,
    topic=Topic(name="delivery.cancels", title="cancels", text="What is to be cancelled."),
    agent=Agent(name="cancel", concurrency=1, batch=1),
)
RESPONSES = OutgoingChannel(
    kind=Kind.RESPONSE,
    exchange=Exchange(
        package="delivery.amqp.output",
        body=bodies.DeliveryResponseDtoEvent,
        title="deliveryResponses",
        text=f"Clients hear how their deliveries go. `{MISSPELT_RESPONSES}` is bound.",
    ),
    mandatory=False,
)
ORDERS = OutgoingChannel(
    kind=Kind.ORDER,
    exchange=Exchange(
        package="order.amqp.input",
        body=bodies.OrderRequestDtoEvent,
        title="orderRequests",
        text="rs-order is asked for products. Mandatory: stays owed until a queue is bound.",
    ),
    mandatory=True,
)
ORDER_CANCELS = OutgoingChannel(
    kind=Kind.CANCEL,
    exchange=Exchange(
        package="order.amqp.input",
        body=bodies.OrderCancelRequestDtoEvent,
        title="orderCancels",
        text="rs-order is told to drop an order whose delivery ended in ERROR. Mandatory, too.",
    ),
    mandatory=True,
)
PROGRESS_EVENTS = OutgoingChannel(
    kind=None,
    exchange=Exchange(  # Not of REGARDS: named like its neighbours.
        package="delivery.amqp.output",
        body=bodies.DeliveryProgressDtoEvent,
        title="deliveryProgress",
        text="Clients hear how far their deliveries are, where the tenant has `progress_events`. "
        "Best effort: some are lost, none is kept for long. Not of REGARDS.",
    ),
    mandatory=False,
    optional=True,
)
ORDERS_READY = InternalChannel(
    kind=Kind.ORDER_READY,
    topic=Topic(name="delivery.orders-ready", title="ordersReady", text="Listings can be read."),
    event=events.WorkDue,
    agent=Agent(name="wake-planners", concurrency=1, batch=100),
)
TRANSFERS = InternalChannel(
    kind=Kind.TRANSFER,
    topic=Topic(name="delivery.transfers", title="transfers", text="Transfers can be claimed."),
    event=events.WorkDue,
    agent=Agent(name="wake-transfers", concurrency=1, batch=100),
)
PROGRESS = InternalChannel(
    topic=Topic(
        name="delivery.progress",
        title="progress",
        text="How far transfers are; compacted.",
        compacted=True,
    ),
    event=events.TransferProgressed,
)
DEAD_LETTERS = InternalChannel(
    topic=Topic(
        name="delivery.dead-letters",
        title="deadEvents",
        text="Events that no agent could handle.",
        for_ever=True,
    ),
    event=None,
)

# Not among the others: it is there only where an operator has set DELIVERY_NOTICE_ROLES.
NOTICES = NoticeChannel(
    exchange=Exchange(
        namespace=f"{_JAVA}.framework",
        package="amqp.event.notification",
        body=bodies.NotificationEvent,
        title="operatorNotices",
        text="Operators of REGARDS hear what they must act on. Off by default.",
    )
)

CHANNELS: tuple[Channel, ...] = (
    REQUESTS,
    ORDER_RESPONSES,
    CANCELS,
    RESPONSES,
    ORDERS,
    ORDER_CANCELS,
    PROGRESS_EVENTS,
    ORDERS_READY,
    TRANSFERS,
    PROGRESS,
    DEAD_LETTERS,
)


def _package(channel: IncomingChannel | OutgoingChannel) -> str:
    return channel.exchange.package


# Over AMQP: in the order of REGARDS' packages, as operators are shown them.
AMQP = tuple(
    sorted(
        (channel for channel in CHANNELS if isinstance(channel, IncomingChannel | OutgoingChannel)),
        key=_package,
    )
)
INCOMING = tuple(channel for channel in AMQP if isinstance(channel, IncomingChannel))
OUTGOING = tuple(channel for channel in AMQP if isinstance(channel, OutgoingChannel))
# Over Kafka: in the order of a delivery's life.
KAFKA = tuple(
    channel for channel in CHANNELS if isinstance(channel, IncomingChannel | InternalChannel)
)


def of_arrival(kind: ArrivalKind) -> IncomingChannel:
    """Return the channel of what arrives over AMQP."""
    return _ARRIVING[kind]


def over_amqp(kind: Kind) -> OutgoingChannel:
    """Return the channel of what is owed to a peer."""
    return _OWED[kind]


def over_kafka(kind: Kind) -> InternalChannel:
    """Return the channel of what is owed to the agents."""
    return _HINTS[kind]


# Three, not one: both kinds have a "cancel".
_ARRIVING = {channel.kind: channel for channel in INCOMING}
_OWED = {channel.kind: channel for channel in OUTGOING if channel.kind is not None}
_HINTS = {
    channel.kind: channel
    for channel in KAFKA
    if isinstance(channel, InternalChannel) and channel.kind is not None
}
