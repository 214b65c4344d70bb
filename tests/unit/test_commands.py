"""The command line knows its commands without importing them: `--help` is there at once."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import click
import pytest

import app.cli
from app.cli import cli
from app.cli.commands import COMMANDS
from compose.embedded.stack import ROOT

_SERVICE = {"aioboto3", "aiobotocore", "aio_pika", "aiohttp", "aiokafka", "botocore", "faust"}
_SERVICE |= {"mode", "stream_zip", "web", "streams", "sinks"}


def imported(*arguments: str) -> set[str]:
    """Return the packages that a command has imported when it ends."""
    program = (
        "import sys\n"
        "before = set(sys.modules)\n"  # a system may import things of its own
        "from app.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    found = set(sys.modules) - before\n"
        "    print(*{name.partition('.')[0] for name in found}, file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=60,
    )
    return set(ended.stderr.split())


def test_help_imports_no_library_but_click() -> None:
    before = imported("--version")
    assert "click" in before
    for arguments in (["--help"], []):
        found = imported(*arguments) if arguments else before
        strangers = (
            found
            - set(sys.stdlib_module_names)
            - {"app", "click", "rs_delivery_client", "__editables__"}
        )
        assert not {name for name in strangers if not name.startswith(("_", "__"))}


@pytest.mark.parametrize("command", ["list", "show", "stats", "migrate", "make-key", "token"])
def test_a_command_on_the_database_alone_imports_nothing_of_the_service(command: str) -> None:
    assert not imported(command, "--help") & _SERVICE


@pytest.mark.parametrize(
    ("command", "without"),
    [
        ("cancel", {"web", "aio_pika", "aiokafka", "faust"}),
        ("retry", {"web", "aio_pika", "aiokafka", "faust"}),
        ("topics", {"web", "aio_pika", "aiohttp", "faust", "sinks"}),
        ("dlq", {"web", "aiohttp", "faust", "sinks"}),
        ("web", {"faust", "stream_zip"}),
    ],
)
def test_a_command_imports_nothing_of_what_it_does_not_need(
    command: str, without: set[str]
) -> None:
    assert not imported(command, "--help") & without


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_table_says_of_a_command_what_the_command_says(name: str) -> None:
    context = click.Context(cli)
    command = cli.get_command(context, name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(limit=1000) == COMMANDS[name].help


def test_every_command_is_in_the_table() -> None:
    modules = [
        importlib.import_module(f"app.cli.{found.name}")
        for found in pkgutil.iter_modules(app.cli.__path__)
        if found.name != "__main__"
    ]
    commands = [
        (f"{module.__name__}:{attribute}", value)
        for module in modules
        for attribute, value in vars(module).items()
        if isinstance(value, click.Command)
    ]
    nested = [
        command
        for _, group in commands
        if isinstance(group, click.Group)
        for command in group.commands.values()
    ]
    assert {where for where, command in commands if command not in nested} == {
        entry.where for entry in COMMANDS.values() if entry.where.startswith("app.")
    }


def test_a_command_that_does_not_exist_is_a_mistake() -> None:
    assert cli.get_command(click.Context(cli), "nonsense") is None


@pytest.mark.parametrize("hours", ["nan", "inf", "1e12", "-1"])
@pytest.mark.parametrize("command", ["list", "stats"])
def test_hours_that_are_no_time_ago_are_a_mistake(command: str, hours: str) -> None:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    with pytest.raises(click.UsageError):
        found.main(["--hours", hours], standalone_mode=False)
