"""Google Cloud Storage for tests: fake-gcs-server, brought by Go's module proxy.

A module of its own, as it takes Go, which the demo does not ask for. What it does not have: a
condition of what is composed, removed or described, and rights.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from compose.embedded.processes import (
    Server,
    StackError,
    free_port,
    listens,
    running,
    start,
    wait_until,
)

_MODULE = "github.com/fsouza/fake-gcs-server"
_VERSION = "v1.56.1"
_HOME = Path(__file__).resolve().parents[2] / ".tools" / "fake-gcs-server"


def missing() -> str | None:
    """Return what the server lacks to run here, in a sentence; None if nothing."""
    if _program().exists() or shutil.which("go") is not None:
        return None
    return "fake-gcs-server needs go, not found on the PATH"


def _program() -> Path:
    return _HOME / _VERSION / "fake-gcs-server"


def _built() -> Path:
    """Return the program; Go builds it once, for all processes."""
    if sentence := missing():
        raise StackError(sentence)
    folder = _program().parent
    folder.mkdir(parents=True, exist_ok=True)
    with (_HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _program().exists():
            made = folder / "made"
            done = subprocess.run(
                ["go", "install", f"{_MODULE}@{_VERSION}"],  # noqa: S607 - whichever Go is there
                env=os.environ | {"GOBIN": str(made), "GOFLAGS": "-mod=mod"},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise StackError(f"Go did not build fake-gcs-server:\n{done.stderr[-2000:]}")
            (made / "fake-gcs-server").rename(_program())  # whole, or not at all
            made.rmdir()
    return _program()


@contextlib.asynccontextmanager
async def fake_gcs(folder: Path) -> AsyncIterator[Server]:
    """Run it; what it holds is in its memory. Raises StackError naming what is missing."""
    program = await asyncio.to_thread(_built)
    port = free_port()
    arguments: list[str | Path] = [program, "-backend", "memory", "-scheme", "http"]
    arguments += ["-host", "127.0.0.1", "-port", str(port), "-log-level", "error"]
    child = start("fake-gcs-server", arguments, log=folder / "fake-gcs-server.log")
    async with running(child):
        answers = partial(listens, port)
        await wait_until(answers, child)
        yield Server(url=f"http://127.0.0.1:{port}", child=child, answers=answers)


def main() -> None:
    """Build it, where Go is: a build takes minutes, which no test should wait for."""
    try:
        if missing() is None and not _program().exists():
            print("setup: building fake-gcs-server for the tests")
            _built()
    except StackError as error:
        print(f"setup: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
