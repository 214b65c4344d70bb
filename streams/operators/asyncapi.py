"""The AsyncAPI document of all channels, and the JSON Schemas of what goes through them.

Made of the channels that the service itself works with. `delivery asyncapi` prints
it; docs/asyncapi.json is what it prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from app import __version__
from streams.amqp import names
from streams.channels import (
    INCOMING,
    KAFKA,
    NOTICES,
    OUTGOING,
    IncomingChannel,
    InternalChannel,
    NoticeChannel,
    OutgoingChannel,
    Topic,
)

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

# Those that are received first.
_OVER_AMQP: tuple[IncomingChannel | OutgoingChannel | NoticeChannel, ...] = (
    *INCOMING,
    *OUTGOING,
    NOTICES,
)
_BODIES: tuple[type[BaseModel], ...] = tuple(
    dict.fromkeys(
        [
            *(channel.exchange.body for channel in _OVER_AMQP),
            *(channel.event for channel in KAFKA if channel.event is not None),
        ]
    )
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
    ways = _Ways()
    for channel in _OVER_AMQP:
        ways.add_amqp(channel)
    ways.messages["deadLetter"] = {
        "name": "deadLetter",
        "headers": {"$ref": "#/components/schemas/DeadLetterHeaders"},
        "payload": {},
        "summary": "Anything that came in.",
    }
    for through in KAFKA:
        ways.add_kafka(through)
    ways.messages["deadEvent"] = {
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
        "channels": ways.channels,
        "operations": ways.operations,
        "components": {"messages": ways.messages, "schemas": definitions["$defs"]},
    }


@dataclass
class _Ways:
    """What the document says of channels, by names."""

    channels: Json = field(default_factory=dict)
    operations: Json = field(default_factory=dict)
    messages: Json = field(default_factory=dict)

    def add_amqp(self, channel: IncomingChannel | OutgoingChannel | NoticeChannel) -> None:
        """Describe an exchange, and the dead letters of what is read."""
        exchange, title = channel.exchange, channel.exchange.title
        name, text = exchange.body.__name__, exchange.text
        self.channels[title] = _channel(exchange.name, text, name, server="rabbitmq") | {
            "bindings": {"amqp": _exchange_binding(exchange.name)}
        }
        if isinstance(channel, IncomingChannel):
            self.messages[name] = _message(exchange.body, headers=IncomingHeaders)
            self.channels[f"{title}DeadLetters"] = _dead_letters(channel.queue.name)
            self._operate("receive", title, name, f"{text} Read from `{channel.queue.name}`.")
        else:
            self.messages[name] = _message(exchange.body, headers=OutgoingHeaders)
            self._operate("send", title, name, text)

    def add_kafka(self, channel: IncomingChannel | InternalChannel) -> None:
        """Describe a topic."""
        topic, event = channel.topic, channel.event
        name = "deadEvent" if event is None else event.__name__
        self.channels[topic.title] = _channel(topic.name, topic.text, name, server="kafka") | {
            "bindings": {"kafka": _topic_binding(topic)}
        }
        if event is not None:
            self.messages[name] = _message(event, headers=None)
            self._operate("send", topic.title, name, topic.text)

    def _operate(self, action: str, title: str, message: str, text: str) -> None:
        self.operations[f"{action}{title[0].upper()}{title[1:]}"] = {
            "action": action,
            "summary": text,
            "channel": {"$ref": f"#/channels/{title}"},
            "messages": [{"$ref": f"#/channels/{title}/messages/{message}"}],
        }


def _message(model: type[BaseModel], *, headers: type[BaseModel] | None) -> Json:
    name = model.__name__
    found: Json = {
        "name": name,
        "summary": (model.__doc__ or "").split("\n")[0],
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{name}"},
    }
    if "correlation_id" in model.model_fields:
        found["correlationId"] = {"location": "$message.payload#/correlationId"}
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


def _dead_letters(queue: str) -> Json:
    dead = names.dead_letters_of(queue)
    return {
        "address": dead,
        "description": f"Messages of `{queue}` that can't be answered, untouched but for "
        "the headers that say why; `delivery dlq` puts them back.",
        "servers": [{"$ref": "#/servers/rabbitmq"}],
        "messages": {"deadLetter": {"$ref": "#/components/messages/deadLetter"}},
        "bindings": {"amqp": _queue_binding(dead)},
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


def _topic_binding(topic: Topic) -> Json:
    return {
        "topic": topic.name,
        "topicConfiguration": {"cleanup.policy": ["compact" if topic.compacted else "delete"]},
        "bindingVersion": "0.5.0",
    }
