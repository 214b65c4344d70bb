"""An S3 server that forgets everything at once: what a transfer sends to costs next to nothing.

It speaks as much of S3 as an upload needs, to AWS's own client libraries. Its ETag of a part is the
Content-MD5 that came with it, so that it need not compute any; the sizes are real. With `--keep
FOLDER` the parts are written there instead, to look at them. A process of its own; it prints its
port, and ends with the process that started it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import itertools
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tests.bench.processes import until_parent_ends

_BUFFER = 1024 * 1024
_NO_MD5 = "0" * 32


@dataclass
class Object:
    """What is known of an upload, and later of the object."""

    sizes: dict[int, int] = field(default_factory=dict)
    md5s: dict[int, str] = field(default_factory=dict)
    parts: dict[int, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(self.sizes.values())

    @property
    def etag(self) -> str:
        joined = b"".join(bytes.fromhex(md5) for _, md5 in sorted(self.md5s.items()))
        return f"{hashlib.md5(joined).hexdigest()}-{len(self.md5s)}"


class Store:
    """All uploads and objects, and where objects are kept (if at all)."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.objects: dict[str, Object] = {}  # by path
        self.uploads: defaultdict[str, Object] = defaultdict(Object)  # by id
        self.numbers = itertools.count(1)

    def complete(self, path: str, upload_id: str) -> Object:
        found = self.objects[path] = self.uploads.pop(upload_id)
        if self.folder is not None:
            with (self.folder / "object").open("wb") as file:
                for _, part in sorted(found.parts.items()):
                    file.write(part)
            found.parts.clear()
        return found


class Connection(asyncio.BufferedProtocol):
    """One client: reads headers, then swallows the body into one buffer."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._head = bytearray()
        self._left: int | None = None  # bytes of the body to come; None: reading a header
        self._size = 0
        self._body = bytearray()  # kept where it matters: small ones, or all with --keep

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
                if self._keeps:
                    self._body += data[:taken]
                self._left -= taken
                data = data[taken:]
            if self._left == 0:
                self._left = None
                self._answer()

    def _read_head(self, data: memoryview) -> memoryview:
        known = len(self._head)
        self._head += data
        end = self._head.find(b"\r\n\r\n", max(known - 3, 0))
        if end < 0:
            return data[len(data) :]
        rest = data[end + 4 - known :]
        lines = self._head[:end].decode("latin-1").split("\r\n")
        self._head.clear()
        self._method, self._path, _ = lines[0].split(" ", 2)
        self._headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        self._left = self._size = int(self._headers.get("content-length", "0"))
        self._size = int(self._headers.get("x-amz-decoded-content-length", self._size))
        self._keeps = self._store.folder is not None or self._method == "POST"
        self._body = bytearray()
        if self._headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return rest

    def _answer(self) -> None:
        url = urlsplit(self._path)
        path = unquote(url.path)
        query = parse_qs(url.query, keep_blank_values=True)
        upload_id = query.get("uploadId", [""])[0]
        there = self._store.objects.get(path)
        match self._method:
            case "POST" if "uploads" in query:
                number = next(self._store.numbers)
                self._say(_xml("InitiateMultipartUploadResult", UploadId=number))
            case "PUT":
                number = int(query.get("partNumber", ["1"])[0])
                found = self._store.uploads[upload_id]
                md5 = base64.b64decode(self._headers.get("content-md5", "")).hex() or _NO_MD5
                found.sizes[number], found.md5s[number] = self._size, md5
                if self._store.folder is not None:
                    found.parts[number] = bytes(self._body)
                self._say("", ETag=f'"{md5}"')
            case "POST" if there is not None and "if-none-match" in self._headers:
                self._say(
                    _xml("Error", Code="PreconditionFailed"), status="412 Precondition Failed"
                )
            case "POST":
                done = self._store.complete(path, upload_id)
                assert len(re.findall(rb"<PartNumber>", self._body)) == len(done.sizes)
                self._say(_xml("CompleteMultipartUploadResult", ETag=f'"{done.etag}"'))
            case "HEAD" if there is None and path.count("/") > 1:
                self._say("", status="404 Not Found")
            case "HEAD" if there is not None:
                self._say("", length=there.size, ETag=f'"{there.etag}"')
            case _:
                self._say("")

    def _say(
        self, body: str, *, length: int | None = None, status: str = "200 OK", **headers: str
    ) -> None:
        lines = [
            f"HTTP/1.1 {status}",
            "Content-Type: application/xml",
            f"Content-Length: {len(body) if length is None else length}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self._transport.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())


def _xml(name: str, **fields: object) -> str:
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in fields.items())
    return f"<{name}>{inner}</{name}>"


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", type=Path)
    store = Store(parser.parse_args().keep)
    loop = asyncio.get_running_loop()
    await until_parent_ends(await loop.create_server(lambda: Connection(store), "127.0.0.1", 0))


if __name__ == "__main__":
    asyncio.run(main())
