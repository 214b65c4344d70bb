"""A proxy of the environment (`HTTPS_PROXY`), through which a name leads to this machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest


class Tunnels:
    """A proxy that opens a tunnel (CONNECT) to one server, whatever it is asked for."""

    def __init__(self, port: int) -> None:
        self._port = port  # of the server
        self.asked: list[str] = []  # host:port
        self._open: set[asyncio.Task[None]] = set()

    async def over(self) -> None:
        """Wait until no tunnel is open any more."""
        await asyncio.gather(*self._open)

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        self._open.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, place, _ = head.split(b" ", 2)
        assert method == b"CONNECT"
        self.asked.append(place.decode())
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with contextlib.closing(writer), contextlib.closing(back):
            await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def tunnels_to(port: int, environment: pytest.MonkeyPatch) -> AsyncIterator[Tunnels]:
    """Run it; the environment names no other proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        environment.delenv(name, raising=False)
        environment.delenv(name.upper(), raising=False)
    tunnels = Tunnels(port)
    proxy = await asyncio.start_server(tunnels.take, "127.0.0.1", 0)
    environment.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
    try:
        yield tunnels
    finally:
        proxy.close()
        await tunnels.over()
