"""What the client's README shows, run as it stands there."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

from compose.embedded.stack import ROOT
from rs_delivery_client import Kind, Report
from rs_delivery_client.cli.commands import COMMANDS
from tests.client_library.archives import FILES, MAKERS, manifest_of
from tests.client_library.fake import TOKEN, Fake
from tests.client_library.test_client import progress, state

README = (ROOT / "web" / "client" / "README.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
NAME = "s2b-2026-11"


async def run(example: str, names: Mapping[str, Any]) -> dict[str, Any]:
    """Run an example, which may await; return the names that it leaves."""
    code = compile(example, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(code, CodeType)
    left = dict(names)
    await FunctionType(code, left)()
    return left


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
async def test_an_example_of_the_readme_runs(number: int, tmp_path: Path) -> None:
    archive = MAKERS["ours.zip-auto"][1](FILES, tmp_path)
    fake = Fake()
    fake.hold(archive, "s2b.zip", manifest_of(FILES, archive))
    fake.delivery |= {"correlationId": NAME}
    fake.frames = [[state(1, "GRANTED"), progress(5), state(2, "DONE")]]
    (tmp_path / "a.zip").write_bytes(archive)
    (tmp_path / "m.json").write_bytes(fake.objects["manifest.json"])
    printed: list[str] = []
    async with fake.running():
        left = await run(
            EXAMPLES[number],
            {
                "url": fake.url,
                "token": TOKEN,
                "folder": tmp_path / "to",
                "archive": tmp_path / "a.zip",
                "manifest": tmp_path / "m.json",
                "print": lambda *words: printed.append(" ".join(map(str, words))),
            },
        )
    if "got" in left:
        assert left["got"].path.read_bytes() == archive
        assert printed == [f"{left['got'].path} is whole: {len(FILES)} files"]
        assert fake.bodies[0]["correlationId"] == NAME
    elif "report" in left:
        assert isinstance(left["report"], Report)
        assert left["report"].ok
    elif "size" in left:
        assert left["size"] == len(archive)
    elif "event" in left:
        assert printed == ["GRANTED", "5 of 10 bytes", "DONE"]
    else:
        assert "InvalidRequestError" in left


def test_every_kind_of_flaw_is_explained() -> None:
    table = README.partition("## What is checked")[2].partition("##")[0]
    named = {
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert named == {kind.value for kind in Kind}


def test_the_commands_that_are_shown_are_there() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    shown = set(re.findall(r"\brs-delivery (\w+)", "".join(blocks)))
    assert shown == set(COMMANDS)
    for line in re.findall(r"^```json\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)[0].split(
        "\n"
    ):
        assert not line or json.loads(line)
