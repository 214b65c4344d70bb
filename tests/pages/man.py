"""The manual pages, in roff: each command with its options, exit codes, variables.

They are made of the definitions of the commands, as the pages of commands are.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

import app
import app.cli
import rs_delivery_client
import rs_delivery_client.cli
from tests.pages.commands import own_options
from tests.pages.markdown import sentence

ROOT = Path(__file__).resolve().parents[2]
_CODES = re.compile(r"^\| exit code \|.*?\n\n", re.MULTILINE | re.DOTALL)
_NOTHING = "\\&"  # what is a line, and prints nothing
_TICKED = re.compile(r"`([^`]+)`")


def of_the_service() -> str:
    """Return the page of `delivery`."""
    return "".join(
        _page(
            app.cli.cli,
            program="delivery",
            version=app.__version__,
            summary="deliver ordered satellite products, and steer that",
            codes=ROOT / "docs/commands.md",
            see="rs-delivery(1)",
        )
    )


def of_the_client() -> str:
    """Return the page of `rs-delivery`."""
    return "".join(
        _page(
            rs_delivery_client.cli.cli,
            program="rs-delivery",
            version=rs_delivery_client.__version__,
            summary="ask for a delivery, follow it, fetch it, verify it",
            codes=ROOT / "web/client/README.md",
            see="delivery(1)",
        )
    )


def _page(
    cli: click.Group, *, program: str, version: str, summary: str, codes: Path, see: str
) -> Iterator[str]:
    context = click.Context(cli, info_name=program)
    yield f'.TH {program.upper()} 1 "" "{program} {version}" "User Commands"\n'
    # Short lines of a terminal are neither spread nor divided.
    yield ".nh\n.ad l\n"
    yield f".SH NAME\n{_text(program)} \\- {_text(summary)}\n"
    yield f".SH SYNOPSIS\n.B {_text(program)}\n"
    yield "[\\fIOPTION\\fR]... \\fICOMMAND\\fR [\\fIARGUMENT\\fR]...\n"
    yield f".SH DESCRIPTION\n{description(cli)}"
    yield ".SH COMMANDS\n"
    for path, command in _commands(cli, context):
        yield _command(path, command)
    yield ".SH EXIT STATUS\n"
    for code, meaning in _exit_codes(codes):
        yield f".TP\n.B {code}\n{_text(meaning)}\n"
    variables = _variables(cli, context)
    if variables:
        yield ".SH ENVIRONMENT\n"
        for name, names in variables.items():
            yield f".TP\n.B {_text(name)}\nStands for {', '.join(map(_bold, names))}.\n"
    yield f".SH SEE ALSO\n{_text(see)}\n"


def _commands(
    group: click.Group, parent: click.Context
) -> Iterator[tuple[click.Context, click.Command]]:
    """Give the commands of a group, and of groups in it, each with how it is called."""
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if command is None or command.hidden:
            continue
        context = click.Context(command, parent=parent, info_name=name)
        yield context, command
        if isinstance(command, click.Group):
            yield from _commands(command, context)


def _command(context: click.Context, command: click.Command) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    said = f".SS {_text(context.command_path)}\n{description(command)}"
    said += f".PP\n.RS 2\n.nf\n{_text(usage)}\n.fi\n.RE\n"
    for option in own_options(command):
        names = ", ".join(map(_bold, option.opts))
        if option.secondary_opts:
            names += f" / {', '.join(map(_bold, option.secondary_opts))}"
        if not (option.is_flag or option.count):
            names += f" \\fI{_text(_taken(option))}\\fR"
        said += f".TP\n{names}\n{_text(_meaning(option)) or _NOTHING}\n"
    return said


def _taken(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return option.metavar or option.type.name.upper()


def _meaning(option: click.Option) -> str:
    default = option.default if option.show_default else None
    words = [
        sentence(option.help or ""),
        "Required." if option.required else "",
        "" if default is None else f"Default: `{default}`.",
        f"Or {option.envvar}." if isinstance(option.envvar, str) else "",
    ]
    return " ".join(filter(None, words))


def _exit_codes(page: Path) -> list[tuple[str, str]]:
    """Return the exit codes that a page lists, with what each means."""
    found = _CODES.search(page.read_text("utf-8"))
    if found is None:
        raise ValueError(f"{page} has no table of exit codes")
    rows = [line.strip("| ").split(" | ", 1) for line in found[0].strip().splitlines()[2:]]
    return [(code, meaning) for code, meaning in rows]


def _variables(cli: click.Group, context: click.Context) -> dict[str, list[str]]:
    """Return the variables of the environment, each with the options that it stands for."""
    found: dict[str, list[str]] = {}
    for _, command in _commands(cli, context):
        for option in own_options(command):
            if isinstance(option.envvar, str):
                names = found.setdefault(option.envvar, [])
                names += [name for name in option.opts if name not in names]
    return dict(sorted(found.items()))


def description(command: click.Command) -> str:
    """Return what a command says of itself; lines behind click's mark stay as they are."""
    said = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        kept, sign, lines = paragraph.partition("\b\n")
        text = "\n".join(map(_text, lines.splitlines())) if sign else _text(kept)
        said.append(f".RS 2\n.nf\n{text}\n.fi\n.RE\n" if sign else f"{text}\n")
    return ".PP\n".join(said)


def _bold(name: str) -> str:
    return f"\\fB{_text(name)}\\fR"


def _text(text: str) -> str:
    """Return a text as roff takes it: on a line, with its own signs as they are."""
    plain = " ".join(text.split()) if "\n" in text else text
    escaped = plain.replace("\\", "\\e").replace("-", "\\-")
    escaped = _TICKED.sub(r"\\fB\1\\fR", escaped)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
