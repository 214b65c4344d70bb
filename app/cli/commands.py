"""All commands: where each is, and what it does in a sentence, so that help imports none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import takewhile

import click

from rs_delivery_client.cli import commands as client
from rs_delivery_client.cli.commands import Entry

# Those that are the client's alone: they ask the HTTP API.
_CLIENT = (
    *("completion", "download", "files", "letter", "login", "logout", "profiles", "setting"),
    *("status", "target", "verify", "wait", "whoami"),
)
_HTTP = ("--url", "--profile")  # name a service
# Of groups that both have, the commands that the service does on its database.
_ON_DATABASE = {
    "maintenance": frozenset({"on", "off", "show"}),
    "worker": frozenset({"drain"}),
}

COMMANDS: Mapping[str, Entry] = {
    "asyncapi": Entry(
        "app.cli.asyncapi:asyncapi", "Print the AsyncAPI document of the AMQP and Kafka channels."
    ),
    "attention": Entry(
        "app.cli.attention:attention",
        "Tell what needs an operator now, since when, and what to do.",
    ),
    "audit": Entry("app.cli.audit:audit", "Tell who changed what, the newest first."),
    "cancel": Entry(
        "app.cli.interventions:cancel", "End deliveries now; their clients are told ERROR."
    ),
    "dead-letters": Entry(
        "app.cli.dead_letters:dead_letters",
        "Messages and events that could not be handled: look, mend, put back, remove.",
    ),
    "dlq": Entry(
        "app.cli.dead_letter_queues:dead_letter_queues",
        "Dead letters: messages that no client could be answered for.",
    ),
    "dlt": Entry(
        "app.cli.dead_letter_topic:dead_letter_topic",
        "Dead-letter topic: events that failed again and again, each with the reason.",
    ),
    "doctor": Entry("app.cli.doctor:doctor", "Check every dependency; leave nothing changed."),
    "explain": Entry(
        "app.cli.explain:explain",
        "Tell what the CODE of an error means, or why a delivery (ID) failed or waits; what to do.",
    ),
    "health": Entry(
        "app.cli.health:health",
        "Tell whether the service in this container lives; exit code 1 if it does not.",
    ),
    "link": Entry(
        "app.cli.link:link",
        "Print a link by which any client that has it has what was delivered.",
    ),
    "list": Entry("app.cli.deliveries:list_", "List deliveries, the newest first."),
    "maintenance": Entry(
        "app.cli.maintenance:maintenance",
        "Have a tenant's new requests wait, and say why; see whether they do, and end it.",
    ),
    "make-key": Entry("app.cli.keys:make_key", "Print a new key for DELIVERY_SECRET_KEYS."),
    "migrate": Entry("app.cli.migrate:migrate", "Bring the database schema up to date."),
    "pause": Entry(
        "app.cli.pauses:pause",
        "Let no transfer of a tenant, to a target or of all tenants begin; or drain a worker.",
    ),
    "pauses": Entry(
        "app.cli.pauses:pauses",
        "List what is paused: by whom, since when, until when, and why.",
    ),
    "purge": Entry(
        "app.cli.interventions:purge",
        "Remove from the targets what was delivered long ago; deliveries stay known.",
    ),
    "quota": Entry(
        "app.cli.quota:quota", "Tell what is left of a tenant's quotas, and of a user's."
    ),
    "remove": Entry(
        "app.cli.interventions:remove", "Remove from its target what a delivery has put there."
    ),
    "resume": Entry(
        "app.cli.pauses:resume", "End a pause: what waited begins, and what stopped goes on."
    ),
    "retry": Entry(
        "app.cli.interventions:retry",
        "Try again: at once what waits for a later attempt, from the start what ended in ERROR.",
    ),
    "rotate-keys": Entry(
        "app.cli.keys:rotate_keys",
        "Seal every stored secret again with the first of DELIVERY_SECRET_KEYS.",
    ),
    "serve": Entry("app.cli.worker:serve", "Work and answer HTTP in one process."),
    "settings": Entry(
        "app.cli.settings:settings",
        "Show and change the settings of a tenant; workers take them up at once.",
    ),
    "show": Entry(
        "app.cli.deliveries:show",
        "Show all that is known of a delivery: states, attempts, cause, result, what is missing.",
    ),
    "stats": Entry(
        "app.cli.deliveries:stats",
        "Tell what waits, who works, what is owed, and what became of what ended lately.",
    ),
    "submit": Entry(
        "app.cli.submit:submit",
        "Send the delivery request in FILE (JSON; - for standard input).",
    ),
    "targets": Entry(
        "app.cli.targets:targets",
        "Tell how it goes with each target: whether it works, fails or is paused, and since when.",
    ),
    "token": Entry(
        "app.cli.keys:token", "Print a token for the HTTP API, signed with DELIVERY_JWT_SECRET."
    ),
    "topics": Entry(
        "app.cli.topics:topics", "Kafka topics: partitions, replicas, retention, compaction."
    ),
    "topology": Entry(
        "app.cli.topology:topology",
        "RabbitMQ: exchanges, queues, bindings, and the rights that the service needs there.",
    ),
    "watch": Entry("app.cli.watch:watch", "Show all running transfers, live; Ctrl-C ends it."),
    "web": Entry("app.cli.web:web", "Answer HTTP; without work."),
    "worker": Entry("app.cli.worker:worker", "Take in requests and transfer; without HTTP."),
    **{name: client.COMMANDS[name]._replace(section="Over HTTP alone") for name in _CLIENT},
}


STAY = (["serve"], ["web"], ["worker"])  # until they are asked to stop


class Commands(client.Commands):
    """The commands of the table, each imported when it is called.

    What the client can do, too, is asked over HTTP where the call names a service (`--url`,
    `--profile`) or `DELIVERY_PROFILE` does. A profile that is kept, or `DELIVERY_URL`, changes
    nothing: calls that work on the database go on doing so.
    """

    table = COMMANDS

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant."""
        if args and args[0] in COMMANDS and _is_of_client(args[0], args[1:]):
            return args[0], client.imported(client.COMMANDS[args[0]]), args[1:]
        return super().resolve_command(ctx, args)


def _is_of_client(name: str, arguments: Sequence[str]) -> bool:
    """Whether a command of this name is done by the client in this call."""
    if name not in client.GROUPS:
        return name in client.COMMANDS and _over_http(arguments)
    # A group without a command of the client is the service's: `delivery worker` is a process.
    command = arguments[0] if arguments else None
    if command not in client.GROUPS[name]:
        return False
    return command not in _ON_DATABASE.get(name, ()) or _over_http(arguments)


def _over_http(arguments: Sequence[str]) -> bool:
    if os.environ.get("DELIVERY_PROFILE"):
        return True
    before = takewhile(lambda argument: argument != "--", arguments)
    return any(argument.partition("=")[0] in _HTTP for argument in before)
