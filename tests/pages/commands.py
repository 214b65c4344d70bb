"""The command line: each command with its arguments and options."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from typing import Any

import click

import app.cli
import rs_delivery_client.cli
from tests.pages.markdown import sentence, table


def commands() -> str:
    """Return a section for each command, in the order of `delivery --help`."""
    return "\n".join(_sections(app.cli.cli, None, "delivery"))


def commands_of_the_client() -> str:
    """Return the same of `rs-delivery`."""
    return "\n".join(_sections(rs_delivery_client.cli.cli, None, "rs-delivery"))


def _sections(command: click.Command, parent: click.Context | None, program: str) -> Iterator[str]:
    context = click.Context(
        command,
        parent=parent,
        info_name=command.name if parent else program,
        **command.context_settings,
    )
    if parent is not None and not (isinstance(command, click.Group) and not own_options(command)):
        yield _section(command, context)
    elif parent is not None:
        yield f"## {context.command_path}\n\n{_text(command)}\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _sections(inner, context, program)


def _section(command: click.Command, context: click.Context) -> str:
    level = "#" * context.command_path.count(" ") + "#"
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    options = table(
        ("option", "default", "meaning"),
        ((_names(option), _default(option), _meaning(option)) for option in own_options(command)),
    )
    said = f"{level} {context.command_path}\n\n{_text(command)}\n\n```text\n{usage}\n```\n"
    return said + (f"\n{options}" if own_options(command) else "")


def _text(command: click.Command) -> str:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(map(sentence, paragraphs))


def own_options(command: click.Command) -> list[click.Option]:
    """Return the options of a command that are its own."""
    return [
        parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        if parameter.name not in {"help", "version"}
    ]


def _names(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    if option.secondary_opts:
        names += " / " + ", ".join(f"`{name}`" for name in option.secondary_opts)
    if option.is_flag or option.count:
        return names
    if isinstance(option.type, click.Choice):
        return f"{names} {', '.join(f'`{choice}`' for choice in option.type.choices)}"
    return f"{names} `{option.metavar or option.type.name.upper()}`"


def _default(option: click.Option) -> str:
    value: Any = option.default
    # Click marks with a value of its own that there is no default.
    if value is None or callable(value) or isinstance(value, (bool, Enum)) or value in ((), ""):
        return "required" if option.required else ""
    return f"`{value}`"


def _meaning(option: click.Option) -> str:
    variable = f"Or `{option.envvar}`." if isinstance(option.envvar, str) else ""
    again = "May be given again." if option.multiple and "repeat" not in (option.help or "") else ""
    return " ".join(filter(None, (sentence(option.help or ""), again, variable)))
