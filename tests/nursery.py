"""Processes that begin with everything imported: each is forked from one that is kept for it.

Importing the service takes a command most of its time, and tests call hundreds of commands. A
process that is made here is one of its own all the same, with the arguments, environment, folder
and files that it is given, and it ends as a program does; what the import itself does is looked at
by tests that start Python. Linux only (pidfd).

    python -m tests.nursery NUMBER    # of the listening socket that it has inherited
"""

from __future__ import annotations

import array
import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from compose.embedded import guard
from compose.embedded.processes import Child

_NUMBER = struct.Struct("!i")
_FILES = 3  # standard input, output and error


# What asks.


def run(
    module: str,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    seconds: float,
) -> subprocess.CompletedProcess[str]:
    """Run a module to its end, as `python -m` would, and return what it said.

    Raises TimeoutExpired, and ends it, when it takes longer.
    """
    with (
        Path(os.devnull).open("rb") as nothing,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        _asked([module, *arguments], environment, folder, (nothing, out, err)) as line,
    ):
        line.settimeout(seconds)
        try:
            code = _code(line)
        except TimeoutError:
            raise subprocess.TimeoutExpired([module, *arguments], seconds) from None
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
        return subprocess.CompletedProcess([module, *arguments], code, *texts)


def start(
    name: str,
    arguments: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Child:
    """Start a module under the guard, as `compose.embedded.processes.start` does a program."""
    python, option, *program = map(str, arguments)
    assert (python, option) == (sys.executable, "-m")
    given = os.environ | dict(environment or {})
    return Child(name, lambda: _Guard(program, given, cwd or Path.cwd(), log), log)


class _Guard:
    """A guard that was forked, seen from outside."""

    def __init__(
        self, program: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
    ) -> None:
        reading, writing = os.pipe()
        self.stdin: IO[bytes] | None = os.fdopen(writing, "wb")
        with os.fdopen(reading, "rb") as waits, log.open("ab") as output:
            files = (waits, output, output)
            self._line = _asked(program, environment, folder, files, guarded=True)
        self._code: int | None = None
        self._lock = threading.Lock()
        self.pid = _NUMBER.unpack(self._line.recv(_NUMBER.size, socket.MSG_WAITALL))[0]

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        if self._code is None and not select.select([self._line], [], [], 0)[0]:
            return None
        return self.wait()

    def wait(self) -> int:
        """Return its exit code once it has ended."""
        with self._lock:
            if self._code is None:
                self._code = _code(self._line)
                self._line.close()
        return self._code


def _code(line: socket.socket) -> int:
    told = line.recv(_NUMBER.size, socket.MSG_WAITALL)
    # It was killed before it could tell.
    return _NUMBER.unpack(told)[0] if told else -signal.SIGKILL


def _asked(
    program: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    files: Sequence[IO[bytes]],
    *,
    guarded: bool = False,
) -> socket.socket:
    """Ask for a process; return the line on which its exit code comes."""
    request = {
        "program": list(program),
        "environment": dict(environment),
        "folder": str(folder),
        "guarded": guarded,
    }
    text = json.dumps(request).encode()
    numbers = array.array("i", [file.fileno() for file in files])
    line = socket.socket(socket.AF_UNIX)
    line.connect(_nursery())
    line.sendmsg([_NUMBER.pack(len(text))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
    line.sendall(text)
    return line


@functools.cache
def _nursery() -> str:
    """Start the process that others are forked from, once; return its address."""
    folder = tempfile.TemporaryDirectory(prefix="rs-delivery-nursery-")
    address = str(Path(folder.name) / "line")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.nursery", str(listening.fileno())],
        stdin=subprocess.PIPE,  # it ends when this closes
        pass_fds=[listening.fileno()],
        cwd=Path(__file__).resolve().parents[1],
    )
    listening.close()

    def end() -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        folder.cleanup()

    atexit.register(end)
    return address


# What forks.


def main() -> None:
    """Import everything, then fork for each who asks, until standard input closes."""
    listening = socket.socket(fileno=int(sys.argv[1]))
    _import_everything()
    # A thread would be lost in a fork, with whatever it holds.
    assert threading.active_count() == 1, threading.enumerate()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who waits for a program tells how it ended
    poll = select.poll()
    poll.register(0)
    poll.register(listening, select.POLLIN)
    while True:
        ready = {number for number, _ in poll.poll()}
        if 0 in ready:
            os._exit(0)
        line, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            _serve(line)
        line.close()


def _import_everything() -> None:
    from app.cli.commands import COMMANDS  # noqa: PLC0415 - in the nursery alone

    for entry in COMMANDS.values():
        importlib.import_module(entry.where.partition(":")[0])
    for name in ("app.run.worker", "app.run.website", "app.run.doctor"):
        importlib.import_module(name)


def _serve(line: socket.socket) -> NoReturn:
    """Fork a program, wait for it, and tell how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, ancillary, *_ = line.recvmsg(_NUMBER.size, socket.CMSG_SPACE(_FILES * 4))
    files = array.array("i")
    files.frombytes(ancillary[0][2])
    request = json.loads(line.recv(_NUMBER.unpack(head)[0], socket.MSG_WAITALL))
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    if request["guarded"]:
        os.setsid()
        program = _Program(line, request)
        guard.ignore_signals()
        line.sendall(_NUMBER.pack(os.getpid()))
        code = guard.attend(program, signal.SIGTERM)
    else:
        program = _Program(line, request)
        code = program.wait_with(line)
    with contextlib.suppress(OSError):
        line.sendall(_NUMBER.pack(code))
    os._exit(0)


class _Program:
    """The program that was asked for."""

    def __init__(self, line: socket.socket, request: Mapping[str, Any]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            line.close()
            _become(request)
        with contextlib.suppress(OSError):  # the program may have done it, and may have ended
            os.setpgid(self.pid, self.pid)
        self._ended = os.pidfd_open(self.pid)
        self._lock = threading.Lock()
        self._result: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code once it has ended. Raises TimeoutExpired."""
        if not select.select([self._ended], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired([], timeout or 0)
        return self._code()

    def wait_with(self, line: socket.socket) -> int:
        """Return its exit code once it has ended; end it when its client is gone."""
        ready, _, _ = select.select([self._ended, line.fileno()], [], [])
        if self._ended not in ready:
            os.kill(self.pid, signal.SIGKILL)
        return self._code()

    def _code(self) -> int:
        with self._lock:
            if self._result is None:
                _, status = os.waitpid(self.pid, 0)
                self._result = os.waitstatus_to_exitcode(status)
        return self._result


def _become(request: Mapping[str, Any]) -> NoReturn:
    """Run the module as the program that this process is from here on."""
    if request["guarded"]:
        os.setpgid(0, 0)
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    module, *arguments = request["program"]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    main()
