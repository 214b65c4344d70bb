"""All commands: where each is, and what it does in a sentence, so that help imports none."""

from __future__ import annotations

import difflib
import gc
from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple

import click

_HERE = "rs_delivery_client.cli"


_SIGN_IN = "Sign in"
_DELIVERIES = "Deliveries"
_DELIVERED = "What was delivered"
_OPERATING = "Operators and administrators"
_OTHER = "Commands"


class Entry(NamedTuple):
    """A command."""

    where: str  # module:attribute
    help: str  # the first sentence of its own
    section: str = _OTHER  # that help lists it in


COMMANDS: Mapping[str, Entry] = {
    "cancel": Entry(
        f"{_HERE}.interventions:cancel",
        "End deliveries now; their clients are told ERROR.",
        _DELIVERIES,
    ),
    "completion": Entry(
        f"{_HERE}.completion:completion",
        "Print what a shell needs to complete commands, options and ids.",
    ),
    "download": Entry(
        f"{_HERE}.download:download",
        "Fetch what was delivered for ID, and verify it; no key of its place is needed.",
        _DELIVERED,
    ),
    "explain": Entry(
        f"{_HERE}.explain:explain",
        "Tell what the CODE of an error means, or why a delivery (ID) failed or waits; what to do.",
        _DELIVERIES,
    ),
    "files": Entry(
        f"{_HERE}.deliveries:files",
        "List the files of a delivery, as they are in its archive.",
        _DELIVERED,
    ),
    "letter": Entry(
        f"{_HERE}.groups:letter",
        "Messages and events that could not be handled: look, mend, put back, remove.",
        _OPERATING,
    ),
    "link": Entry(
        f"{_HERE}.interventions:link",
        "Print a link by which any client that has it has what was delivered.",
        _DELIVERED,
    ),
    "list": Entry(f"{_HERE}.deliveries:list_", "List deliveries, the newest first.", _DELIVERIES),
    "login": Entry(
        f"{_HERE}.sign_in:login", "Sign in to a service, and keep what lets you in.", _SIGN_IN
    ),
    "logout": Entry(
        f"{_HERE}.sign_in:logout", "Forget what lets you in; the address stays known.", _SIGN_IN
    ),
    "maintenance": Entry(
        f"{_HERE}.groups:maintenance",
        "Have your tenant's new requests wait, and say why; see whether they do, and end it.",
        _OPERATING,
    ),
    "profiles": Entry(
        f"{_HERE}.sign_in:profiles",
        "List the services that you have signed in to; choose one.",
        _SIGN_IN,
    ),
    "retry": Entry(
        f"{_HERE}.interventions:retry",
        "Try again: at once what waits for a later attempt, from the start what ended in ERROR.",
        _DELIVERIES,
    ),
    "setting": Entry(
        f"{_HERE}.groups:setting",
        "Settings of your tenant: look, change with a diff, put back to the default.",
        _OPERATING,
    ),
    "show": Entry(
        f"{_HERE}.deliveries:show",
        "Show all that is known of a delivery: states, attempts, cause, result, what is missing.",
        _DELIVERIES,
    ),
    "status": Entry(
        f"{_HERE}.operators:status",
        "Tell what needs an operator now, since when, and what to do.",
        _OPERATING,
    ),
    "submit": Entry(
        f"{_HERE}.submit:submit",
        "Send the delivery request in FILE (JSON; - for standard input).",
        _DELIVERIES,
    ),
    "target": Entry(
        f"{_HERE}.groups:target",
        "A target of your tenant: pause, resume, try its rights.",
        _OPERATING,
    ),
    "targets": Entry(
        f"{_HERE}.operators:targets",
        "Tell how it goes with each target: whether it works, fails or is paused, and since when.",
        _OPERATING,
    ),
    "verify": Entry(
        f"{_HERE}.verify:verify",
        "Check TARGET (an archive, its address, or a folder) against its manifest.",
        _DELIVERED,
    ),
    "wait": Entry(
        f"{_HERE}.follow:wait",
        "Wait until a delivery is done; exit code 1 when it ends in ERROR.",
        _DELIVERIES,
    ),
    "watch": Entry(
        f"{_HERE}.follow:watch",
        "Tell what happens to a delivery until it has ended; it ends as `wait` does.",
        _DELIVERIES,
    ),
    "whoami": Entry(
        f"{_HERE}.sign_in:whoami", "Tell who you are to the service, and for how long.", _SIGN_IN
    ),
    "worker": Entry(
        f"{_HERE}.groups:worker",
        "Workers: who is there and what each carries; drain one, let it work again.",
        _OPERATING,
    ),
}

# The commands of each group.
GROUPS: Mapping[str, Mapping[str, Entry]] = {
    "letter": {
        "list": Entry(
            f"{_HERE}.letters:list_",
            "List dead letters, the first buried first, with the reason for each.",
        ),
        "mend": Entry(
            f"{_HERE}.mending:mend",
            "Put another body in the place of a dead letter's, for when it is put back.",
        ),
        "put-back": Entry(
            f"{_HERE}.letters:put_back",
            "Put dead letters back where they were, mended where they are.",
        ),
        "remove": Entry(f"{_HERE}.letters:remove", "Remove dead letters for good."),
        "show": Entry(f"{_HERE}.letters:show", "Show a dead letter with its body."),
    },
    "maintenance": {
        "off": Entry(
            f"{_HERE}.maintenance:end", "Take your tenant out of maintenance: what waited begins."
        ),
        "on": Entry(
            f"{_HERE}.maintenance:begin",
            "Put your tenant into maintenance, or say something else of the one that it is in.",
        ),
        "show": Entry(
            f"{_HERE}.maintenance:show",
            "Tell whether your tenant is in maintenance, since when, until when, and why.",
        ),
    },
    "setting": {
        "get": Entry(f"{_HERE}.settings:get", "Print the value of a setting, as JSON."),
        "list": Entry(f"{_HERE}.settings:list_", "List the settings of your tenant."),
        "reset": Entry(f"{_HERE}.settings:reset", "Put a setting back to its default."),
        "set": Entry(
            f"{_HERE}.settings:set_", "Set NAME to VALUE (JSON, or a plain text), or to a file's."
        ),
    },
    "target": {
        "check": Entry(
            f"{_HERE}.target:check",
            "Try targets as a delivery would: whether each answers, and lets its key do what it "
            "must.",
        ),
        "pause": Entry(
            f"{_HERE}.target:pause", "Let no transfer to a target begin; what runs may finish."
        ),
        "resume": Entry(f"{_HERE}.target:resume", "End the pause of a target: what waited begins."),
    },
    "worker": {
        "drain": Entry(
            f"{_HERE}.workers:drain",
            "Have a worker begin nothing, and hand over what it has.",
        ),
        "list": Entry(f"{_HERE}.workers:list_", "List the workers, and what each carries."),
        "resume": Entry(f"{_HERE}.workers:resume", "Let a worker that is drained work again."),
    },
}


class Commands(click.Group):
    """The commands of a table, each imported when it is called."""

    table: Mapping[str, Entry] = COMMANDS

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Name them."""
        return sorted(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one; None if there is none of this name."""
        entry = self.table.get(cmd_name)
        return None if entry is None else imported(entry)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant, or tell the name that is close to it."""
        close = difflib.get_close_matches(args[0], self.table, n=1) if args else []
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if close and args[0] not in self.table and not args[0].startswith("-"):
                error.message = f"{error.message.rstrip('.')}; did you mean {close[0]!r}?"
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each does, as far as a line goes, by sections."""
        names = self.list_commands(ctx)
        room = formatter.width - 6 - max(map(len, names))
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in names:
            entry = self.table[name]
            sections.setdefault(entry.section, []).append((name, _shortened(entry.help, room)))
        for section, lines in sections.items():
            with formatter.section(section):
                formatter.write_dl(lines)


class Group(Commands):
    """Commands about one thing, behind its name."""

    def __init__(self, name: str) -> None:
        super().__init__(name, help=COMMANDS[name].help)
        self.table = GROUPS[name]


def imported(entry: Entry) -> click.Command:
    """Import a command."""
    module, _, attribute = entry.where.partition(":")
    collects = gc.isenabled()
    gc.disable()  # nothing of what an import makes is garbage: a sixth of its time
    try:
        command = getattr(import_module(module), attribute)
    finally:
        if collects:
            gc.enable()
    assert isinstance(command, click.Command)  # noqa: S101 - a test looks at each
    return command


def _shortened(text: str, room: int) -> str:
    return click.Command(None, help=text).get_short_help_str(room)
