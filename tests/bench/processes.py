"""Servers of a benchmark: processes of their own that end with the one that started them."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator


async def until_parent_ends(server: asyncio.Server) -> None:
    """Print the port, and serve until the standard input is closed."""
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    async with server:
        await ended.wait()


@contextlib.contextmanager
def server(module: str, *arguments: str) -> Iterator[str]:
    """Run a server of `tests.bench`; give its address."""
    with subprocess.Popen(
        [sys.executable, "-m", f"tests.bench.{module}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise SystemExit(f"tests.bench.{module} did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=10)
