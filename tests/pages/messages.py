"""Messages on AMQP and events on Kafka, as the AsyncAPI document describes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from streams.operators.asyncapi import document
from tests.pages.markdown import sentence
from tests.pages.schemas import fields

_SERVERS = {"rabbitmq": "RabbitMQ", "kafka": "Kafka"}
_ACTIONS = {"receive": "read by the service", "send": "sent by the service"}


def messages() -> str:
    """Return a section for each broker, of its channels, and one of what messages hold."""
    described: Any = document()
    schemas: Mapping[str, Any] = described["components"]["schemas"]
    anchors = {name: name.lower() for name in schemas}
    parts = [
        f"## On {title}\n\n" + "\n".join(_channels(described, server))
        for server, title in _SERVERS.items()
    ]
    held = [
        f"### {name}\n\n{_said(schema)}{fields(schema, anchors)}"
        for name, schema in schemas.items()
    ]
    return "\n".join([*parts, "## What they hold\n\n" + "\n".join(held)])


def _said(schema: Mapping[str, Any]) -> str:
    text = sentence(schema.get("description", ""))
    return f"{text}\n\n" if text else ""


def _channels(described: Any, server: str) -> Iterator[str]:
    actions: dict[str, str] = {
        operation["channel"]["$ref"].rsplit("/", 1)[-1]: _ACTIONS[operation["action"]]
        for operation in described["operations"].values()
    }
    for name, channel in described["channels"].items():
        if channel["servers"][0]["$ref"].rsplit("/", 1)[-1] != server:
            continue
        yield (
            f"### {_title(name)}\n\n`{channel['address']}`\n\n"
            f"{sentence(channel['description'])}\n\n"
            + "".join(f"- {line}\n" for line in _facts(described, name, channel, actions))
        )


def _title(name: str) -> str:
    """Return the name of a channel in words."""
    return re.sub(r"(?<=[a-z])([A-Z])", lambda big: f" {big[1].lower()}", name).capitalize()


def _facts(
    described: Any, name: str, channel: Mapping[str, Any], actions: Mapping[str, str]
) -> Iterator[str]:
    [binding] = channel["bindings"].values()
    if "exchange" in binding:
        durable = "durable" if binding["exchange"]["durable"] else "not durable"
        yield f"exchange, {binding['exchange']['type']}, {durable}"
    elif "queue" in binding:
        yield "queue"
    else:
        yield f"topic, cleanup: {', '.join(binding['topicConfiguration']['cleanup.policy'])}"
    if name in actions:
        yield actions[name]
    for message in channel["messages"]:
        known = described["components"]["messages"][message]
        yield f"{_message(message, known)}: {sentence(known['summary'])}"


def _message(name: str, known: Mapping[str, Any]) -> str:
    schema = known.get("payload", {}).get("$ref", "").rsplit("/", 1)[-1]
    return f"[{name}](#{schema.lower()})" if schema else name
