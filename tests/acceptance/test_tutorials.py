"""What a tutorial tells its reader to type, typed as it stands there, beside a `make up`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from compose.embedded.processes import running, start, wait_until

# Dozens of commands, each a Python of its own: on a busy machine that is minutes.
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
MARK = re.compile(r"^<!-- tests run this(, until it says so)? -->$", re.MULTILINE)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is typed, and what is said then."""

    typed: str
    said: re.Pattern[str]
    until: bool  # the reader looks again until that is said


def steps(page: str) -> Iterator[Step]:
    """Iterate over the steps of a tutorial: a mark, what is typed, and what is said, if told."""
    _, *pieces = MARK.split((ROOT / "docs" / page).read_text("utf-8"))
    for until, text in zip(pieces[::2], pieces[1::2], strict=True):
        (language, typed), *others = FENCE.findall(text)
        assert language == "sh", typed
        said = others[0][1] if others and others[0][0] == "text" else "…"
        yield Step(
            typed=typed,
            said=re.compile(".*?".join(map(re.escape, said.strip().split("…"))), re.DOTALL),
            until=bool(until),
        )


@pytest.fixture(scope="module")
async def exports(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The lines that `make up` prints to be pasted."""
    log = tmp_path_factory.mktemp("up") / "up.log"
    with pytest.MonkeyPatch.context() as patch:
        # It makes servers of its own: none of those of other tests.
        for name in [name for name in os.environ if name.startswith("DELIVERY_")]:
            patch.delenv(name)
        child = start("make up", [sys.executable, "-m", "compose.up"], log=log, cwd=ROOT)
    async with running(child):

        async def up() -> None:
            if "Ctrl-C stops everything" not in child.output():
                raise OSError("it has not printed all")

        await wait_until(up, child, seconds=120)
        yield "".join(re.findall(r"^export .*\n", child.output(), re.MULTILINE))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as that of a clone; what is downloaded stays out of this one."""
    for name in ("docs", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.parametrize("page", ["first-delivery.md", "night-on-duty.md"])
def test_what_is_typed_says_what_the_tutorial_tells(page: str, exports: str, folder: Path) -> None:
    typed = list(steps(page))
    assert typed
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {name: os.environ[name] for name in os.environ if name[:9] != "DELIVERY_"}
    # Wide enough that no table breaks its lines.
    environment |= {"PATH": path, "COLUMNS": "250", "NO_PROXY": "*"}
    for step in typed:
        while True:
            done = subprocess.run(
                ["sh", "-e"],
                input=exports + step.typed,
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,  # as on a terminal
                text=True,
                check=False,
            )
            if not step.until or step.said.fullmatch(done.stdout.strip()):
                break
        assert done.returncode == 0, (step.typed, done.stdout)
        assert step.said.fullmatch(done.stdout.strip()), (step.typed, done.stdout)
