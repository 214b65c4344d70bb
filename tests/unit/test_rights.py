"""What docs/least-rights.md tells to copy is what the program says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.cli.topology import topology
from streams.amqp import names, rights

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "least-rights.md").read_text("utf-8")
OTHERS = ("regards.DLXX", "regardsXDLX", "amq.defaults", "regards", "regards.DLQ.DLQ", "")


@pytest.mark.parametrize("declares", [True, False])
def test_a_pattern_matches_its_names_and_no_other(declares: bool) -> None:
    needed = rights.needed(declares=declares)
    everything = {*needed.configure, *needed.write, *needed.read, *names.EXCHANGES, *OTHERS}
    for wanted, pattern in zip(
        (needed.configure, needed.write, needed.read), needed.patterns, strict=True
    ):
        assert {name for name in everything if re.search(pattern, name)} - {""} == set(wanted)


@pytest.mark.parametrize("declares", [True, False])
def test_the_command_is_printed_as_it_is_documented(
    declares: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELIVERY_AMQP_DECLARE", str(declares))
    printed = CliRunner().invoke(topology, ["permissions", "delivery"])
    assert printed.exit_code == 0
    assert f"```sh\n{printed.output}```" in DOCUMENT


def test_names_are_quoted_for_the_shell() -> None:
    told = rights.command("o'neill", "amqp://u:p@h/a%20host", rights.needed(declares=False))
    assert told.startswith("""rabbitmqctl set_permissions -p 'a host' 'o'"'"'neill' """)
