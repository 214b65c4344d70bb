"""`--json [FIELDS]`: all of an answer for scripts, or only the fields that are named.

Names are those of the HTTP API.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_ALL = "*"
_HELP = "help"

DELIVERY = (
    *("id", "tenant", "correlationId", "state", "activity", "user", "target", "originApp"),
    *("priority", "requestedAt", "expiresAt", "updatedAt", "stateSince", "finishedAt", "orderId"),
    *("totalSubOrders", "announcedSubOrders", "listedSubOrders", "orderDone", "parkedSince"),
    *("format", "partial", "missing", "labels", "deadline", "archiveName", "prefix", "files"),
    *("bytes", "attempt", "tries", "worker", "lastCause", "nextAttemptAt", "url", "md5"),
    *("archiveBytes", "manifestUrl", "sha256", "expires", "content", "removedAt", "contentCause"),
    *("errorType", "errorMessage", "code", "failsAgain", "reportUrl", "progress"),
)
WHOLE_DELIVERY = (
    *DELIVERY,
    *("order", "history", "timings", "attempts", "segments", "missingFiles", "earlier"),
)
FILE = ("position", "fileId", "member", "bytes", "md5")
FINDING = (
    *("code", "severity", "sentence", "advice", "since", "tenant", "subject", "count", "cause"),
    "alert",
)
TARGET = (
    *("tenant", "name", "type", "place", "state", "since", "failures", "lastGood", "lastBad"),
    *("running", "waiting", "goodLastHour", "badLastHour", "pause", "attention"),
)
WORKER = ("id", "version", "startedAt", "seenAt", "alive", "silentFor", "slots", "running", "pause")
LETTER = (
    *("id", "place", "tenant", "correlationId", "at", "bytes", "reason", "text", "goesTo"),
    *("buriedAt", "mendedAt", "mendedBy"),
)
WHOLE_LETTER = (*LETTER, "body", "mendedBody", "mendedTenant", "headers")
MAINTENANCE = ("tenant", "active", "lastUpdate", "reason", "until", "enabledBy")
SETTING = ("name", "description", "value", "defaultValue")


class JsonOption(click.Option):
    """`--json`, with the fields of what is printed; none are all."""

    def __init__(self, known: Sequence[str]) -> None:
        super().__init__(
            ["--json", "fields"],
            metavar="[FIELDS]",
            callback=self._chosen,
            help="For scripts: a JSON object a line, with these fields (a,b,c) or all; "
            "`--json help` names them.",
        )
        self.known = tuple(known)

    def joined(self, arguments: Sequence[str], *, others: bool) -> list[str]:
        """Put the fields beside the option, where what follows it is fields.

        `others`: the command takes arguments, too, so that only what is known is fields.
        """
        found: list[str] = []
        rest = list(arguments)
        while rest:
            argument = rest.pop(0)
            if argument == "--":
                return [*found, argument, *rest]
            if argument != "--json":
                found.append(argument)
            elif rest and self._is_fields(rest[0], others=others):
                found.append(f"--json={rest.pop(0)}")
            else:
                found.append(f"--json={_ALL}")
        return found

    def _is_fields(self, text: str, *, others: bool) -> bool:
        if text.startswith("-"):
            return False
        return not others or not {_HELP, *self.known}.isdisjoint(text.split(","))

    def _chosen(
        self, ctx: click.Context, _parameter: click.Parameter, value: Any
    ) -> Sequence[str] | None:
        """Return the fields; an empty list is all, None: no JSON."""
        if value is None or value == _ALL:
            return None if value is None else ()
        if value == _HELP:
            click.echo("\n".join(self.known))
            ctx.exit()
        chosen = [name.strip() for name in str(value).split(",")]
        for name in chosen:
            if name not in self.known:
                raise click.BadParameter(f"there is no field {name!r}; `--json help` names them")
        return chosen


class JsonCommand(click.Command):
    """A command that has `--json [FIELDS]`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read what it is called with."""
        for option in self.params:
            if isinstance(option, JsonOption):
                others = any(isinstance(each, click.Argument) for each in self.params)
                args = option.joined(args, others=others)
        return super().parse_args(ctx, args)


def fields_option(known: Sequence[str]) -> Callable[[F], F]:
    """Give a command `--json [FIELDS]`: it takes `fields`; None: none was asked for."""

    def give(command: F) -> F:
        # As click's own decorators do it; they make no option of another class's arguments.
        vars(command).setdefault("__click_params__", []).append(JsonOption(known))
        return command

    return give
