"""What servers that forget everything have in common: they read requests, and swallow bodies.

Each is a process of its own; it prints its port, and ends with the process that started it.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import parse_qs, unquote, urlsplit

from tests.bench.processes import until_parent_ends

_BUFFER = 1024 * 1024


class Connection(asyncio.BufferedProtocol):
    """One client: reads headers, then swallows the body into one buffer."""

    method: str
    path: str  # unquoted
    query: dict[str, list[str]]
    headers: dict[str, str]  # by their names in lower case
    size: int  # of the body

    def __init__(self) -> None:
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._head = bytearray()
        self._left: int | None = None  # bytes of the body to come; None: reading a header
        self.body = bytearray()  # where it `keeps` it

    @abstractmethod
    def keeps(self) -> int:
        """Return how many bytes of the body that comes now are looked at."""

    @abstractmethod
    def answer(self) -> None:
        """Answer a request that is read: by `say`, now or later."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        data = self._view[:nbytes]
        while data or self._left == 0:
            if self._left is None:
                data = self._read_head(data)
            else:
                taken = min(self._left, len(data))
                if len(self.body) < self._keeps:
                    self.body += data[: min(taken, self._keeps - len(self.body))]
                self._left -= taken
                data = data[taken:]
            if self._left == 0:
                self._left = None
                self.answer()

    def _read_head(self, data: memoryview) -> memoryview:
        known = len(self._head)
        self._head += data
        end = self._head.find(b"\r\n\r\n", max(known - 3, 0))
        if end < 0:
            return data[len(data) :]
        rest = data[end + 4 - known :]
        lines = self._head[:end].decode("latin-1").split("\r\n")
        self._head.clear()
        self.method, target, _ = lines[0].split(" ", 2)
        url = urlsplit(target)
        self.path = unquote(url.path)
        self.query = parse_qs(url.query, keep_blank_values=True)
        self.headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        self._left = self.size = int(self.headers.get("content-length", "0"))
        self._keeps = self.keeps()
        self.body = bytearray()
        if self.headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return rest

    def say(
        self,
        body: str = "",
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        length: int | None = None,
        status: str = "200 OK",
    ) -> None:
        lines = [
            f"HTTP/1.1 {status}",
            "Content-Type: application/xml",
            f"Content-Length: {len(body) if length is None else length}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self._transport.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())


async def serve(connection: Callable[[], Connection]) -> None:
    """Serve until the process ends that started this one."""
    loop = asyncio.get_running_loop()
    await until_parent_ends(await loop.create_server(connection, "127.0.0.1", 0))
