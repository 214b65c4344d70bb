"""What a tutorial tells its reader to type, typed as it stands there, beside a `make up`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from compose.embedded.processes import running, start, wait_until

# Dozens of commands, each a Python of its own: on a busy machine that is minutes.
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
MARK = re.compile(
    r"^<!-- tests (?P<what>run this|run this, until it says so|run this on a laptop"
    r"|keep this as [a-z.]+) -->$",
    re.MULTILINE,
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXPORT = re.compile(r"^export .*\n", re.MULTILINE)
CONTENTS = re.compile(r":caption: Tutorials\n(?::.*\n)*\n([^`]*)```")
TUTORIALS = [
    f"{page}.md"
    for listed in CONTENTS.findall((ROOT / "docs" / "index.md").read_text("utf-8"))
    for page in listed.split()
]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is typed, and what is said then; or what is kept as a file."""

    typed: str
    said: re.Pattern[str]
    until: bool  # the reader looks again until that is said
    laptop: bool  # in a terminal that knows nothing of the stack
    file: str | None  # that a program is kept as; it is not run yet


def steps(page: str) -> Iterator[Step]:
    """Iterate over the steps of a tutorial: a mark, what is typed, and what is said, if told."""
    _, *pieces = MARK.split((ROOT / "docs" / page).read_text("utf-8"))
    for what, text in zip(pieces[::2], pieces[1::2], strict=True):
        (language, typed), *others = FENCE.findall(text)
        file = what.removeprefix("keep this as ") if what.startswith("keep") else None
        assert (language == "sh") == (file is None), typed
        said = others[0][1] if others and others[0][0] == "text" else "…"
        yield Step(
            typed=typed,
            said=re.compile(".*?".join(map(re.escape, said.strip().split("…"))), re.DOTALL),
            until=what.endswith("until it says so"),
            laptop=what.endswith("on a laptop"),
            file=file,
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
        yield "".join(EXPORT.findall(child.output()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as that of a clone; what is downloaded stays out of this one."""
    for name in ("docs", "web", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    """What a terminal of the reader has before anything is pasted into it."""
    given = {
        name: os.environ[name] for name in os.environ if not name.startswith(("DELIVERY_", "XDG_"))
    }
    return given | {
        "COLUMNS": "250",  # wide enough that no table breaks its lines
        "HOME": str(folder),  # profiles of the client stay out of the tester's own
        "NO_PROXY": "*",
        # The client is installed from its folder; what it is built and runs with is that of the
        # tests, and no package is fetched. (To pip, 0 is that builds are not isolated.)
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.mark.parametrize("page", TUTORIALS)
def test_what_is_typed_says_what_the_tutorial_tells(
    page: str, exports: str, folder: Path, environment: dict[str, str]
) -> None:
    typed = list(steps(page))
    assert typed
    terminals = {False: exports, True: ""}  # on a laptop or not: what was exported there
    for step in typed:
        if step.file is not None:
            (folder / step.file).write_text(step.typed, "utf-8")
            continue
        while True:
            done = subprocess.run(
                ["sh", "-e"],
                input=terminals[step.laptop] + step.typed,
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
        terminals[step.laptop] += "".join(EXPORT.findall(step.typed))
