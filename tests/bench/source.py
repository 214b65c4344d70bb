"""A source server that costs next to nothing: files from memory, straight into the socket.

    GET /<kind>/<size>/<latency in ms>/orders/files/<id>

A process of its own; it prints its port, and ends with the process that started it.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import BinaryIO

from tests.bench.payloads import KINDS, pattern, pieces
from tests.bench.processes import until_parent_ends

_REQUEST = re.compile(rb"GET /(\w+)/(\d+)/([\d.]+)/orders/files/(\d+)[? ]")
_RANGE = re.compile(rb"\r\nrange: bytes=(\d+)-", re.IGNORECASE)
_SMALL = 256 * 1024  # bytes; below, one write with the header is cheaper than sendfile


def _in_memory(kind: str) -> BinaryIO:
    file = os.fdopen(os.memfd_create(kind), "w+b")
    file.write(pattern(kind))
    file.flush()
    return file


class Source:
    """Answers requests of one connection after the other, many connections at once."""

    def __init__(self, kinds: list[str]) -> None:
        self._files = {kind: _in_memory(kind) for kind in kinds}
        self._patterns = {kind: os.pread(f.fileno(), 1 << 30, 0) for kind, f in self._files.items()}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._answer(await reader.readuntil(b"\r\n\r\n"), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        found = _REQUEST.match(request)
        assert found, request
        kind, size, latency, file_id = found[1].decode(), int(found[2]), float(found[3]), found[4]
        asked = _RANGE.search(request)
        start = int(asked[1]) if asked else 0
        if latency:
            await asyncio.sleep(latency / 1000)
        status = b"206 Partial Content" if start else b"200 OK"
        header = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n" % (status, size - start)
        if start:
            header += b"Content-Range: bytes %d-%d/%d\r\n" % (start, size - 1, size)
        header += b"\r\n"
        whole = self._patterns[kind]
        slices = pieces(whole, int(file_id), start, size)
        if size - start <= _SMALL:
            writer.write(header + b"".join(whole[at : at + length] for at, length in slices))
            return
        writer.write(header)
        for at, length in slices:
            await writer.drain()
            loop = asyncio.get_running_loop()
            await loop.sendfile(writer.transport, self._files[kind], at, length)


async def main() -> None:
    source = Source(list(KINDS))
    server = await asyncio.start_server(source.serve, "127.0.0.1", 0)
    await until_parent_ends(server)


if __name__ == "__main__":
    asyncio.run(main())
