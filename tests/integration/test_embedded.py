"""The embedded stack cleans up after itself, and says what it misses."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from yarl import URL

from compose.embedded import rabbitmq
from compose.embedded.processes import _PORTS, StackError, free_port, start, wait_until
from compose.embedded.stack import ROOT, Stack

_PARENT = """
import signal, sys
from pathlib import Path
from compose.embedded.processes import start
child = start("sleeper", ["sh", "-c", "sleep 1000 & sleep 1000"], log=Path(sys.argv[1]))
print(child.process.pid, flush=True)
signal.pause()
"""

_DRAWER = """
import sys
from compose.embedded.processes import free_port
print(free_port(), flush=True)
sys.stdin.read()
"""


def test_a_port_is_drawn_once_by_all_processes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server listens seconds later: until then it would be free for any other."""
    with subprocess.Popen(
        [sys.executable, "-c", _DRAWER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as other:
        assert other.stdout is not None
        theirs = int(other.stdout.readline())
        ours, randbelow = free_port(), secrets.randbelow
        drawn = [ours, theirs]

        def draw(ports: int) -> int:
            return drawn.pop() - _PORTS.start if drawn else randbelow(ports)

        monkeypatch.setattr(secrets, "randbelow", draw)
        assert free_port() not in {ours, theirs}
    assert drawn == []


async def test_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, tmp_path / "log"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert parent.stdout is not None
    guard = psutil.Process(int(parent.stdout.readline()))
    async with asyncio.timeout(20):
        while len(guard.children(recursive=True)) < 3:
            await asyncio.sleep(0.01)
    family = [guard, *guard.children(recursive=True)]
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, timeout=20)
    assert alive == []


def test_no_other_user_of_the_machine_reads_a_password_of_the_stack(stack: Stack) -> None:
    urls = (stack.environment["DELIVERY_AMQP_URL"], stack.environment["DELIVERY_DATABASE_URL"])
    passwords = [str(URL(url).password).encode() for url in urls]
    held = 0
    for folder, _, names in os.walk(stack.folder):
        for path in (Path(folder) / name for name in names):
            if not path.is_file() or path.stat().st_size > 1024**2:
                continue
            if any(password in path.read_bytes() for password in passwords):
                held += 1
                above = [folder for folder in path.parents if folder.is_relative_to(stack.folder)]
                assert not path.stat().st_mode & 0o004 or any(
                    not folder.stat().st_mode & 0o001 for folder in above
                ), path
    assert held  # otherwise nothing was looked at


async def test_a_program_that_ends_at_once_is_told_with_its_words(tmp_path: Path) -> None:
    child = start("the broker", ["sh", "-c", "echo no licence; exit 3"], log=tmp_path / "log")

    async def ready() -> None:
        raise OSError("not yet")

    with pytest.raises(StackError, match="the broker ended while it started:\nno licence"):
        await wait_until(ready, child)
    assert await child.stop() == 3


async def test_one_sentence_says_what_to_do_without_rabbitmq(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbitmq, "PACKAGE", tmp_path)
    with pytest.raises(StackError, match=r"apt-get install rabbitmq-server.*DELIVERY_AMQP_URL"):
        async with rabbitmq.rabbitmq(tmp_path):
            pass


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: folder / "absent", "is no folder"),
        (lambda folder: folder, "holds no file"),
    ],
)
def test_the_demo_refuses_products_that_are_none(
    tmp_path: Path, make: object, sentence: str
) -> None:
    products = make(tmp_path)  # type: ignore[operator]
    ended = subprocess.run(
        [sys.executable, "-m", "compose.demo", "--products", products],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stdout.startswith("demo: ")
    assert sentence in ended.stdout
    assert "Traceback" not in ended.stderr
