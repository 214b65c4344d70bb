"""The switches as options of commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from compose.rs_order.switches import SHOWN, SwitchError, Switches, option_of

Command = Callable[..., None]


def option_for_each(command: Command) -> Command:
    """Give a command an option for each switch; those that are not given are None."""
    for name, field in reversed(Switches.model_fields.items()):
        default = field.get_default()
        option = click.option(
            option_of(name),
            name,
            help=f"{field.description}  [default: {default!r}]",
            metavar=type(default).__name__.upper(),
        )
        command = option(command)
    return command


def _switched(_context: click.Context, _parameter: click.Parameter, given: Any) -> Switches:
    values = dict(entry.partition("=")[::2] for entry in given)
    try:
        return SHOWN.changed(values)
    except SwitchError as error:
        raise click.BadParameter(str(error)) from None


# For a command that starts the stand-in among other things: `switches`.
switches_option = click.option(
    "--rs-order",
    "switches",
    multiple=True,
    callback=_switched,
    metavar="SWITCH=VALUE",
    help="How the stand-in rs-order is set up (docs/stand-in.md); several times. Where nothing "
    "else is said, products whose ids begin differently are in different suborders.",
)
