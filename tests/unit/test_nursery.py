"""What tests fork in place of starting Python ends, fails and is ended as a program does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from compose.embedded.processes import Child
from tests import nursery

PROGRAM = """
import os, pathlib, signal, sys
pathlib.Path("pid").write_text(str(os.getpid()))
print("said", *sys.argv[1:], os.environ.get("GIVEN"), os.environ.get("HOME"), flush=True)
match sys.argv[1]:
    case "exit":
        sys.exit(7)
    case "raise":
        raise ValueError("wrong")
    case "wait":
        signal.pause()
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A module that only the folder of this test has."""
    (tmp_path / "forked_here.py").write_text(PROGRAM)
    return "forked_here"


def run(
    program: str, folder: Path, what: str, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    environment = {"GIVEN": "given", "PYTHONPATH": str(folder)}
    return nursery.run(program, [what], environment=environment, folder=folder, seconds=seconds)


@pytest.mark.parametrize(
    ("what", "code", "error"), [("exit", 7, ""), ("raise", 1, "wrong"), ("", 0, "")]
)
def test_a_command_ends_as_it_would_alone(
    program: str, tmp_path: Path, what: str, code: int, error: str
) -> None:
    done = run(program, tmp_path, what)
    assert done.stdout == f"said {what} given None\n"
    assert done.returncode == code
    assert error in done.stderr


def test_a_command_that_takes_too_long_is_ended(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = tmp_path / "pid"
    code = nursery._code  # noqa: SLF001 - what waits for the end

    def once_it_waits(line: socket.socket) -> int:
        while not pid.exists() or not pid.read_text():
            pass
        return code(line)

    monkeypatch.setattr(nursery, "_code", once_it_waits)
    with pytest.raises(subprocess.TimeoutExpired):
        run(program, tmp_path, "wait", seconds=0.1)
    gone(int(pid.read_text()))


async def test_a_guarded_program_is_a_child_of_its_guard_and_ends_with_it(
    program: str, tmp_path: Path
) -> None:
    child = begun(program, tmp_path)
    (found,) = psutil.Process(child.process.pid).children()
    assert child.running
    assert await child.stop() == 128 + 15
    assert not found.is_running()
    assert not child.running
    assert child.process.poll() == 128 + 15


async def test_a_guarded_program_that_is_killed_is_told_of(program: str, tmp_path: Path) -> None:
    child = begun(program, tmp_path)
    psutil.Process(child.process.pid).children()[0].kill()
    assert await asyncio.to_thread(child.process.wait) == 128 + 9
    assert await child.stop() == 128 + 9


def begun(program: str, folder: Path) -> Child:
    """Begin it, and return once it waits."""
    log = folder / "log"
    child = nursery.start(
        "it",
        [sys.executable, "-m", program, "wait"],
        log=log,
        environment={"PYTHONPATH": str(folder)},
        cwd=folder,
    )
    while "said" not in child.tail():
        assert child.running
    return child


def gone(pid: int) -> None:
    """Return once a process is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(60)
