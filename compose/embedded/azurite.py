"""Azure's blob storage for tests: Azurite, Microsoft's own emulator, brought by npm.

A module of its own, as it takes Node.js, which the demo does not ask for.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from compose.embedded.npm import NpmPackage
from compose.embedded.processes import (
    Server,
    free_port,
    listens,
    running,
    start,
    wait_until,
)
from compose.embedded.server_tls import ServerTls

_AZURITE = NpmPackage(
    name="azurite",
    version="3.35.0",
    main=Path("azurite", "dist", "src", "blob", "main.js"),
)


def missing() -> str | None:
    """Return what it lacks to run here, in a sentence; None if nothing."""
    return _AZURITE.missing()


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
    program = await asyncio.to_thread(_AZURITE.fetched)
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
