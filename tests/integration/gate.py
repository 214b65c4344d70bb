"""A TCP proxy before a dependency.

Shut, it cuts all connections and refuses new ones; hushed, it takes everything and says nothing. It
may speak TLS to its clients, where the dependency can't.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from compose.embedded.processes import free_port


class Gate:
    """One dependency's address, as a service sees it."""

    def __init__(
        self, address: str, *, port: int | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._address = urlsplit(address)
        self._server: asyncio.Server | None = None
        # Its own while it is shut, too: none of those that systems draw for connections.
        self._port = free_port() if port is None else port
        self._tls = tls
        self._open: set[asyncio.StreamWriter] = set()
        self._hushed = False
        self.unheard = 0  # connections that came while it was hushed

    @property
    def url(self) -> str:
        """The address that leads through the gate."""
        netloc = self._address.netloc.rpartition(":")[0] + f":{self._port}"
        return self._address._replace(netloc=netloc).geturl()

    async def let(self) -> None:
        """Let connections through, from now on."""
        self._server = await asyncio.start_server(
            self._process, "127.0.0.1", self._port, ssl=self._tls
        )

    def cut(self) -> None:
        """Cut every connection; new ones come through."""
        for writer in list(self._open):
            writer.transport.abort()

    async def shut(self) -> None:
        """Cut every connection; refuse new ones."""
        if self._server is None:
            return
        self._server.close()
        self.cut()
        await self._server.wait_closed()
        self._server = None

    async def hush(self) -> None:
        """Answer nothing any more, on connections old and new."""
        await self.shut()
        self._hushed = True
        await self.let()

    async def speak(self) -> None:
        """Let through again; what came meanwhile is cut."""
        await self.shut()
        self._hushed = False
        await self.let()

    async def _process(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        self._open.add(writer)  # at once: it may be cut while its way on is still being opened
        try:
            if self._hushed:
                self.unheard += 1
                while await reader.read(65536):
                    pass
                return
            there, back = await asyncio.open_connection(self._address.hostname, self._address.port)
            ends.append(back)
            self._open.add(back)
            await asyncio.gather(_pour(reader, back), _pour(there, writer))
        except OSError:
            pass  # cut, or the dependency itself is away
        finally:
            for end in ends:
                self._open.discard(end)
                end.close()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


@contextlib.asynccontextmanager
async def gate(
    address: str, *, port: int | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Gate]:
    """Give an open gate before an address."""
    made = Gate(address, port=port, tls=tls)
    await made.let()
    try:
        yield made
    finally:
        await made.shut()
