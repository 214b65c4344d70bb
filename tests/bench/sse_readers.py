"""Many readers of a stream, with little work of their own: a process that counts what it hears."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

_PACE = 0.003  # seconds between connections: one caller may make so many requests a second


class _Reader(asyncio.Protocol):
    """Asks once, then counts."""

    heard = 0
    accepted = 0

    def __init__(self, request: bytes) -> None:
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        _Reader.heard += len(data)
        _Reader.accepted += data.startswith(b"HTTP/1.1 200 ")


@contextlib.asynccontextmanager
async def running_readers(url: str, token: str, count: int) -> AsyncIterator[Callable[[], int]]:
    """Run readers; what is given tells, after the block, how many bytes they heard."""
    heard = 0
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.sse_readers", url, token, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert (await asyncio.to_thread(process.stdout.readline)).strip() == "all are there"
        yield lambda: heard
    finally:
        process.stdin.close()
        heard = int(await asyncio.to_thread(process.stdout.readline))
        process.wait(timeout=10)


async def _main(url: str, token: str, count: int) -> None:
    parts = urlsplit(url)
    request = (
        f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Authorization: Bearer {token}\r\nAccept: text/event-stream\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    for _ in range(count):
        await loop.create_connection(
            lambda: _Reader(request), parts.hostname or "localhost", parts.port or 80
        )
        await asyncio.sleep(_PACE)
    while _Reader.accepted < count:
        await asyncio.sleep(_PACE)
    print("all are there", flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    print(_Reader.heard, flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
