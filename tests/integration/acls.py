"""Kafka's access control lists, from the commands that docs/configuration.md tells operators."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

# Numbers of Kafka's protocol.
_RESOURCES = {"topic": 2, "group": 3}
_PATTERNS = {"literal": 3, "prefixed": 4}
_OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Alter": 7, "Describe": 8}
_OPERATIONS |= {"DescribeConfigs": 10, "AlterConfigs": 11}
_ALLOW = 3


@dataclass(frozen=True, kw_only=True)
class Right:
    """One operation on what has this name, or begins with it."""

    principal: str
    resource: str
    name: str
    pattern: str
    operation: str


def documented(principal: str) -> list[Right]:
    """Return the rights that the documentation has `kafka-acls.sh` give to a user."""
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    commands = re.findall(r"^kafka-acls\.sh ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    rights = [right for command in commands for right in _rights(command.replace("\\\n", " "))]
    return [right for right in rights if right.principal == principal]


def _rights(command: str) -> Iterator[Right]:
    words = shlex.split(command, comments=True)
    given: dict[str, list[str]] = {}
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            given.setdefault(word.removeprefix("--"), []).append(value)
    (principal,) = given["allow-principal"]
    (pattern,) = given.get("resource-pattern-type", ["literal"])
    for resource in _RESOURCES.keys() & given.keys():
        for name in given[resource]:
            for operation in given["operation"]:
                yield Right(
                    principal=principal,
                    resource=resource,
                    name=name,
                    pattern=pattern,
                    operation=operation,
                )


async def allow(broker: str, rights: list[Right], *, to: str) -> None:
    """Give rights to a principal, at a listener where that may be done."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        for right in rights:
            # aiokafka has the request, and no method for it.
            answer = await admin._send_to_controller(  # noqa: SLF001
                CreateAclsRequest(
                    _RESOURCES[right.resource],
                    right.name,
                    _PATTERNS[right.pattern],
                    to,
                    "*",
                    _OPERATIONS[right.operation],
                    _ALLOW,
                )
            )
            assert answer.creation_responses[0][0] == 0, answer
    finally:
        await admin.close()
