"""Commands that a page names are there, with their options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from markdown_it import MarkdownIt

import app.cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
# Where a command may begin, and what it is given.
CALL = re.compile(r"(?:^|[|;&(] *|bin/|[A-Z_]+=\S+ )delivery ([^|;&<>)#\n]+)")
WORD = re.compile(r"[^\s\"']+|\"[^\"]*\"|'[^']*'")


def _calls(path: Path) -> Iterator[str]:
    """Iterate over what is given to `delivery` on a page."""
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text("utf-8")):
        codes = [token.content] if token.type == "fence" and token.info == "sh" else []
        codes += [
            child.content
            for child in token.children or ()
            if child.type == "code_inline" and child.content.startswith("delivery ")
        ]
        for code in codes:
            for line in code.replace("\\\n", " ").split("\n"):
                yield from CALL.findall(line)


def _flaw(call: str) -> str | None:
    """Return what of a call there is not."""
    command: click.Command = app.cli.cli
    known = {"--help", "-h", "--version"}
    for word in WORD.findall(call):
        if word.startswith("--"):
            if word.partition("=")[0] not in known:
                return f"{command.name} has no {word}"
        elif isinstance(command, click.Group):
            inner = command.get_command(click.Context(command), word)
            if inner is None and command is app.cli.cli:
                return f"there is no {word}"
            if inner is None:  # what an option is given
                continue
            command = inner
            for option in inner.params:
                known.update(option.opts, option.secondary_opts)
    return None


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_a_page_are_there(path: Path) -> None:
    assert [flaw for call in _calls(path) if (flaw := _flaw(call))] == []
