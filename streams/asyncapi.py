"""The AsyncAPI document of all channels, and the JSON Schemas of what goes through them.

Made of the models, names and topics that the service itself works with. `delivery asyncapi` prints
it; docs/asyncapi.json is what it prints.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from app import __version__
from app.delivery import messages as wire
from streams.amqp import names
from streams.kafka import events
from streams.kafka.topics import Topics

Json = dict[str, Any]


class IncomingHeaders(BaseModel):
    """Headers of what comes in; others are ignored, and kept where a message is buried."""

    model_config = ConfigDict(extra="allow")

    tenant: str = Field(alias=names.HEADER_TENANT, description="The tenant. Required.")


class OutgoingHeaders(IncomingHeaders):
    """Headers of what goes out, as Java consumers look for them."""

    converter: str = Field(alias=names.HEADER_CONVERTER, description="Always `GSON`.")
    java_type: str = Field(alias=names.HEADER_JAVA_TYPE, description="Java class of the body.")
    type: str = Field(alias=names.HEADER_TYPE, description="The same.")


class DeadEventHeaders(BaseModel):
    """Headers of an event that no agent could handle."""

    origin_topic: str = Field(alias="origin-topic", description="Topic it was read from.")
    reason: str = Field(description="Why it is here.")


class DeadLetterHeaders(BaseModel):
    """What is added to the headers of a message that can't be answered; the rest is untouched."""

    model_config = ConfigDict(extra="allow")

    reason: str = Field(alias=names.HEADER_REASON, description="Why it is here.")
    queue: str = Field(alias=names.HEADER_ORIGIN_QUEUE, description="Queue it was in.")
    exchange: str = Field(alias=names.HEADER_ORIGIN_EXCHANGE, description="Exchange it came by.")


_HEADERS: tuple[type[BaseModel], ...] = (
    IncomingHeaders,
    OutgoingHeaders,
    DeadLetterHeaders,
    DeadEventHeaders,
)

# Channel, what it is for, exchange, body, queue that we read (or None: we publish).
_EXCHANGES: tuple[tuple[str, str, str, type[wire.Wire], str | None], ...] = (
    (
        "deliveryRequests",
        "Clients ask for products to be delivered.",
        names.DELIVERY_REQUESTS,
        wire.DeliveryRequestDtoEvent,
        names.DELIVERY_REQUEST_QUEUE,
    ),
    (
        "deliveryCancels",
        "Clients end deliveries. What has ended, or is not known (yet), stays. Not of REGARDS.",
        names.DELIVERY_CANCELS,
        wire.DeliveryCancelRequestDtoEvent,
        names.DELIVERY_CANCEL_QUEUE,
    ),
    (
        "orderResponses",
        "rs-order tells how orders go.",
        names.ORDER_RESPONSES,
        wire.OrderResponseDtoEvent,
        names.ORDER_RESPONSE_QUEUE,
    ),
    (
        "deliveryResponses",
        f"Clients hear how their deliveries go. `{names.MISSPELT_DELIVERY_RESPONSES}` is bound.",
        names.DELIVERY_RESPONSES,
        wire.DeliveryResponseDtoEvent,
        None,
    ),
    (
        "orderRequests",
        "rs-order is asked for products. Mandatory: stays owed until a queue is bound.",
        names.ORDER_REQUESTS,
        wire.OrderRequestDtoEvent,
        None,
    ),
    (
        "orderCancels",
        "rs-order is told to drop an order whose delivery ended in ERROR. Mandatory, too.",
        names.ORDER_CANCELS,
        wire.OrderCancelRequestDtoEvent,
        None,
    ),
)

_TOPICS = Topics()
_EVENTS: tuple[tuple[str, str, str, type[BaseModel]], ...] = (
    ("requests", _TOPICS.requests, "Requests as they arrived.", events.RequestReceived),
    ("orderEvents", _TOPICS.order_events, "What rs-order said.", events.OrderProgressed),
    ("cancels", _TOPICS.cancels, "What is to be cancelled.", events.CancelRequested),
    ("ordersReady", _TOPICS.orders_ready, "Listings can be read.", events.WorkDue),
    ("transfers", _TOPICS.transfers, "Transfers can be claimed.", events.WorkDue),
    ("progress", _TOPICS.progress, "How far transfers are; compacted.", events.TransferProgressed),
)

_BODIES: tuple[type[BaseModel], ...] = tuple(
    dict.fromkeys([*(row[3] for row in _EXCHANGES), *(row[3] for row in _EVENTS)])
)


def schemas() -> dict[str, Json]:
    """Return the JSON Schema of each body, by its name."""
    return {model.__name__: _schema(model) for model in _BODIES}


def _schema(model: type[BaseModel]) -> Json:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **model.model_json_schema(by_alias=True),
    }


def document() -> Json:
    """Return the AsyncAPI 3.0 document."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in _BODIES + _HEADERS],
        by_alias=True,
        ref_template="#/components/schemas/{model}",
    )
    channels: Json = {}
    operations: Json = {}
    messages: Json = {}
    for channel, text, exchange, body, queue in _EXCHANGES:
        name = body.__name__
        headers = OutgoingHeaders if queue is None else IncomingHeaders
        messages[name] = _message(body, headers=headers, content_type="application/json")
        channels[channel] = _channel(exchange, text, name, server="rabbitmq") | {
            "bindings": {"amqp": _exchange_binding(exchange)}
        }
        action = "send" if queue is None else "receive"
        operations[f"{action}{channel[0].upper()}{channel[1:]}"] = _operation(
            action, channel, name, text if queue is None else f"{text} Read from `{queue}`."
        )
        if queue is not None:
            dead = names.dead_letters_of(queue)
            channels[f"{channel}DeadLetters"] = {
                "address": dead,
                "description": f"Messages of `{queue}` that can't be answered, untouched but for "
                "the headers that say why; `delivery dlq` puts them back.",
                "servers": [{"$ref": "#/servers/rabbitmq"}],
                "messages": {"deadLetter": {"$ref": "#/components/messages/deadLetter"}},
                "bindings": {"amqp": _queue_binding(dead)},
            }
    messages["deadLetter"] = {
        "name": "deadLetter",
        "headers": {"$ref": "#/components/schemas/DeadLetterHeaders"},
        "payload": {},
        "summary": "Anything that came in.",
    }
    for channel, topic, text, event in _EVENTS:
        name = event.__name__
        messages[name] = _message(event, headers=None, content_type="application/json")
        channels[channel] = _channel(topic, text, name, server="kafka") | {
            "bindings": {"kafka": _topic_binding(topic)}
        }
        operations[f"send{channel[0].upper()}{channel[1:]}"] = _operation(
            "send", channel, name, text
        )
    channels["deadEvents"] = _channel(
        _TOPICS.dead_letters, "Events that no agent could handle.", "deadEvent", server="kafka"
    ) | {"bindings": {"kafka": _topic_binding(_TOPICS.dead_letters)}}
    messages["deadEvent"] = {
        "name": "deadEvent",
        "headers": {"$ref": "#/components/schemas/DeadEventHeaders"},
        "payload": {},
        "summary": "An event of another topic, as it was.",
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "rs-delivery",
            "version": __version__,
            "description": "Delivery of ordered products as one verified ZIP on S3. Over AMQP, "
            "what clients and rs-order see; over Kafka, the events that move deliveries on, keyed "
            "`tenant/correlationId` (a deployment may put a prefix before the topics).",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "rabbitmq": {
                "host": "localhost:5672",
                "protocol": "amqp",
                "description": "RabbitMQ, virtual host `regards.multitenant.manager`.",
            },
            "kafka": {"host": "localhost:9092", "protocol": "kafka"},
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": definitions["$defs"]},
    }


def _message(model: type[BaseModel], *, headers: type[BaseModel] | None, content_type: str) -> Json:
    name = model.__name__
    found: Json = {
        "name": name,
        "summary": (model.__doc__ or "").split("\n")[0],
        "contentType": content_type,
        "correlationId": {"location": "$message.payload#/correlationId"},
        "payload": {"$ref": f"#/components/schemas/{name}"},
    }
    if headers is not None:
        found["headers"] = {"$ref": f"#/components/schemas/{headers.__name__}"}
    return found


def _channel(address: str, text: str, message: str, *, server: str) -> Json:
    return {
        "address": address,
        "description": text,
        "servers": [{"$ref": f"#/servers/{server}"}],
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
    }


def _operation(action: str, channel: str, message: str, text: str) -> Json:
    return {
        "action": action,
        "summary": text,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }


def _exchange_binding(exchange: str) -> Json:
    return {
        "is": "routingKey",
        "exchange": {"name": exchange, "type": "fanout", "durable": True, "autoDelete": False},
        "bindingVersion": "0.3.0",
    }


def _queue_binding(queue: str) -> Json:
    return {
        "is": "queue",
        "queue": {"name": queue, "durable": True, "exclusive": False, "autoDelete": False},
        "bindingVersion": "0.3.0",
    }


def _topic_binding(topic: str) -> Json:
    policy = ["compact"] if topic == _TOPICS.progress else ["delete"]
    return {
        "topic": topic,
        "topicConfiguration": {"cleanup.policy": policy},
        "bindingVersion": "0.5.0",
    }
