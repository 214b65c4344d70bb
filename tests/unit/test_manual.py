"""The manual pages have every command with its options, in roff, and are installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import click
import pytest

import app.cli
import rs_delivery_client.cli
from tests.documented import ROOT
from tests.pages import man

PAGES = {
    "app/man/delivery.1": app.cli.cli,
    "web/client/man/rs-delivery.1": rs_delivery_client.cli.cli,
}
MACROS = {".B", ".PP", ".RE", ".RS", ".SH", ".SS", ".TH", ".TP", ".ad", ".fi", ".nf", ".nh", '.\\"'}


def plain(text: str) -> str:
    """Return a text of a page as a reader has it."""
    return re.sub(r"\\f[A-Z]", "", text).replace("\\-", "-").replace("\\e", "\\")


@pytest.mark.parametrize("page", PAGES)
def test_each_command_has_its_section_with_its_options(page: str) -> None:
    sections = {
        head.partition("\n")[0]: head
        for head in plain((ROOT / page).read_text("utf-8")).split("\n.SS ")[1:]
    }
    cli = PAGES[page]
    context = click.Context(cli, info_name=Path(page).stem)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        if command.hidden:
            continue
        section = sections[f"{context.info_name} {name}"]
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert all(opt in section for opt in option.opts)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_roff(page: str) -> None:
    for line in (ROOT / page).read_text("utf-8").splitlines():
        if line.startswith((".", "'")):
            assert line.split()[0] in MACROS, line
        assert not re.search(r"\\(?![-e&]|f[BIR])", line.removeprefix('.\\"')), line


def test_a_line_that_begins_as_an_order_to_roff_does_is_text() -> None:
    @click.group()
    def cli() -> None:
        r""".TH is a word, as is C:\d-e."""

    assert "\\&.TH is a word, as is C:\\ed\\-e." in man.description(cli)


def test_the_client_brings_its_page(tmp_path: Path) -> None:
    """Built of a copy: what builds leaves nothing among the sources."""
    client = tmp_path / "client"
    shutil.copytree(ROOT / "web/client", client)
    (tmp_path / "dist").mkdir()
    build = f"from hatchling.build import build_wheel; build_wheel({str(tmp_path / 'dist')!r})"
    subprocess.run([sys.executable, "-c", build], cwd=client, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.endswith("/data/share/man/man1/rs-delivery.1")]


def test_the_service_brings_its_page() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    shared = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert shared == {"app/man/delivery.1": "share/man/man1/delivery.1"}
