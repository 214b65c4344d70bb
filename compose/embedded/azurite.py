"""Azure's blob storage for tests: Azurite, Microsoft's own emulator, brought by npm.

A module of its own, as it takes Node.js, which the demo does not ask for.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
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
from compose.embedded.server_tls import ServerTls

_VERSION = "3.35.0"
_HOME = Path(__file__).resolve().parents[2] / ".tools" / "azurite"
_MAIN = Path("node_modules", "azurite", "dist", "src", "blob", "main.js")


def missing() -> str | None:
    """Return what Azurite lacks to run here, in a sentence; None if nothing."""
    programs = [name for name in ("node", "npm") if shutil.which(name) is None]
    return f"Azurite needs {' and '.join(programs)}, not found on the PATH" if programs else None


def _fetched() -> Path:
    """Return the program; npm brings it once, for all processes."""
    if sentence := missing():
        raise StackError(sentence)
    _HOME.parent.mkdir(parents=True, exist_ok=True)
    with (_HOME.parent / "azurite.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (_HOME / _MAIN).exists():
            shutil.rmtree(_HOME, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix="azurite-", dir=_HOME.parent))
            command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
            command += ["--loglevel=error", "--prefix", str(folder), f"azurite@{_VERSION}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                shutil.rmtree(folder, ignore_errors=True)
                raise StackError(f"npm did not bring Azurite:\n{done.stderr[-2000:]}")
            folder.rename(_HOME)  # whole, or not at all
    return _HOME / _MAIN


@dataclass(frozen=True, kw_only=True)
class Azurite(Server):
    """An account of its own, at `url`; no container is there yet."""

    account: str
    key: str


@contextlib.asynccontextmanager
async def azurite(folder: Path, *, tls: ServerTls | None = None) -> AsyncIterator[Azurite]:
    """Run it; what it holds survives a restart. Over TLS, it knows bearer tokens, too.

    Raises StackError naming what is missing.
    """
    program = await asyncio.to_thread(_fetched)
    port = free_port()
    account, key = "rsdelivery", base64.b64encode(secrets.token_bytes(64)).decode()
    home = folder / "azurite"
    home.mkdir()
    arguments: list[str | Path] = ["node", program, "--blobHost", "127.0.0.1"]
    arguments += ["--blobPort", str(port), "--location", home]
    arguments += ["--skipApiVersionCheck", "--silent", "--disableTelemetry"]
    if tls:
        arguments += ["--cert", tls.certificate, "--key", tls.key, "--oauth", "basic"]
    child = start(
        "Azurite",
        arguments,
        log=folder / "azurite.log",
        environment={"AZURITE_ACCOUNTS": f"{account}:{key}"},
        cwd=home,
    )
    async with running(child):
        answers = partial(listens, port)
        await wait_until(answers, child)
        host = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        yield Azurite(
            url=f"{host}/{account}", child=child, answers=answers, account=account, key=key
        )
