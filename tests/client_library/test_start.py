"""The command is there at once: help imports no more than it needs."""

from __future__ import annotations

import asyncio
import sys

import click
import pytest

from rs_delivery_client.cli import cli
from rs_delivery_client.cli.commands import COMMANDS

_PROGRAM = """
import sys
before = set(sys.modules)
sys.argv[0] = "rs-delivery"
from rs_delivery_client.cli import main
try:
    main()
finally:
    print(*set(sys.modules) - before, file=sys.stderr)
"""


async def imported(*arguments: str) -> set[str]:
    """Return the modules that a call has imported when it ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PROGRAM, *arguments),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={"DELIVERY_PROFILES": "/no/such/profiles.json"},
    )
    _, said = await process.communicate()
    return set(said.decode().splitlines()[-1].split())


async def test_help_imports_click_and_the_table_of_commands_alone() -> None:
    found = await imported("--help")
    packages = {name.partition(".")[0] for name in found}
    strangers = packages - set(sys.stdlib_module_names) - {"click", "rs_delivery_client"}
    assert not {name for name in strangers if not name.startswith(("_", "typing_extensions"))}
    assert {name for name in found if name.startswith("rs_delivery_client.")} == {
        "rs_delivery_client.cli",
        "rs_delivery_client.cli.commands",
    }
    # A hundred and more of what asyncio and ssl are made of.
    assert not found & {"asyncio", "ssl", "http.client", "email"}


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"download", "verify"}))
async def test_a_command_tells_of_itself_without_what_asks_the_service(command: str) -> None:
    packages = {name.partition(".")[0] for name in await imported(command, "--help")}
    assert not packages & {"aiohttp", "pydantic", "yarl", "ijson", "zstandard"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_table_says_of_a_command_what_the_command_says(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(limit=1000) == COMMANDS[name].help
