"""Child processes that end with their parent, and free ports for them."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

GUARD = Path(__file__).with_name("guard.py")
_PORTS = range(10_000, 32_768)
_drawn: set[int] = set()  # ports, by this process


class StackError(Exception):
    """A part of the stack can't be started; the sentence says what to do."""


def free_port() -> int:
    """Return a loopback port that nothing listens on; it is this process's for its life.

    It lies below those that systems draw for outgoing connections: such a one can't take it before
    its server has started, nor while the server is away. Nor does this process draw it again, or
    another one of this user.
    """
    while True:
        port = _PORTS.start + secrets.randbelow(len(_PORTS))
        if port in _drawn:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            fcntl.lockf(_draws(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            _drawn.add(port)
            return port


@functools.cache
def _draws() -> int:
    """Open the empty file of which a byte is locked for each port that a process has drawn.

    The locks end with their process; they would with any other of its descriptors of that file.
    """
    path = Path(tempfile.gettempdir()) / f"rs-delivery-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


class Guarded(Protocol):
    """The process of a guard; its program ends when its standard input is closed."""

    pid: int
    stdin: IO[bytes] | None

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""

    def wait(self) -> int:
        """Return its exit code once it has ended."""


class Child:
    """A program under the guard, with its output in a file."""

    def __init__(self, name: str, begin: Callable[[], Guarded], log: Path) -> None:
        self.name = name
        self.log = log
        self._others = (
            log.stat().st_size if log.exists() else 0
        )  # bytes of earlier ones that had it
        self._begin = begin
        self.process = begin()

    @property
    def running(self) -> bool:
        """Whether the program still runs."""
        return self.process.poll() is None

    def output(self) -> str:
        """Return what it has printed, in all its runs."""
        return self.log.read_bytes()[self._others :].decode("utf-8", "replace")

    def tail(self, lines: int = 15) -> str:
        """Return the end of its output."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])
        return ""

    def last_words(self) -> str:
        """Return the sentence it ended with, if it printed one; else the end of its output."""
        lines = self.tail().splitlines()
        return next((line for line in lines if line.startswith("delivery: ")), "\n".join(lines))

    async def stop(self) -> int:
        """End it, wait until it is gone, and return its exit code."""
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        return await asyncio.to_thread(self.process.wait)

    async def restart(self) -> None:
        """End it, and start it again just as it was."""
        await self.stop()
        self.process = self._begin()


@dataclass(frozen=True, kw_only=True)
class Server:
    """A part of the stack that listens somewhere."""

    url: str  # or `host:port`, for Kafka
    child: Child
    answers: Callable[[], Awaitable[object]]  # raises OSError until it does

    async def restart(self, *, after: float = 0) -> None:
        """End it, start it again at the same address, and return when it answers.

        `after` is how many seconds it stays away.
        """
        if after:
            await self.child.stop()
            await asyncio.sleep(after)
        await self.child.restart()
        await wait_until(self.answers, self.child)


def start(
    name: str,
    arguments: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    stop_signal: str = "SIGTERM",
    cwd: Path | None = None,
) -> Child:
    """Start a program under the guard. `environment` is added to this process's."""
    env = os.environ | dict(environment or {}) | {"GUARD_SIGNAL": stop_signal}
    if user is not None:
        env["GUARD_USER"] = user

    def begin() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-S", "-E", str(GUARD), *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )

    return Child(name, begin, log)


async def wait_until(
    ready: Callable[[], Awaitable[object]], child: Child, *, seconds: float = 60
) -> None:
    """Ask `ready` until it no longer raises OSError. Raises StackError when the child ended."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            await ready()
        except OSError as error:
            if not child.running:
                raise StackError(
                    f"{child.name} ended while it started:\n{child.last_words()}"
                ) from None
            if time.monotonic() > deadline:
                raise StackError(
                    f"{child.name} is not up after {seconds:g} s ({error}):\n{child.tail()}"
                ) from None
            await asyncio.sleep(0.05)
        else:
            return


async def listens(port: int) -> None:
    """Raise OSError unless something listens on the loopback port."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()


@contextlib.asynccontextmanager
async def running(child: Child) -> AsyncIterator[Child]:
    """Stop the child at the end of the block."""
    try:
        yield child
    finally:
        await child.stop()
