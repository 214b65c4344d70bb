"""Runs one program and ends it, with all of its children, when the process that asked is gone.

Used as `python guard.py PROGRAM ARG…` with a pipe as standard input: the pipe closes when its
other end dies, however it dies, kill -9 included. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import threading
from typing import Protocol

_GRACE = 10.0  # seconds between SIGTERM and SIGKILL
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _kill_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def main(arguments: list[str]) -> int:
    """Run the program until it ends or standard input does; return its exit code."""
    ignore_signals()
    user = os.environ.pop("GUARD_USER", None)
    stop = getattr(signal, os.environ.pop("GUARD_SIGNAL", "SIGTERM"))
    child = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        user=user,
        group=user and _group(user),
        extra_groups=[] if user else None,
        restore_signals=True,
        preexec_fn=heed_signals,  # noqa: PLW1509 - no other thread runs yet
    )

    return attend(child, stop)


class Program(Protocol):
    """What is guarded: the leader of a group of processes."""

    pid: int

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code once it has ended. Raises TimeoutExpired."""


def attend(program: Program, stop: signal.Signals) -> int:
    """End the program when standard input does; return its exit code once it has ended."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        _kill_group(program.pid, stop)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(_GRACE)
        _kill_group(program.pid, signal.SIGKILL)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    code = program.wait()
    _kill_group(program.pid, signal.SIGKILL)
    return code if code >= 0 else 128 - code


def ignore_signals() -> None:
    """Let the pipe alone decide when it is over."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def heed_signals() -> None:
    """Be ended by signals, as programs are."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def _group(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
