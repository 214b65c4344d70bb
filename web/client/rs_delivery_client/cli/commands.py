"""All commands: where each is, and what it does in a sentence, so that help imports none."""

from __future__ import annotations

import difflib
import gc
from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple

import click

_HERE = "rs_delivery_client.cli"


class Entry(NamedTuple):
    """A command."""

    where: str  # module:attribute
    help: str  # the first sentence of its own


COMMANDS: Mapping[str, Entry] = {
    "cancel": Entry(
        f"{_HERE}.interventions:cancel", "End deliveries now; their clients are told ERROR."
    ),
    "completion": Entry(
        f"{_HERE}.completion:completion",
        "Print what a shell needs to complete commands, options and ids.",
    ),
    "download": Entry(
        f"{_HERE}.download:download",
        "Fetch what was delivered for ID, and verify it; no key of its place is needed.",
    ),
    "explain": Entry(
        f"{_HERE}.deliveries:explain", "Tell why a delivery failed or waits, and what to do."
    ),
    "files": Entry(
        f"{_HERE}.deliveries:files", "List the files of a delivery, as they are in its archive."
    ),
    "link": Entry(
        f"{_HERE}.interventions:link",
        "Print a link by which any client that has it has what was delivered.",
    ),
    "list": Entry(f"{_HERE}.deliveries:list_", "List deliveries, the newest first."),
    "login": Entry(f"{_HERE}.sign_in:login", "Sign in to a service, and keep what lets you in."),
    "logout": Entry(f"{_HERE}.sign_in:logout", "Forget what lets you in; the address stays known."),
    "profiles": Entry(
        f"{_HERE}.sign_in:profiles", "List the services that you have signed in to; choose one."
    ),
    "retry": Entry(
        f"{_HERE}.interventions:retry",
        "Try again: at once what waits for a later attempt, from the start what ended in ERROR.",
    ),
    "show": Entry(
        f"{_HERE}.deliveries:show",
        "Show all that is known of a delivery: states, attempts, cause, result, what is missing.",
    ),
    "status": Entry(
        f"{_HERE}.operators:status",
        "Tell what needs an operator now, since when, and what to do.",
    ),
    "submit": Entry(
        f"{_HERE}.submit:submit",
        "Send the delivery request in FILE (JSON; - for standard input).",
    ),
    "targets": Entry(
        f"{_HERE}.operators:targets",
        "Tell how it goes with each target: whether it works, fails or is paused, and since when.",
    ),
    "verify": Entry(
        f"{_HERE}.verify:verify",
        "Check TARGET (an archive, its address, or a folder) against its manifest.",
    ),
    "wait": Entry(
        f"{_HERE}.follow:wait",
        "Wait until a delivery is done; exit code 1 when it ends in ERROR.",
    ),
    "watch": Entry(
        f"{_HERE}.follow:watch",
        "Tell what happens to a delivery until it has ended; it ends as `wait` does.",
    ),
    "whoami": Entry(
        f"{_HERE}.sign_in:whoami", "Tell who you are to the service, and for how long."
    ),
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
        """Write what each does, as far as a line goes."""
        names = self.list_commands(ctx)
        room = formatter.width - 6 - max(map(len, names))
        with formatter.section("Commands"):
            formatter.write_dl([(name, _shortened(self.table[name].help, room)) for name in names])


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
